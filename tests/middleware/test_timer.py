import asyncio
import gc
import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from apiclient.middleware._timer import Wheel

pytestmark = pytest.mark.looptime


@contextmanager
def limited(wheel: Wheel, seconds: float) -> Iterator[None]:
    limit = wheel.start(seconds)
    try:
        yield
    except asyncio.CancelledError:
        if limit.ended_it():
            raise TimeoutError from None
        raise
    finally:
        limit.stop()


async def test_a_short_limit_is_exact() -> None:
    """Up to 5 s a limit ends when it says."""
    loop = asyncio.get_running_loop()
    with pytest.raises(TimeoutError), limited(Wheel(), 0.3):
        await asyncio.sleep(10)
    assert loop.time() == pytest.approx(0.3, abs=0.001)


async def test_a_long_limit_is_at_most_a_tick_late_and_never_early() -> None:
    """Above 5 s limits share ticks of 100 ms."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0.033)
    began = loop.time()
    with pytest.raises(TimeoutError), limited(Wheel(), 7.0):
        await asyncio.sleep(100)
    assert 7.0 <= loop.time() - began <= 7.1 + 1e-6


@pytest.mark.parametrize("seconds", [0.3, 7.0, math.inf])
async def test_code_that_ends_in_time_is_left_alone(seconds: float) -> None:
    """A limit that was not needed leaves no trace on the task."""
    with limited(Wheel(), seconds):
        await asyncio.sleep(0.1)
    await asyncio.sleep(20)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.parametrize("seconds", [1.0, 7.0])
async def test_a_cancellation_from_outside_passes_through(seconds: float) -> None:
    """Law 9: the limit does not take a stranger's cancellation for its own."""

    async def work() -> None:
        with limited(Wheel(), seconds):
            await asyncio.sleep(100)

    task = asyncio.create_task(work())
    await asyncio.sleep(0.5)
    task.cancel("mine")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_both_at_once_is_a_cancellation() -> None:
    """Law 9: expiry in the same turn of the loop does not swallow a cancellation."""

    async def work() -> None:
        with limited(Wheel(), 1.0):
            await asyncio.sleep(100)

    task = asyncio.create_task(work())
    asyncio.get_running_loop().call_later(1.0, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_limits_nest() -> None:
    """The inner scope's time is its own: the outer one is not taken for it."""
    wheel = Wheel()
    with limited(wheel, 2.0):
        with pytest.raises(TimeoutError), limited(wheel, 0.5):
            await asyncio.sleep(10)
        await asyncio.sleep(0.5)


async def test_an_error_in_answer_to_the_expiry_leaves_the_task_usable() -> None:
    """A handler that turns the cancellation into its own error does not leave the task half cancelled."""

    async def answer_in_kind() -> None:
        with limited(Wheel(), 0.5):
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                raise KeyError from None

    with pytest.raises(KeyError):
        await answer_in_kind()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    async with asyncio.timeout(1):
        await asyncio.sleep(0.1)


async def test_limits_that_ended_are_not_kept() -> None:
    """Law 14: ten thousand limits that ended in time hold no memory until their tick."""
    wheel = Wheel()
    for _ in range(10_000):
        with limited(wheel, 30.0):
            pass
    gc.collect()
    assert repr(wheel) == "Wheel(0 armed)"
    assert len(wheel._ticks) <= 2


async def test_many_share_one_timer() -> None:
    """A thousand long limits that end in one tick cost one timer of the loop's."""
    wheel = Wheel()
    ended = 0

    async def work() -> None:
        nonlocal ended
        with pytest.raises(TimeoutError), limited(wheel, 6.0):
            await asyncio.sleep(100)
        ended += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(1000):
            group.create_task(work())
        await asyncio.sleep(1)
        assert len(wheel._ticks) == 1
    assert ended == 1000


def test_a_wheel_may_move_to_another_loop() -> None:
    """Timers of a closed loop are dropped with it."""
    wheel = Wheel()

    async def use() -> None:
        with limited(wheel, 30.0):
            await asyncio.sleep(0)

    asyncio.run(use())
    asyncio.run(use())
