"""From a call to an item without sending it, and from an item back to a call."""

import asyncio
from typing import Any

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
from yarl import URL

from apiclient._caller import Caller
from apiclient.middleware import Call, ContentType, Defer, Idempotency
from apiclient.middleware._events import EventLog
from apiclient.middleware.errors import ApiError, Deferred, InvalidRequest
from apiclient.middleware.intent import Intent
from apiclient.outbox._outbox import Outbox
from apiclient.outbox._ticket import Ticket
from apiclient.pipeline import Pipeline


class Postponed(ApiError):
    """Ends a call that is to be stored and not sent."""

    recoverable = True


class _Door:
    """An outbox, with the terms of one call."""

    def __init__(self, outbox: "Outbox", terms: dict[str, Any]) -> None:
        self._outbox = outbox
        self._terms = terms

    async def put(self, intent: Intent, *, error: str | None = None) -> Ticket:  # noqa: ARG002 - there was no attempt
        return await self._outbox.put(intent, **self._terms)


async def postponed(client: Caller, outbox: Outbox | None, method: str, path: str, options: dict[str, Any]) -> Ticket:
    """Store a call without sending it; see ``ApiClient.defer``."""
    if outbox is None:
        raise RuntimeError("this client has no outbox; make one with ApiClient(..., outbox=Outbox(path))")
    terms: dict[str, Any] = {name: options.pop(name) for name in ("delay", "lifetime", "dedupe") if name in options}
    given: Pipeline | None = options.pop("pipeline", None)
    pipeline = client.pipeline if given is None else given
    found: Defer | None = pipeline.find(Defer)
    keeper = (Defer(outbox) if found is None else found).into(_Door(outbox, terms))
    # The key and the content type are part of what is stored; all else is done when it is sent.
    shaping = [each for each in (pipeline.find(Idempotency), pipeline.find(ContentType)) if each is not None]
    options |= {"pipeline": Pipeline([keeper, *shaping, _not_now], check=False), "defer": True, "buffer_body": True}
    try:
        await client.request(method, path, **options)
    except Deferred as deferred:
        ticket: Ticket = deferred.ticket
        return ticket
    except Postponed as error:
        raise InvalidRequest(
            f"A {method.upper()} without an idempotency key cannot be stored: it may have to be sent more than once",
            hint="Give idempotency_key=, or Idempotency(methods=...) if the API honours one",
        ) from error
    raise RuntimeError("the call came back although nothing was sent")


async def _not_now(_: ClientRequest, __: ClientHandlerType) -> ClientResponse:
    raise Postponed("To be sent later")


def resumed(
    intent: Intent, origin: URL, *, pipeline: Pipeline, deadline: float, log: EventLog
) -> tuple[Call, dict[str, Any]]:
    """Return the call that *intent* stands for, and the arguments of its request; it is not deferred again.

    Raises:
        InvalidRequest: It is for another origin.
    """
    if intent.origin != str(origin):
        raise InvalidRequest(f"The request is for {intent.origin}, and this client for {origin}")
    call = Call(
        intent.method,
        intent.endpoint,
        key=(intent.origin, intent.endpoint),
        url=URL(intent.origin + intent.path, encoded=True),
        time=asyncio.get_running_loop().time,
        origin=origin,
        deadline=deadline,
        buffered=True,
        log=log,
    )
    call.idempotency_key = intent.idempotency_key
    call.defer = False
    headers = dict(intent.headers)
    if intent.idempotency_key is not None and pipeline.find(Idempotency) is None:
        headers["Idempotency-Key"] = intent.idempotency_key
    return call, {"headers": headers, "data": intent.body} if intent.body else {"headers": headers}
