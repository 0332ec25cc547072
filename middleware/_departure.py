"""The moment at which a request's bytes begin to leave."""

from collections.abc import Callable
from typing import Any


class Departure:
    """Stands in for a request's response class, to learn when the request's head has been written.

    aiohttp makes the response object where the head has been written, with nothing that waits in between: that is the
    moment, and being asked for it costs less than a trace.

    Args:
        original: Makes the response.
        note: Called at that moment.

    Attributes:
        original: As given.
        left: Whether the moment has come.
    """

    __slots__ = ("_note", "left", "original")

    def __init__(self, original: Any, note: Callable[[], None] | None = None) -> None:
        self.original = original
        self.left = False
        self._note = note

    def __repr__(self) -> str:
        return f"<Departure {'past' if self.left else 'to come'}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Note the moment, and make the response."""
        self.left = True
        if self._note is not None:
            self._note()
        return self.original(*args, **kwargs)
