"""Every sample of the README and of docs/ runs as it is written, against this machine only; links and headings hold.

How a page runs:

- Its ```python blocks are one script: in order, in one namespace, with ``await`` at the top as in ``python -m asyncio``.
- ``sandbox``, a running ``apiclient.sandbox.Sandbox``, is there from the start; a block may also start its own.
- Time is virtual, so that a sample that waits costs nothing. A block that calls ``asyncio.run`` is a whole program: it
  runs in a thread, in real time and in a namespace of its own.
- A ```text printed block after it is what it has printed; ``...`` stands for anything.
- ```python no-run: REASON is compiled and not run. Without a reason it is refused.
- ```python title="FILE" is a file, in the tutorial and the guides: tests/test_examples.py goes through the tutorial and the
  examples as their readers do, and holds the files that a guide shows against those of docs/examples.
"""

import ast
import asyncio
import contextlib
import doctest
import gc
import inspect
import io
import logging
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import structlog

import apiclient.middleware
from apiclient.middleware._events import DEFAULT_LOG
from apiclient.sandbox import Sandbox

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
RUN = "python3 -m venv .venv && .venv/bin/pip install -q '.[cli]' && .venv/bin/apiclient demo"
TEST = "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/pytest"
HEADINGS = ["What it does", "Use", "Options and defaults", "Order", "What you see", "Instead of"]
FENCE = re.compile(r"^(?P<mark>```+)(?P<info>[^`\n]*)\n(?P<body>.*?)^(?P=mark)[ ]*$", re.MULTILINE | re.DOTALL)
WALKED = ("docs/tutorial.md", "docs/examples/")  # their commands are typed by tests/test_examples.py
TITLE = re.compile(r'title="[\w./-]+"')
LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost", b"127.0.0.1", b"localhost", None})


class Block(NamedTuple):
    """A fenced block: its info string, its text, and the line of the page that its text begins on."""

    info: str
    body: str
    line: int


def blocks(text: str) -> list[Block]:
    return [
        Block(match["info"].strip(), match["body"], text.count("\n", 0, match.start("body")) + 1)
        for match in FENCE.finditer(text)
    ]


def prose(text: str) -> str:
    """Return *text* without its fenced blocks."""
    return FENCE.sub("", text)


class Network:
    """Sees every connection of the process, and refuses those that leave the machine while ``watching``."""

    def __init__(self) -> None:
        self.watching = False
        self.refused: list[object] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.watching or event not in {"socket.connect", "socket.getaddrinfo", "socket.sendto"}:
            return
        if event != "socket.getaddrinfo" and args[0].family not in {socket.AF_INET, socket.AF_INET6}:
            return
        host: object = args[0] if event == "socket.getaddrinfo" else args[1][0]
        if host not in LOOPBACK:
            self.refused.append(host)
            raise PermissionError(f"a sample must not leave this machine: {host!r}")


NETWORK = Network()


