"""A response that no server sent."""

import asyncio
import json as _json
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any, NamedTuple, cast

from aiohttp import ClientRequest, ClientResponse, HttpVersion11, StreamReader
from multidict import CIMultiDict, CIMultiDictProxy

_NOTHING: Any = object()


class Substitute:
    """What to answer in a server's place.

    Args:
        json: Value of a JSON body.
        body: A body of another kind.
        status: Status of the response, 200 to 599.
        headers: Its headers; ``Content-Type`` is JSON where ``json`` is given.

    Raises:
        ValueError: Both bodies are given, or the status is out of its range.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(
        self,
        *,
        json: Any = _NOTHING,
        body: bytes | None = None,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if json is not _NOTHING and body is not None:
            raise ValueError("json and body must not both be given")
        if not 200 <= status <= 599:
            raise ValueError(f"status must be between 200 and 599, got {status!r}")
        self.status = status
        self.headers: CIMultiDict[str] = CIMultiDict(headers if headers is not None else {})
        if json is _NOTHING:
            self.body = b"" if body is None else body
        else:
            self.body = _json.dumps(json).encode()
            self.headers.setdefault("Content-Type", "application/json")

    def __repr__(self) -> str:
        return f"Substitute(status={self.status}, {len(self.body)} bytes)"


async def response_of(request: ClientRequest, answer: Substitute, mark: Mapping[str, str]) -> ClientResponse:
    """Return *answer*, with the headers *mark* as well, as the response to *request*, its body read.

    aiohttp has no public way to make a response: this is its constructor, and ``start`` reading from a stand-in for a
    connection, so that no private attribute is touched.
    """
    loop = asyncio.get_running_loop()
    headers = CIMultiDictProxy(CIMultiDict([*answer.headers.items(), *mark.items()]))
    raw = tuple((name.encode(), value.encode()) for name, value in headers.items())
    head = Head(HttpVersion11, answer.status, _phrase(answer.status), headers, raw)
    protocol = _Protocol(head)
    content = StreamReader(cast("Any", protocol), max(65536, len(answer.body)), loop=loop)
    content.feed_data(answer.body)
    content.feed_eof()
    protocol.content = content
    response = request.response_class(
        request.method,
        request.original_url,
        writer=None,
        continue100=None,
        timer=cast("Any", None),
        request_info=request.request_info,
        traces=[],
        loop=loop,
        session=request.session,
        stream_writer=cast("Any", _Writer()),
    )
    await response.start(cast("Any", Connection(protocol)))
    await response.read()
    return response


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


class Head(NamedTuple):
    """The head of an answer, as aiohttp's parser would give it."""

    version: Any
    code: int
    reason: str
    headers: CIMultiDictProxy[str]
    raw_headers: tuple[tuple[bytes, bytes], ...]


class _Protocol:
    """Where the bytes would come from: already parsed, never paused."""

    connected = True
    upgraded = False
    content: StreamReader | None = None

    def __init__(self, head: Head) -> None:
        self._head = head

    async def read(self) -> Any:
        return self._head, self.content

    def pause_reading(self) -> None:
        """Nothing is arriving."""

    def resume_reading(self, *_: Any, **__: Any) -> None:
        """Nothing is arriving."""


class _Writer:
    """Nothing was uploaded."""

    output_size = 0


class Connection:
    """What a response holds until its body has arrived."""

    transport = None

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self._callbacks: list[Callable[[], object]] = []

    def add_callback(self, callback: Callable[[], object]) -> None:
        """Remember what to do at the end."""
        self._callbacks.append(callback)

    def release(self) -> None:
        """End it: there is no socket to give back."""
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            with suppress(Exception):
                callback()

    close = release
