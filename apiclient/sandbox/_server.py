"""The sandbox itself: the options, the server, and what a test can ask of it."""

import asyncio
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from random import Random
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from aiohttp.typedefs import Handler

from apiclient.sandbox._answers import NO_ANSWER, Answer, problem
from apiclient.sandbox._api import TOKEN_ENDPOINT, Api
from apiclient.sandbox._chaos import CALM, dice, refusal, reset, send
from apiclient.sandbox._endpoints import Visit
from apiclient.sandbox._faults import Fault, Faults, failing
from apiclient.sandbox._ledger import Entry, Ledger
from apiclient.sandbox._options import function, names, number, text, whole
from apiclient.sandbox._resources import Resources
from apiclient.sandbox._tokens import Tokens
from apiclient.sandbox._window import spelled

LARGEST_BODY = 64 * 1024 * 1024
SHUTDOWN = 0.01


class Sandbox:
    """A local API that behaves like the one this client was made for, and remembers each request.

    ``async with Sandbox() as sandbox`` starts and stops it. A request passes, in this order: an outage or a queued
    failure, the quota, the token, the endpoint's existence, scope and group, the content type, the JSON syntax, and at
    last the endpoint's own work. So a request that is refused for any reason but the first has used up quota. Any
    endpoint takes ``?delay=SECONDS`` and then answers that much later; its work is done before the delay.

    All state (tokens, windows, data, ledger) outlives `stop`, and a second `start` uses the port of the first, so that
    a test can take the server away and bring it back.

    Args:
        seed: Of all randomness. Equal seeds and equal requests get equal answers.
        limit: Requests that one window of an endpoint admits per client.
        period: Length of a window in seconds. It opens with its first request and is closed at both ends; rejected
            requests count, but do not extend it.
        limits: ``(limit, period)`` of single endpoints by name, as in ``{"GET /v1/ping": (50, 1.0)}``; None lifts the
            quota of one.
        headers: Whether admitted requests are told what is left, as AspNetCoreRateLimit does: ``X-Rate-Limit-Limit``
            (the period), ``X-Rate-Limit-Remaining`` and ``X-Rate-Limit-Reset``.
        token_lifetime: Seconds for which a token is good. ``expires_in`` says so in whole seconds, rounded down.
        failure_rate: Probability, from 0 to 1, of each failure of ``/v1/flaky/{id}``.
        most_failures: Failures there before a key succeeds, at most.
        latency: Mean delay of ``/v1/reports/{id}`` in seconds; a report's own is 0.5 to 1.5 times that, by the seed.
        employees: How many there are, with ids from 1.
        client_id: The one client that the token endpoint knows.
        client_secret: Its secret. Made up: never put a real one here.
        scopes: What a token may be asked for.
        default_scopes: What a token gets if nothing is asked for. ``/v1/payroll/{id}`` needs ``payroll.read``.
        groups: User groups of every client. ``/v1/audit`` needs ``auditors``.
        chaos: Share of all requests, token requests too, that meet a fault; or a share for each of ``error`` (closed
            before anything is done), ``status`` (500, 502 or 503 likewise), ``latency``, ``reset`` (after the work),
            ``truncation`` and ``slow_body``, as of ``apiclient.testing.Chaos``. Delays are 0.05 to 0.5 seconds.
        host: Where to listen.
        port: Where to listen; 0 means any free one.
        wall: Wall time in seconds since the epoch, used for ``X-Rate-Limit-Reset`` alone.

    Raises:
        ValueError: An option is out of its range.
        TypeError: An option is of a wrong type.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        limit: int = 5,
        period: float = 1.0,
        limits: Mapping[str, tuple[int, float] | None] | None = None,
        headers: bool = False,
        token_lifetime: float = 10.0,
        failure_rate: float = 0.3,
        most_failures: int = 2,
        latency: float = 0.05,
        employees: int = 1000,
        client_id: str = "demo",
        client_secret: str = "demo-secret",  # noqa: S107 - made up, for a server that guards nothing
        scopes: Iterable[str] = ("employees.read", "timesheets.write", "payroll.read"),
        default_scopes: Iterable[str] = ("employees.read", "timesheets.write"),
        groups: Iterable[str] = ("staff",),
        chaos: float | Mapping[str, float] = 0.0,
        host: str = "127.0.0.1",
        port: int = 0,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._seed = whole("seed", seed, least=0)
        self._limit = whole("limit", limit, least=1)
        self._period = number("period", period, above=0)
        latency = number("latency", latency)
        self._host = text("host", host)
        self._port = whole("port", port, least=0, most=65535)
        self._lifetime = number("token_lifetime", token_lifetime, above=0)
        self._client_id = text("client_id", client_id)
        allowed = names("scopes", scopes)
        self._default_scopes = names("default_scopes", default_scopes)
        if not self._default_scopes <= allowed:
            raise ValueError(f"default_scopes must be among scopes, got {sorted(self._default_scopes - allowed)!r}")
        chance = Random(seed)  # noqa: S311 - has to be repeatable, and guards nothing
        self._chance = chance
        self._tokens = Tokens(
            client_id=client_id,
            client_secret=text("client_secret", client_secret),
            scopes=allowed,
            default_scopes=self._default_scopes,
            lifetime=token_lifetime,
            chance=chance,
        )
        self._resources = Resources(
            seed=seed,
            chance=chance,
            failure_rate=number("failure_rate", failure_rate, most=1),
            most_failures=whole("most_failures", most_failures, least=0),
            employees=whole("employees", employees, least=0),
        )
        self._faults = Faults()
        self._api = Api(
            tokens=self._tokens,
            resources=self._resources,
            faults=self._faults,
            limit=limit,
            period=period,
            limits=_quotas({} if limits is None else limits),
            limit_headers=headers,
            latency=latency,
            seed=seed,
            groups=names("groups", groups),
            chance=chance,
            wall=function("wall", wall),
        )
        self._dice = dice(seed, chaos)
        self._ledger = Ledger()
        self._runner: web.AppRunner | None = None

    def __repr__(self) -> str:
        where = f"port={self._port}" if self._runner is None else f"url={self.url!r}"
        quota = f"limit={self._limit}, period={self._period}"
        return f"Sandbox({where}, seed={self._seed}, {quota}, {len(self._ledger)} requests)"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: The address cannot be used; ``strerror`` is one line that names host and port.
            RuntimeError: It listens already.
        """
        if self._runner is not None:
            raise RuntimeError("the sandbox is already running")
        app = web.Application(client_max_size=LARGEST_BODY, middlewares=[self._serve])
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except BaseException as error:
            await runner.cleanup()
            if not isinstance(error, OSError | UnicodeError):
                raise
            # What cannot be a host's name fails to be written as one.
            number, reason = (
                (error.errno, error.strerror) if isinstance(error, OSError) else (None, "no name of a host")
            )
            if number is not None and not isinstance(error, socket.gaierror):
                reason = os.strerror(number)
            raise OSError(number, f"cannot listen on {self._host} port {self._port}: {reason}") from error
        self._port = runner.addresses[0][1]
        self._runner = runner

    async def stop(self) -> None:
        """Close the port and all connections; requests being answered are broken off. Does nothing if stopped."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    @property
    def url(self) -> str:
        """Where it listens, as in `http://127.0.0.1:8080`, without a slash at the end."""
        if self._runner is None:
            raise RuntimeError("the sandbox is not running; start it with `async with Sandbox() as sandbox`")
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def api_url(self) -> str:
        """Base URL of the API."""
        return f"{self.url}/v1"

    @property
    def token_url(self) -> str:
        """URL of the token endpoint."""
        return f"{self.url}{TOKEN_ENDPOINT.partition(' ')[2]}"

    @property
    def ledger(self) -> Ledger:
        """Each wire request, in the order of arrival: a sequence of `Entry`."""
        return self._ledger

    @property
    def injected(self) -> Counter[str]:
        """How many requests met each fault of ``chaos``."""
        return Counter() if self._dice is None else Counter(self._dice.drawn)

    @property
    def created(self) -> int:
        """How many timesheets were created."""
        return len(self._resources.timesheets)

    @property
    def timesheets(self) -> tuple[Mapping[str, Any], ...]:
        """The timesheets that were created."""
        return tuple(self._resources.timesheets)

    def count(self, endpoint: str | None = None, status: int | None = None) -> int:
        """Count the wire requests of *endpoint* that were answered with *status*; None means any.

        Raises:
            ValueError: There is no such endpoint. ``METHOD *`` stands for requests that matched none.
        """
        if endpoint is not None and not endpoint.endswith(" *"):
            self._api.table.check(endpoint)
        return self._ledger.count(endpoint, status)

    def issue_token(
        self, *, client: str | None = None, scopes: Iterable[str] | None = None, lifetime: float | None = None
    ) -> str:
        """Return a token without a request, also for a client with quotas of its own.

        Args:
            client: Any name. Default: the one client.
            scopes: Default: those that a request for none gets.
            lifetime: Seconds from now. Default: as of every token.
        """
        return self._tokens.issue(
            asyncio.get_running_loop().time(),
            client=self._client_id if client is None else text("client", client),
            scopes=self._default_scopes if scopes is None else names("scopes", scopes),
            lifetime=self._lifetime if lifetime is None else number("lifetime", lifetime, above=0),
        )

    def revoke_tokens(self) -> int:
        """Reject every token issued so far, though none says that it expired; return how many that hits."""
        return self._tokens.revoke()

    def outage(
        self,
        on: bool = True,  # noqa: FBT001, FBT002 - a switch
        *,
        endpoint: str | None = None,
        status: int | None = 503,
        retry_after: float | None = None,
    ) -> None:
        """Switch an outage on or off. It uses up no quota and needs no token.

        Args:
            on: Whether it begins or ends.
            endpoint: One endpoint by name; None means all of /v1, but not the token endpoint.
            status: What is answered; None closes the connection instead.
            retry_after: Seconds to say in ``Retry-After``, if any.

        Raises:
            ValueError: There is no such endpoint, or an argument is out of its range.
        """
        if endpoint is not None:
            self._api.table.check(endpoint)
        self._faults.outage(endpoint, _failing(status, retry_after) if on else None)

    def fail_next(
        self,
        endpoint: str,
        status: int | None = 500,
        times: int = 1,
        *,
        retry_after: float | None = None,
        late: bool = False,
    ) -> None:
        """Fail the next requests of *endpoint*, after the failures queued for it before.

        Args:
            endpoint: By name, as in ``POST /v1/timesheets`` or ``POST /oauth/token``.
            status: What is answered; None closes the connection instead.
            times: How many requests.
            retry_after: Seconds to say in ``Retry-After``, if any.
            late: Whether the work is done all the same and only its answer is lost. Requests that are refused before
                the work do not count.

        Raises:
            ValueError: There is no such endpoint, or an argument is out of its range.
        """
        fault = Fault(_failing(status, retry_after), late)
        self._faults.queue(self._api.table.check(endpoint), fault, whole("times", times, least=1))

    def describe(self) -> str:
        """Return a listing of the endpoints, with quotas and what they need, one a line."""
        where = "not running" if self._runner is None else self.url
        lines = [f"Sandbox API ({where}), client id {self._client_id}, tokens good for {self._lifetime:g} s"]
        for row in self._api.table:
            notes = [
                f"{name.partition(' ')[0]} at most {limit} per {spelled(period)}"
                for name, (limit, period) in self._api.quotas.items()
                if row.serves(name)
            ]
            notes += [f"scope {row.scope}"] if row.scope is not None else []
            notes += [f"group {row.group}"] if row.group is not None else []
            details = f" [{', '.join(notes)}]" if notes else ""
            lines.append(f"  {'ANY' if row.method == '*' else row.method:<5} {row.template:<22} {row.summary}{details}")
        return "\n".join(lines)

    @web.middleware
    async def _serve(self, request: web.Request, handler: Handler) -> web.StreamResponse:  # noqa: ARG002 - there are no routes
        visit = Visit(
            now=asyncio.get_running_loop().time(),
            method=request.method,
            path=request.rel_url.raw_path,
            query=request.query,
            headers=request.headers,
            peer=request.remote if request.remote is not None else "",
        )
        plan = CALM if self._dice is None else self._dice.draw()
        visit.refusal = refusal(plan)
        self._api.receive(visit)
        number = self._ledger.open(
            Entry(
                time=visit.now,
                method=visit.method,
                path=visit.path,
                endpoint=visit.name,
                idempotency_key=request.headers.get("Idempotency-Key"),
                content_type=request.headers.get("Content-Type"),
                authorized="Authorization" in request.headers,
                client=visit.client,
            )
        )
        answer = await self._answer(request, visit)
        self._ledger.amend(number, client=visit.client, length=len(visit.body))
        if visit.delay + plan.wait > 0:
            await asyncio.sleep(visit.delay + plan.wait)
        if plan.fault == "reset":
            return reset(request)
        if answer is NO_ANSWER:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        self._ledger.amend(number, status=answer.status)
        return await send(request, answer, plan)

    async def _answer(self, request: web.Request, visit: Visit) -> Answer:
        try:
            visit.body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return problem(413, self._chance, f"The body is longer than {LARGEST_BODY} bytes.")
        except web.RequestPayloadError:
            return problem(400, self._chance, "The body is broken.")
        return self._api.answer(visit)


def _failing(status: int | None, retry_after: float | None) -> Answer:
    return failing(
        None if status is None else whole("status", status, least=400, most=599),
        retry_after=None if retry_after is None else number("retry_after", retry_after),
    )


def _quotas(limits: Mapping[str, tuple[int, float] | None]) -> dict[str, tuple[int, float] | None]:
    checked: dict[str, tuple[int, float] | None] = {}
    for name, quota in limits.items():
        if quota is None:
            checked[name] = None
            continue
        limit, period = quota
        checked[name] = whole(f"limit of {name}", limit, least=1), number(f"period of {name}", period, above=0)
    return checked
