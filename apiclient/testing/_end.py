"""Where a ``Pipeline`` ends: it counts wire requests there, times them, and reads the body of a buffered call."""

import sys
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

Sender = Callable[[ClientRequest], Awaitable[ClientResponse]]


def is_end(handler: ClientHandlerType) -> bool:
    """Return whether *handler* is the inner end of a ``Pipeline``."""
    # Looked up rather than imported: where no pipeline is in use, there is none to end.
    pipeline = sys.modules.get("apiclient.pipeline")
    return pipeline is not None and handler is pipeline._send  # noqa: SLF001 - of the same package


async def answered_by(sender: Sender, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Let *sender* answer *request* in place of *handler*.

    Last in a ``Pipeline``, the pipeline's end goes on doing its work, around *sender* instead of the network. Anywhere
    else *sender* is simply called; a wire request is counted where no pipeline has counted it.
    """
    call = _call()
    if call is None:
        return await sender(request)
    if is_end(handler):
        return await _around(call, sender, request, handler)
    if call.transport is None:
        call.wire += 1
    return await sender(request)


async def spoiled_by(
    spoil: Callable[[ClientRequest, ClientResponse], Awaitable[ClientResponse]],
    request: ClientRequest,
    handler: ClientHandlerType,
) -> ClientResponse:
    """Let *spoil* have the response of *handler* before anyone reads its body."""
    call = _call() if is_end(handler) else None
    beyond: Sender = handler if call is None else call.transport

    async def sender(request: ClientRequest) -> ClientResponse:
        return await spoil(request, await beyond(request))

    return await (sender(request) if call is None else _around(call, sender, request, handler))


async def _around(call: Any, sender: Sender, request: ClientRequest, end: ClientHandlerType) -> ClientResponse:
    outer, call.transport = call.transport, sender
    try:
        return await end(request)
    finally:
        call.transport = outer


def _call() -> Any:
    kernel = sys.modules.get("apiclient.middleware._call")
    return None if kernel is None else kernel.joined()
