"""The way of a request through the sandbox: faults, quota, token, permissions, content type, work."""

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from random import Random

from apiclient.sandbox._answers import (
    NO_ANSWER,
    Answer,
    failure,
    permission_missing,
    problem,
    quota_exceeded,
    scope_missing,
    wrong_endpoint,
)
from apiclient.sandbox._endpoints import ACCEPT, BODY_TYPES, Endpoint, Table, Visit
from apiclient.sandbox._faults import Faults
from apiclient.sandbox._resources import Resources, parsed
from apiclient.sandbox._tokens import Tokens
from apiclient.sandbox._window import FixedWindow, Hit, abbreviated

TOKEN_ENDPOINT = "POST /oauth/token"  # noqa: S105 - a name
LONGEST_DELAY = 3600.0
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Api:
    """Decides what each request is answered. Two steps, since the body arrives after the headers.

    Args:
        tokens: Issues and checks them.
        resources: Do the work.
        faults: Go before everything else.
        limit: Requests per window.
        period: Length of a window in seconds.
        limits: `(limit, period)` of single endpoints by name; None lifts the quota.
        limit_headers: Whether admitted requests are told what is left of the window.
        groups: Groups that every client is in.
        latency: Mean delay of the slow endpoints in seconds.
        seed: Decides on the delay of each path.
        chance: For trace ids.
        wall: Wall time in seconds since the epoch, for `X-Rate-Limit-Reset`.
    """

    def __init__(
        self,
        *,
        tokens: Tokens,
        resources: Resources,
        faults: Faults,
        limit: int,
        period: float,
        limits: Mapping[str, tuple[int, float] | None],
        limit_headers: bool,
        groups: frozenset[str],
        latency: float,
        seed: int,
        chance: Random,
        wall: Callable[[], float],
    ) -> None:
        method, _, template = TOKEN_ENDPOINT.partition(" ")
        token_row = Endpoint(method, template, "client credentials for a token", self._token, public=True)
        self.table = Table((token_row, *resources.table()))
        self.quotas: dict[str, tuple[int, float]] = {
            f"{endpoint.method} {endpoint.template}": (limit, period) for endpoint in self.table if endpoint.quota
        }
        for name, quota in limits.items():
            if quota is None:
                self.quotas.pop(self.table.check(name), None)
            else:
                self.quotas[self.table.check(name)] = quota
        self._tokens = tokens
        self._faults = faults
        self._limit_headers = limit_headers
        self._groups = groups
        self._latency = latency
        self._seed = seed
        self._chance = chance
        self._wall = wall
        self._windows: dict[tuple[str, str], FixedWindow] = {}

    def receive(self, visit: Visit) -> None:
        """Judge a request by its headers, at the moment when they arrived."""
        methods = self.table.find(visit)
        visit.client = self._tokens.owner(visit.headers)
        below = visit.path.startswith("/v1/")
        if visit.refusal is None:
            visit.refusal = self._faults.early(visit.name, api=below)
        quota = self.quotas.get(visit.name)
        if visit.refusal is None and quota is not None:
            hit = self._hit(visit, quota)
            if hit.admitted:
                visit.told = self._told(quota, hit)
            else:
                visit.refusal = quota_exceeded(*quota, hit)
        if visit.refusal is None and below:
            visit.refusal = self._refusal(visit, methods)
        elif visit.refusal is None and visit.endpoint is None:
            visit.refusal = self._unmatched(methods, failure(404))
        self._set_delay(visit)

    def answer(self, visit: Visit) -> Answer:
        """Answer a request whose body has arrived."""
        if visit.refusal is not None or visit.endpoint is None:
            answer = failure(404) if visit.refusal is None else visit.refusal
        else:
            answer = self._work(visit, visit.endpoint)
        return answer if answer is NO_ANSWER else answer.having(visit.told)

    def _set_delay(self, visit: Visit) -> None:
        if "delay" in visit.query:
            try:
                visit.delay = float(visit.query["delay"])
            except ValueError:
                visit.delay = math.nan
            if not 0 <= visit.delay <= LONGEST_DELAY:
                visit.delay = 0
                detail = f"delay must be from 0 to {LONGEST_DELAY:g} seconds."
                visit.refusal = problem(400, self._chance, detail) if visit.refusal is None else visit.refusal
        elif visit.refusal is None and visit.endpoint is not None and visit.endpoint.slow:
            own = Random(f"{self._seed}{visit.path}")  # noqa: S311 - has to be repeatable
            visit.delay = self._latency * own.uniform(0.5, 1.5)

    def _hit(self, visit: Visit, quota: tuple[int, float]) -> Hit:
        caller = visit.peer if visit.client is None else visit.client
        window = self._windows.setdefault((caller, visit.name), FixedWindow(*quota))
        return window.hit(visit.now)

    def _told(self, quota: tuple[int, float], hit: Hit) -> dict[str, str]:
        if not self._limit_headers:
            return {}
        reset = EPOCH + timedelta(seconds=self._wall() + hit.resets_in)
        return {
            "X-Rate-Limit-Limit": abbreviated(quota[1]),
            "X-Rate-Limit-Remaining": str(hit.remaining),
            "X-Rate-Limit-Reset": f"{reset:%Y-%m-%dT%H:%M:%S.%f}0Z",
        }

    def _refusal(self, visit: Visit, methods: frozenset[str]) -> Answer | None:
        grant = self._tokens.check(visit.headers, visit.now)
        if isinstance(grant, Answer):
            return grant
        endpoint = visit.endpoint
        if endpoint is None:
            return self._unmatched(methods, wrong_endpoint(visit.path))
        if endpoint.scope is not None and endpoint.scope not in grant.scopes:
            return scope_missing(endpoint.scope)
        if endpoint.group is not None and endpoint.group not in self._groups:
            return permission_missing(endpoint.group)
        return self._unsupported(visit)

    def _unmatched(self, methods: frozenset[str], nothing_there: Answer) -> Answer:
        if not methods:
            return nothing_there
        return problem(405, self._chance, headers={"Allow": ", ".join(sorted(methods))})

    def _unsupported(self, visit: Visit) -> Answer | None:
        expected = BODY_TYPES.get(visit.method)
        if expected is None or _is_type(visit.headers.get("Content-Type", ""), expected):
            return None
        return problem(415, self._chance, headers={ACCEPT[visit.method]: expected})

    def _work(self, visit: Visit, endpoint: Endpoint) -> Answer:
        if visit.method in BODY_TYPES and not endpoint.public:
            try:
                visit.payload = parsed(visit.body)
            except ValueError as error:
                return problem(400, self._chance, f"The body is not JSON: {error}.")
        answer = endpoint.answer(visit)
        lost = self._faults.late(visit.name)
        return answer if lost is None else lost

    def _token(self, visit: Visit) -> Answer:
        visit.client = self._tokens.claimant(visit.headers, visit.body)
        return self._tokens.answer(visit.headers, visit.body, visit.now)


def _is_type(content_type: str, expected: str) -> bool:
    media_type, _, parameters = content_type.lower().partition(";")
    charset = parameters.replace(" ", "").replace('"', "")
    return media_type.strip() == expected and charset in {"", "charset=utf-8"}
