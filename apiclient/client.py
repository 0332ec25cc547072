"""The client: owns a session, chooses the chain, and runs each call through it."""

import asyncio
import re
from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, Unpack

import aiohttp
from aiohttp import ClientResponse, ClientSession, ClientTimeout
from yarl import URL

from apiclient._target import Targets, base_of
from apiclient.batch import BatchResult, Request, run_batch
from apiclient.middleware import Retry
from apiclient.middleware._body import read_body
from apiclient.middleware._call import CALL, Call
from apiclient.middleware._endpoint import Templates
from apiclient.middleware._events import EventLog
from apiclient.middleware._transport import transport_error
from apiclient.middleware.credential import Credential
from apiclient.middleware.errors import ApiError, BodyNotReplayable, InvalidRequest
from apiclient.middleware.intent import Intent
from apiclient.options import CallOptions
from apiclient.pagination import Next, by_link, run_paginate
from apiclient.pipeline import Pipeline, default_pipeline
from apiclient.redirects import REDIRECTS, Trail, next_hop

_DEFAULT_HEADERS = {
    "Accept": "application/json, application/problem+json;q=0.9, */*;q=0.1",
    "User-Agent": f"apiclient-middleware aiohttp/{aiohttp.__version__}",
}
# The chain keeps the time of a call (FACTS: aiohttp's own total would fight it). Waiting for a connection gets
# a limit of its own, below that of an attempt, because then it is certain that nothing was sent.
_BUFFERED = ClientTimeout(total=None, connect=20.0, sock_connect=10.0)
_STREAMED = ClientTimeout(total=None, connect=20.0, sock_connect=10.0, sock_read=30.0)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_PASSED_ON = frozenset(
    {"params", "json", "data", "compress", "chunked", "expect100", "read_bufsize", "skip_auto_headers",
     "trace_request_ctx"}
)  # fmt: skip
_REPEATABLE_DATA = (bytes, bytearray, str, dict, type(None))


class PendingCall:
    """A call not yet made: ``await`` it for a buffered response, ``async with`` it for a streamed one.

    Attributes:
        call: The logical call once it has begun, with its attempts and times; None before.
    """

    __slots__ = ("_client", "_method", "_options", "_path", "_response", "call")

    def __init__(self, client: "ApiClient", method: str, path: str, options: CallOptions) -> None:
        self._client = client
        self._method = method
        self._path = path
        self._options = options
        self._response: ClientResponse | None = None
        self.call: Call | None = None

    def __repr__(self) -> str:
        return f"<PendingCall {self._method} {self._path!r}>"

    def __await__(self) -> Generator[Any, None, ClientResponse]:
        return self._client.perform(self, self._method, self._path, buffered=True, **self._options).__await__()

    async def __aenter__(self) -> ClientResponse:
        self._response = await self._client.perform(self, self._method, self._path, buffered=False, **self._options)
        return self._response

    async def __aexit__(self, *_: object) -> None:
        if self._response is not None:
            self._response.release()


