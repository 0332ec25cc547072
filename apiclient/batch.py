"""Many calls through one client: a fixed number of workers, results as they come."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import ClientResponse

from apiclient.middleware.errors import ApiError, Attempt

if TYPE_CHECKING:
    from apiclient.client import ApiClient


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call of a batch, as data.

    Attributes:
        method: Any case.
        path: Relative to the client's base URL, with ``{parameters}``.
        id: Names its result; any value, or None.
        path_params: Values of the parameters.
        params: Query.
        headers: Headers of this call only.
        json: Body, to be sent as JSON.
        data: Body, as ``aiohttp`` takes it.
        idempotency_key: Sent with every attempt.
        options: Further options of ``ApiClient.request``.
    """

    path: str
    method: str = "GET"
    id: Any = None
    path_params: Mapping[str, Any] | None = None
    params: Mapping[str, Any] | None = None
    headers: Mapping[str, str] | None = None
    json: Any = None
    data: Any = None
    idempotency_key: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments for ``ApiClient.request``: those that were given."""
        names = ("path_params", "params", "headers", "json", "data", "idempotency_key")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        return {**given, **self.options}


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """What became of one request of a batch.

    Attributes:
        request: The request.
        ok: Whether an answer below 400 arrived.
        status: Of the last answer, or None where none arrived.
        body: The answer's body where ``ok``, else empty.
        content_type: The answer's media type, or None.
        error: What the call ended with, or None where ``ok``.
        attempts: Wire requests made for it.
        duration: Seconds from its start to its end, waits included.
    """

    request: Request
    ok: bool
    status: int | None = None
    body: bytes = b""
    content_type: str | None = None
    error: Exception | None = None
    attempts: int = 0
    duration: float = 0.0
    network: float = 0.0
    waits: Mapping[str, float] = field(default_factory=dict[str, float])
    trail: tuple[Attempt, ...] = ()
    endpoint: str = ""

    @property
    def id(self) -> Any:
        """The request's id."""
        return self.request.id


async def run_batch(
    client: "ApiClient",
    requests: Iterable[Request] | AsyncIterable[Request],
    *,
    concurrency: int = 100,
    ordered: bool = False,
) -> AsyncIterator[BatchResult]:
    """Make *requests* through *client*, at most *concurrency* at a time, and yield each result once.

    Requests are pulled only as workers become free, and a result waits until it is taken: memory does not
    grow with their number. Leaving the loop early cancels what is under way. An error of a call is a result;
    an error of *requests* itself ends the batch and is raised after the results before it.

    Args:
        client: Makes the calls.
        requests: Iterable or async iterable.
        concurrency: Workers, at least 1.
        ordered: Yield in the order of *requests* rather than as results come.

    Raises:
        ValueError: ``concurrency`` is below 1.
    """
    if concurrency < 1:
        raise ValueError(f"concurrency must be at least 1, got {concurrency!r}")
    source = _numbered(requests)
    pulling = asyncio.Lock()
    results: asyncio.Queue[tuple[int, BatchResult] | None] = asyncio.Queue()
    # Bounds the results not yet taken; in order, a slow early one holds back at most this many later ones.
    window = asyncio.Semaphore(concurrency * 4)

    async def work() -> None:
        while True:
            await window.acquire()
            async with pulling:
                numbered = await anext(source, None)
            if numbered is None:
                return
            number, request = numbered
            results.put_nowait((number, await _one(client, request)))

    async def work_all() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(concurrency):
                    group.create_task(work())
        finally:
            results.put_nowait(None)

    runner = asyncio.create_task(work_all())
    held: dict[int, BatchResult] = {}
    following = 0
    try:
        while (item := await results.get()) is not None:
            number, result = item
            if not ordered:
                window.release()
                yield result
                continue
            held[number] = result
            while following in held:
                following += 1
                window.release()
                yield held.pop(following - 1)
        await _raise_source_error(runner)
    finally:
        runner.cancel()
        await asyncio.gather(runner, return_exceptions=True)


async def _raise_source_error(runner: asyncio.Task[None]) -> None:
    try:
        await runner
    except* Exception as group:
        raise group.exceptions[0] from None


async def _numbered(requests: Iterable[Request] | AsyncIterable[Request]) -> AsyncIterator[tuple[int, Request]]:
    number = 0
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield number, request
            number += 1
    else:
        for request in requests:
            yield number, request
            number += 1


async def _one(client: "ApiClient", request: Request) -> BatchResult:
    loop = asyncio.get_running_loop()
    began = loop.time()
    pending = client.request(request.method, request.path, **request.arguments())
    try:
        response: ClientResponse = await pending
        body = await response.read()
    except Exception as error:  # noqa: BLE001 - every failure of one call is its result
        return BatchResult(
            request=request,
            ok=False,
            status=getattr(error, "status", None),
            error=error,
            attempts=error.attempts if isinstance(error, ApiError) else 0,
            duration=loop.time() - began,
            trail=tuple(pending.call.trail) if pending.call else (),
        )
    return BatchResult(
        request=request,
        ok=response.status < 400,
        status=response.status,
        body=body,
        content_type=response.content_type,
        attempts=pending.call.attempts if pending.call is not None else 0,
        duration=loop.time() - began,
        trail=tuple(pending.call.trail) if pending.call else (),
    )