@pytest.fixture
def apart() -> Iterator[None]:
    """Keep what a sample does to logging from the next one, and its connections on this machine."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    NETWORK.watching = True
    DEFAULT_LOG.__init__()  # type: ignore[misc]
    try:
        yield
    finally:
        NETWORK.watching = False
        refused, NETWORK.refused = NETWORK.refused, []
        structlog.reset_defaults()
        DEFAULT_LOG.__init__()  # type: ignore[misc]
        root.handlers[:], root.level = handlers, level
        gc.collect()  # what was left open warns here, and not in a test that has nothing to do with it
        assert not refused, f"samples tried to reach {refused}"


class Page:
    """Runs the blocks of one page.

    Args:
        name: Shown in tracebacks.
        sandbox: What the page finds under that name.
    """

    def __init__(self, name: str, sandbox: object) -> None:
        self._name = name
        self._names: dict[str, Any] = {"__name__": "__main__", "sandbox": sandbox}
        self.printed = ""

    async def read(self, text: str) -> None:
        """Run every block of *text*."""
        for block in blocks(text):
            await self.run(block)

    async def run(self, block: Block) -> None:
        """Run *block* where it is Python, or compare it where it shows what was printed."""
        language, _, rest = block.info.partition(" ")
        if block.info == "text printed":
            if self._name.startswith(WALKED):
                return
            same = doctest.OutputChecker().check_output(block.body, self.printed, doctest.ELLIPSIS)
            assert same, f"{self._name}, line {block.line}: it printed\n{self.printed}"
        elif language == "python":
            if TITLE.fullmatch(rest) and self._name.startswith((*WALKED, "docs/how-to/")):
                return
            assert not rest or (rest.startswith("no-run:") and len(rest.split()) > 2), (
                f"{self._name}, line {block.line}: write ```python, or ```python no-run: and why; got {block.info!r}"
            )
            await self._python(block, skipped=bool(rest))

    async def _python(self, block: Block, *, skipped: bool) -> None:
        # As many empty lines before it as there are on the page: a traceback then shows the page's own lines.
        source = "\n" * (block.line - 1) + block.body
        code = compile(source, str(ROOT / self._name), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if skipped:
            return
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            if "asyncio.run(" in block.body:
                await asyncio.to_thread(exec, code, {"__name__": "__main__"})
            elif code.co_flags & inspect.CO_COROUTINE:
                await eval(code, self._names)  # noqa: S307 - our own page
            else:
                exec(code, self._names)  # noqa: S102 - our own page
        self.printed = out.getvalue()


@pytest.mark.looptime
@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("name", NAMES)
async def test_the_samples_of_a_page_run_as_written(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A reader who pastes a page block by block sees what the page says."""
    monkeypatch.chdir(tmp_path)
    async with Sandbox() as sandbox:
        await Page(name, sandbox).read((ROOT / name).read_text(encoding="utf-8"))


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize(
    ("text", "raised"),
    [
        ("```python\nraise KeyError('ran')\n```\n", KeyError),
        ("```python\nimport asyncio\nawait asyncio.sleep(0)\nraise KeyError\n```\n", KeyError),
        ("```python\nx = 1\n```\n```python\nassert x == 2\n```\n", AssertionError),
        ("```python\nimport asyncio\nasync def main(): raise KeyError\nasyncio.run(main())\n```\n", KeyError),
        ("```python\nprint(1)\n```\n```text printed\n2\n```\n", AssertionError),
        ("```python no-run\nx\n```\n", AssertionError),
        ("```python no-run: because\nx\n```\n", AssertionError),
        ("```python norun: it needs a database\nx\n```\n", AssertionError),
        ("```python no-run: it needs a database\nx = \n```\n", SyntaxError),
    ],
    ids=[
        "block",
        "block-with-await",
        "second-block",
        "program",
        "printed",
        "no-run-bare",
        "no-run-one-word",
        "unknown-info",
        "no-run-syntax",
    ],
)
async def test_a_broken_sample_is_seen(text: str, raised: type[Exception]) -> None:
    """What runs nothing would find nothing."""
    with pytest.raises(raised):
        await Page("page.md", None).read(text)


@pytest.mark.usefixtures("apart")
async def test_a_sample_cannot_leave_the_machine() -> None:
    """Loopback only: anything else is refused before a packet leaves, and found even where the sample swallows it."""
    page = Page("page.md", None)
    sample = "import asyncio\nawait asyncio.open_connection('192.0.2.1', 80)\n"
    with pytest.raises(PermissionError, match=r"192\.0\.2\.1"):
        await page.run(Block("python", sample, 1))
    assert NETWORK.refused == ["192.0.2.1"]
    NETWORK.refused.clear()


