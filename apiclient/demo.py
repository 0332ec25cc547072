"""The demonstration: a batch of every kind of request, against a local API that does everything an API can do to it."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, cast

from apiclient.batch import BatchResult, Request
from apiclient.client import ApiClient
from apiclient.credentials import ClientCredentials
from apiclient.middleware.errors import ApiError
from apiclient.sandbox import Sandbox

SECRET = "demo-secret"  # noqa: S105 - the sandbox's own, made up
QUOTA, PERIOD = 5, 1.0
TOKEN_ENDPOINT = "POST /oauth/token"  # noqa: S105 - a name
PACED = ("GET /v1/employees/{id}", "PATCH /v1/employees/{id}", "POST /v1/timesheets")


@dataclass(frozen=True, slots=True)
class Kind:
    """Some requests of the demonstration that should all end alike.

    Attributes:
        title: What they are, a few words.
        expected: Status that they end with, or name of the error's class.
        requests: The requests.
        hops: Redirects that each of them is led through.
    """

    title: str
    expected: int | str
    requests: list[Request]
    hops: int = 0

    def met(self, result: BatchResult) -> bool:
        """Return whether *result* is what was to be expected."""
        return outcome_of(result) == self.expected


@dataclass
class Tally:
    """What happened so far, by kind and in all."""

    done: Counter[str] = field(default_factory=Counter[str])
    failures: dict[str, ApiError] = field(default_factory=dict[str, ApiError])
    failed: Counter[str] = field(default_factory=Counter[str])
    calls: int = 0
    wire: int = 0
    retries: int = 0
    rejected: int = 0
    tokens: int = 0
    surprises: list[str] = field(default_factory=list[str])

    def add(self, kind: Kind, result: BatchResult) -> None:
        """Count *result*, of a request of *kind*."""
        self.calls += 1
        self.done[kind.title] += 1
        self.wire += result.attempts
        self.retries += max(0, result.attempts - 1 - kind.hops)
        self.rejected += sum(attempt.status == 429 for attempt in result.trail)
        outcome = outcome_of(result)
        if isinstance(outcome, str):
            self.failed[outcome] += 1
            if isinstance(result.error, ApiError):
                self.failures.setdefault(outcome, result.error)
        if not kind.met(result):
            reason = f": {result.error}" if result.error is not None else ""
            self.surprises.append(f"{kind.title}: expected {kind.expected}, got {outcome}{reason}")


@dataclass(frozen=True, slots=True)
class Account:
    """What the demonstration found.

    Attributes:
        tally: By the client's count.
        served: API requests by the server's count.
        answered_429: Of these, answered 429.
        tokens_served: Token requests by the server's count.
        seconds: Time taken.
        least: Seconds that the quotas demand of so many requests at least.
        lines: The account in words.
        ok: Whether everything went as it should.
    """

    tally: Tally
    served: int
    answered_429: int
    tokens_served: int
    seconds: float
    least: float
    lines: list[str]
    ok: bool


class TokenLog:
    """A logger that counts the tokens issued, and drops everything else."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def is_enabled_for(self, level: int) -> bool:
        """Return whether *level* matters."""
        return level >= logging.INFO

    def log(self, level: int, event: str, **fields: Any) -> None:  # noqa: ARG002 - a logger's signature
        """Take an event."""
        if event == "auth.token_issued":
            self._tally.tokens += 1


def outcome_of(result: BatchResult) -> int | str:
    """Return the status of a success, or the name of the error's class."""
    if result.error is not None:
        return type(result.error).__name__
    return result.status if result.status is not None else "nothing"


def kinds(paced: int = 50) -> list[Kind]:
    """Return the requests of the demonstration.

    Args:
        paced: Requests to each of the three endpoints that have a quota.
    """
    employee, timesheet = "/employees/{id}", "/timesheets"
    return [
        Kind(
            "read, 5 per second",
            200,
            [Request(path=employee, path_params={"id": 1 + n}) for n in range(paced - 5)],
        ),
        Kind(
            "change, 5 per second",
            200,
            [
                Request(
                    path=employee,
                    method="PATCH",
                    path_params={"id": 1 + n},
                    headers={"Content-Type": "application/merge-patch+json"},
                    json={"name": f"Renamed {n}"},
                )
                for n in range(paced - 5)
            ],
        ),
        Kind(
            "create, 5 per second",
            201,
            [
                Request(path=timesheet, method="POST", json={"hours": n % 24}, idempotency_key=f"demo-timesheet-{n}")
                for n in range(paced - 10)
            ],
        ),
        Kind("no quota", 200, [Request(path="/ping") for _ in range(60)]),
        Kind("fails now and then", 200, [Request(path="/flaky/{id}", path_params={"id": n}) for n in range(40)]),
        Kind("slow answer", 200, [Request(path="/reports/{id}", path_params={"id": n}) for n in range(20)]),
        Kind("down for a second", 200, [Request(path="/maintenance/{id}", path_params={"id": n}) for n in range(3)]),
        Kind("redirected", 200, [Request(path="/moved/{n}", path_params={"n": 1}) for _ in range(3)], hops=1),
        Kind("bad parameter", "BadRequest", [Request(path="/ping", params={"delay": "soon"}) for _ in range(3)]),
        Kind("scope missing", "ScopeMissing", [Request(path="/payroll/{id}", path_params={"id": n}) for n in range(3)]),
        Kind("group missing", "PermissionMissing", [Request(path="/audit") for _ in range(3)]),
        Kind("wrong URL", "WrongEndpoint", [Request(path="/employee") for _ in range(3)]),
        Kind("no such employee", "NotFound", [Request(path=employee, path_params={"id": 10**6}) for _ in range(5)]),
        Kind(
            "out of date",
            "PreconditionFailed",
            [
                Request(
                    path=employee,
                    method="PATCH",
                    path_params={"id": 900 + n},
                    headers={"Content-Type": "application/merge-patch+json", "If-Match": '"0"'},
                    json={"name": "Too late"},
                )
                for n in range(5)
            ],
        ),
        Kind(
            "not JSON",
            "UnsupportedMediaType",
            [
                Request(path=timesheet, method="POST", data="hours;8", headers={"Content-Type": "text/csv"})
                for _ in range(5)
            ],
        ),
        Kind(
            "not valid",
            "UnprocessableContent",
            [Request(path=timesheet, method="POST", json={"hours": 25}) for _ in range(5)],
        ),
        Kind("always fails", "ServerError", [Request(path="/broken") for _ in range(2)]),
        Kind("who knows", "ServerOutcomeUnknown", [Request(path="/broken", method="POST", json={}) for _ in range(2)]),
        Kind(
            "too slow",
            "DeadlineExceeded",
            [Request(path="/ping", params={"delay": "5"}, options={"timeout": 1.0}) for _ in range(2)],
        ),
    ]


