"""What the site needs beyond the pages in docs/: a page for each file of the repository that a page links to.

A page links to ``../tests/x.py`` or ``../THREAT_MODEL.md`` as a code host wants it. Here such a link leads to a page
made of that file, and one whose text is the name of a test leads to that test.
"""

import ast
import logging
import os
import re
from itertools import pairwise
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
NAMED = {
    "CHANGELOG.md": "project/changes.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "THREAT_MODEL.md": "project/threat-model.md",
    "benchmarks/README.md": "project/benchmarks.md",
}
APART = ("docs/examples/", "docs/_site/")
FENCE = re.compile(r"^(?P<mark> *```+)[^`\n]*\n.*?^(?P=mark)[ ]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[(?P<text>[^\]\[]*)\]\((?P<target>[^)\s:]+)\)")
INFO = re.compile(r"^( *```+)(?:(python) no-run:.*|(text) printed)$", re.MULTILINE)
FETCHED = re.compile(r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?https?:|<link\b[^>]*\bhref=["']?https?:""")
LANGUAGES = {".py": "python", ".toml": "toml", ".yml": "yaml", ".yaml": "yaml", ".json": "json", ".sh": "bash"}
log = logging.getLogger(f"mkdocs.plugins.{__name__}")
made_of: dict[str, str] = {}
"""Path in the repository of each page that is made here, by its place in the site."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each file that a page links to, and for those that the added ones link to in turn."""
    made_of.clear()
    waiting = [(f"docs/{file.src_uri}", file.content_string) for file in files.documentation_pages()]
    found = list(NAMED)
    while found or waiting:
        for path in found:
            if files.get_file_from_path(_place(path)) is None:
                page = File.generated(config, _place(path), content=_content(ROOT / path))
                page.inclusion = InclusionLevel.INCLUDED if path in NAMED else InclusionLevel.NOT_IN_NAV
                files.append(page)
                made_of[page.src_uri] = path
                waiting.append((path, page.content_string))
        found = []
        if waiting:
            page_path, markdown = waiting.pop()
            targets = (_target(page_path, match["target"]) for match in LINK.finditer(FENCE.sub("", markdown)))
            found = [target for target in targets if target is not None]
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Let links to files of the repository lead to their pages, and show samples as what they are."""
    here = page.file.src_uri

    def there(match: re.Match[str]) -> str:
        path = _target(made_of.get(here, f"docs/{here}"), match["target"])
        if path is None:
            return match[0]
        anchor = match["target"].partition("#")[2]
        test = re.fullmatch(r"`(test_\w+)`", match["text"])
        if test is not None and path.endswith(".py"):
            anchor = test[1]
        relative = os.path.relpath(_place(path), os.path.dirname(here) or ".")  # noqa: PTH120 - a place, not a path
        return f"[{match['text']}]({relative}{'#' if anchor else ''}{anchor})"

    # Links in the prose only, info strings of the fences only.
    parts: list[str] = []
    end = 0
    for fence in FENCE.finditer(markdown):
        parts += [LINK.sub(there, markdown[end : fence.start()]), INFO.sub(_info, fence[0])]
        end = fence.end()
    return "".join([*parts, LINK.sub(there, markdown[end:])])


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:  # noqa: ARG001
    """Warn of a page that would fetch something from elsewhere."""
    for found in FETCHED.findall(output):
        log.warning("%s would fetch from elsewhere: %s", page.file.src_uri, found)
    return output


def _target(page: str, target: str) -> str | None:
    """Return what a link on *page* leads to, as a path in the repository, or None where that is not in it."""
    link = target.partition("#")[0]
    path = os.path.normpath(os.path.join(os.path.dirname(page), link))  # noqa: PTH118, PTH120 - as a link, not a file
    return path if link and not path.startswith("..") and (ROOT / path).exists() else None


def _place(path: str) -> str:
    """Return where in the site the file at *path* in the repository is."""
    if path in NAMED:
        return NAMED[path]
    if path.startswith("docs/") and not f"{path}/".startswith(APART):
        return path.removeprefix("docs/")
    return f"source/{path}" if path.endswith(".md") else f"source/{path}.md"


def _content(path: Path) -> str:
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    title = f"# {path.relative_to(ROOT).as_posix()}\n\n"
    if path.is_dir():
        names = sorted(f"{each.name}/" if each.is_dir() else each.name for each in path.iterdir())
        links = (f"- [{name}]({path.name}/{name})" for name in names if not name.startswith(("__pycache__", ".")))
        return title + "\n".join(links) + "\n"
    text = path.read_text(encoding="utf-8")
    language = LANGUAGES.get(path.suffix, "text")
    starts = _tests(text) if language == "python" else {}
    lines = text.splitlines(keepends=True)
    parts = [title]
    for begin, end in pairwise([0, *starts, len(lines)]):
        heading = f"\n## `{starts[begin]}`\n\n" if begin in starts else ""
        parts.append(f"{heading}````{language}\n{''.join(lines[begin:end])}````\n")
    return "".join(parts)


def _tests(text: str) -> dict[int, str]:
    """Return the tests in *text* by the number of lines before them."""
    return {
        min([node.lineno, *(each.lineno for each in node.decorator_list)]) - 1: node.name
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def _info(match: re.Match[str]) -> str:
    return match[1] + (match[2] or f'{match[3]} title="It prints"')
