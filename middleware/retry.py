"""Try again what failed for a moment, and only as often as that helps."""

import math
import random as _random
import time as _time
from collections.abc import Callable, Collection, Mapping
from functools import partial

import backoff
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from apiclient.middleware._attempts import Plan, Predicate, Trial
from apiclient.middleware._backoff import Jitter, WaitGenerator, full_jitter, no_jitter
from apiclient.middleware._body import replayable
from apiclient.middleware._budget import RetryBudget
from apiclient.middleware._call import IDEMPOTENT_METHODS, joined, opened
from apiclient.middleware._explain import explained
from apiclient.middleware._verdict import Rules

_STATUSES = frozenset({408, 500, 502, 503, 504})
_ONCE = frozenset({421, 425})
_VERDICT_HEADERS = ("x-should-retry", "stripe-should-retry")
_EXPO: WaitGenerator = partial(backoff.expo, base=2, factor=0.1)


class Retry:
    """Send a request again after a temporary failure, within a budget and the call's deadline.

    What is retried: the ``statuses``, transport errors that can pass, and what the server's own verdict header says.
    What is never retried: a POST or PATCH without an idempotency key once bytes may have left, and a body that can be
    read only once. ``Retry-After`` is a lower bound; where it is too long the failure is returned at once. The final
    response is returned as it is; a final transport failure is raised as an error of ours.

    Args:
        attempts: Wire requests at most, the first included.
        wait: Makes the generator of waits in seconds, as those of ``backoff``; default ``expo`` from 0.1 s, doubling.
        max_wait: Greatest wait in seconds before jitter, whatever the generator says.
        jitter: Spreads a wait, given it and a draw from [0, 1); None for none.
        max_retry_after: Longest ``Retry-After`` in seconds that is waited for; a longer one ends the call.
        statuses: Statuses that are temporary.
        once: Statuses that are tried once more only.
        methods: Methods that are retried at all; None for any.
        exceptions: Further exception types that are passing failures, the request perhaps carried out.
        when: Asked before every rule with the call and the response or exception: True retries, False does not, None
            leaves it to the rules. It cannot override the laws on bodies and on methods that are not idempotent.
        verdict_headers: Response headers by which a server says ``true`` or ``false`` about a retry.
        budget: Bound on retries per origin: True for one of its own, False for none, or one shared with others.
        endpoints: Another ``Retry`` for some endpoints (``"GET /slow/{id}"``).
        random: Draws from [0, 1).
        now: Wall clock in seconds, for a ``Retry-After`` date.

    Raises:
        ValueError: An option is out of its range.
        TransportError: (from a call) No whole answer arrived, and no attempt is left or of use.
        TransportOutcomeUnknown: (from a call) Likewise, for a POST or PATCH without a key that may have been sent.
        BodyNotReplayable: (from a call) Another attempt was due, but the body can be read only once.
    """

    def __init__(
        self,
        *,
        attempts: int = 4,
        wait: WaitGenerator = _EXPO,
        max_wait: float = 20.0,
        jitter: Jitter | None = full_jitter,
        max_retry_after: float = 60.0,
        statuses: Collection[int] = _STATUSES,
        once: Collection[int] = _ONCE,
        methods: Collection[str] | None = None,
        exceptions: tuple[type[Exception], ...] = (),
        when: Predicate | None = None,
        verdict_headers: Collection[str] = _VERDICT_HEADERS,
        budget: RetryBudget | bool = True,
        endpoints: Mapping[str, "Retry"] | None = None,
        random: Callable[[], float] = _random.random,
        now: Callable[[], float] = _time.time,
    ) -> None:
        if attempts < 1:
            raise ValueError(f"attempts must be at least 1, got {attempts!r}")
        if not 0 <= max_wait < math.inf:
            raise ValueError(f"max_wait must be at least 0 seconds and finite, got {max_wait!r}")
        if not max_retry_after >= 0:
            raise ValueError(f"max_retry_after must be at least 0 seconds, got {max_retry_after!r}")
        for name, given in (("statuses", statuses), ("once", once)):
            wrong = [status for status in given if not 400 <= status <= 599]
            if wrong:
                raise ValueError(f"{name} must be between 400 and 599, got {wrong[0]!r}")
        self._budget = RetryBudget() if budget is True else budget or None
        self._endpoints = dict(endpoints) if endpoints else None
        self._plan = Plan(
            rules=Rules(
                attempts=attempts,
                statuses=frozenset(statuses),
                once=frozenset(once),
                methods=None if methods is None else frozenset(method.upper() for method in methods),
                max_retry_after=max_retry_after,
            ),
            wait=wait,
            max_wait=max_wait,
            jitter=no_jitter if jitter is None else jitter,
            exceptions=exceptions,
            when=when,
            verdict_headers=tuple(verdict_headers),
            throttle_cost=1.0 if self._budget is None else self._budget.throttle_cost,
            random=random,
            now=now,
        )

    def __repr__(self) -> str:
        rules = self._plan.rules
        statuses = ", ".join(map(str, sorted({*rules.statuses, *rules.once})))
        budget = "" if self._budget is not None else ", budget=False"
        return f"Retry(attempts={rules.attempts}, statuses=[{statuses}]{budget})"

    @property
    def budget(self) -> RetryBudget | None:
        """The bound on retries, or None."""
        return self._budget

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send *request* until it succeeds, fails for good, or another attempt is of no use."""
        call = joined()
        if call is None:
            return await opened(self, request, handler)
        if self._endpoints is not None and (other := self._endpoints.get(call.endpoint)) is not None:
            return await other(request, handler)
        began = call.time()
        budget = None
        if self._budget is not None:
            budget = self._budget.of(call.key[0], began)
            budget.call(began)
        whole = not request.body or replayable(request)
        try:
            response = await handler(request)
        except Exception as error:  # noqa: BLE001 - told apart below
            result: ClientResponse | Exception = error
        else:
            if response.status < 400:
                return response
            result = response
        trial = Trial(self._plan, call, request, handler, budget=budget, whole=whole)
        try:
            return await trial.run(result, began)
        finally:
            del result  # An exception and its frame would otherwise keep each other alive.

    def explain(
        self,
        method: str,
        endpoint: str,
        outcome: int | BaseException,
        *,
        has_key: bool = False,
        replayable: bool = True,
        attempt: int = 1,
    ) -> str:
        """Say in words whether a call that ended in *outcome* would be made again, and why.

        Args:
            method: Upper case.
            endpoint: ``METHOD template``.
            outcome: A status, or an exception.
            has_key: Whether the call has an idempotency key.
            replayable: Whether its body can be sent more than once.
            attempt: Number of the attempt that ended so, from 1.
        """
        other = None if self._endpoints is None else self._endpoints.get(endpoint)
        if other is not None:
            return other.explain(method, endpoint, outcome, has_key=has_key, replayable=replayable, attempt=attempt)
        return explained(
            self._plan,
            method,
            endpoint,
            outcome,
            repeatable=has_key or method in IDEMPOTENT_METHODS,
            replayable=replayable,
            attempt=attempt,
        )
