"""What ``Retry`` does once a first attempt has failed; the way of a call that succeeds never comes here."""

import logging
from collections.abc import Callable, Collection
from typing import NamedTuple

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, payload

from apiclient.middleware._backoff import Delays, Jitter, WaitGenerator
from apiclient.middleware._body import discard, head_of, replayable
from apiclient.middleware._budget import Budget
from apiclient.middleware._call import Call
from apiclient.middleware._parsing.retry_after import retry_after
from apiclient.middleware._transport import fault_of, transport_error
from apiclient.middleware._verdict import Decision, Outcome, Rules, Stop, decide, in_progress, verdict_of
from apiclient.middleware.errors import (
    ApiError,
    Attempt,
    BodyNotReplayable,
    DeadlineExceeded,
    StatusError,
    TransportOutcomeUnknown,
)

# A read of the broken-off upload may still be running in its thread; a rewind under it would lose a chunk.
_FILE_PAUSE = 0.1

Predicate = Callable[[Call, ClientResponse | Exception], bool | None]
"""Asked about each failure: True to retry it, False not to, None to leave it to the rules."""


class Plan(NamedTuple):
    """The options of a ``Retry``; see there."""

    rules: Rules
    wait: WaitGenerator
    max_wait: float
    jitter: Jitter
    exceptions: tuple[type[Exception], ...]
    when: Predicate | None
    verdict_headers: Collection[str]
    throttle_cost: float
    random: Callable[[], float]
    now: Callable[[], float]


