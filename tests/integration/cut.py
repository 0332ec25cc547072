"""Cancel a coroutine at its n-th suspension: every await of it, one after the other."""

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any


class Cut:
    """Runs a coroutine in a task of its own and cancels it where it is suspended for the *place*-th time.

    Attributes:
        suspensions: How often it was suspended so far.
        result: What it returned.
    """

    def __init__(self, work: Coroutine[Any, Any, Any], place: int) -> None:
        self.place = place
        self.suspensions = 0
        self.result: Any = None
        self.work = work

    async def run(self) -> bool:
        """Return whether it ended by the cancellation; False if it came to its end before or in spite of it."""
        task = asyncio.ensure_future(self._whole())
        await asyncio.wait({task})
        if task.cancelled():
            return True
        self.result = task.result()
        return False

    async def _whole(self) -> Any:
        return await self._driven()

    @types.coroutine
    def _driven(self) -> Generator[Any, Any, Any]:
        task = asyncio.current_task()
        assert task is not None
        step: Callable[[Any], Any] = self.work.send
        given: Any = None
        while True:
            try:
                waited_for = step(given)
            except StopIteration as ended:
                return ended.value
            self.suspensions += 1
            if self.suspensions == self.place:
                task.get_loop().call_soon(task.cancel)
            try:
                given, step = (yield waited_for), self.work.send
            except BaseException as error:  # noqa: BLE001 - handed on
                given, step = error, self.work.throw


async def at_every_await(
    work: Callable[[], Coroutine[Any, Any, Any]], after: Callable[[bool], Awaitable[None]], *, most: int = 400
) -> int:
    """Run *work* again and again, each time cancelled one suspension later, until it gets through; return how often.

    Args:
        work: Makes the coroutine.
        after: Checks that nothing was harmed; told whether the cancellation came through.
        most: More suspensions than it may have.
    """
    for place in range(1, most):
        cut = Cut(work(), place)
        cancelled = await cut.run()
        await after(cancelled)
        if cut.suspensions < place:
            return place
    raise AssertionError(f"it is suspended more than {most} times")
