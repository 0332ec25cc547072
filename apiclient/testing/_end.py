"""Where a ``Pipeline`` ends: it counts wire requests there, times them, and reads the body of a buffered call."""

import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
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
        with _sending(call, lambda _: sender):
            return await handler(request)
    if call.transport is None:
        call.wire += 1
    return await sender(request)


async def spoiled_by(
    spoil: Callable[[ClientRequest, ClientResponse], Awaitable[ClientResponse]],
    request: ClientRequest,
    handler: ClientHandlerType,
) -> ClientResponse:
    """Let *spoil* have the response of *handler* before anyone reads its body."""
    call = _call()
    if call is None or call.transport is None:
        return await spoil(request, await handler(request))
    spoiled = _Spoiled(spoil)
    with _sending(call, spoiled.on):
        response = await handler(request)
    # Outside of a pipeline, or where what stands further in answers by itself, its end has nothing to do with it.
    return response if spoiled.used else await spoil(request, response)


class _Spoiled:
    """What stands in for the network, and has each of its responses spoiled."""

    def __init__(self, spoil: Callable[[ClientRequest, ClientResponse], Awaitable[ClientResponse]]) -> None:
        self._spoil = spoil
        self.beyond: Any = None
        self.used = False

    def on(self, beyond: Sender) -> "_Spoiled":
        self.beyond = beyond
        return self

    async def __call__(self, request: ClientRequest) -> ClientResponse:
        self.used = True
        return await self._spoil(request, await self.beyond(request))


@contextmanager
def _sending(call: Any, instead: Callable[[Sender], Sender]) -> Generator[None]:
    """Put *instead* of what sends for *call*, inside of what spoils its responses already."""
    holder, name = call, "transport"
    while isinstance(sender := getattr(holder, name), _Spoiled):
        holder, name = sender, "beyond"
    setattr(holder, name, instead(sender))
    try:
        yield
    finally:
        setattr(holder, name, sender)


def _call() -> Any:
    kernel = sys.modules.get("apiclient.middleware._call")
    return None if kernel is None else kernel.joined()
