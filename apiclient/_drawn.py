"""A pipeline drawn as a tree: each middleware with the value of each of its options."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, cast

from aiohttp import ClientMiddlewareType

from apiclient.middleware._parsing.text import one_line
from apiclient.pipeline import Pipeline

_LONGEST = 100
_FOR_TESTS = frozenset({"now", "random"})
_MISSING: Any = object()
_PLAIN = (bool, int, float, str)


def drawn(pipeline: Pipeline) -> str:
    """Return *pipeline* as a tree, the outermost first; what differs from its default says so."""
    lines = ["Pipeline"]
    for number, middleware in enumerate(pipeline):
        last = number == len(pipeline) - 1
        lines.append(f"{'`' if last else '|'}-- {_name(middleware)}")
        trunk = "    " if last else "|   "
        lines += [f"{trunk}    {line}" for line in _options(middleware)]
    return "\n".join(lines)


def options_of(middleware: object) -> dict[str, Any]:
    """Return the options of *middleware* by name, those left out whose value it does not keep.

    A middleware keeps an option under its name, plain or with an underscore, or hands it on to a part of its own
    that does: a tuple of options, a machine, or what makes one per endpoint.
    """
    if hasattr(middleware, "__code__"):
        return {}
    found: dict[str, Any] = {}
    for name in _parameters(middleware):
        value = _kept(middleware, name, depth=2)
        if value is not _MISSING:
            found[name] = value
    return found


def _parameters(middleware: object) -> Mapping[str, inspect.Parameter]:
    # A custom middleware may be of any kind, one without a signature of its own too.
    try:
        parameters = inspect.signature(type(middleware)).parameters
    except (ValueError, TypeError):
        return {}
    plain = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    return {name: each for name, each in parameters.items() if each.kind in plain and name not in _FOR_TESTS}


def _kept(holder: object, name: str, depth: int) -> Any:
    for attribute in (f"_{name}", name):
        value = getattr(holder, attribute, _MISSING)
        if value is not _MISSING and not inspect.ismethod(value):
            return value
    if depth:
        # What makes a machine per endpoint knows the options; a machine at hand may be one that was never used.
        for part in _parts(holder):
            enclosed = _enclosed(getattr(part, "_factory", None))
            if name in enclosed:
                return enclosed[name]
        for part in _parts(holder):
            value = _kept(part, name, depth - 1)
            if value is not _MISSING:
                return value
    return _MISSING


def _parts(holder: object) -> Iterator[object]:
    if hasattr(holder, "_fields"):
        yield from cast("tuple[object, ...]", holder)
    else:
        yield from getattr(holder, "__dict__", {}).values()


def _enclosed(function: Any) -> dict[str, Any]:
    """Return the variables that *function* has closed over."""
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    return {
        name: cell.cell_contents for name, cell in zip(names, getattr(function, "__closure__", None) or (), strict=True)
    }


def _options(middleware: ClientMiddlewareType) -> Iterator[str]:
    parameters = _parameters(middleware)
    for name, value in options_of(middleware).items():
        default = parameters[name].default
        changed = isinstance(default, _PLAIN) and isinstance(value, _PLAIN) and value != default
        yield f"{name} = {_shown(value)}" + (f"   (default {_shown(default)})" if changed else "")


def _shown(value: Any) -> str:
    if isinstance(value, frozenset | set):
        members = cast("frozenset[Any]", value)
        return one_line("{" + ", ".join(sorted(map(_shown, members))) + "}", _LONGEST)
    if inspect.isfunction(value) or inspect.isclass(value):
        return f"{value.__module__}.{value.__qualname__}"
    return one_line(repr(value), _LONGEST)


def _name(middleware: ClientMiddlewareType) -> str:
    if hasattr(middleware, "__code__"):
        return f"{getattr(middleware, '__qualname__', middleware)}"
    return type(middleware).__name__