def test_the_readme_shows_the_two_commands() -> None:
    """Two lines do all the set-up on a fresh machine; the gate runs the second as it stands there."""
    shown = [block.body.strip() for block in blocks(PAGES[0].read_text(encoding="utf-8")) if block.info == "bash"]
    assert shown[:2] == [RUN, TEST]
    sought = re.search(r"grep -x -m 1 '(.+)' README\.md", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    assert sought is not None
    assert [line for line in PAGES[0].read_text(encoding="utf-8").splitlines() if re.fullmatch(sought[1], line)] == [
        TEST
    ]


def test_the_readme_has_running_code_by_line_30() -> None:
    """Who opens the README sees what it looks like before anything else."""
    first = next(each for each in blocks(PAGES[0].read_text(encoding="utf-8")) if each.info.startswith("python"))
    assert first.info == "python"
    assert first.line <= 30
    assert first.line + first.body.count("\n") <= 45


@pytest.mark.parametrize("page", [*NAMES, "CONTRIBUTING.md", "CHANGELOG.md"])
def test_every_link_leads_somewhere(page: str) -> None:
    """A relative link names a file of the repository, and an anchor a heading of it."""
    path = ROOT / page
    for match in LINK.finditer(prose(path.read_text(encoding="utf-8"))):
        target, _, anchor = match["target"].partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        found = (path.parent / target).resolve() if target else path
        assert found.exists(), f"{page}: {match['target']}"
        if anchor:
            assert anchor in anchors(found.read_text(encoding="utf-8")), f"{page}: {match['target']}"


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_the_index_names_every_page() -> None:
    """No page is without a way to it."""
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    linked = {match["target"].partition("#")[0] for match in LINK.finditer(index)}
    pages = {page.relative_to(DOCS).as_posix() for page in PAGES[1:]} - {"index.md"}
    assert {page for page in pages if not page.startswith("examples/")} <= linked


def policies() -> dict[str, Any]:
    """Return the public middlewares by the name of their page."""
    found: dict[str, Any] = {}
    for name in apiclient.middleware.__all__:
        kind = getattr(apiclient.middleware, name)
        entered = getattr(kind, "__call__", None)  # noqa: B004
        if (
            inspect.iscoroutinefunction(entered)
            and {"request", "handler"} <= inspect.signature(entered).parameters.keys()
        ):
            found[kind.__module__.rpartition(".")[2].replace("_", "-")] = kind
    return found


@pytest.mark.parametrize(("page", "kind"), [pytest.param(*item, id=item[0]) for item in policies().items()])
def test_each_middleware_has_a_page_with_the_same_headings(page: str, kind: Any) -> None:
    """Who knows one page knows where to look on the others, and every option is on it with its default."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", prose(text), re.MULTILINE)
    assert [heading for heading in headings if heading in HEADINGS] == HEADINGS
    assert text.startswith(f"# {kind.__name__}\n")
    shown = shown_defaults(text.partition("## Options and defaults")[2].partition("\n## ")[0])
    for option in inspect.signature(kind).parameters.values():
        if option.name in {"now", "random"}:
            continue  # for tests: the docstring has them
        assert option.name in shown, f"no row for option {option.name}"
        if isinstance(option.default, int | float | str) and not isinstance(option.default, bool):
            default = shown[option.name]
            assert same(default, option.default), (
                f"{option.name} defaults to {option.default!r}, the page says {default}"
            )


def shown_defaults(table: str) -> dict[str, str]:
    """Return what the second column says of each option named in the first; a row may have several, by commas."""
    found: dict[str, str] = {}
    for row in re.findall(r"^\|([^|]*)\|([^|]*)\|", table, re.MULTILINE):
        names, values = re.findall(r"`(\w+)`", row[0]), row[1].replace("`", "").split(",")
        if len(values) != len(names):
            values = [",".join(values)] * len(names)
        found |= dict(zip(names, values, strict=True))
    return found


def same(shown: str, default: float | str) -> bool:
    """Return whether *shown* is *default*: 60 and 60.0 alike, INFO for 20, text with or without quotes."""
    word = shown.strip().partition(" ")[0].strip("\"'")
    if isinstance(default, str):
        return word == default
    with contextlib.suppress(ValueError):
        return float(word.replace("_", "")) == default
    return logging.getLevelNamesMapping().get(word) == default
