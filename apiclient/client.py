"""The client: owns a session, chooses the chain, and runs each call through it."""

import asyncio
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, Unpack

import aiohttp
from aiohttp import ClientResponse, ClientSession, ClientTimeout
from yarl import URL

from apiclient._caller import PendingCall
from apiclient._follow import follow
from apiclient._parts import pipeline_of
from apiclient._session import check_encrypted, check_transport, open_session
from apiclient._target import Targets, base_of, checked_headers
from apiclient._watch import Watch
from apiclient.batch import BatchResult, Request, run_batch
from apiclient.middleware import Alert, Defer, Retry
from apiclient.middleware._body import cap, read_in_time
from apiclient.middleware._call import CALL, Call
from apiclient.middleware._clock import clock_of
from apiclient.middleware._endpoint import Templates
from apiclient.middleware._events import EventLog
from apiclient.middleware._transport import transport_error
from apiclient.middleware.credential import Credential
from apiclient.middleware.errors import ApiError, InvalidRequest
from apiclient.middleware.intent import Intent
from apiclient.options import CallOptions, DeferOptions, check_timeout, specify
from apiclient.outbox import Outbox, Ticket
from apiclient.outbox._calls import postponed, resumed
from apiclient.pagination import Next, by_link, run_paginate
from apiclient.pipeline import Pipeline
from apiclient.redirects import REDIRECTS, SAME_ORIGIN, Redirects
from apiclient.shared import Redis
from apiclient.stats import ClientStats

_DEFAULT_HEADERS = {
    "Accept": "application/json, application/problem+json;q=0.9, */*;q=0.1",
    "User-Agent": f"apiclient-middleware aiohttp/{aiohttp.__version__}",
}
# The chain keeps the time of a call (FACTS: aiohttp's own total would fight it). Waiting for a connection gets
# a limit of its own, below that of an attempt, because then it is certain that nothing was sent.
_BUFFERED = ClientTimeout(total=None, connect=20.0, sock_connect=10.0)
_STREAMED = ClientTimeout(total=None, connect=20.0, sock_connect=10.0, sock_read=30.0)
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


