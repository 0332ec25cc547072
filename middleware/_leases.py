"""One key's share of a quota that a store counts for several processes."""

import asyncio
import logging
import math
from collections.abc import Coroutine, Iterable
from typing import Any

from apiclient.middleware._call import Call
from apiclient.middleware._pacing.lesson import Lesson
from apiclient.middleware._pacing.pacer import Pacer
from apiclient.middleware._pacing.slot import Slot
from apiclient.middleware._parsing.rate import Rate
from apiclient.middleware.errors import RateLimited
from apiclient.middleware.quota_store import Heard, Learned, Lease, LessonStore, QuotaStore, UsageStore

# A store that fails is left alone for so long, in seconds.
_PASSED_OVER = 1.0
# Where no limit is known, the store is asked so often whether another process has found one, in seconds.
_ANEW = 0.25
# Where there is plenty, what landed is told so often, in seconds or in parts of the shortest period.
_RUN = 0.01


class Leases:
    """Units leased from *store* and not yet used, and what the processes learn from each other through it.

    Args:
        store: Counts for all processes.
        key: Name of the quota there.
        pacer: Counts this process's own; has the rates, and is told what others have learned.
        timeout: Most seconds to wait for the store.
    """

    __slots__ = (
        "_asking", "_down_until", "_hear_at", "_hearing", "_informed", "_key", "_known", "_leasing", "_low", "_own",
        "_pacer", "_refused", "_renew_at", "_run", "_run_at", "_run_until", "_sending", "_store", "_teacher", "_time",
        "_timeout", "_units", "_until", "_usage", "_wanted",
    )  # fmt: skip

    def __init__(self, store: QuotaStore, key: str, pacer: Pacer, *, timeout: float) -> None:
        self._store = store
        self._usage = store if isinstance(store, UsageStore) else None
        self._teacher = store if isinstance(store, LessonStore) and pacer.learn else None
        self._key = key
        self._pacer = pacer
        self._timeout = timeout if self._usage is None else None
        self._wanted = 0
        self._units = 0
        self._low = 0
        self._renew_at = math.inf
        self._leasing = False
        self._until = -math.inf
        self._down_until = -math.inf
        self._time = asyncio.get_running_loop().time
        # Units that landed and were not told yet.
        self._run = 0
        self._run_at = self._run_until = -math.inf
        self._asking: asyncio.Task[Lease | None] | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self._hear_at = -math.inf
        self._hearing: asyncio.Task[None] | None = None
        self._informed = self._teacher is None
        # What the store has for each period, and the periods that answers to this process have stated.
        self._known: dict[float, int] = {}
        self._own: set[float] = set()
        # When the API refused what was counted last, by period.
        self._refused: dict[float, float] = {}

    def __repr__(self) -> str:
        return f"Leases({self._key!r}, {self._units} left)"

    def take(self, call: Call, cost: int) -> bool:
        """Use *cost* leased units if they are there."""
        now = call.time()
        if now >= self._until or self._units < cost:
            return False
        self._units -= cost
        if (self._units < self._low or now >= self._renew_at) and self._asking is None and now >= self._down_until:
            # Before they run out, so that nobody waits for the store.
            self._ask_for(call, 1, 1)
        return True

    def landed(self, units: int, ago: float) -> None:
        """Note that *units* taken count from *ago* seconds ago, at the latest."""
        now, units = self._time(), self._payable(units)
        if self._low:
            # There is plenty, so that nobody waits for these: several are told together, as if all were as late.
            self._run += units
            self._run_at = max(self._run_at, now - ago)
            if now >= self._run_until:
                self._tell_run(now)
            return
        if self._usage is not None:
            self._usage.landed(self._key, units, ago)
        if not self._pacer.meters:
            self._listen(now)

    def unused(self, units: int) -> None:
        """Give back *units* that were taken and not used."""
        if self._usage is not None and units:
            self._usage.landed(self._key, self._payable(units), None)

    async def permit(self, call: Call, cost: int, *, longest: float) -> None:
        """Wait until *cost* units are leased, or the store is out of order, or has no limit to lease by.

        Raises:
            RateLimited: The store has none within *longest* or the call's time.
        """
        pacer = self._pacer
        if not pacer.meters:
            self._listen(call.time())
            if self._hearing is not None and not self._informed:
                # Shared by all who wait: one of them being cancelled must not end it.
                await asyncio.shield(self._hearing)
            if not pacer.meters:
                if pacer.gate > call.time():
                    await self._sleep(call, pacer.gate - call.time(), longest)
                return
        cost = self._payable(cost)
        self._wanted += cost
        try:
            while not self.take(call, cost) and call.time() >= self._down_until:
                if self._asking is None:
                    self._ask_for(call, self._wanted + pacer.queue.live, cost)
                if self._asking is not None:
                    lease = await asyncio.shield(self._asking)
                    if lease is None:
                        return
                    if lease.units == 0:
                        await self._sleep(call, max(lease.wait, 0.001), longest)
        finally:
            self._wanted -= cost

    def pause(self, seconds: float) -> None:
        """Tell the store, without waiting for it, that the server wants a pause of *seconds*."""
        self.unused(self._units)
        self._units = 0
        self._send(self._store.pause(self._key, seconds))

    def teach(self, lessons: Iterable[Lesson]) -> None:
        """Tell the other processes, without waiting for it, what this one has learned from an answer."""
        if self._teacher is None:
            return
        self._settle_up()
        news = [each for each in lessons if self._known.get(each.period) != each.limit]
        self._known.update((each.period, each.limit) for each in news)
        self._own.update(each.period for each in news if not each.counted)
        if news:
            self._send(self._tell(self._teacher, news))

    def _payable(self, cost: int) -> int:
        """Return *cost*, or the whole quota where that is less: as many units as there can ever be."""
        return cost if cost == 1 else min([cost, *(meter.limit for meter in self._pacer.meters)])

    async def _sleep(self, call: Call, wait: float, longest: float) -> None:
        if wait == math.inf:
            # When it is back nobody knows; whoever asks for a time is told a moment.
            raise RateLimited(
                "The server that counts for all processes cannot be reached, and without it nothing may leave",
                retry_after=_PASSED_OVER,
                hint="Look at that server, or let each process go by its share meanwhile (unreachable=)",
            )
        if wait > min(longest, call.remaining()):
            raise RateLimited(
                f"Other processes leave no slot for {wait:.3g} s, longer than this call may wait",
                would_have_waited=wait,
                retry_after=wait,
            )
        await call.sleep(wait, "limiter")

    def _tell_run(self, now: float) -> None:
        if self._run and self._usage is not None:
            self._usage.landed(self._key, self._run, now - self._run_at)
        self._run = 0
        self._run_at = -math.inf
        self._run_until = now + _RUN * min([1.0, *(meter.period for meter in self._pacer.meters)])

    def _ask_for(self, call: Call, want: int, least: int) -> None:
        self._leasing = True
        rates = self._rates()
        want = max(least, min(want, *(rate.limit for rate in rates)))
        self._asking = asyncio.get_running_loop().create_task(self._ask(call, rates, want))

    async def _ask(self, call: Call, rates: tuple[Rate, ...], want: int) -> Lease | None:
        if self._units and call.time() >= self._until:
            self.unused(self._units)
            self._units = 0
        self._tell_run(call.time())
        try:
            async with asyncio.timeout(self._timeout):
                lease = await self._store.lease(self._key, rates, want)
        except Exception as error:  # noqa: BLE001 - a store of anybody's making; the limiter goes on without it
            self._down_until = call.time() + _PASSED_OVER
            call.emit(logging.WARNING, "ratelimit.store_failed", error_type=type(error).__name__)
            return None
        finally:
            self._asking = None
        now = call.time()
        if lease.news:
            self._hear_at = now
            self._listen(now)
        # More than was wanted: there is plenty, and more should be here before it is used up or too old.
        plenty = lease.units > want
        self._low = lease.units // 4 if plenty else 0
        if lease.units:
            if now >= min(self._until, self._renew_at):
                self.unused(self._units)
                self._units = 0
            self._units += lease.units
            self._until = now + lease.seconds
        self._renew_at = now + 0.75 * lease.seconds if plenty else math.inf
        if not plenty:
            self._tell_run(now)
        return lease

    def _listen(self, now: float) -> None:
        """Ask the store, without waiting for it, what other processes have learned, if it is time."""
        if self._teacher is not None and self._hearing is None and now >= self._hear_at:
            self._hear_at = now + _ANEW
            self._hearing = asyncio.get_running_loop().create_task(self._hear(self._teacher))

    async def _hear(self, teacher: LessonStore) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                heard = await teacher.heard(self._key)
        except Exception:  # noqa: BLE001 - as above
            self._hear_at = self._time() + _PASSED_OVER
        else:
            self._take_over(heard, teacher)
        finally:
            self._hearing = None
            self._informed = True

    def _take_over(self, heard: Heard, teacher: LessonStore) -> None:
        pacer, now = self._pacer, self._time()
        if heard.pause > 0:
            pacer.halt(now + heard.pause)
        # What answers to this process have stated is not changed by what others say.
        learned = [each for each in heard.learned if each.rate.per not in self._own]
        for each in learned:
            if self._newly_counted(each, now) and (mine := self._part(each, now)):
                # This process has a part in it, though it was not refused itself.
                self._send(teacher.teach(self._key, (mine,)))
            self._known[each.rate.per] = each.rate.limit
        pacer.stated(Slot(), map(_lesson, learned), now)
        self._settle_up()

    def _newly_counted(self, total: Learned, now: float) -> bool:
        """Return whether *total* was counted up to a refusal that was not heard of before."""
        if total.counted is None:
            return False
        period, at = total.rate.per, now - total.counted
        before = self._refused.get(period, -math.inf)
        self._refused[period] = at
        # As far apart as the store takes counts for those of one refusal.
        return at - before > 2 * period

    async def _tell(self, teacher: LessonStore, lessons: list[Lesson]) -> None:
        news = [_told(each) for each in lessons]
        if any(each.counted for each in lessons):
            # Where another process has counted up to its refusal, this one counts up to the same.
            heard, now = await teacher.heard(self._key), self._time()
            others = {each.rate.per: self._part(each, now) for each in heard.learned if each.counted is not None}
            told = (others.get(each.rate.per, each) if each.counted is not None else each for each in news)
            news = [each for each in told if each is not None]
        await teacher.teach(self._key, tuple(news))

    def _part(self, total: Learned, now: float) -> Learned | None:
        """Return how many of *total*, which was counted, are requests of this process."""
        till, period = now - (total.counted or 0.0), total.rate.per
        mine = sum(1 for sent in self._pacer.recent if till - period < sent <= till)
        return total._replace(rate=Rate(mine, per=period)) if mine else None

    def _settle_up(self) -> None:
        """Tell the store what was used before there was a limit to lease by."""
        pacer, rates = self._pacer, self._rates()
        if self._teacher is not None and rates and not self._leasing:
            self._leasing = True
            now, longest = self._time(), max(rate.per for rate in rates)
            self._teacher.spent(self._key, rates, [(1, now - at) for at in pacer.recent if at > now - longest])

    def _rates(self) -> tuple[Rate, ...]:
        return tuple(Rate(meter.limit, meter.period) for meter in self._pacer.meters)

    def _send(self, telling: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._sent(telling))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _sent(self, telling: Coroutine[Any, Any, None]) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await telling
        except Exception:  # noqa: BLE001 - as above; this process goes by what it knows in any case
            self._down_until = self._time() + _PASSED_OVER


def _told(lesson: Lesson) -> Learned:
    rate = Rate(lesson.limit, per=lesson.period)
    return Learned(rate, lesson.fixed, lesson.exact, 0.0 if lesson.counted else None)


def _lesson(learned: Learned) -> Lesson:
    rate, counted = learned.rate, learned.counted is not None
    return Lesson(rate.limit, rate.per, learned.fixed, learned.exact, counted=counted)
