"""Checks of constructor options; each message names the option and its value."""

import math
from collections.abc import Callable, Iterable
from typing import Any


def whole(name: str, value: Any, *, least: int, most: int | None = None) -> int:
    """Return *value* if it is an int from *least* to *most*."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {value!r}")
    if value < least or (most is not None and value > most):
        bounds = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be {bounds}, got {value!r}")
    return value


def number(name: str, value: Any, *, above: float | None = None, least: float = 0, most: float = math.inf) -> float:
    """Return *value* if it is a finite number above *above*, or from *least* to *most*."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}")
    if above is not None and value <= above:
        raise ValueError(f"{name} must be above {above:g}, got {value!r}")
    if not least <= value <= most:
        bounds = f"at least {least:g}" if math.isinf(most) else f"from {least:g} to {most:g}"
        raise ValueError(f"{name} must be {bounds}, got {value!r}")
    return value


def text(name: str, value: Any) -> str:
    """Return *value* if it is a str with something in it. The message leaves the value out: it may be a secret."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, got {type(value).__name__}")
    if not value:
        raise ValueError(f"{name} must not be empty, got ''")
    return value


def names(name: str, value: Iterable[str]) -> frozenset[str]:
    """Return the words in *value*; a lone str is taken for a mistake."""
    if isinstance(value, str):
        raise TypeError(f"{name} must be several names, not one str, got {value!r}")
    words = frozenset(value)
    for word in words:
        if not isinstance(word, str):  # pyright: ignore[reportUnnecessaryIsInstance] - callers are not all typed
            raise TypeError(f"{name} must be names, got {word!r}")
        if not word or not word.isprintable() or any(character in word for character in ' "\\'):
            raise ValueError(f"{name} must be names without spaces and quotes, got {word!r}")
    return words


def function(name: str, value: Any) -> Callable[[], float]:
    """Return *value* if it can be called."""
    checked: Callable[[], float] = value
    if not callable(value):
        raise TypeError(f"{name} must be callable, got {value!r}")
    return checked
