"""A response that is handed out only as a whole, and only from a connection that is in step."""

import asyncio
from typing import Any, NoReturn
from weakref import WeakSet

import aiohttp
from aiohttp import EMPTY_PAYLOAD, ClientRequest, ClientResponse, StreamReader, hdrs
from aiohttp.connector import Connection
from aiohttp.payload import BytesPayload

from apiclient.middleware._body import replayable
from apiclient.middleware._call import Call
from apiclient.middleware._coding import STEP, Decoding

_ALIASES = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate", "br": "br", "zstd": "zstd"}
_BUFFER = 2**18

# Connections that have brought an answer, for as long as they are open.
_kept: WeakSet[Any] = WeakSet()


class KeptConnectionLost(aiohttp.ServerDisconnectedError):
    """A connection that had served before ended, or was out of step, before any byte of this request's answer.

    It says nothing about the server: an idle connection may be closed at any time (RFC 9112 section 9.3.1).
    """


class WholeResponse(ClientResponse):
    """``aiohttp.ClientResponse`` for a session that leaves the content coding alone (``auto_decompress=False``).

    The coding is undone here, because aiohttp 3.14 takes a body whose coding breaks off for whole.
    """

    async def start(self, connection: Any) -> ClientResponse:
        """Read the head of the answer.

        Raises:
            KeptConnectionLost: The connection had served before, and brought nothing, or something unasked.
            aiohttp.ClientResponseError: The coding cannot be undone here.
        """
        if not isinstance(connection, Connection):
            return await super().start(connection)
        protocol: Any = connection.protocol
        kept = protocol in _kept
        if kept and protocol.should_close:
            # Nothing has been awaited since the request was written.
            raise KeptConnectionLost("Bytes had come unasked")
        try:
            await super().start(connection)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if not kept or not isinstance(getattr(error, "message", ""), str):
                raise
            raise KeptConnectionLost(str(error)) from error
        if not kept:
            _kept.add(protocol)
        if hdrs.CONTENT_ENCODING in self.headers and self.content is not EMPTY_PAYLOAD:
            self._decode()
        return self

    def _decode(self) -> None:
        lines = self.headers.getall(hdrs.CONTENT_ENCODING)
        codings = [each.strip().lower() for line in lines for each in line.split(",")]
        codings = [each for each in codings if each not in {"", "identity"}]
        coding = _ALIASES.get(codings[0]) if len(codings) == 1 else None
        if coding is None:
            return
        try:
            decoding = Decoding(coding)
        except LookupError as error:
            raise aiohttp.ClientResponseError(
                self.request_info,
                self.history,
                status=self.status,
                message=f"Content-Encoding is {coding}, and {error}",
                headers=self.headers,
            ) from None
        self.content = DecodedStream(self.content, decoding, chunked=hdrs.TRANSFER_ENCODING in self.headers)


class DecodedStream(StreamReader):
    """What *raw* is once its coding is undone, as fast as it is read.

    Args:
        raw: The body as it arrives.
        decoding: Undoes its coding.
        chunked: Whether it comes in HTTP chunks.
    """

    __slots__ = ("_decoding", "_ended", "_raw")

    def __init__(self, raw: StreamReader, decoding: Decoding, *, chunked: bool) -> None:
        super().__init__(_Unpaced(), _BUFFER, loop=asyncio.get_running_loop())  # type: ignore[arg-type]
        self._raw = raw
        self._decoding = decoding
        self._ended = False
        self.total_compressed_bytes = 0
        if chunked:
            self.begin_http_chunk_receiving()

    def is_eof(self) -> bool:
        """Return whether all of it has arrived."""
        return self._raw.is_eof()

    def on_eof(self, callback: Any) -> None:
        """Call *callback* when all of it has arrived."""
        self._raw.on_eof(callback)

    def at_eof(self) -> bool:
        """Return whether all of it has been read."""
        return super().at_eof() or (not self._buffer and self._raw.at_eof() and self._decoding.whole)

    async def wait_eof(self) -> None:
        """Wait until all of it has arrived."""
        await self._raw.wait_eof()

    def exception(self) -> BaseException | None:
        """Return what broke it."""
        broken = super().exception()
        return self._raw.exception() if broken is None else broken

    def set_exception(self, exc: BaseException, *cause: BaseException, **options: Any) -> None:
        """Break it."""
        super().set_exception(exc, *cause, **options)
        self._raw.set_exception(exc, *cause, **options)

    async def _wait(self, func_name: str) -> None:  # noqa: ARG002 - aiohttp's
        # Every way of reading comes here when nothing is left to read.
        try:
            while not (block := self._decoding.take()):
                if self._ended:
                    self._ended = False
                    self.end_http_chunk_receiving()
                    return
                piece, self._ended = await self._raw.readchunk()
                if not piece and not self._ended:
                    self._end()
                    return
                self.total_compressed_bytes = self._raw.total_bytes
                self._decoding.feed(piece)
        except ValueError as error:
            self._break(f"Content-Encoding: {error}")
        self.feed_data(block)
        if len(block) >= STEP:
            # There is probably more: others get their turn, and a time limit its chance.
            await asyncio.sleep(0)

    def _end(self) -> None:
        if not self._decoding.whole:
            self._break("Content-Encoding: the body ended before its coding did")
        self.feed_eof()

    def _break(self, message: str) -> NoReturn:
        broken = aiohttp.ClientPayloadError(message)
        self.set_exception(broken)
        raise broken


class _Unpaced:
    """Where a stream asks for less: this one is only filled when it is empty."""

    connected = True

    def pause_reading(self) -> None: ...

    def resume_reading(self, *_: Any, **__: Any) -> None: ...


def may_go_again(error: BaseException, call: Call, request: ClientRequest) -> bool:
    """Return whether *request* ended in a ``KeptConnectionLost``, and may go out again at once.

    Such a try uses up a connection that had served before: the next ones do, too, until one is new.
    """
    if not isinstance(error, KeptConnectionLost):
        return False
    held = not request.body or isinstance(request.body, BytesPayload)
    return held and call.repeatable and replayable(request) and call.remaining() > 0
