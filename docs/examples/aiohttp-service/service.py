"""A service in front of an API that is slow, limited, and away at times: it books hours there."""

import math
import os
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.typedefs import Handler

from apiclient import ApiClient, Outbox, errors
from apiclient.credentials import ClientCredentials

API = web.AppKey("api", ApiClient)


async def lifespan(app: web.Application) -> AsyncIterator[None]:
    """One client for the life of the process; what is under way gets time to end."""
    credentials = ClientCredentials(
        token_url=os.environ["APICLIENT_TOKEN_URL"],
        client_id=os.environ["APICLIENT_CLIENT_ID"],
        client_secret=os.environ["APICLIENT_CLIENT_SECRET"],
    )
    outbox = Outbox(os.environ.get("APICLIENT_OUTBOX", "outbox.db"))
    base_url = os.environ["APICLIENT_BASE_URL"]
    async with ApiClient(base_url, credentials=credentials, outbox=outbox, timeout=10) as client:
        app[API] = client
        async with outbox.running():
            yield


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Say to our callers what an error of the API means for them."""
    try:
        return await handler(request)
    except errors.UnprocessableContent as error:
        fields = [] if error.problem is None else list(map(str, error.problem.errors))
        return web.json_response({"error": error.message, "fields": fields}, status=422)
    except errors.NotFound as error:
        return web.json_response({"error": error.message}, status=404)
    except errors.ApiError as error:
        if error.recoverable:
            wait = 5 if error.retry_after is None else math.ceil(error.retry_after)
            return web.json_response({"error": "try again"}, status=503, headers={"Retry-After": str(wait)})
        return web.json_response({"error": "the API refused us"}, status=502)


async def employee(request: web.Request) -> web.Response:
    """Pass one employee on."""
    answer = await request.app[API].get("/employees/{id}", path_params={"id": request.match_info["id"]})
    return web.json_response(await answer.json())


async def book(request: web.Request) -> web.Response:
    """Book hours: now where that is possible, else as soon as it is."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return web.json_response({"error": "send an Idempotency-Key"}, status=400)
    try:
        answer = await request.app[API].post(
            "/timesheets", json=await request.json(), idempotency_key=key, timeout=3, defer=True
        )
    except errors.Deferred as deferred:
        return web.json_response({"accepted": deferred.ticket.id}, status=202)
    return web.json_response(await answer.json(), status=201)


async def health(request: web.Request) -> web.Response:
    """Answer 200 for as long as the process does its work: an API that is away is no reason to restart it."""
    stats = request.app[API].stats()
    circuits = {each.origin: each.breaker for each in stats.origins}
    return web.json_response({"api": stats.alarm, "circuits": circuits})


def make_app() -> web.Application:
    """Put it together."""
    app = web.Application(middlewares=[problems])
    app.cleanup_ctx.append(lifespan)
    app.add_routes([web.get("/employees/{id}", employee), web.post("/hours", book), web.get("/health", health)])
    return app


if __name__ == "__main__":
    web.run_app(make_app(), host="127.0.0.1", port=int(os.environ.get("PORT", "8000")), shutdown_timeout=10)