class ApiClient:
    """An HTTP client for one API, on one aiohttp session, with a chain of policies around every request.

    Args:
        base_url: Scheme, host and path prefix of the API. No call ever leaves its origin.
        credentials: Attached to every request to that origin, refreshed when they expire.
        pipeline: The chain, ``Authorize`` included; None means ``default_pipeline()`` for this client's options.
        session: A session of your own, which stays yours to close; its middlewares are not run, because
            the chain is given per request. None means one is made at the first call.
        timeout: Total seconds of a call, waits and retries included; infinite for none.
        headers: Sent with every request, in addition to Accept and User-Agent.
        endpoints: Templates such as ``"GET /employees/{id}"`` by which concrete paths are recognised.
        outbox: Takes calls that could not be made now and sends them later.
        shared: A server through which the processes of many machines share quotas and tokens:
            ``Redis("redis://...")``. A credential that was given a store keeps it.
        max_body: Largest response body, in bytes after decompression, that a buffered call reads.
        connections: Most connections of the client's own session.
        cookies: Whether the client's own session keeps cookies.
        redirects: Which redirects are followed; those to the client's own origin by default.
        trust_env: Whether the client's own session takes proxies (``HTTPS_PROXY``, ``NO_PROXY``) and ``~/.netrc``
            from the environment.
        proxy: URL of a proxy for the client's own session.
        tls: For a private authority or a client's certificate; None means the system's authorities. Servers are
            always verified, unless this very object says otherwise.
        allow_http: Whether credentials may go over plain http to a host that is not this machine.
        logger: A structlog or stdlib logger for events; None means structlog where the application has
            configured it, else the stdlib logger ``apiclient``.
        debug: Print the waterfall of each call that fails to standard error, for a person at work.

    Raises:
        TypeError: An option is of another kind.
        ValueError: An option is out of its range, ``base_url`` is no absolute http(s) URL, or ``credentials`` stand
            beside a ``pipeline`` that sends none.
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
        outbox: Outbox | None = None,
        shared: Redis | None = None,
        max_body: int | None = 100 * 2**20,
        connections: int = 100,
        cookies: bool = False,
        redirects: Redirects = SAME_ORIGIN,
        trust_env: bool = False,
        proxy: str | None = None,
        tls: ssl.SSLContext | None = None,
        allow_http: bool = False,
        logger: Any = None,
        debug: bool = False,
    ) -> None:
        check_timeout(timeout)
        if max_body is not None and max_body < 1:
            raise ValueError(f"max_body must be at least 1 byte, got {max_body!r}")
        if connections < 1:
            raise ValueError(f"connections must be at least 1, got {connections!r}")
        self._base = base_of(base_url)
        self._origin = self._base.origin()
        self._targets = Targets(self._base, Templates(endpoints))
        self._pipeline = pipeline_of(pipeline, credentials=credentials, timeout=timeout, outbox=outbox, shared=shared)
        self._chain = (self._pipeline,)
        self._outbox = outbox
        self._shared = shared
        self._credentials: Any = credentials
        self._session = session
        self._owns_session = session is None
        self._timeout = timeout
        self._headers = {**_DEFAULT_HEADERS, **(checked_headers(headers) if headers is not None else {})}
        self._max_body = max_body
        check_transport(session=session, proxy=proxy, tls=tls, trust_env=trust_env)
        if credentials is not None and not allow_http:
            check_encrypted(self._base)
        self._session_options: dict[str, Any] = {
            "connections": connections, "cookies": cookies, "trust_env": trust_env, "proxy": proxy, "tls": tls
        }  # fmt: skip
        self._redirects = redirects
        self._log = EventLog(logger)
        self._debug = debug
        self.watch = Watch(str(self._base), self._pipeline, outbox, debug=debug)
        self._closed = False
        if outbox is not None:
            outbox.attach(self)
        if shared is not None:
            shared.attach()
            share = getattr(credentials, "share", None)
            if share is not None:
                share(shared.tokens)

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
    def outbox(self) -> Outbox | None:
        """The outbox given, or None."""
        return self._outbox

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def stats(self) -> ClientStats:
        """Return how the client stands now: endpoints and their limits, circuits, tokens, outbox, batches."""
        return self.watch.stats()

    async def aclose(self) -> None:
        """End what the client has begun, then close the session if it is the client's own.

        It waits for notices of an ``Alert`` and for a token refresh under way, so that neither is lost, each
        for a bounded time. A closed client makes no more calls.
        """
        self._closed = True
        self.watch.close()
        try:
            if self._outbox is not None:
                self._outbox.detach(self)
                await self._outbox.aclose()
            for alert in self._pipeline:
                if isinstance(alert, Alert):
                    await alert.aclose()
            if hasattr(self._credentials, "aclose"):
                await self._credentials.aclose()
        finally:
            if self._owns_session and self._session is not None:
                await self._session.close()
            if self._shared is not None:
                shared, self._shared = self._shared, None
                await shared.detach()

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
        self, path: str, *, following: Next = by_link, limit: int | None = None, prefetch: int = 0, **options: Any
    ) -> AsyncIterator[ClientResponse]:
        """Yield the pages of a list; see ``apiclient.pagination.run_paginate``."""
        return run_paginate(self.get, self._base, path, following=following, limit=limit, prefetch=prefetch, **options)

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

    async def perform(self, pending: PendingCall, method: str, path: str, *, buffered: bool) -> ClientResponse:
        """Make the call that *pending* stands for; what awaiting it does."""
        options: dict[str, Any] = dict(pending.options)
        path_params = options.pop("path_params", None)
        target = self._targets.get(method, path)
        # By position: so many keywords would cost as much as the call itself.
        call = pending.call = Call(
            method,
            target.endpoint,
            target.key,
            target.url(path_params),
            clock_of(asyncio.get_running_loop()),
            self._origin,
            self._timeout,
            buffered,
            self._max_body,
            self._log,
        )
        chain = self._chain
        if options:
            pipeline = options.pop("pipeline", None)
            chain = chain if pipeline is None else (pipeline,)
            specify(call, options)
            if call.defer and chain[0].find(Defer) is None:
                raise InvalidRequest(
                    "defer=True, but the pipeline has no Defer: nothing would be kept",
                    hint="Give the client outbox=..., and list Defer(outbox) in a pipeline of your own",
                )
        return await self._exchange(call, chain, options)

    async def defer(self, method: str, path: str, **options: Unpack[DeferOptions]) -> Ticket:
        """Store a call in the outbox without trying it; once this returns, it is on the disk.

        Args:
            method: Any case; a POST or PATCH needs a key, given or made by ``Idempotency``.
            path: As for ``request``.
            **options: See ``DeferOptions``.

        Raises:
            OutboxError: It was not stored.
            InvalidRequest: It cannot be built, or must not be sent more than once.
        """
        return await postponed(self, self._outbox, method, path, dict(options))

    async def send(self, intent: Intent, *, timeout: float | None = None) -> ClientResponse:  # noqa: ASYNC109
        """Make the call that *intent* stands for, through the client's chain, without deferring it again.

        Args:
            intent: As an outbox kept it.
            timeout: Total seconds; None means the client's.
        """
        deadline = self._timeout if timeout is None else timeout
        call, request = resumed(intent, self._origin, pipeline=self._pipeline, deadline=deadline, log=self._log)
        call.max_body = self._max_body
        return await self._exchange(call, self._chain, request)

    def _exchange(self, call: Call, chain: tuple[Pipeline], request: dict[str, Any]) -> Awaitable[ClientResponse]:
        work = self._exchanged(call, chain, request)
        observer = chain[0].observer
        if self._debug or (observer is not None and observer.collects(call.started)):
            return self.watch.over(call, observer, work)
        return work

    async def _exchanged(self, call: Call, chain: tuple[Pipeline], request: dict[str, Any]) -> ClientResponse:
        session = self._session
        if session is None or self._closed:
            session = self._open()
        if not self._owns_session:
            request["headers"] = {**self._headers, **request.get("headers", {})}
        if call.method in _WITH_BODY and request.get("data") is None and request.get("json") is None:
            # aiohttp would declare application/octet-stream for a body that is not there.
            request.setdefault("skip_auto_headers", ("Content-Type",))
        timeout = _BUFFERED if call.buffered else _STREAMED
        token = CALL.set(call)
        try:
            response = await session.request(
                call.method,
                call.url,
                middlewares=chain,
                allow_redirects=False,
                raise_for_status=False,
                timeout=timeout,
                **request,
            )
            if response.status in REDIRECTS:
                response = await follow(
                    session,
                    call,
                    response,
                    request | {"allow_redirects": False, "raise_for_status": False, "timeout": timeout},
                    chain=chain,
                    redirects=self._redirects,
                    endpoint=self._targets.endpoint,
                )
            if not call.buffered:
                cap(response, call.max_body)
            elif not call.body_read:
                await read_in_time(response, call)
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

    def _open(self) -> ClientSession:
        if self._closed:
            raise RuntimeError("this ApiClient is closed; make a new one")
        if self._session is None:
            self._session = open_session(headers=self._headers, timeout=_BUFFERED, **self._session_options)
        return self._session
