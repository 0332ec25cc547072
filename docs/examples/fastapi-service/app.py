"""A FastAPI service in front of an API that is slow, limited, and away at times."""

import math
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from apiclient import ApiClient, Outbox, errors
from apiclient.credentials import ClientCredentials


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One client for the life of the process; what is under way gets time to end."""
    credentials = ClientCredentials(
        token_url=os.environ["APICLIENT_TOKEN_URL"],
        client_id=os.environ["APICLIENT_CLIENT_ID"],
        client_secret=os.environ["APICLIENT_CLIENT_SECRET"],
    )
    outbox = Outbox(os.environ.get("APICLIENT_OUTBOX", "outbox.db"))
    base_url = os.environ["APICLIENT_BASE_URL"]
    async with ApiClient(base_url, credentials=credentials, outbox=outbox, timeout=10) as client:
        app.state.api = client
        async with outbox.running():
            yield


app = FastAPI(lifespan=lifespan)


def api(request: Request) -> ApiClient:
    """Return the client of this process; ``app.dependency_overrides[api]`` puts another in its place."""
    client: ApiClient = request.app.state.api
    return client


Api = Annotated[ApiClient, Depends(api)]


class Hours(BaseModel):
    """What a caller books."""

    employee: int
    hours: float


@app.exception_handler(errors.ApiError)
async def problems(request: Request, error: errors.ApiError) -> JSONResponse:
    """Say to our callers what an error of the API means for them."""
    if isinstance(error, errors.UnprocessableContent):
        fields = [] if error.problem is None else list(map(str, error.problem.errors))
        return JSONResponse({"error": error.message, "fields": fields}, 422)
    if isinstance(error, errors.NotFound):
        return JSONResponse({"error": error.message}, 404)
    if error.recoverable:
        wait = 5 if error.retry_after is None else math.ceil(error.retry_after)
        return JSONResponse({"error": "try again"}, 503, {"Retry-After": str(wait)})
    return JSONResponse({"error": "the API refused us"}, 502)


@app.get("/employees/{number}")
async def employee(number: int, client: Api) -> Any:
    """Pass one employee on."""
    answer = await client.get("/employees/{id}", path_params={"id": number})
    return await answer.json()


@app.post("/hours", status_code=201)
async def book(hours: Hours, idempotency_key: Annotated[str, Header()], client: Api) -> Any:
    """Book hours: now where that is possible, else as soon as it is."""
    try:
        answer = await client.post(
            "/timesheets", json=hours.model_dump(), idempotency_key=idempotency_key, timeout=3, defer=True
        )
    except errors.Deferred as deferred:
        return JSONResponse({"accepted": deferred.ticket.id}, 202)
    return await answer.json()


@app.get("/health")
async def health(client: Api) -> Any:
    """Answer 200 for as long as the process does its work: an API that is away is no reason to restart it."""
    stats = client.stats()
    return {"api": stats.alarm, "circuits": {each.origin: each.breaker for each in stats.origins}}
