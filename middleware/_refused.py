"""What ``RateLimit`` does once the server refused a request; the way of an accepted one never comes here."""

import logging
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from aiohttp import ClientRequest, ClientResponse, hdrs

from apiclient.middleware._body import discard, head_of, replayable
from apiclient.middleware._call import Call
from apiclient.middleware._lane import Lane, refusal
from apiclient.middleware._pacing.slot import Slot
from apiclient.middleware._parsing.quota import Quota, read_headers, read_text
from apiclient.middleware._parsing.rate import Rate
from apiclient.middleware._parsing.retry_after import retry_after
from apiclient.middleware.errors import Attempt

# The longest statement of a limit is a sentence.
_HEAD = 4096


class Reading(NamedTuple):
    """How answers are read: options of ``RateLimit``; see there."""

    learn: bool
    statuses: frozenset[int]
    also: Collection[int]
    read: Callable[[ClientResponse], Iterable[Quota]] | None
    now: Callable[[], float]

    def refused(self, response: ClientResponse) -> bool:
        """Return whether *response* refuses the request for its rate."""
        status = response.status
        if status in self.statuses:
            return True
        return status in self.also and (hdrs.RETRY_AFTER in response.headers or bool(self.quotas(response)))

    def quotas(self, response: ClientResponse) -> tuple[Quota, ...]:
        """Return what the headers of *response* state."""
        stated = read_headers(response.headers, wall=self.now())
        return stated if self.read is None else (*self.read(response), *stated)


class Trouble:
    """One request that was refused, until it has a slot again.

    Args:
        lane: Its quota.
        call: Whose it is.
        request: The request.
        whole: Whether its body could be sent twice before the first attempt.
        longest: Most seconds to wait.
        reading: How answers are read.
    """

    __slots__ = ("_call", "_lane", "_longest", "_reading", "_request", "_whole")

    def __init__(
        self, lane: Lane, call: Call, request: ClientRequest, *, whole: bool, longest: float, reading: Reading
    ) -> None:
        self._lane = lane
        self._call = call
        self._request = request
        self._whole = whole
        self._longest = longest
        self._reading = reading

    async def slot(self, slot: Slot, response: ClientResponse, began: float, *, last: bool) -> Slot | None:
        """Learn from the refusal of *slot*, and return another one, or None where *response* is the final answer.

        Args:
            slot: What the refused request went out with.
            response: The refusal. Discarded where a slot is returned or an exception raised.
            began: When the request was sent.
            last: Whether it may not be sent again.

        Raises:
            RateLimited: The pause is longer than this call may wait.
        """
        call, lane = self._call, self._lane
        now = call.time()
        wait = await self._learn(slot, response, now)
        if last or not (self._whole and replayable(self._request)):
            call.stopped = "attempts" if last else "not_replayable"
            return None
        discard(response, self._request)
        call.trail += (Attempt(response.status, None, max(0.0, wait), now - began),)
        if wait > min(self._longest, call.remaining()):
            call.stopped = "deadline"
            raise refusal(wait)
        fresh = await lane.slot(call, longest=self._longest, most=None, after=slot)
        call.resending()
        return fresh

    async def _learn(self, slot: Slot, response: ClientResponse, now: float) -> float:
        call, lane, reading = self._call, self._lane, self._reading
        after = retry_after(response.headers, wall=reading.now())
        if after is not None:
            # At once: siblings must not leave while the text is being read.
            lane.halt(now + after)
        quotas: tuple[Quota, ...] = ()
        try:
            if reading.learn:
                quotas = reading.quotas(response)
                said = read_text((await head_of(response, _HEAD)).decode("utf-8", "replace"))
                if said is not None:
                    quotas = (said, *quotas)
                    after = said.reset if after is None else after
        except BaseException:
            response.close()
            lane.over(slot, answered=False)
            raise
        lane.refused(slot, now, after, quotas)
        wait = lane.pacer.gate - call.time()
        if call.wants(logging.INFO):
            rates = [str(Rate(meter.limit, meter.period)) for meter in lane.pacer.meters]
            call.emit(
                logging.INFO,
                "ratelimit.rejected",
                status=response.status,
                retry_after_s=after,
                wait_s=max(0.0, wait),
                rates=rates,
            )
        return wait