async def run_demo(
    tell: Callable[[Tally, list[Kind]], None],
    *,
    seed: int = 1,
    paced: int = 50,
    concurrency: int = 60,
) -> Account:
    """Run the demonstration.

    Args:
        tell: Called after each result.
        seed: Of the sandbox, and of the order of requests.
        paced: Requests to each of the three endpoints that have a quota, at least 10.
        concurrency: Calls under way at once.
    """
    groups = kinds(paced)
    tally = Tally()
    quotas = dict.fromkeys(PACED, (QUOTA, PERIOD)) | {"GET /v1/employees": None}
    loop = asyncio.get_running_loop()
    async with Sandbox(seed=seed, limits=quotas, token_lifetime=4.0, latency=0.5, client_secret=SECRET) as sandbox:
        credentials = ClientCredentials(
            token_url=sandbox.token_url,
            client_id="demo",
            client_secret=SECRET,
            logger=TokenLog(tally),
            now=loop.time,
        )
        began = loop.time()
        midway = loop.call_later(PERIOD * paced / QUOTA / 2, sandbox.revoke_tokens)
        try:
            async with ApiClient(sandbox.api_url, credentials=credentials, logger=_quiet()) as client:
                async for result in client.batch(_shuffled(groups, seed), concurrency=concurrency):
                    kind = groups[cast("int", result.id)]
                    tally.add(kind, result)
                    tell(tally, groups)
        finally:
            midway.cancel()
            await credentials.aclose()
        return _account(sandbox, tally, groups, loop.time() - began)


def _shuffled(groups: list[Kind], seed: int) -> Iterator[Request]:
    order = [(index, request) for index, kind in enumerate(groups) for request in kind.requests]
    Random(seed).shuffle(order)  # noqa: S311 - has to be repeatable
    for index, request in order:
        yield _named(request, index)


def _named(request: Request, index: int) -> Request:
    return Request(
        id=index,
        path=request.path,
        method=request.method,
        path_params=request.path_params,
        params=request.params,
        headers=request.headers,
        json=request.json,
        data=request.data,
        idempotency_key=request.idempotency_key,
        options=request.options,
    )


def _quiet() -> logging.Logger:
    logger = logging.getLogger("apiclient.demo")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger


def _account(sandbox: Sandbox, tally: Tally, groups: list[Kind], seconds: float) -> Account:
    tokens = sandbox.count(TOKEN_ENDPOINT)
    served = len(sandbox.ledger) - tokens
    answered = sandbox.count(status=429)
    least = max((sandbox.count(name) - sandbox.count(name, 429) - 1) // QUOTA * PERIOD for name in PACED)
    missing = [kind.title for kind in groups if tally.done[kind.title] != len(kind.requests)]
    ok = served == tally.wire and tokens == tally.tokens and not tally.surprises and not missing
    lines = [
        f"calls                {tally.calls}",
        f"wire requests        {served} by the server's count, {tally.wire} by ours"
        + ("" if served == tally.wire else "  <- should be equal"),
        f"sent again           {tally.retries}",
        f"answered 429         {answered}, while the limits were learned",
        f"token requests       {tokens} by the server's count, {tally.tokens} tokens by ours, "
        "for tokens good for 4 s and one revocation midway"
        + ("" if tokens == tally.tokens else "  <- should be equal"),
        f"time                 {seconds:.1f} s; the quotas allow no less than {least:.1f} s",
        "final failures",
    ]
    for name, count in sorted(tally.failed.items()):
        error = tally.failures.get(name)
        lines.append(f"  {count} {name}" + (f": {error.message}" if error is not None else ""))
        if error is not None:
            lines.append(f"      {error.hint}.")
    lines += [f"not as expected: {surprise}" for surprise in tally.surprises[:20]]
    lines += [f"no result: some of {title!r}" for title in missing]
    lines.append("Everything ended as it should." if ok else "Something did not end as it should.")
    return Account(tally, served, answered, tokens, seconds, least, lines, ok)
