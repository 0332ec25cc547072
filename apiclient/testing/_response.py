"""Responses that no server sent, and uploads that go nowhere: the one place that knows how aiohttp makes them.

aiohttp has no public way to construct a ``ClientResponse``. The least private one, and the only one used here:
its constructor (public class, undocumented arguments), and ``start``, which fills in status, headers, cookies
and content from whatever the connection's protocol reads. A stand-in connection hands it the parsed head, so
that no private attribute of a response is set. ``_timer`` of the request is the one private attribute read:
there is no other way for a slow body to end when the time limit of the session does.
"""

import asyncio
from collections import deque
from http import HTTPStatus
from typing import Any, NamedTuple, cast

from aiohttp import (
    ClientConnectionError,
    ClientOSError,
    ClientRequest,
    ClientResponse,
    HttpVersion11,
    StreamReader,
    hdrs,
)
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict, CIMultiDictProxy

from apiclient.middleware._substitute import Connection, Head

# aiohttp's default; it limits the length of a line, while the stand-in protocol takes any number of bytes.
_READ_BUFFER = 2**18


class Drip(NamedTuple):
    """A body that comes in pieces of *size* bytes, each *every* seconds after the reader began to wait for it."""

    size: int
    every: float


def phrase(status: int) -> str:
    """Return the reason phrase of *status*, empty for one without a name (RFC 9110 section 15)."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


async def build(
    request: ClientRequest,
    *,
    status: int,
    headers: CIMultiDict[str],
    content: StreamReader,
    reason: str | None = None,
    response_class: type[ClientResponse] | None = None,
) -> ClientResponse:
    """Return the response to *request* that a server would have caused by sending this.

    Args:
        request: The attempt that is answered.
        status: A final status, 200 or above (101 is none, but allowed: it switches nothing).
        headers: As sent; ``Set-Cookie`` reaches the session's jar.
        content: The body, from ``stream``.
        reason: The reason phrase; by default the registered one.
        response_class: By default the session's.

    Raises:
        ValueError: *status* is interim: aiohttp would wait for the final one.
    """
    if status < 200 and status != HTTPStatus.SWITCHING_PROTOCOLS:
        raise ValueError(f"status must be a final one, at least 200, got {status!r}")
    head = Head(
        HttpVersion11,
        status,
        phrase(status) if reason is None else reason,
        CIMultiDictProxy(headers),
        tuple((name.encode(), value.encode()) for name, value in headers.items()),
    )
    loop = asyncio.get_running_loop()
    response = (request.response_class if response_class is None else response_class)(
        request.method,
        request.original_url,
        writer=None,
        continue100=None,
        timer=cast("Any", None),
        request_info=request.request_info,
        traces=[],
        loop=loop,
        session=request.session,
        stream_writer=_Sink(),
    )
    return await response.start(cast("Any", Connection(_Protocol(head, content))))


def stream(
    request: ClientRequest,
    body: bytes,
    *,
    cut: int | None = None,
    error: BaseException | None = None,
    drip: Drip | None = None,
) -> StreamReader:
    """Return *body* as the content of a response.

    Args:
        request: Its time limit bounds the wait for a piece.
        body: All of it, after decompression.
        cut: How many bytes arrive before reading raises *error*; None for all of them.
        error: What reading past *cut* raises.
        drip: How slowly it arrives; None for all at once.
    """
    loop = asyncio.get_running_loop()
    arriving = body if cut is None else body[:cut]
    feeder = _Feeder(loop, getattr(request, "_timer", None), arriving, error if cut is not None else None, drip)
    timer = cast("Any", feeder) if feeder.lazy else None
    content = StreamReader(cast("Any", _Protocol()), _READ_BUFFER, timer=timer, loop=loop)
    feeder.feed(content)
    return content


async def uploaded(request: ClientRequest) -> bytes:
    """Consume the request's body as sending it does, and return it as it was before compression and chunking.

    Raises:
        ClientOSError: The body could not be read.
        ClientConnectionError: Producing the body failed in another way; both as aiohttp raises them.
    """
    if (
        hdrs.CONTENT_TYPE not in request.headers
        and request.method in request.POST_METHODS
        and hdrs.CONTENT_TYPE not in request.skip_auto_headers
    ):
        request.headers[hdrs.CONTENT_TYPE] = "application/octet-stream"
    body: Any = request.body
    if not body:
        return b""
    sink = _Sink()
    length = request.headers.get(hdrs.CONTENT_LENGTH)
    try:
        await body.write_with_length(sink, None if length is None else int(length))
    except OSError as error:
        if error.errno is None and isinstance(error, TimeoutError):
            raise
        raise ClientOSError(error.errno, f"Can not write request body for {request.url}") from error
    except Exception as error:
        raise ClientConnectionError(f"Failed to send bytes into the underlying connection: {error!r}") from error
    return b"".join(sink.chunks)


class _Protocol:
    """Where the bytes would come from: already parsed, never paused."""

    connected = True
    upgraded = False

    def __init__(self, head: Head | None = None, content: StreamReader | None = None) -> None:
        self._message = (head, content)

    async def read(self) -> Any:
        return self._message

    def pause_reading(self) -> None: ...

    def resume_reading(self, *_: Any, **__: Any) -> None: ...


class _Feeder:
    """Feeds a stream each time its reader has run dry.

    It stands where a stream takes the timer of its reads: that is entered exactly when a reader begins to wait, so
    every byte before a fault is read first, whoever yields to the loop in between. Real time limits go on working
    through the timer behind it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        timer: Any,
        body: bytes,
        error: BaseException | None,
        drip: Drip | None,
    ) -> None:
        self._loop = loop
        self._timer = timer
        self._error = error
        self._every = 0.0 if drip is None else drip.every
        size = max(1, len(body)) if drip is None else drip.size
        self._pieces = deque(body[start : start + size] for start in range(0, len(body), size))
        self._content: StreamReader | None = None
        self._pending = False
        self._slow = drip is not None
        self.lazy = self._slow or error is not None

    def feed(self, content: StreamReader) -> None:
        self._content = content
        while self._pieces and not self._slow:
            content.feed_data(self._pieces.popleft())
        if not self.lazy:
            content.feed_eof()

    def assert_timeout(self) -> None:
        if self._timer is not None:
            self._timer.assert_timeout()

    def __enter__(self) -> None:
        if self._timer is not None:
            self._timer.__enter__()
        if not self._pending:
            self._pending = True
            self._loop.call_later(self._every, self._next)

    def __exit__(self, *exc_info: object) -> Any:
        return None if self._timer is None else self._timer.__exit__(*exc_info)

    def _next(self) -> None:
        self._pending = False
        content = self._content
        if content is None or content.exception() is not None:
            return
        if self._pieces:
            content.feed_data(self._pieces.popleft())
        elif self._error is not None:
            content.set_exception(self._error)
            return
        if not self._pieces and self._error is None:
            content.feed_eof()


class _Sink(AbstractStreamWriter):
    """Takes an upload and keeps it."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        self.chunks.append(bytes(chunk))
        self.output_size += len(chunk)

    async def write_eof(self, chunk: bytes = b"") -> None:
        if chunk:
            await self.write(chunk)

    async def drain(self) -> None: ...

    def enable_compression(self, encoding: str = "deflate", strategy: int | None = None) -> None: ...

    def enable_chunking(self) -> None: ...

    async def write_headers(self, status_line: str, headers: CIMultiDict[str]) -> None: ...
