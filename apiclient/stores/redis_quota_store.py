"""One quota for the processes of many machines, counted in Valkey or Redis."""

import asyncio
import hashlib
import json
import math
import secrets
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Literal

from apiclient.middleware._keyed import Keyed
from apiclient.middleware._parsing.rate import Rate
from apiclient.middleware.quota_store import Heard, Learned, Lease
from apiclient.stores._quota_share import MICRO, SLACK, Share
from apiclient.stores._redis_quota_lua import HEARD, LEASE, PAUSE, TEACH
from apiclient.stores._redis_server import RedisServer, StoreUnavailable

WORKERS = 16
"""Processes assumed by one that has never reached the server."""

Unreachable = Literal["share", "refuse"]
# A lease may be spent for so long, and a request that uses it is under way for so long, in parts of a period.
_SPEND = 0.25
_GRACE = 0.5
_LONGEST_GRACE = 30.0
# Most seconds of care after losing the server.
_CAREFUL = 2.0


class RedisQuotaStore:
    """Counts the quotas of all processes on one server, by the server's own clock.

    A unit is held from its grant until one period after the latest moment at which the API can have counted it, so
    that no window of the API ever sees more than its limit, whatever the windows are like. Each process takes the
    units that its waiting requests need; where more is wanted than there is, each process has its turn.

    Without the server each process goes on with its share: the limit divided by the processes last known. Where
    the server comes back without its memory, every process tells what it has used before anybody gets more than that.
    What one process has learned about a quota is kept beside it for an hour, for the others.

    Args:
        server: Where it counts.
        namespace: Begins the names of its keys.
        unreachable: ``"share"``, or ``"refuse"`` to let nothing leave without the server.
        workers: Processes that are assumed to share a quota by one that has never reached the server.

    Attributes:
        failures: Questions that went without the server's answer.
    """

    def __init__(
        self, server: RedisServer, *, namespace: str, unreachable: Unreachable = "share", workers: int = WORKERS
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
        self._quotas: Keyed[str, Share] = Keyed(Share, capacity=10_000)
        self._assumed = workers
        self._greatest = 0
        self._telling: set[asyncio.Task[None]] = set()

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
        units, wait, count = int(reply[0]), int(reply[1]) / MICRO, max(1, int(reply[2]))
        # Those who are back after an outage are not all.
        quota.workers = max(quota.workers, count) if quota.recovering or quota.alone else count
        self._greatest = max(self._greatest, count)
        quota.scarce = 2 * int(reply[4]) < min(rate.limit for rate in rates)
        quota.spare = 0 if quota.scarce else int(reply[4]) // (4 * quota.workers)
        spend = _spend(rates)
        quota.contact = time()
        if units:
            quota.granted(began, units, [bytes(bucket).decode() for bucket in reply[7:]], told=True)
        # Counted from before the question: the server counts from when it answered.
        taught = bytes(reply[6]).decode()
        return Lease(units, max(0.0, began + spend - time()), wait, taught not in ("", quota.heard))

    async def pause(self, key: str, seconds: float) -> None:
        """Lease nothing of *key* to anybody for *seconds*: the server said so."""
        now = asyncio.get_running_loop().time()
        quota = self._quotas.get(key, now)
        quota.gate = max(quota.gate, now + seconds)
        try:
            await self._server.script(PAUSE, self._lesson_keys(key), math.ceil(seconds * MICRO))
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

    async def teach(self, key: str, learned: tuple[Learned, ...]) -> None:
        """Keep what this process *learned* about *key*, for an hour. What the API stated replaces what was counted."""
        quota = self._quotas.get(key, asyncio.get_running_loop().time())
        told: list[str | int] = []
        for each in learned:
            quota.lessons[each.rate.per] = each
            rate, fixed, exact, counted = each
            age = -1 if counted is None else round(counted * MICRO)
            told += [rate.limit, round(rate.per * MICRO), int(fixed), int(exact), age]
        try:
            await self._server.script(TEACH, self._lesson_keys(key), self._me, *told)
        except StoreUnavailable:
            return

    async def heard(self, key: str) -> Heard:
        """Return what is known about *key* by now.

        Raises:
            StoreUnavailable: The server cannot be reached.
        """
        reply: list[Any] = await self._server.script(HEARD, self._lesson_keys(key))
        quota = self._quotas.get(key, asyncio.get_running_loop().time())
        quota.heard = bytes(reply[0]).decode()
        learned: list[Learned] = []
        for i in range(2, len(reply), 5):
            limit, period, fixed, exact, age = reply[i : i + 5]
            counted = None if age < 0 else age / MICRO
            each = Learned(Rate(limit, per=period / MICRO), bool(fixed), bool(exact), counted)
            learned.append(each)
            if counted is None:
                quota.lessons[each.rate.per] = each
        return Heard(tuple(learned), reply[1] / MICRO)

    def spent(self, key: str, rates: tuple[Rate, ...], uses: Iterable[tuple[int, float]]) -> None:
        """Note units that were used without a lease, before there were *rates*: how many, how many seconds ago."""
        now = asyncio.get_running_loop().time()
        quota = self._quotas.get(key, now)
        quota.resize(rates)
        for ago, units in sorted(((ago, units) for units, ago in uses), reverse=True):
            quota.log.add(now - ago, units, told=False)

    async def aclose(self) -> None:
        """Tell the server what it has not been told yet of units that others wait for, within the usual time."""
        for key, quota in self._quotas.items():
            if quota.timer is not None:
                quota.timer.cancel()
                self._flush(key, quota)
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(task for task in self._telling if task.get_loop() is loop), return_exceptions=True)

    def _flush(self, key: str, quota: Share) -> None:
        quota.timer = None
        if quota.over and quota.rates:
            self._background(self._report(key, quota, quota.rates))

    def _background(self, telling: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(telling)
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _report(self, key: str, quota: Share, rates: tuple[Rate, ...]) -> None:
        try:
            await self._asked(key, quota, rates, 0, asyncio.get_running_loop().time)
        except StoreUnavailable:
            return

    async def _asked(
        self, key: str, quota: Share, rates: tuple[Rate, ...], want: int, time: Callable[[], float]
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
                quota.alone = now < quota.alone_at + min(quota.log.period, 60.0) + 1.5 * self._server.cooldown
                used = quota.log.shown(now, whole=whole)
                question = {
                    "me": self._me,
                    "generation": quota.generation,
                    "whole": whole,
                    "want": want,
                    "away": int(1.5 * self._server.cooldown * MICRO),
                    "workers": self._processes(quota),
                    "alone": quota.alone,
                    "recent": quota.log.units(now) if whole or quota.recovering or quota.alone else 0,
                    "grace": int(min(_GRACE * min(rate.per for rate in rates), _LONGEST_GRACE) * MICRO),
                    "rates": [[rate.limit, int(rate.per * MICRO)] for rate in rates],
                    "over": [
                        [units, -1 if at is None else int((now - at) * MICRO), buckets] for units, at, buckets in over
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
                if whole and quota.lessons:
                    # It has forgotten them, too; a count of this process is a part of the sum.
                    self._background(self.teach(key, tuple(quota.lessons.values())))
                return reply
        finally:
            if not told:
                # It may have been heard all the same. What was never used, told twice, would free what others use.
                quota.over[:0] = [each for each in over if each[1] is not None]

    def _without(self, quota: Share, rates: tuple[Rate, ...], want: int, now: float) -> Lease:
        """Return what this process may use without the server."""
        if self._unreachable == "refuse":
            return Lease(0, wait=math.inf)
        if quota.gate > now:
            return Lease(0, wait=quota.gate - now)
        units, wait, workers = want, 0.0, self._processes(quota)
        quota.alone_at = now
        for rate in rates:
            # Fewer units than processes: each has one, at longer intervals.
            most = max(1, rate.limit // workers)
            period = rate.per * max(1.0, workers / rate.limit)
            quota.log.reach = max(quota.log.reach, period / quota.log.period)
            careful = quota.contact + min(rate.per * (1 + SLACK), _CAREFUL)
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
        return Lease(units, SLACK * min(rate.per for rate in rates))

    def _processes(self, quota: Share) -> int:
        """Return how many processes share *quota*, as far as known."""
        return quota.workers or self._greatest or self._assumed

    def _lesson_keys(self, key: str) -> list[str]:
        (facts,) = self._keys(key, ())[:1]
        return [f"{facts}:lessons", facts]

    def _keys(self, key: str, rates: tuple[Rate, ...]) -> list[str]:
        # One hash tag: all keys of a quota lie on one node of a cluster.
        digest = hashlib.sha256(key.encode()).hexdigest()[:24]
        base = f"{self._namespace}:{{quota:{digest}}}"
        names = [base, f"{base}:line", f"{base}:workers"]
        for rate in rates:
            period = int(rate.per * MICRO)
            names += [f"{base}:{period}:times", f"{base}:{period}:units"]
        return names


def _spend(rates: tuple[Rate, ...]) -> float:
    """Return the seconds for which a lease may be spent."""
    return min(1.0, max(0.005, _SPEND * min(rate.per for rate in rates)))