class Trial:
    """The attempts of one call from its first failure on."""

    __slots__ = ("_attempt", "_budget", "_call", "_delays", "_handler", "_plan", "_request", "_whole")

    def __init__(
        self,
        plan: Plan,
        call: Call,
        request: ClientRequest,
        handler: ClientHandlerType,
        *,
        budget: Budget | None,
        whole: bool,
    ) -> None:
        self._plan = plan
        self._call = call
        self._request = request
        self._handler = handler
        self._budget = budget
        self._whole = whole
        self._delays = Delays(plan.wait, cap=plan.max_wait)
        self._attempt = 1

    async def run(self, result: ClientResponse | Exception, began: float) -> ClientResponse:
        """Go on from the first attempt's failure *result*; that attempt began at *began*."""
        call = self._call
        try:
            while True:
                if isinstance(result, Exception) and not self._passing(result):
                    raise result
                if isinstance(result, ClientResponse) and result.status < 400:
                    return result
                ended = call.time()
                decision = await self._decide(result)
                if decision.wait is not None or decision.stop is not None or call.trail:
                    self._record(result, wait=decision.wait, duration=ended - began)
                if decision.wait is None:
                    result = self._final(result, decision)
                    if isinstance(result, Exception):
                        raise result
                    return result
                self._announce(result, decision)
                if isinstance(result, ClientResponse):
                    discard(result, self._request)
                await call.sleep(decision.wait, "backoff")
                call.resending()
                self._attempt += 1
                began = call.time()
                result = await self._send()
        finally:
            # An exception holds its traceback, and that this frame: without this they would live on as a cycle.
            del result

    async def _send(self) -> ClientResponse | Exception:
        try:
            return await self._handler(self._request)
        except Exception as error:  # noqa: BLE001 - judged by the caller
            return error

    def _passing(self, error: Exception) -> bool:
        """Return whether *error* is judged here at all, and not a bug, or a decision of another policy."""
        if fault_of(error) is None and not isinstance(error, self._plan.exceptions):
            return False
        call = self._call
        # A plain TimeoutError is no attempt's (those have types of their own): where no ApiClient set the session's
        # times it is aiohttp's total timer, which fires once and would not stop what is sent after it.
        plain = isinstance(error, TimeoutError) and not isinstance(error, ApiError | aiohttp.ClientError)
        if not plain or not (call.origin is None or call.remaining() <= 0):
            return True
        if not call.repeatable:
            raise TransportOutcomeUnknown(
                "The call's time was up before the answer arrived, and the request may have been carried out"
            ) from error
        raise DeadlineExceeded("The call's time was up before an answer arrived") from error

    async def _decide(self, result: ClientResponse | Exception) -> Decision:
        plan, call = self._plan, self._call
        try:
            outcome = await self._outcome(result)
            wait = plan.jitter(self._delays.next(result), plan.random())
            if isinstance(result, Exception) and not outcome.nothing_sent and _reads_a_file(self._request):
                wait = max(wait, _FILE_PAUSE)
            decision = decide(
                plan.rules,
                outcome,
                method=call.method,
                attempt=self._attempt,
                repeatable=call.repeatable,
                replayable=outcome.nothing_sent or (self._whole and replayable(self._request)),
                delay=wait,
                remaining=call.remaining(),
                retried=sum(1 for earlier in call.trail if earlier.status == outcome.status),
            )
        except BaseException:
            if isinstance(result, ClientResponse):
                result.close()
            raise
        if decision.wait is not None and self._budget is not None:
            cost = plan.throttle_cost if outcome.status == 429 else 1.0
            if not self._budget.withdraw(cost, call.time()):
                return Decision(None, Stop.BUDGET, "the origin fails so often that its retry budget is used up")
        return decision

    async def _outcome(self, result: ClientResponse | Exception) -> Outcome:
        plan, call = self._plan, self._call
        said = plan.when(call, result) if plan.when is not None else None
        judge = "the server" if said is None else "the predicate"
        if isinstance(result, Exception):
            fault = fault_of(result)
            if fault is None:
                return Outcome(None, error=type(result).__name__, verdict=said, judge=judge)
            return Outcome(
                None,
                error=type(result).__name__,
                nothing_sent=fault.nothing_sent,
                permanent=fault.permanent,
                verdict=said,
                judge=judge,
            )
        after = retry_after(result.headers, wall=plan.now())
        if said is None:
            said = verdict_of(result.headers, plan.verdict_headers)
        busy = False
        if result.status == 409 and said is None and call.idempotency_key is not None:
            resent = self._attempt > 1
            head = b"" if resent or after is not None else await head_of(result)
            busy = in_progress(resent=resent, retry_after=after, head=head)
        return Outcome(result.status, retry_after=after, verdict=said, judge=judge, in_progress=busy)

    def _record(self, result: ClientResponse | Exception, *, wait: float | None, duration: float) -> None:
        status, error = _told(result)
        self._call.trail += (Attempt(status, error, 0.0 if wait is None else wait, duration),)

    def _announce(self, result: ClientResponse | Exception, decision: Decision) -> None:
        if self._call.wants(logging.INFO):
            status, error = _told(result)
            self._call.emit(
                logging.INFO,
                "http.retry",
                attempt=self._attempt,
                status=status,
                error_type=error,
                wait_s=decision.wait,
                stopped=None if decision.stop is None else decision.stop.value,
                needed_s=decision.needed,
                why=decision.why,
            )

    def _final(self, result: ClientResponse | Exception, decision: Decision) -> ClientResponse | Exception:
        """Return what the call ends with: the response, or the error to raise, its cause set."""
        call = self._call
        call.stopped = None if decision.stop is None else decision.stop.value
        if decision.stop not in {None, Stop.ATTEMPTS}:
            self._announce(result, decision)
        cause: BaseException
        if isinstance(result, ClientResponse):
            if decision.stop is not Stop.NOT_REPLAYABLE:
                return result
            status = result.status
            cause = StatusError.for_status(status)(
                f"{status} {result.reason}", status=status, url=result.url, method=call.method, headers=result.headers
            )
            discard(result, self._request)
            error: Exception = BodyNotReplayable(f"The answer was {status}, and the body cannot be sent again")
        else:
            cause = result
            error = self._failure(result, decision)
        if isinstance(error, ApiError):
            call.stamp(error)
        if error is not cause:
            error.__cause__ = cause
        return error

    def _failure(self, result: Exception, decision: Decision) -> Exception:
        if decision.stop is Stop.NOT_REPLAYABLE:
            return BodyNotReplayable(f"The attempt failed ({type(result).__name__}), and the body cannot be sent again")
        error = transport_error(result, repeatable=self._call.repeatable)
        if error is None:
            return result
        if decision.stop in {Stop.DEADLINE, Stop.BUDGET}:
            error.message = f"{error.message}; not tried again: {decision.why}"
        return error


def _told(result: ClientResponse | Exception) -> tuple[int | None, str | None]:
    """Return the status of an answer or the class name of an error."""
    if isinstance(result, Exception):
        return None, type(result).__name__
    return result.status, None


def _reads_a_file(request: ClientRequest) -> bool:
    body = request.body
    return bool(body) and not isinstance(body, payload.BytesPayload)
