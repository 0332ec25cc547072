"""What may be sent twice, what must be released, and how much of an answer is read."""

import asyncio
import sys
from typing import Any

import aiohttp
from aiohttp import ClientRequest, ClientResponse, hdrs

from apiclient.middleware._call import Call, joined
from apiclient.middleware._capped_stream import CappedStream
from apiclient.middleware.errors import BodyTooLarge, DeadlineExceeded, UnexpectedContentType

_DRAIN_SECONDS = 2.0
_NO_CODING = frozenset({"", "identity"})


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
    if call is not None and (call.buffer_body or call.body is not None):
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
        UnexpectedContentType: It is encoded more than once.
        aiohttp.ClientPayloadError: The body ends early or is garbled.
    """
    if hdrs.CONTENT_ENCODING not in response.headers:
        length = response.content_length
        if limit is None or (length is not None and length <= limit):
            await response.read()
            return
    content = response.content
    cap(response, limit)
    try:
        await response.read()
    finally:
        response.content = content


async def read_in_time(response: ClientResponse, call: Call) -> None:
    """Read a body that nothing in the chain of *call* has read: the chain's time limits do not cover it.

    Args:
        response: Not yet read.
        call: Whose ``max_body`` and deadline hold.

    Raises:
        DeadlineExceeded: The call's time was up first; the connection is closed.
        BodyTooLarge: As of ``read_body``, whose other errors are raised likewise.
    """
    try:
        async with asyncio.timeout(None if call.deadline is None else call.remaining()):
            await read_body(response, call.max_body)
    except TimeoutError as error:
        if isinstance(error, aiohttp.ClientError):
            raise
        raise DeadlineExceeded("The call's time was up before the whole body had arrived") from None


def cap(response: ClientResponse, limit: int | None) -> None:
    """Let no more than *limit* bytes come out of the body of *response*, however it is read.

    Args:
        response: Not yet read.
        limit: Most bytes, after decompression, or None.

    Raises:
        UnexpectedContentType: It is encoded more than once: aiohttp decodes one coding, so the caller would get
            compressed bytes in place of the body, and a chain of codings is how a bomb gets past a limit.
    """
    headers = response.headers
    if hdrs.CONTENT_ENCODING in headers:
        codings = [each for line in headers.getall(hdrs.CONTENT_ENCODING) for each in line.split(",")]
        if sum(each.strip().lower() not in _NO_CODING for each in codings) > 1:
            response.close()
            raise UnexpectedContentType(
                f"The body is encoded {len(codings)} times (Content-Encoding), and one coding is decoded",
                status=response.status,
                hint="Ask for Accept-Encoding: identity, or tell the API's operator",
            )
    elif limit is not None and response.content_length is not None and response.content_length <= limit:
        return
    if limit is not None or not (hdrs.CONTENT_LENGTH in headers or hdrs.TRANSFER_ENCODING in headers):
        # aiohttp offers no limit of its own, and where only the connection's end ends a body, does not say how that
        # ended: readers are given a stream that does.
        response.content = CappedStream(response, sys.maxsize if limit is None else limit)  # type: ignore[assignment]
