"""What may be sent twice, what must be released, and how much of an answer is read."""

import asyncio
from typing import Any

import aiohttp
from aiohttp import ClientRequest, ClientResponse, hdrs

from apiclient.middleware._call import joined
from apiclient.middleware.errors import BodyTooLarge

_DRAIN_SECONDS = 2.0


def replayable(request: ClientRequest) -> bool:
    """Return whether *request*, with its body, can be sent (again) and be the same.

    Ask before the first attempt and again before each resend: a body that can be read only once (an async
    iterator, a pipe) would be resent empty, without any error. ``Expect: 100-continue`` does not survive a
    resend either.
    """
    body: Any = request.body
    if hdrs.EXPECT in request.headers:
        return False
    call = joined()
    if call is not None and call.buffer_body:
        return True
    return not body or (body.size is not None and not body.consumed)


def discard(response: ClientResponse, request: ClientRequest) -> None:
    """Let go of a response that is not returned, and keep the cookies that it set.

    The connection is reused where the whole body has arrived, and closed otherwise; it never waits.
    """
    if response.cookies:
        jar = request.session.cookie_jar
        jar.update_cookies(response.cookies, response.url)
        cookies = jar.filter_cookies(request.url).output(header="", sep=";").strip()
        if cookies:
            request.headers[hdrs.COOKIE] = cookies
    response.release()


async def head_of(response: ClientResponse, limit: int = 65536) -> bytes:
    """Return at most *limit* bytes of an error body.

    A body that fits stays readable by the caller. One that is longer, broken, or slower than two seconds
    is cut off there and its connection closed. Never raises, cancellation aside.
    """
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            await read_body(response, limit)
            return await response.read()
    except (BodyTooLarge, TimeoutError, aiohttp.ClientError) as error:
        response.close()
        return getattr(error, "partial", b"")


async def read_body(response: ClientResponse, limit: int | None) -> None:
    """Read the whole body into *response*, so that ``read``, ``text`` and ``json`` need no more waiting.

    Args:
        response: Not yet read.
        limit: Most bytes to take, after decompression, or None.

    Raises:
        BodyTooLarge: There are more; the connection is closed.
        aiohttp.ClientPayloadError: The body ends early or is garbled.
    """
    if limit is None or _fits(response, limit):
        await response.read()
        return
    content = response.content
    # aiohttp offers no limit of its own: its read() is given a stream that has one.
    response.content = _Capped(content, limit)  # type: ignore[assignment]
    try:
        await response.read()
    finally:
        response.content = content


def _fits(response: ClientResponse, limit: int) -> bool:
    if hdrs.CONTENT_ENCODING in response.headers:
        return False
    length = response.content_length
    return length is not None and length <= limit


class _Capped:
    """A stream that gives up once *limit* bytes have come out of it."""

    def __init__(self, stream: aiohttp.StreamReader, limit: int) -> None:
        self._stream = stream
        self._limit = limit

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def read(self) -> bytes:
        blocks: list[bytes] = []
        size = 0
        async for block in self._stream.iter_any():
            room = self._limit - size
            size += len(block)
            blocks.append(block[:room])
            if size > self._limit:
                error = BodyTooLarge(f"The body is over the limit of {self._limit} bytes")
                error.partial = b"".join(blocks)  # type: ignore[attr-defined]
                raise error
        return b"".join(blocks)
