"""A connection that ends while a body is being read from it ends the reading, too, and not as a whole body."""

import asyncio
from typing import Any

from aiohttp import ClientPayloadError, ClientResponse, hdrs


def watch(response: ClientResponse) -> None:
    """See to it that whoever reads the body of *response* learns of the connection's end.

    aiohttp 3.14 leaves its reader waiting for ever where a later chunk is malformed (it closes the connection and
    stops the read timeout, but tells only the next request), and takes a reset for the orderly end of a body that has
    no length, which RFC 9112 section 8 calls incomplete.

    Args:
        response: Its head has arrived; nothing of its body has been read.
    """
    content: Any = response.content
    connection: Any = response.connection
    if connection is None or content.is_eof():
        return
    closed: asyncio.Future[None] | None = getattr(connection.protocol, "closed", None)
    if closed is None:
        return
    headers = response.headers
    framed = hdrs.CONTENT_LENGTH in headers or hdrs.TRANSFER_ENCODING in headers

    def tell(closed: "asyncio.Future[None]") -> None:
        reset = _failed(closed)
        if content.exception() is None and (not content.is_eof() or (reset and not framed)):
            content.set_exception(ClientPayloadError("The connection ended before the body did"))

    def leave() -> None:
        # The connection may serve further requests, and must not keep this one.
        closed.remove_done_callback(tell)
        closed.add_done_callback(_failed)

    closed.remove_done_callback(_failed)
    closed.add_done_callback(tell)
    if framed:
        content.on_eof(leave)


def check(response: ClientResponse) -> None:
    """Raise if the body of *response*, read to its end, was not whole after all.

    Raises:
        aiohttp.ClientPayloadError: The connection broke, which only ``watch`` saw.
    """
    broken = response.content.exception()
    if broken is not None:
        raise broken


def _failed(closed: "asyncio.Future[None]") -> bool:
    """Return whether the connection broke; asking keeps asyncio from reporting that nobody did."""
    return not closed.cancelled() and closed.exception() is not None
