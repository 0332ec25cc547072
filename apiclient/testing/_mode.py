"""A mode for the tests of an application: nothing waits, little is tried again, and nothing need reach the network."""

import asyncio
import copy
import time
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Self
from weakref import WeakKeyDictionary

from aiohttp import ClientHandlerType, ClientMiddlewareType, ClientRequest, ClientResponse

import apiclient.credentials._sender as senders
import apiclient.middleware._call as calls
import apiclient.pipeline as pipelines
from apiclient.middleware import RateLimit, Retry
from apiclient.middleware._body import discard, replayable
from apiclient.middleware._call import joined
from apiclient.middleware._parsing.retry_after import retry_after
from apiclient.pipeline import Pipeline

_active: list["Testing"] = []


class Testing:
    """The mode that ``set_testing`` began; a context manager that ends it."""

    __test__ = False

    def __init__(
        self,
        *,
        testing: bool,
        attempts: int | None,
        waits: bool,
        innermost: tuple[ClientMiddlewareType, ...],
        tokens: tuple[ClientMiddlewareType, ...],
    ) -> None:
        self.attempts = attempts
        self.waits = waits
        outer = _active[-1] if testing and _active else None
        self.innermost: tuple[ClientMiddlewareType, ...] = _sorted(innermost, () if outer is None else outer.innermost)
        self.tokens: tuple[ClientMiddlewareType, ...] = _sorted(tokens, () if outer is None else outer.tokens)
        self._testing = testing
        self._standing: WeakKeyDictionary[Pipeline, Pipeline] = WeakKeyDictionary()
        _active.append(self)
        _apply()

    def __repr__(self) -> str:
        if not self._testing:
            return "Testing(off)"
        return f"Testing(attempts={self.attempts}, waits={self.waits}, innermost={len(self.innermost)})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()

    def restore(self) -> None:
        """Go back to what held before, unless that was done already."""
        if self in _active:
            _active.remove(self)
            _apply()

    @property
    def stand_in(self) -> Callable[[Pipeline], Pipeline] | None:
        """What runs in place of a pipeline, or None for itself."""
        return self._instead if self._testing else None

    @property
    def pause(self) -> Callable[[float], Awaitable[Any]]:
        """How a call waits."""
        return _at_once if self._testing and not self.waits else asyncio.sleep

    def _instead(self, pipeline: Pipeline) -> Pipeline:
        standing = self._standing.get(pipeline)
        if standing is None:
            parts = [self._part(each) for each in pipeline]
            added = (each for each in self.innermost if each not in parts)
            standing = self._standing[pipeline] = Pipeline((*parts, *added), check=False)
        return standing

    def _part(self, middleware: ClientMiddlewareType) -> ClientMiddlewareType:
        if isinstance(middleware, Retry) and self.attempts is not None:
            return _capped(middleware, self.attempts)
        if isinstance(middleware, RateLimit) and not self.waits:
            return _Impatient(10 if self.attempts is None else self.attempts)
        return middleware


def set_testing(
    testing: bool = True,  # noqa: FBT001, FBT002 - a switch
    *,
    attempts: int | None = 2,
    waits: bool = False,
    innermost: Iterable[ClientMiddlewareType] = (),
    tokens: Iterable[ClientMiddlewareType] = (),
) -> Testing:
    """Make every pipeline of this process fit for fast tests, until the mode returned is left.

    Retries and 429s are answered at once, without their waits; the deadline is kept, so that a wait that would not fit
    into it still ends the call. Quotas are not paced. It applies to each ``ApiClient`` and each ``Pipeline``, those
    made before included, and to every thread; not to policies that a session lists without a ``Pipeline``, nor to the
    requests of credentials for tokens, *tokens* apart. Modes nest, and each restores what held before it::

        with set_testing(innermost=[transport]):
            ...

    Args:
        testing: False switches the mode off for a while instead.
        attempts: Most wire requests of a ``Retry``, and most times that a 429 is met; None leaves both as they are.
        waits: Whether waits and pacing stay, for tests on virtual time.
        innermost: Middlewares after all others: a ``MockTransport``, or ``Chaos`` and what else looks at attempts.
        tokens: Middlewares around each request of a credential for a token.

    Raises:
        ValueError: ``attempts`` is below 1.
    """
    if attempts is not None and attempts < 1:
        raise ValueError(f"attempts must be at least 1, got {attempts!r}")
    return Testing(testing=testing, attempts=attempts, waits=waits, innermost=tuple(innermost), tokens=tuple(tokens))


def _apply() -> None:
    mode = _active[-1] if _active else None
    pipelines.stand_in = None if mode is None else mode.stand_in
    calls.pause = asyncio.sleep if mode is None else mode.pause
    senders.innermost = () if mode is None else mode.tokens


def _sorted(
    given: tuple[ClientMiddlewareType, ...], outer: tuple[ClientMiddlewareType, ...]
) -> tuple[ClientMiddlewareType, ...]:
    # What answers comes last: what disturbs or watches has to stand before it, whichever was asked for first.
    return tuple(sorted((*given, *outer), key=lambda each: getattr(each, "innermost", False)))


async def _at_once(_: float) -> None:
    await asyncio.sleep(0)


def _capped(retry: Retry, attempts: int) -> Retry:
    capped = copy.copy(retry)
    plan: Any = getattr(retry, "_plan")  # noqa: B009 - there is no public way, and need be none
    rules = plan.rules._replace(attempts=min(attempts, plan.rules.attempts))
    others: dict[str, Retry] | None = getattr(retry, "_endpoints")  # noqa: B009
    vars(capped).update(
        _plan=plan._replace(rules=rules),
        _endpoints=others and {endpoint: _capped(other, attempts) for endpoint, other in others.items()},
    )
    return capped


class _Impatient:
    """Stands in for ``RateLimit``: paces nothing, and meets a 429 again at once, a few times."""

    def __init__(self, attempts: int) -> None:
        self._attempts = attempts

    def __repr__(self) -> str:
        return f"RateLimit(attempts={self._attempts}, for tests)"

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        whole = replayable(request)
        for _ in range(self._attempts - 1):
            response = await handler(request)
            call = joined()
            if response.status != 429 or call is None or not (whole and replayable(request)):
                return response
            wait = retry_after(response.headers, wall=time.time())
            if wait is not None and wait > call.remaining():
                return response
            discard(response, request)
            await call.sleep(0.0 if wait is None else wait, "limiter")
            call.resending()
        return await handler(request)
