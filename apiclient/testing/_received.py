"""What reached a mock, and how a failed assertion tells of it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from aiohttp import ClientRequest
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

NOTHING: Final[Any] = object()
_SHOWN = 20


class Received:
    """One attempt, as it would have gone over the wire.

    Attributes:
        method: Upper case.
        url: With its query.
        headers: A copy, as they were on this attempt.
        body: The bytes sent, before compression and chunking.
        route: Text of the route that answered, or None.
        path_params: What the placeholders of the route stood for.
        time: When it arrived, on the loop's clock.
        outcome: ``"200"``, the name of the exception raised, or ``"pending"``.
    """

    __slots__ = ("body", "headers", "method", "outcome", "path_params", "route", "time", "url")

    def __init__(self, request: ClientRequest, body: bytes, time: float) -> None:
        self.method: str = request.method
        self.url: URL = request.url
        self.headers: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict(request.headers))
        self.body = body
        self.time = time
        self.route: str | None = None
        self.path_params: Mapping[str, str] = {}
        self.outcome = "pending"

    def __repr__(self) -> str:
        return f"<Received {self.line}>"

    @property
    def line(self) -> str:
        """The attempt in one line, without its headers: they may hold secrets."""
        return f"{self.method} {self.url} -> {self.outcome}"

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """Return the body as JSON.

        Raises:
            ValueError: It is none.
        """
        return json.loads(self.body)


class Expectation:
    """What an assertion says about a request, apart from its route.

    Args:
        params: Query parameters that must be there, with these values; others may be too.
        headers: Header fields that must be there, with these values.
        json: The body must be JSON equal to this.
        body: The body must be these bytes.
    """

    def __init__(
        self,
        *,
        params: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = NOTHING,
        body: bytes | None = None,
    ) -> None:
        self._params = {} if params is None else {name: str(value) for name, value in params.items()}
        self._headers = {} if headers is None else dict(headers)
        self._json = json
        self._body = body

    def __str__(self) -> str:
        parts: list[str] = []
        if self._params:
            parts.append(f"params {self._params!r}")
        if self._headers:
            parts.append(f"headers {self._headers!r}")
        if self._json is not NOTHING:
            parts.append(f"JSON {self._json!r}")
        if self._body is not None:
            parts.append(f"body {self._body!r}")
        return f" with {' and '.join(parts)}" if parts else ""

    def differences(self, received: Received) -> list[str]:
        """Return in which ways *received* is not as expected: nothing where it is."""
        found = [
            f"parameter {name} is {received.url.query.getall(name, [])!r}, not {value!r}"
            for name, value in self._params.items()
            if value not in received.url.query.getall(name, [])
        ]
        found += [
            f"header {name} is {received.headers.getall(name, [])!r}, not {value!r}"
            for name, value in self._headers.items()
            if value not in received.headers.getall(name, [])
        ]
        if self._json is not NOTHING and not self._same_json(received):
            found.append(f"body is {_shortened(received.body)}")
        if self._body is not None and self._body != received.body:
            found.append(f"body is {_shortened(received.body)}")
        return found

    def _same_json(self, received: Received) -> bool:
        try:
            return bool(received.json() == self._json)
        except ValueError:
            return False


def listed(received: Sequence[Received], notes: Mapping[int, Iterable[str]] | None = None) -> str:
    """Return *received* as a numbered list for a message, each with its notes; only the last twenty."""
    if not received:
        return "Received nothing."
    lines = [f"Received {counted(len(received), 'request')}:"]
    first = max(0, len(received) - _SHOWN)
    if first:
        lines.append(f"  ({first} earlier ones left out)")
    for index in range(first, len(received)):
        lines.append(f"  {index + 1}. {received[index].line}")
        lines += [f"       {note}" for note in (notes or {}).get(index, ())]
    return "\n".join(lines)


def counted(number: int, noun: str) -> str:
    """Return ``1 request`` or ``2 requests``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _shortened(body: bytes) -> str:
    return repr(body) if len(body) <= 200 else f"{body[:200]!r}... ({len(body)} bytes)"
