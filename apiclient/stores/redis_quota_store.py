"""One quota for the processes of many machines, counted in Valkey or Redis."""

import asyncio
import hashlib
import json
import math
import secrets
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

from apiclient.middleware._keyed import Keyed
from apiclient.middleware._parsing.rate import Rate
from apiclient.middleware.quota_store import Lease
from apiclient.stores._redis_quota_lua import LEASE, PAUSE
from apiclient.stores._redis_server import RedisServer, StoreUnavailable

Unreachable = Literal["share", "refuse"]
# A lease may be spent for so long, and a request that uses it is under way for so long, in parts of a period.
_SPEND = 0.25
_GRACE = 0.5
_LONGEST_GRACE = 30.0
_AHEAD = 0.1
# Without the server a unit is held so much longer than a period; and most seconds of care after losing it.
_SLACK = 0.05
_CAREFUL = 2.0
_MICRO = 1_000_000


class RedisQuotaStore:
    """Counts the quotas of all processes on one server, by the server's own clock.

    A unit is held from its grant until one period after the latest moment at which the API can have counted it, so
    that no window of the API ever sees more than its limit, whatever the windows are like. Each process takes the
    units that its waiting requests need; where more is wanted than there is, each process has its turn.

    Without the server each process goes on with its share: the limit divided by the processes last known. Where
    the server comes back without its memory, every process tells what it has used before anybody gets more than that.

    Args:
        server: Where it counts.
        namespace: Begins the names of its keys.
        unreachable: ``"share"``, or ``"refuse"`` to let nothing leave without the server.
        workers: Processes that are assumed to share a quota as long as the server has not said how many there are.

    Attributes:
        failures: Questions that went without the server's answer.
    """

    def __init__(
        self, server: RedisServer, *, namespace: str, unreachable: Unreachable = "share", workers: int = 1
    ) -> None:
        if unreachable not in {"share", "refuse"}:
            raise ValueError(f'unreachable must be "share" or "refuse", got {unreachable!r}')
        if workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers!r}")
        self._server = server
        self._namespace = namespace
        self._unreachable = unreachable
        self.failures = 0
        self._me = secrets.token_hex(6)
        self._quotas: Keyed[str, _Quota] = Keyed(_Quota, capacity=10_000)
        self._workers = workers
        self._reports: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"RedisQuotaStore({self._server!r}, unreachable={self._unreachable!r})"

    async def lease(self, key: str, rates: tuple[Rate, ...], want: int) -> Lease:
        """Take up to *want* units of the quota called *key*, in which all of *rates* hold."""
        time = asyncio.get_running_loop().time
        began = time()
        quota = self._quotas.get(key, began)
        quota.resize(rates)
        try:
            reply = await self._asked(key, quota, rates, want + quota.ahead(began, want), time)
        except StoreUnavailable:
            self.failures += 1
            return self._without(quota, rates, want, time())
        units, wait, self._workers = int(reply[0]), int(reply[1]) / _MICRO, max(1, int(reply[2]))
        quota.scarce = 2 * int(reply[4]) < min(rate.limit for rate in rates)
        quota.spare = 0 if quota.scarce else int(reply[4]) // (4 * self._workers)
        spend = _spend(rates)
        quota.contact = time()
        if units:
            quota.granted(began, units, [bytes(bucket).decode() for bucket in reply[6:]], told=True)
        # Counted from before the question: the server counts from when it answered.
        return Lease(units, max(0.0, began + spend - time()), wait)

    async def pause(self, key: str, seconds: float) -> None:
        """Lease nothing of *key* to anybody for *seconds*: the server said so."""
        now = asyncio.get_running_loop().time()
        quota = self._quotas.get(key, now)
        quota.gate = max(quota.gate, now + seconds)
        try:
            await self._server.script(PAUSE, self._keys(key, ())[:1], math.ceil(seconds * _MICRO), key)
        except StoreUnavailable:
            return

    def landed(self, key: str, units: int, ago: float | None) -> None:
        """Note that *units* that were leased count from *ago* seconds ago at the latest, or (None) were never used."""
        quota = self._quotas.peek(key)
        if quota is None:
            return
        loop = asyncio.get_running_loop()
        quota.landed(units, None if ago is None else loop.time() - ago)
        if quota.scarce and quota.timer is None and quota.over:
            # Others wait for it: tell, unless the next question does so before.
            quota.timer = loop.call_later(min(quota.log.period / 4, 1.0), self._flush, key, quota)

    def _flush(self, key: str, quota: "_Quota") -> None:
        quota.timer = None
        if quota.over and quota.rates:
            loop = asyncio.get_running_loop()
            task = loop.create_task(self._report(key, quota, quota.rates))
            self._reports.add(task)
            task.add_done_callback(self._reports.discard)

    async def _report(self, key: str, quota: "_Quota", rates: tuple[Rate, ...]) -> None:
        try:
            await self._asked(key, quota, rates, 0, asyncio.get_running_loop().time)
        except StoreUnavailable:
            return

    async def _asked(
        self, key: str, quota: "_Quota", rates: tuple[Rate, ...], want: int, time: Callable[[], float]
    ) -> list[Any]:
        keys = self._keys(key, rates)
        over, quota.over = quota.over, []
        if quota.timer is not None:
            quota.timer.cancel()
            quota.timer = None
        told = whole = False
        try:
            while True:
                now = time()
                used = quota.log.shown(now, whole=whole)
                question = {
                    "me": self._me,
                    "name": key,
                    "generation": quota.generation,
                    "whole": whole,
                    "want": want,
                    "away": int(1.5 * self._server.cooldown * _MICRO),
                    "workers": self._workers,
                    "recent": quota.log.units(now) if whole or quota.recovering else 0,
                    "grace": int(min(_GRACE * min(rate.per for rate in rates), _LONGEST_GRACE) * _MICRO),
                    "rates": [[rate.limit, int(rate.per * _MICRO)] for rate in rates],
                    "over": [
                        [units, -1 if at is None else int((now - at) * _MICRO), buckets] for units, at, buckets in over
                    ],
                    "used": used,
                }
                reply: list[Any] = await self._server.script(LEASE, keys, json.dumps(question))
                told = True
                generation = bytes(reply[3]).decode()
                if int(reply[0]) < 0 and not whole:
                    whole, over = True, []
                    continue
                quota.generation = generation
                quota.recovering = bool(reply[5])
                quota.log.told()
                return reply
        finally:
            if not told:
                quota.over[:0] = over

    def _without(self, quota: "_Quota", rates: tuple[Rate, ...], want: int, now: float) -> Lease:
        """Return what this process may use without the server."""
        if self._unreachable == "refuse":
            return Lease(0, wait=math.inf)
        if quota.gate > now:
            return Lease(0, wait=quota.gate - now)
        units, wait = want, 0.0
        for rate in rates:
            # Fewer units than processes: each has one, at longer intervals.
            most = max(1, rate.limit // self._workers)
            period = rate.per * max(1.0, self._workers / rate.limit)
            quota.log.reach = max(quota.log.reach, period / quota.log.period)
            careful = quota.contact + min(rate.per * (1 + _SLACK), _CAREFUL)
            if now < careful and (had := quota.log.units(quota.contact, rate.per)) < most:
                # Others may have used more than their share just before: nobody uses more than he had, at first.
                most = had
                wait = max(wait, min(careful - now, quota.log.next(now, period, most) if had else math.inf))
            else:
                wait = max(wait, quota.log.next(now, period, most))
            units = min(units, most - quota.log.units(now, period))
        if units <= 0:
            return Lease(0, wait=max(0.001, wait))
        quota.granted(now, units, [], told=False)
        return Lease(units, _SLACK * min(rate.per for rate in rates))

    def _keys(self, key: str, rates: tuple[Rate, ...]) -> list[str]:
        # One hash tag: all keys of a quota lie on one node of a cluster.
        digest = hashlib.sha256(key.encode()).hexdigest()[:24]
        base = f"{self._namespace}:{{quota:{digest}}}"
        names = [base, f"{base}:line", f"{base}:workers"]
        for rate in rates:
            period = int(rate.per * _MICRO)
            names += [f"{base}:{period}:times", f"{base}:{period}:units"]
        return names


class _Quota:
    """What this process knows of a quota.

    Attributes:
        generation: Of the server's memory.
        gate: Loop time of the end of a pause.
        over: Units to be reported: how many, since when they count (None: never used), and where they are held.
        log: What was used.
    """

    def __init__(self) -> None:
        self.generation = ""
        self.gate = -math.inf
        self.over: list[tuple[int, float | None, list[str]]] = []
        self.log = _Log()
        self.rates: tuple[Rate, ...] = ()
        self.recovering = False
        self.contact = -math.inf
        self.scarce = False
        self.spare = 0
        self._pace = 0.0
        self._asked_at = -math.inf
        self._got = 0
        self.timer: asyncio.TimerHandle | None = None
        self._leased: deque[tuple[int, list[str]]] = deque(maxlen=4096)

    @property
    def busy(self) -> bool:
        return bool(self.over) or bool(self._leased)

    def resize(self, rates: tuple[Rate, ...]) -> None:
        self.rates = rates
        self.log.period = max(rate.per for rate in rates)

    def ahead(self, now: float, want: int) -> int:
        """Return how many units will be wanted soon, as far as there are plenty: one question then serves many."""
        since = now - self._asked_at
        self._pace = 0.5 * (self._pace + self._got / max(since, 0.001))
        self._asked_at, self._got = now, want
        return min(self.spare, int(_AHEAD * min(1.0, self.log.period) * self._pace))

    def granted(self, now: float, units: int, buckets: list[str], *, told: bool) -> None:
        self.log.add(now, units, told=told)
        self._got = units
        self._leased.append((units, buckets))

    def landed(self, units: int, at: float | None) -> None:
        while units > 0 and self._leased:
            held, buckets = self._leased.popleft()
            part = min(units, held)
            if held > part:
                self._leased.appendleft((held - part, buckets))
            if buckets:
                self._report(part, at, buckets)
            units -= part

    def _report(self, units: int, at: float | None, buckets: list[str]) -> None:
        if self.over:
            last = self.over[-1]
            if last[2] is buckets and (last[1] is None) == (at is None):
                later = None if at is None or last[1] is None else max(at, last[1])
                self.over[-1] = (last[0] + units, later, buckets)
                return
        if len(self.over) < 4096:
            self.over.append((units, at, buckets))


class _Log:
    """Units by the time at which they were granted, as far back as may matter."""

    def __init__(self) -> None:
        self.period = 1.0
        self.reach = 1.0
        self._entries: deque[tuple[float, int]] = deque()
        self._untold: list[tuple[float, int]] = []

    def add(self, now: float, units: int, *, told: bool) -> None:
        if not told:
            self._untold.append((now, units))
        entries = self._entries
        # Together with others of about that time, as if all of them had been granted last.
        if len(entries) > 1 and now - entries[-2][0] < self.period / 64:
            units += entries.pop()[1]
        entries.append((now, units))
        while entries[0][0] < now - 2 * self.period * self.reach:
            entries.popleft()

    def units(self, now: float, period: float | None = None) -> int:
        since = now - (self.period if period is None else period) * (1 + _SLACK)
        return sum(units for at, units in self._entries if since < at <= now)

    def next(self, now: float, period: float, most: int) -> float:
        """Return the seconds until fewer than *most* units are in the last *period*."""
        span = period * (1 + _SLACK)
        left = self.units(now, period)
        for at, units in self._entries:
            if left < most:
                return 0.0
            if at > now - span:
                left -= units
                if left < most:
                    return max(0.0, at + span - now)
        return 0.0

    def shown(self, now: float, *, whole: bool) -> list[list[int]]:
        """Return units and ages of what the server does not know, or of everything."""
        return [[units, int((now - at) * _MICRO)] for at, units in (self._entries if whole else self._untold)]

    def told(self) -> None:
        self._untold.clear()


def _spend(rates: tuple[Rate, ...]) -> float:
    """Return the seconds for which a lease may be spent."""
    return min(1.0, max(0.005, _SPEND * min(rate.per for rate in rates)))
