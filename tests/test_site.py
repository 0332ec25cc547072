"""What the site must have: every public name, every command and option, every law, and a way to each page."""

import ast
import importlib
import inspect
import pkgutil
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml  # type: ignore[import-untyped]

import apiclient
from apiclient.cli._app import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
DIRECTIVE = re.compile(r"^::: (\S+)$", re.MULTILINE)
LINKED_TEST = re.compile(r"\[`(test_\w+)`\]\(([^)#]+)\)")
# Public by their path, but no part of the library: the command line has a page of its own, and so has the plugin.
PROGRAMS = ("apiclient.cli.", "apiclient.demo.", "apiclient.testing.plugin.")


def public_modules() -> list[str]:
    """Return every module that can be imported by a path without an underscore, but for the programs."""
    found = ["apiclient", *(each.name for each in pkgutil.walk_packages(apiclient.__path__, "apiclient."))]
    return [name for name in found if "._" not in name and not f"{name}.".startswith(PROGRAMS)]


def public_names(module_name: str) -> list[str]:
    """Return what *module_name* offers: its ``__all__``, or else the classes and functions that it defines."""
    module = importlib.import_module(module_name)
    listed: list[str] | None = getattr(module, "__all__", None)
    if listed is not None:
        return [name for name in listed if not inspect.ismodule(getattr(module, name))]
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module_name
    ]


def identity(dotted: str) -> str:
    """Return where the thing called *dotted* is defined, so that two names of one thing are the same."""
    module_name, _, name = dotted.rpartition(".")
    value: Any = getattr(importlib.import_module(module_name), name)
    if inspect.isclass(value) or inspect.isfunction(value):
        return f"{value.__module__}.{value.__qualname__}"
    return dotted


def directives() -> list[str]:
    """Return what the pages of the reference render, page by page."""
    return [name for page in sorted(DOCS.rglob("*.md")) for name in DIRECTIVE.findall(page.read_text("utf-8"))]


@pytest.mark.parametrize("module", public_modules())
def test_every_public_name_is_on_a_page(module: str) -> None:
    """Whoever adds a name decides where it is explained."""
    rendered = {identity(name) for name in directives()}
    assert [name for name in public_names(module) if identity(f"{module}.{name}") not in rendered] == []


def test_the_reference_renders_each_thing_once() -> None:
    """One place to look it up, under the name that it is to be imported by; and nothing that is private."""
    assert [name for name, count in Counter(map(identity, directives())).items() if count > 1] == []
    public = {f"{module}.{name}" for module in public_modules() for name in public_names(module)}
    aliases = {"apiclient.pagination.Next"}  # a type, which a module without __all__ does not list
    assert set(directives()) - public <= aliases


def entries(nav: Any) -> Iterator[str]:
    """Yield the pages of a navigation."""
    if isinstance(nav, str):
        yield nav
    else:
        for each in nav if isinstance(nav, list) else nav.values():
            yield from entries(each)


def test_the_navigation_has_every_page_once() -> None:
    """Who reads the site finds everything that is there; the pages made of files beside docs/ are in it too."""
    config = yaml.load((ROOT / "mkdocs.yml").read_text("utf-8"), Loader=yaml.BaseLoader)  # noqa: S506 - ours, and plain
    listed = [page for page in entries(config["nav"]) if not page.startswith("project/")]
    examples = DOCS / "examples"
    pages = [page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md") if examples not in page.parents]
    assert sorted(listed) == sorted(pages)


def commands(found: Any, path: str = "apiclient") -> Iterator[tuple[str, Any]]:
    """Yield every command below *found* with its name as it is typed."""
    for name, command in sorted(getattr(found, "commands", {}).items()):
        yield from commands(command, f"{path} {name}")
    if not hasattr(found, "commands"):
        yield path, found


COMMANDS = dict(commands(typer.main.get_command(app)))


def section(page: str, heading: str) -> str:
    """Return what stands below *heading* on *page*, or an empty text."""
    return f"\n{page}\n## ".partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_described_with_all_its_options(command: str) -> None:
    """Each has a section, which names every option and argument, and none that is not there."""
    text = section((DOCS / "command-line.md").read_text("utf-8"), command)
    assert text
    named = set(re.findall(r"`(-[\w-]+)`", text))
    options: set[str] = set()
    for parameter in COMMANDS[command].params:
        if parameter.param_type_name == "argument":
            words = re.findall(r"[\w.]+", parameter.metavar or parameter.name.upper())
            assert all(re.search(rf"`{re.escape(word)}(\.\.\.)?`", text) for word in words), words
        else:
            options |= {*parameter.opts, *parameter.secondary_opts} - {"--help"}
    assert named & options == options
    assert {name for name in named - options if f"| `{name}" in text} == set()


def test_no_section_is_about_a_command_that_is_gone() -> None:
    """The headings of the page are the commands."""
    headings = re.findall(r"^## (apiclient .+)$", (DOCS / "command-line.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(COMMANDS)


def test_each_fixture_of_the_plugin_is_described() -> None:
    """What pytest offers in a project that has this package installed."""
    tree = ast.parse((ROOT / "apiclient" / "testing" / "plugin.py").read_text("utf-8"))
    fixtures = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and any("fixture" in ast.unparse(each) for each in node.decorator_list)
    }
    described = set(re.findall(r"^\| `(\w+)` \|", (DOCS / "testing.md").read_text("utf-8"), re.MULTILINE))
    assert fixtures | {"api_sandbox"} <= described


def named_in(path: Path) -> set[str]:
    """Return the names of the tests in *path*."""
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    found = (node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {name for name in found if name.startswith("test_")}


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.relative_to(DOCS).as_posix())
def test_each_test_that_a_page_names_is_there(page: Path) -> None:
    """A link to a test that was renamed is a promise that nobody keeps."""
    for test, target in LINKED_TEST.findall(page.read_text("utf-8")):
        assert test in named_in((page.parent / target).resolve()), test


def test_each_law_names_the_tests_that_keep_it() -> None:
    """Fourteen, each with two tests at least, and with all those that have its number in their name."""
    page = (DOCS / "laws.md").read_text("utf-8")
    parts = re.split(r"^## (\d+)\. .+$", page.partition("\n## What is not promised")[0], flags=re.MULTILINE)
    laws = {
        int(number): {test for test, _ in LINKED_TEST.findall(text)}
        for number, text in zip(parts[1::2], parts[2::2], strict=True)
    }
    assert list(laws) == list(range(1, 15))
    for test in named_in(ROOT / "tests" / "integration" / "test_laws.py"):
        assert test in laws[int(test.split("_")[2])]
    assert min(map(len, laws.values())) >= 2
