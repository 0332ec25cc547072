"""The import rule of DESIGN.md: who may import whom, which modules are pure, and who may read a clock."""

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
MIDDLEWARE = "apiclient.middleware"

# What every installation has. The rest is an extra, and only the module that is about it may import it.
REQUIRED = frozenset({"aiohttp", "multidict", "yarl", "backoff", "structlog"})
EXTRAS = {
    "opentelemetry": (f"{MIDDLEWARE}.telemetry", f"{MIDDLEWARE}._instruments", f"{MIDDLEWARE}._spans"),
    "typer": ("apiclient.cli",),
    "click": ("apiclient.cli",),
    "rich": ("apiclient.cli",),
    "uvloop": ("apiclient.cli",),
    "redis": ("apiclient.stores",),
    "jwt": ("apiclient.credentials._jwt",),
    "cryptography": ("apiclient.credentials._jwt", "apiclient.stores.redis_token_store"),
    "aioresponses": ("apiclient.testing._aioresponses",),
    "pytest": ("apiclient.testing.plugin",),
    "pytest_asyncio": ("apiclient.testing.plugin",),
}
# The words that all policies share; every other public module of `middleware` is a policy, or stands alone like one.
SHARED = frozenset({f"{MIDDLEWARE}.{name}" for name in ("credential", "errors", "hint_store", "intent", "quota_store")})
# Private modules that do await, or see a request: everything else private in `middleware` is a pure machine.
SHELLS = frozenset(
    f"{MIDDLEWARE}.{name}"
    for name in (
        "_answered",
        "_attempts",
        "_body",
        "_call",
        "_capped_stream",
        "_censored",
        "_clock",
        "_error",
        "_explain",
        "_gate",
        "_lane",
        "_leases",
        "_outlet",
        "_refused",
        "_shape",
        "_spans",
        "_substitute",
        "_severed",
        "_timer",
        "_token",
        "_transport",
        "_whole",
    )
)
# Machines outside of `middleware`.
PURE = frozenset(
    {
        "apiclient._target",
        "apiclient.credentials._client_auth",
        "apiclient.credentials._discovery",
        "apiclient.credentials._grants",
        "apiclient.credentials._record",
        "apiclient.redirects",
        "apiclient.sandbox._window",
        "apiclient.testing._interaction",
        "apiclient.testing._redaction",
    }
)
CLOCKS = frozenset({("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today")})


class Module(NamedTuple):
    """A module as its imports show it.

    Attributes:
        name: Dotted.
        imports: ``(line, dotted name)`` of each, wherever it stands.
        clock: Lines that ask ``datetime`` for the present.
    """

    name: str
    imports: tuple[tuple[int, str], ...]
    clock: tuple[int, ...] = ()


def read(name: str, source: str, known: Iterable[str] = ()) -> Module:
    """Return what *source* imports: at the top, inside functions, under TYPE_CHECKING, and by import_module."""
    known = frozenset(known)
    imports: list[tuple[int, str]] = []
    clock: list[int] = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                imports += [(node.lineno, alias.name) for alias in names]
            case ast.ImportFrom(module=module, names=names, level=level):
                base = "." * level + (module or "")
                inner = (f"{base}.{alias.name}" for alias in names)
                imports += [(node.lineno, each if each in known else base) for each in inner]
            case ast.Call(func=ast.Name(id="import_module" | "__import__"), args=[ast.Constant(value=str(value)), *_]):
                imports.append((node.lineno, value))
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(value)), *_]):
                imports.append((node.lineno, value))
            case ast.Attribute(attr=attribute, value=ast.Name(id=owner) | ast.Attribute(attr=owner)):
                if (owner, attribute) in CLOCKS:
                    clock.append(node.lineno)
            case _:
                pass
    return Module(name, tuple(dict.fromkeys(imports)), tuple(clock))


def violations(module: Module) -> Iterator[str]:
    """Yield one line for each import of *module* that breaks the rule."""
    private = any(part.startswith("_") and not part.endswith("__") for part in module.name.split("."))
    of_middleware = within(module.name, MIDDLEWARE)
    pure = module.name in PURE or (of_middleware and private and module.name not in SHELLS)
    for line, target in module.imports:
        top = target.partition(".")[0]
        reason = None
        if target.startswith(".") and within(module.name, "apiclient"):
            reason = "imports are absolute"
        elif top in {"tests", "benchmarks"} and not within(module.name, top):
            reason = f"nothing imports {top}"
        elif within(module.name, "apiclient") and top != "apiclient" and not allowed(module.name, top):
            reason = "it is no requirement of ours, and no extra of this module"
        elif of_middleware and top == "apiclient" and not within(target, MIDDLEWARE):
            reason = "middleware never imports the rest of apiclient"
        elif of_middleware and module.name != MIDDLEWARE and target == MIDDLEWARE:
            reason = "a part of middleware names the module that it means, not the whole package"
        elif of_middleware and module.name != MIDDLEWARE and is_policy(target):
            reason = "policies never import each other, nor does what they share import a policy"
        elif pure and (top in {"aiohttp", "asyncio", "time", "random"} or target in SHELLS):
            reason = "a pure machine has neither aiohttp nor asyncio nor a clock nor chance, and imports no shell"
        if reason is not None:
            yield f"{module.name}, line {line}: {target}: {reason}"
    if pure:
        yield from (
            f"{module.name}, line {line}: a pure machine takes the time as an argument" for line in module.clock
        )


