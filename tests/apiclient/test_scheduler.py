"""Which request goes next."""

import asyncio
import math
from collections.abc import AsyncIterator, Hashable, Iterator

import pytest

from apiclient._scheduler import Item, Scheduler


class Quota:
    """Lanes by the first letter of an item; each may go from the time that it is given here."""

    def __init__(self, **free_at: float) -> None:
        self.free_at = dict(free_at)

    def ready_in(self, lane: Hashable) -> float:
        when = self.free_at.get(str(lane), 0.0)
        return max(0.0, when - asyncio.get_running_loop().time()) if when < math.inf else math.inf


def _scheduler(source: str | AsyncIterator[str], quota: Quota, **options: int) -> Scheduler[str]:
    items: Iterator[str] | AsyncIterator[str] = iter(source.split()) if isinstance(source, str) else source
    return Scheduler(
        items,
        lane_of=lambda item: item[0],
        ready_in=quota.ready_in,
        lookahead=options.pop("lookahead", 100),
        window=options.pop("window", None),
    )


def _value(item: Item[str] | None) -> str | None:
    return None if item is None else item.value


@pytest.mark.looptime
async def test_a_lane_that_must_wait_lets_the_others_pass() -> None:
    """Items whose lane may go are handed out past those whose lane may not, and those come when they may."""
    scheduler = _scheduler("a1 a2 b1 b2", Quota(a=5.0))
    assert [_value(await scheduler.wait()) for _ in range(2)] == ["b1", "b2"]
    assert [_value(await scheduler.wait()) for _ in range(3)] == ["a1", "a2", None]
    assert asyncio.get_running_loop().time() == 5.0


@pytest.mark.looptime
async def test_order_within_a_lane_is_kept() -> None:
    """First come, first served within a lane, also where later ones arrive while it is free again."""
    quota = Quota(a=1.0)
    scheduler = _scheduler("a1 a2 b1 a3", quota)
    assert _value(scheduler.take()) == "b1"
    await asyncio.sleep(2)
    assert [_value(await scheduler.wait()) for _ in range(4)] == ["a1", "a2", "a3", None]


@pytest.mark.looptime
async def test_nothing_is_pulled_before_it_is_wanted() -> None:
    """Where nothing waits, the source is pulled once for each item handed out."""
    scheduler = _scheduler("a1 a2 a3", Quota())
    scheduler.take()
    assert (scheduler.pulled, scheduler.held) == (1, 0)


@pytest.mark.looptime
async def test_no_more_than_the_lookahead_is_held() -> None:
    """The source is not pulled any further once so many items are held back."""
    scheduler = _scheduler("a1 a2 a3 a4 b1", Quota(a=9.0), lookahead=3)
    assert scheduler.take() is None
    assert (scheduler.pulled, scheduler.held) == (3, 3)


@pytest.mark.looptime
async def test_no_item_goes_beyond_the_window() -> None:
    """With a window of two, the third item waits until the first is settled."""
    scheduler = _scheduler("a1 a2 a3", Quota(), window=2)
    assert [_value(scheduler.take()) for _ in range(3)] == ["a1", "a2", None]
    waiting = asyncio.create_task(scheduler.wait())
    await asyncio.sleep(1)
    assert not waiting.done()
    scheduler.settle(1)
    assert _value(await waiting) == "a3"


@pytest.mark.looptime
async def test_an_answer_frees_a_lane_that_waited_for_one() -> None:
    """A lane that hangs on an answer is looked at again when the answer is there, not only now and then."""
    quota = Quota(a=math.inf)
    scheduler = _scheduler("a1", quota)
    waiting = asyncio.create_task(scheduler.wait())
    await asyncio.sleep(0.01)
    quota.free_at["a"] = 0.0
    scheduler.over("a")
    assert _value(await waiting) == "a1"
    assert asyncio.get_running_loop().time() == pytest.approx(0.01)


@pytest.mark.looptime
async def test_a_lane_freed_by_nobody_we_see_is_noticed() -> None:
    """Where another user of the limiter frees the lane, it is found within a moment all the same."""
    quota = Quota(a=math.inf)
    scheduler = _scheduler("a1", quota)
    asyncio.get_running_loop().call_later(1.0, quota.free_at.clear)
    assert _value(await scheduler.wait()) == "a1"
    assert asyncio.get_running_loop().time() <= 1.1


@pytest.mark.looptime
async def test_every_waiter_is_told_the_end() -> None:
    """All who wait get None once the source is exhausted and nothing is held."""
    scheduler = _scheduler("a1", Quota(a=1.0))
    results = await asyncio.gather(*(scheduler.wait() for _ in range(5)))
    assert sorted(str(_value(item)) for item in results) == ["None", "None", "None", "None", "a1"]


@pytest.mark.looptime
async def test_a_slow_async_source_does_not_hold_back_what_may_go() -> None:
    """With one taker, an item whose time has come is handed out although the source has not given its next one."""

    async def source() -> AsyncIterator[str]:
        yield "a1"
        await asyncio.sleep(100)
        yield "b1"

    scheduler = _scheduler(source(), Quota(a=5.0))
    assert _value(await scheduler.wait()) == "a1"
    assert asyncio.get_running_loop().time() == 5.0
    assert [_value(await scheduler.wait()) for _ in range(2)] == ["b1", None]
    await scheduler.aclose()


@pytest.mark.looptime
async def test_stopping_drops_what_is_held_and_wakes_everybody() -> None:
    """After ``stop`` there is nothing more, whatever was held or is left in the source."""
    scheduler = _scheduler("a1 a2 b1", Quota(a=50.0, b=50.0))
    waiting = asyncio.create_task(scheduler.wait())
    await asyncio.sleep(1)
    scheduler.stop()
    assert await waiting is None
    assert scheduler.held == 0
    await scheduler.aclose()


@pytest.mark.looptime
async def test_a_cancelled_waiter_passes_its_turn_on() -> None:
    """A waiter that is cancelled at the moment of its turn does not take the item away from the others."""
    scheduler = _scheduler("a1", Quota(a=1.0))
    first, second = (asyncio.create_task(scheduler.wait()) for _ in range(2))
    await asyncio.sleep(0.5)
    asyncio.get_running_loop().call_at(1.0, first.cancel)
    assert _value(await second) == "a1"
    with pytest.raises(asyncio.CancelledError):
        await first


@pytest.mark.looptime
async def test_many_endpoints_use_one_timer_each_moment() -> None:
    """The alarms kept do not grow with the number of times that a lane is looked at."""
    quota = Quota(a=10.0)
    scheduler = _scheduler("a1", quota)
    assert scheduler.take() is None
    for _ in range(100):
        scheduler.over("a")
        assert scheduler.take() is None
    assert len(scheduler._due) == 1


@pytest.mark.looptime
async def test_what_was_held_back_says_for_how_long() -> None:
    """An item tells the seconds between its being pulled and its going; one that went at once tells 0."""
    scheduler = _scheduler("a1 b1", Quota(a=3.0))
    assert [item.held for item in [await scheduler.wait(), await scheduler.wait()] if item is not None] == [0.0, 3.0]
