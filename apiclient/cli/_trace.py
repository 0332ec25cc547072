"""``apiclient trace``: one call, and its whole life."""

import asyncio
import json as _json
import sys
from typing import Annotated, Any

import typer

from apiclient._refused import Refused
from apiclient._wire import Tracing, Wire
from apiclient.cli._clients import client_of
from apiclient.cli._record import Record, Replay, on_cassette
from apiclient.client import ApiClient
from apiclient.middleware.errors import ApiError
from apiclient.pipeline import Pipeline


def trace(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="GET, POST ...")],
    path: Annotated[str, typer.Argument(metavar="PATH", help="Relative to the base URL.")],
    *,
    client: Annotated[
        str | None, typer.Option(metavar="MODULE:ATTRIBUTE", help="A client of your own, with its credentials.")
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="Of the API; else APICLIENT_BASE_URL.")] = None,
    json: Annotated[str | None, typer.Option(metavar="JSON", help="Body of the request.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds of the whole call.")] = None,
    headers: Annotated[bool, typer.Option(help="Show the headers of each exchange, secrets hidden.")] = True,
    record: Record = None,
    replay: Replay = None,
) -> int:
    """Make one call and draw its life: waits, attempts, events, headers. Exit code 1 where it fails."""
    options: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
    if json is not None:
        try:
            options["json"] = _json.loads(json)
        except ValueError as error:
            raise Refused(f"--json is no JSON: {error}") from error
    with on_cassette(record, replay):
        ok, lines = asyncio.run(traced(client_of(client, base_url), method, path, show_headers=headers, **options))
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if ok else 1


async def traced(
    client: ApiClient, method: str, path: str, *, show_headers: bool, **options: Any
) -> tuple[bool, list[str]]:
    """Make one call through *client* and close it; return whether it succeeded, and what to show.

    Args:
        client: Makes the call, with its own pipeline.
        method: Any case.
        path: Relative to the base URL.
        show_headers: Whether to show those of each exchange.
        **options: As for ``ApiClient.request``.
    """
    tracing, wire = Tracing(), Wire()
    status: int | None = None
    failure: ApiError | None = None
    async with client:
        pipeline = Pipeline([tracing, *client.pipeline, wire], check=False)
        try:
            response = await client.request(method, path, pipeline=pipeline, **options)
            status = response.status
        except ApiError as error:
            failure = error
    lines = [] if tracing.trace is None else [tracing.trace.text(status, failure)]
    if failure is not None:
        lines += ["", failure.describe()]
    for number, exchange in enumerate(wire.exchanges if show_headers else (), 1):
        lines += ["", f"attempt {number}", *(f"  {line}" for line in exchange.lines())]
    return failure is None and status is not None and status < 400, lines
