"""One piece of work for everybody who wants it at the moment."""

import asyncio
import math
from contextvars import ContextVar

import pytest

from apiclient.credentials._single_flight import SingleFlight

MARK: ContextVar[str] = ContextVar("mark", default="none")


class Work:
    def __init__(self) -> None:
        self.begun = 0
        self.gate = asyncio.Event()
        self.errors: list[Exception] = []
        self.context = ""

    async def __call__(self) -> int:
        self.begun += 1
        number = self.begun
        self.context = MARK.get()
        await self.gate.wait()
        for error in self.errors:
            raise error
        return number


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_all_who_join_get_the_one_outcome() -> None:
    """Ten callers, one piece of work; the next caller begins another."""
    flight, work = SingleFlight[int](), Work()
    tasks = [asyncio.create_task(flight.join(work)) for _ in range(10)]
    await settle()
    assert repr(flight) == "SingleFlight(10 waiting)"
    work.gate.set()
    assert await asyncio.gather(*tasks) == [1] * 10
    assert repr(flight) == "SingleFlight(0 waiting)"
    assert await flight.join(work) == 2


async def test_the_work_belongs_to_no_caller() -> None:
    """Cancelling the first, any, or all callers leaves the work alone; it runs in an empty context."""
    flight, work = SingleFlight[int](), Work()
    MARK.set("the caller's")
    tasks = [asyncio.create_task(flight.join(work)) for _ in range(3)]
    await settle()
    tasks[0].cancel()
    await settle()
    assert tasks[0].cancelled()
    tasks[1].cancel()
    work.gate.set()
    assert await tasks[2] == 1
    assert work.context == "none"


async def test_with_nobody_left_the_work_goes_on_and_can_be_joined() -> None:
    """A newcomer joins what is under way."""
    flight, work = SingleFlight[int](), Work()
    alone = asyncio.create_task(flight.join(work))
    await settle()
    alone.cancel()
    await settle()
    assert flight.running
    joined = asyncio.create_task(flight.join(work))
    await settle()
    work.gate.set()
    assert await joined == 1
    assert work.begun == 1


async def test_an_error_is_everybodys_and_the_next_begins_anew() -> None:
    """Every waiter is told once."""
    flight, work = SingleFlight[int](), Work()
    work.errors = [KeyError("x")]
    tasks = [asyncio.create_task(flight.join(work)) for _ in range(3)]
    await settle()
    work.gate.set()
    assert [type(outcome) for outcome in await asyncio.gather(*tasks, return_exceptions=True)] == [KeyError] * 3
    work.errors = []
    assert await flight.join(work) == 2


async def test_an_error_that_nobody_waits_for_is_not_reported_as_lost() -> None:
    """Started in the background: no "exception was never retrieved" (filterwarnings makes it an error)."""
    flight, work = SingleFlight[int](), Work()
    work.errors = [KeyError("x")]
    work.gate.set()
    flight.start(work)
    await flight.drained()
    assert not flight.running


async def test_work_that_is_cancelled_from_outside_is_begun_anew_by_those_who_wait() -> None:
    """Somebody cancels all tasks by hand: the waiters that are left do not hang and are not cancelled."""
    flight, work = SingleFlight[int](), Work()
    waiting = asyncio.create_task(flight.join(work))
    await settle()
    assert flight._task is not None
    flight._task.cancel()
    await settle()
    work.gate.set()
    assert await waiting == 2


async def test_the_latest_deadline_counts() -> None:
    """The latest deadline is the farthest of those who wait, infinite where one has none, or where nobody waits."""
    flight, work = SingleFlight[int](), Work()
    assert flight.latest == math.inf
    near = asyncio.create_task(flight.join(work, deadline=5.0))
    await settle()
    assert flight.latest == 5.0
    far = asyncio.create_task(flight.join(work, deadline=9.0))
    await settle()
    assert flight.latest == 9.0
    endless = asyncio.create_task(flight.join(work))
    await settle()
    assert flight.latest == math.inf
    work.gate.set()
    await asyncio.gather(near, far, endless)


async def test_ten_thousand_waiters_may_leave() -> None:
    """A crowd that is cancelled leaves nothing behind, and who stays is served."""
    flight, work = SingleFlight[int](), Work()
    crowd = [asyncio.create_task(flight.join(work)) for _ in range(10_000)]
    await settle()
    for task in crowd[1:]:
        task.cancel()
    await settle()
    assert len(flight._waiters) == 1
    work.gate.set()
    assert await crowd[0] == 1


def test_another_event_loop_is_another_flight() -> None:
    """What an earlier loop left unfinished does not block the next one."""
    flight, works = SingleFlight[int](), []

    async def abandon() -> None:
        work = Work()
        works.append(work)
        flight.start(work)
        await settle()

    async def fresh() -> int:
        work = Work()
        work.gate.set()
        return await flight.join(work)

    asyncio.run(abandon())
    assert asyncio.run(fresh()) == 1


@pytest.mark.parametrize("ticks", range(8))
async def test_cancelled_in_the_very_tick_of_the_outcome(ticks: int) -> None:
    """Whatever comes first, the caller ends as cancelled or with the outcome, and the others with the outcome."""
    flight, work = SingleFlight[int](), Work()
    leaving, staying = (asyncio.create_task(flight.join(work)) for _ in range(2))
    await settle()
    work.gate.set()
    for _ in range(ticks):
        await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait((leaving,))
    assert leaving.cancelled() or leaving.result() == 1
    assert await staying == 1
