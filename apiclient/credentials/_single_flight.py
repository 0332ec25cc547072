"""Do a thing once for everybody who wants it at the moment."""

import asyncio
import contextvars
import math
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Work = Callable[[], Coroutine[Any, Any, T]]


class SingleFlight(Generic[T]):
    """Runs one piece of work at a time, in a task of its own that belongs to no caller.

    Everybody who joins while it runs gets its outcome. A caller that is cancelled only leaves; the work goes
    on for the others, and also when nobody is left, since its result is worth keeping. The work runs in an
    empty context: it is no part of the call that happened to start it.

    Each waiter has a future of its own. ``asyncio.shield`` would take time proportional to the waiters for
    every one of them that is cancelled.
    """

    def __init__(self) -> None:
        self._task: asyncio.Task[T] | None = None
        self._waiters: set[asyncio.Future[asyncio.Task[T]]] = set()
        self._latest = -math.inf

    def __repr__(self) -> str:
        return f"SingleFlight({len(self._waiters)} waiting)"

    @property
    def running(self) -> bool:
        """Whether the work is under way in the running event loop."""
        task = self._task
        return task is not None and not task.done() and task.get_loop() is asyncio.get_running_loop()

    @property
    def latest(self) -> float:
        """Time on the loop's clock until which somebody waits: infinite without a limit, or with nobody waiting."""
        return self._latest if self._waiters else math.inf

    def start(self, work: Work[T]) -> None:
        """Begin *work*, unless it is under way, without waiting for it."""
        if self.running:
            return
        self._latest = -math.inf
        waiters = self._waiters = set()
        # The task is kept here: a loop holds its tasks by weak references only.
        self._task = asyncio.get_running_loop().create_task(work(), context=contextvars.Context())
        self._task.add_done_callback(partial(_land, waiters))

    async def join(self, work: Work[T], *, deadline: float | None = None) -> T:
        """Return the outcome of the work under way, or of *work* begun now.

        Args:
            work: Makes the coroutine; used only where nothing is under way.
            deadline: Time on the loop's clock until which this caller waits, for ``latest``. It is not
                enforced here.

        Raises:
            Exception: Whatever the work raised, the same object for every caller.
        """
        while True:
            self.start(work)
            waiters = self._waiters
            waiter: asyncio.Future[asyncio.Task[T]] = asyncio.get_running_loop().create_future()
            waiters.add(waiter)
            self._latest = max(self._latest, math.inf if deadline is None else deadline)
            try:
                landed = await waiter
            finally:
                waiters.discard(waiter)
            if not landed.cancelled():
                return landed.result()
            # Somebody cancelled the work itself: whoever still waits begins it anew.

    async def drained(self) -> None:
        """Wait until nothing is under way."""
        if self._task is not None and self.running:
            await asyncio.wait((self._task,))


def _land(waiters: set[asyncio.Future[asyncio.Task[T]]], task: asyncio.Task[T]) -> None:
    # The task itself is handed over: an exception set on a future whose waiter was cancelled meanwhile
    # would be reported as never retrieved.
    for waiter in list(waiters):
        if not waiter.done():
            waiter.set_result(task)
    if not task.cancelled():
        task.exception()