class ApiClient:
    """An HTTP client for one API, on one aiohttp session, with a chain of policies around every request.

    Args:
        base_url: Scheme, host and path prefix of the API. No call ever leaves its origin.
        credentials: Attached to every request to that origin, refreshed when they expire.
        pipeline: The chain; None means ``default_pipeline()`` for this client's options.
        session: A session of your own, which stays yours to close; its middlewares are not run, because
            the chain is given per request. None means one is made at the first call.
        timeout: Total seconds of a call, waits and retries included; infinite for none.
        headers: Sent with every request, in addition to Accept and User-Agent.
        endpoints: Templates such as ``"GET /employees/{id}"`` by which concrete paths are recognised.
        outbox: Takes calls that could not be made now and sends them later.
        max_body: Largest response body, in bytes after decompression, that a buffered call reads.
        connections: Most connections of the client's own session.
        cookies: Whether the client's own session keeps cookies.
        logger: A structlog or stdlib logger for events; None means structlog where the application has
            configured it, else the stdlib logger ``apiclient``.

    Raises:
        ValueError: An option is out of its range, or ``base_url`` is no absolute http(s) URL.
    """

    def __init__(
        self,
        base_url: str | URL,
        *,
        credentials: Credential | None = None,
        pipeline: Pipeline | None = None,
        session: ClientSession | None = None,
        timeout: float = 60.0,
        headers: Mapping[str, str] | None = None,
        endpoints: Iterable[str] = (),
        outbox: Any = None,
        max_body: int | None = 100 * 2**20,
        connections: int = 100,
        cookies: bool = False,
        logger: Any = None,
    ) -> None:
        if not timeout > 0:
            raise ValueError(f"timeout must be above 0 seconds, got {timeout!r}")
        if max_body is not None and max_body < 1:
            raise ValueError(f"max_body must be at least 1 byte, got {max_body!r}")
        if connections < 1:
            raise ValueError(f"connections must be at least 1, got {connections!r}")
        self._base = base_of(base_url)
        self._origin = self._base.origin()
        self._targets = Targets(self._base, Templates(endpoints))
        self._pipeline = (
            pipeline
            if pipeline is not None
            else default_pipeline(credentials=credentials, timeout=timeout, outbox=outbox)
        )
        self._chain = (self._pipeline,)
        self._outbox = outbox
        self._session = session
        self._owns_session = session is None
        self._timeout = timeout
        self._headers = {**_DEFAULT_HEADERS, **(checked_headers(headers) if headers is not None else {})}
        self._max_body = max_body
        self._connections = connections
        self._cookies = cookies
        self._log = EventLog(logger)
        self._closed = False

    def __repr__(self) -> str:
        return f"ApiClient({str(self._base)!r}, {len(self._pipeline)} middlewares)"

    @property
    def base_url(self) -> URL:
        """The base URL."""
        return self._base

    @property
    def pipeline(self) -> Pipeline:
        """The chain of every call that names no other."""
        return self._pipeline

    @property
    def outbox(self) -> Any:
        """The outbox given, or None."""
        return self._outbox

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the session, if it is the client's own. A closed client makes no more calls."""
        self._closed = True
        if self._owns_session and self._session is not None:
            await self._session.close()

    def request(self, method: str, path: str, **options: Unpack[CallOptions]) -> PendingCall:
        """Prepare a call; nothing is sent before it is awaited or entered.

        Args:
            method: Any case.
            path: Relative to the base URL, with ``{parameters}``: ``"/employees/{id}"``.
            **options: See ``CallOptions``.

        Raises:
            ApiError: (when awaited) See ``apiclient.errors``.
            TypeError: (when awaited) An option is unknown.
        """
        return PendingCall(self, method.upper(), path, options)

    def get(self, path: str, **options: Unpack[CallOptions]) -> PendingCall:
        """Prepare a GET; see ``request``."""
        return PendingCall(self, "GET", path, options)

    def post(self, path: str, **options: Unpack[CallOptions]) -> PendingCall:
        """Prepare a POST; see ``request``."""
        return PendingCall(self, "POST", path, options)

    def put(self, path: str, **options: Unpack[CallOptions]) -> PendingCall:
        """Prepare a PUT; see ``request``."""
        return PendingCall(self, "PUT", path, options)

    def patch(self, path: str, **options: Unpack[CallOptions]) -> PendingCall:
        """Prepare a PATCH; see ``request``."""
        return PendingCall(self, "PATCH", path, options)

    def delete(self, path: str, **options: Unpack[CallOptions]) -> PendingCall:
        """Prepare a DELETE; see ``request``."""
        return PendingCall(self, "DELETE", path, options)

    def head(self, path: str, **options: Unpack[CallOptions]) -> PendingCall:
        """Prepare a HEAD; see ``request``."""
        return PendingCall(self, "HEAD", path, options)

    def options(self, path: str, **options: Unpack[CallOptions]) -> PendingCall:
        """Prepare an OPTIONS; see ``request``."""
        return PendingCall(self, "OPTIONS", path, options)

    def batch(
        self,
        requests: Iterable[Request] | AsyncIterable[Request],
        *,
        concurrency: int = 100,
        ordered: bool = False,
        **options: Any,
    ) -> AsyncIterator[BatchResult]:
        """Make many calls at once; see ``apiclient.batch.run_batch``, also for further *options*."""
        return run_batch(self, requests, concurrency=concurrency, ordered=ordered, **options)

    def endpoint_key(self, method: str, path: str) -> tuple[str, str]:
        """Return origin and endpoint of a call, ``Call.key``: what limits and statistics are kept under.

        Raises:
            InvalidRequest: The path is not allowed.
        """
        return self._targets.get(method.upper(), path).key

    def paginate(
        self, path: str, *, following: Next = by_link, limit: int | None = None, **options: Any
    ) -> AsyncIterator[ClientResponse]:
        """Yield the pages of a list; see ``apiclient.pagination.run_paginate``."""
        return run_paginate(self.get, self._base, path, following=following, limit=limit, **options)

    def explain(
        self, method: str, path: str, outcome: int | BaseException, *, idempotency_key: str | None = None
    ) -> str:
        """Say in words whether a call that ended in *outcome* would be made again, and why.

        Args:
            method: Any case.
            path: As for ``request``.
            outcome: A status, or an exception.
            idempotency_key: As for ``request``.
        """
        target = self._targets.get(method.upper(), path)
        retry: Retry | None = self._pipeline.find(Retry)
        if retry is None:
            return f"{target.endpoint} is never retried: the pipeline has no Retry"
        return retry.explain(method.upper(), target.endpoint, outcome, has_key=idempotency_key is not None)

    async def perform(
        self,
        pending: PendingCall,
        method: str,
        path: str,
        *,
        buffered: bool,
        path_params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the call's own total, which the chain keeps
        idempotency_key: str | None = None,
        endpoint: str | None = None,
        pipeline: Pipeline | None = None,
        priority: int = 0,
        cost: int = 1,
        defer: bool | None = None,
        buffer_body: bool = False,
        **request: Any,
    ) -> ClientResponse:
        """Make the call that *pending* stands for; what awaiting it does. See ``request`` for the options."""
        target = self._targets.get(method, path)
        url = target.url(path_params)
        for option in request:
            if option not in _PASSED_ON:
                raise TypeError(f"{method} call has no option {option!r}; see ApiClient.request")
        if headers is not None:
            headers = request["headers"] = checked_headers(headers)
            if idempotency_key is None:
                idempotency_key = headers.get("Idempotency-Key")
        call = pending.call = Call(
            method,
            target.endpoint if endpoint is None else endpoint,
            key=target.key if endpoint is None else (target.key[0], endpoint),
            url=url,
            time=asyncio.get_running_loop().time,
            origin=self._origin,
            deadline=self._timeout if timeout is None else timeout,
            buffered=buffered,
            max_body=self._max_body,
            idempotency_key=idempotency_key,
            priority=priority,
            cost=cost,
            log=self._log,
            defer=defer,
            buffer_body=buffer_body,
        )
        return await self._exchange(call, self._chain if pipeline is None else (pipeline,), request)

    async def send(self, intent: Intent, *, timeout: float | None = None) -> ClientResponse:  # noqa: ASYNC109
        """Make the call that *intent* stands for, through the client's chain, without deferring it again.

        Args:
            intent: As an outbox kept it.
            timeout: Total seconds; None means the client's.
        """
        call = Call(
            intent.method,
            intent.endpoint,
            key=(str(self._origin), intent.endpoint),
            url=URL(str(self._origin) + "/" + intent.path.lstrip("/"), encoded=True),
            time=asyncio.get_running_loop().time,
            origin=self._origin,
            deadline=self._timeout if timeout is None else timeout,
            buffered=True,
            max_body=self._max_body,
            idempotency_key=intent.idempotency_key,
            log=self._log,
            defer=False,
        )
        request: dict[str, Any] = {"headers": dict(intent.headers)}
        if intent.body:
            request["data"] = intent.body
        return await self._exchange(call, self._chain, request)

    async def _exchange(self, call: Call, chain: tuple[Pipeline], request: dict[str, Any]) -> ClientResponse:
        session = self._session
        if session is None or self._closed:
            session = self._open()
        if not self._owns_session:
            request["headers"] = {**self._headers, **request.get("headers", {})}
        token = CALL.set(call)
        try:
            response = await session.request(
                call.method,
                call.url,
                allow_redirects=False,
                raise_for_status=False,
                middlewares=chain,
                timeout=_BUFFERED if call.buffered else _STREAMED,
                **request,
            )
            if response.status in REDIRECTS:
                response = await self._follow(session, call, chain, response, request)
            if call.buffered and not call.body_read:
                await read_body(response, self._max_body)
        except ApiError as error:
            call.stamp(error)
            raise
        except (aiohttp.ClientError, TimeoutError) as error:
            own = transport_error(error, repeatable=call.repeatable)
            if own is None:
                raise
            call.stamp(own)
            raise own from error
        finally:
            CALL.reset(token)
        return response

    async def _follow(
        self,
        session: ClientSession,
        call: Call,
        chain: tuple[Pipeline],
        response: ClientResponse,
        request: dict[str, Any],
    ) -> ClientResponse:
        trail = Trail(call.method, call.url)
        while True:
            try:
                hop = next_hop(response.status, response.headers.get("Location"), method=call.method, url=call.url)
                if hop is None:
                    return response
                trail.add(hop)
                if not hop.keep_body:
                    request = {key: value for key, value in request.items() if key not in {"data", "json", "params"}}
                elif not isinstance(request.get("data"), _REPEATABLE_DATA):
                    raise BodyNotReplayable("The server redirects a request whose body can be sent only once")
            finally:
                if response.status in REDIRECTS:
                    response.release()
            request = {key: value for key, value in request.items() if key != "params"}
            call.method, call.url = hop.method, hop.url
            call.key = (call.key[0], self._targets.endpoint(hop.method, hop.url.raw_path))
            response = await session.request(
                hop.method,
                hop.url,
                allow_redirects=False,
                raise_for_status=False,
                middlewares=chain,
                timeout=_BUFFERED if call.buffered else _STREAMED,
                **request,
            )

    def _open(self) -> ClientSession:
        if self._closed:
            raise RuntimeError("this ApiClient is closed; make a new one")
        if self._session is None:
            self._session = ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections),
                cookie_jar=aiohttp.CookieJar() if self._cookies else aiohttp.DummyCookieJar(),
                headers=self._headers,
                timeout=_BUFFERED,
            )
        return self._session


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return *headers* as a dict.

    Raises:
        InvalidRequest: A name or value has a control character (RFC 9110 section 5.5); the value is not shown.
    """
    for name, value in headers.items():
        if _CONTROL.search(name) or not name or _CONTROL.search(value):
            raise InvalidRequest(f"header {name!r} must be text without control characters (value not shown)")
    return dict(headers)