def within(name: str, package: str) -> bool:
    """Return whether *name* is *package* or something in it."""
    return name == package or name.startswith(f"{package}.")


def allowed(name: str, top: str) -> bool:
    """Return whether a module of apiclient may import the top-level package *top*."""
    if top in EXTRAS:
        return any(within(name, owner) for owner in EXTRAS[top])
    return top in REQUIRED or top in sys.stdlib_module_names


def is_policy(target: str) -> bool:
    """Return whether *target* is a public module of middleware that is not shared."""
    inner = target.removeprefix(f"{MIDDLEWARE}.")
    return within(target, MIDDLEWARE) and target not in SHARED and target != MIDDLEWARE and not inner.startswith("_")


def paths() -> dict[str, Path]:
    """Return every module of the repository by its dotted name; `middleware` by the name that it is imported by."""
    found: dict[str, Path] = {}
    for folder in ("apiclient", "middleware", "tests", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if parts[:2] == ("apiclient", "middleware"):
                continue
            parts = ("apiclient", *parts) if folder == "middleware" else parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@pytest.fixture(scope="module")
def modules() -> dict[str, Module]:
    known = paths()
    return {name: read(name, path.read_text(encoding="utf-8"), known) for name, path in known.items()}


def test_the_import_rule_holds_in_the_whole_tree(modules: dict[str, Module]) -> None:
    """Stdlib and requirements <- middleware <- apiclient <- tests, benchmarks; and pure machines are pure."""
    assert len(modules) > 100, "the tree was not found"
    broken = [line for module in modules.values() for line in violations(module)]
    assert not broken, "\n".join(broken)


def test_the_named_exceptions_are_needed(modules: dict[str, Module]) -> None:
    """A shell that needs neither aiohttp nor asyncio nor another shell is a pure machine, and leaves the list."""
    assert modules.keys() >= SHELLS
    for name in SHELLS:
        needs = {target.partition(".")[0] for _, target in modules[name].imports} & {"aiohttp", "asyncio"}
        assert needs or SHELLS & {target for _, target in modules[name].imports}, name
    assert modules.keys() >= PURE
    assert modules.keys() >= SHARED


@pytest.mark.parametrize(
    ("name", "source", "reason"),
    [
        ("apiclient.middleware.retry", "from apiclient.client import ApiClient", "rest of apiclient"),
        ("apiclient.middleware.retry", "from apiclient import errors", "rest of apiclient"),
        ("apiclient.middleware.retry", "def f():\n    import apiclient.batch", "rest of apiclient"),
        ("apiclient.middleware.retry", "from apiclient.middleware.alert import Alert", "policies never"),
        ("apiclient.middleware.retry", "from apiclient.middleware import alert", "policies never"),
        ("apiclient.middleware.retry", "from apiclient.middleware import Rate", "whole package"),
        ("apiclient.middleware._call", "from apiclient.middleware.retry import Retry", "policies never"),
        ("apiclient.middleware._pacing.pacer", "import asyncio", "pure machine"),
        (
            "apiclient.middleware._pacing.pacer",
            "if TYPE_CHECKING:\n    from aiohttp.web import Request",
            "pure machine",
        ),
        ("apiclient.middleware._pacing.pacer", "from time import monotonic", "pure machine"),
        ("apiclient.middleware._pacing.pacer", "from apiclient.middleware._call import Call", "pure machine"),
        ("apiclient.middleware._pacing.pacer", "datetime.datetime.now()", "time as an argument"),
        ("apiclient.redirects", "import asyncio", "pure machine"),
        ("apiclient.middleware.retry", "import requests", "no requirement"),
        ("apiclient.middleware.retry", "from opentelemetry import trace", "no extra of this module"),
        ("apiclient.client", "import_module('redis')", "no extra of this module"),
        ("apiclient.client", "import tests.conftest", "nothing imports tests"),
        ("benchmarks.overhead", "from tests import conftest", "nothing imports tests"),
        ("tests.test_x", "import benchmarks.overhead", "nothing imports benchmarks"),
        ("apiclient.middleware.retry", "from .alert import Alert", "absolute"),
    ],
)
def test_each_part_of_the_rule_is_seen_when_it_is_broken(name: str, source: str, reason: str) -> None:
    """A rule that no import can break guards nothing."""
    assert any(reason in line for line in violations(read(name, source, paths())))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("apiclient.middleware.retry", "import asyncio, time, aiohttp, backoff, structlog\nfrom yarl import URL"),
        ("apiclient.middleware.retry", "from apiclient.middleware.errors import ApiError"),
        ("apiclient.middleware", "from apiclient.middleware.retry import Retry"),
        (
            "apiclient.middleware._pacing.pacer",
            "import heapq, math\nfrom apiclient.middleware._parsing.rate import Rate",
        ),
        ("apiclient.middleware._pacing.pacer", "from datetime import datetime\ndatetime.fromtimestamp(0)"),
        ("apiclient.middleware.telemetry", "from opentelemetry import trace"),
        ("apiclient.client", "from apiclient.middleware import Retry"),
        ("tests.test_x", "import pytest, requests\nfrom tests.conftest import Peer\nfrom apiclient import ApiClient"),
    ],
)
def test_what_the_rule_allows_passes(name: str, source: str) -> None:
    """The rule forbids what it names, and nothing else."""
    assert list(violations(read(name, source, paths()))) == []
