"""One key's share of a quota that a store counts for several processes."""

import asyncio
import logging
import math
from collections.abc import Callable

from apiclient.middleware._call import Call
from apiclient.middleware._parsing.rate import Rate
from apiclient.middleware.errors import RateLimited
from apiclient.middleware.quota_store import Lease, QuotaStore, UsageStore

# A store that fails is left alone for so long, in seconds.
_PASSED_OVER = 1.0


class Leases:
    """Units leased from *store* and not yet used.

    Args:
        store: Counts for all processes.
        key: Name of the quota there.
        timeout: Most seconds to wait for the store.
        rates: Returns the rates that hold now.
        waiting: Returns how many requests wait for a slot, so that one lease serves them.
    """

    __slots__ = (
        "_asking", "_down_until", "_key", "_pausing", "_rates", "_store", "_timeout", "_units", "_until", "_usage",
        "_waiting", "_wanted",
    )  # fmt: skip

    def __init__(
        self,
        store: QuotaStore,
        key: str,
        *,
        timeout: float,
        rates: Callable[[], tuple[Rate, ...]],
        waiting: Callable[[], int],
    ) -> None:
        self._store = store
        self._usage = store if isinstance(store, UsageStore) else None
        self._key = key
        self._timeout = timeout
        self._rates = rates
        self._waiting = waiting
        self._wanted = 0
        self._units = 0
        self._until = -math.inf
        self._down_until = -math.inf
        self._asking: asyncio.Task[Lease | None] | None = None
        self._pausing: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"Leases({self._key!r}, {self._units} left)"

    def take(self, now: float, cost: int) -> bool:
        """Use *cost* leased units if they are there."""
        if now >= self._until or self._units < cost:
            return False
        self._units -= cost
        return True

    def landed(self, units: int, ago: float) -> None:
        """Note that *units* taken count from *ago* seconds ago, at the latest."""
        if self._usage is not None:
            self._usage.landed(self._key, units, ago)

    def unused(self, units: int) -> None:
        """Give back *units* that were taken and not used."""
        if self._usage is not None and units:
            self._usage.landed(self._key, units, None)

    async def permit(self, call: Call, cost: int, *, longest: float) -> None:
        """Wait until *cost* units are leased, or the store is out of order.

        Raises:
            RateLimited: The store has none within *longest* or the call's time.
        """
        rates = self._rates()
        self._wanted += cost
        try:
            while rates and not self.take(call.time(), cost) and call.time() >= self._down_until:
                if self._asking is None:
                    want = min(self._wanted + self._waiting(), *(rate.limit for rate in rates))
                    self._asking = asyncio.get_running_loop().create_task(self._ask(call, rates, max(want, cost)))
                # Shared by all who wait: one of them being cancelled must not end it.
                lease = await asyncio.shield(self._asking)
                if lease is None:
                    return
                if lease.units == 0:
                    wait = max(lease.wait, 0.001)
                    if wait > min(longest, call.remaining()):
                        raise RateLimited(
                            f"Other processes leave no slot for {wait:.3g} s, longer than this call may wait",
                            would_have_waited=wait,
                            retry_after=wait,
                        )
                    await call.sleep(wait, "limiter")
        finally:
            self._wanted -= cost

    def pause(self, seconds: float) -> None:
        """Tell the store, without waiting for it, that the server wants a pause of *seconds*."""
        self.unused(self._units)
        self._units = 0
        task = asyncio.get_running_loop().create_task(self._pause(seconds))
        self._pausing.add(task)
        task.add_done_callback(self._pausing.discard)

    async def _ask(self, call: Call, rates: tuple[Rate, ...], want: int) -> Lease | None:
        if self._units and call.time() >= self._until:
            self.unused(self._units)
            self._units = 0
        try:
            async with asyncio.timeout(self._timeout if self._usage is None else None):
                lease = await self._store.lease(self._key, rates, want)
        except Exception as error:  # noqa: BLE001 - a store of anybody's making; the limiter goes on without it
            self._down_until = call.time() + _PASSED_OVER
            call.emit(logging.WARNING, "ratelimit.store_failed", error_type=type(error).__name__)
            return None
        finally:
            self._asking = None
        if lease.units:
            now = call.time()
            self._units = lease.units + (self._units if now < self._until else 0)
            self._until = now + lease.seconds
        return lease

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(self._timeout if self._usage is None else None):
                await self._store.pause(self._key, seconds)
        except Exception:  # noqa: BLE001 - as above; this process pauses in any case
            self._down_until = asyncio.get_running_loop().time() + _PASSED_OVER
