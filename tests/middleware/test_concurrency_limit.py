"""ConcurrencyLimit on a bare session against a real server on loopback, on virtual time."""

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, web
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from apiclient.middleware import errors
from apiclient.middleware._call import joined, opened
from apiclient.middleware._gate import Gate
from apiclient.middleware.concurrency_limit import ConcurrencyLimit
from tests.conftest import Peer


class Busy:
    """Answers after a second, and knows how many were there at once."""

    def __init__(self, peer: Peer) -> None:
        self.inside = self.most = 0
        peer.handler = self

    async def __call__(self, request: web.Request) -> web.Response:
        self.inside += 1
        self.most = max(self.most, self.inside)
        await asyncio.sleep(1)
        self.inside -= 1
        return web.Response()


def session(*middlewares: Any) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(middlewares=middlewares)


async def get(client: aiohttp.ClientSession, url: str) -> int:
    async with client.get(url) as response:
        return response.status


@pytest.mark.looptime
async def test_never_more_than_the_limit_are_under_way(peer: Peer) -> None:
    """By the server's own count."""
    busy, subject = Busy(peer), ConcurrencyLimit(3)
    began = asyncio.get_running_loop().time()
    async with session(subject) as client:
        await asyncio.gather(*(get(client, f"{peer.url}/a/{number}") for number in range(12)))
    assert (busy.most, peer.count) == (3, 12)
    assert asyncio.get_running_loop().time() - began == pytest.approx(4.0, abs=0.2)


@pytest.mark.looptime
async def test_beyond_the_queue_calls_are_refused_at_once(peer: Peer) -> None:
    """Nothing is sent for them, and they say why."""
    Busy(peer)
    async with session(ConcurrencyLimit(2, queue=3)) as client:
        results = await asyncio.gather(*(get(client, peer.url) for _ in range(9)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, errors.RateLimited)]
    assert (len(refused), peer.count) == (4, 5)
    assert "the queue is full" in str(refused[0])


@pytest.mark.looptime
async def test_one_slow_endpoint_leaves_the_others_alone(peer: Peer) -> None:
    """That is what a bulkhead is for; per origin they share it."""
    for per, most in (("endpoint", 4), ("origin", 2)):
        busy = Busy(peer)
        async with session(ConcurrencyLimit(2, per=per)) as client:  # type: ignore[arg-type]
            await asyncio.gather(*(get(client, f"{peer.url}/{name}") for name in "aaabbb"))
        assert busy.most == most


@pytest.mark.looptime
async def test_a_higher_priority_goes_first_and_equals_in_order(peer: Peer) -> None:
    """Order of arrival at the server."""
    Busy(peer)

    async def prioritised(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        call = joined()
        if call is None:
            return await opened(prioritised, request, handler)
        call.priority = int(request.url.query["p"])
        return await handler(request)

    async with session(prioritised, ConcurrencyLimit(1)) as client:
        await asyncio.gather(*(get(client, f"{peer.url}?p={p}&n={n}") for n, p in enumerate((0, 0, 5, 1, 5))))
    assert [target.partition("&n=")[2] for _, target, _ in peer.seen] == ["0", "2", "4", "3", "1"]


@pytest.mark.looptime
async def test_cancelled_anywhere_no_place_is_lost(peer: Peer) -> None:
    """Law 9: in the queue, at the moment of the turn, and under way."""
    Busy(peer)
    async with session(ConcurrencyLimit(1)) as client:
        for after in (0.5, 1.0, 1.0001, 1.5):
            tasks = [asyncio.create_task(get(client, peer.url)) for _ in range(4)]
            await asyncio.sleep(after)
            for task in tasks[:3]:
                task.cancel()
            assert await tasks[3] == 200
            await asyncio.gather(*tasks, return_exceptions=True)
        assert await get(client, peer.url) == 200


@pytest.mark.looptime
async def test_the_wait_is_booked(peer: Peer) -> None:
    """As time in the queue, in the call's own account."""
    Busy(peer)
    waits: list[Mapping[str, float]] = []

    async def watch(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        call = joined()
        assert call is not None
        waits.append(call.waits)
        return await handler(request)

    async with session(ConcurrencyLimit(1), watch) as client:
        await asyncio.gather(get(client, peer.url), get(client, peer.url))
    assert waits == [{}, {"queue": pytest.approx(1.0, abs=0.1)}]


class GateMachine(RuleBasedStateMachine):
    """Whatever comes and goes in whatever order, nobody is forgotten and no place is lost."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.gate = Gate(2, 3)
        self.inside = 0
        self.turns: list[asyncio.Future[None]] = []

    def teardown(self) -> None:
        self.loop.close()

    @rule(priority=st.integers(0, 2))
    def arrive(self, priority: int) -> None:
        async def enter() -> asyncio.Future[None] | None:
            return self.gate.enter(priority)

        try:
            turn = self.loop.run_until_complete(enter())
        except asyncio.QueueFull:
            assert self.gate.waiting == 3
            return
        if turn is None:
            self.inside += 1
        else:
            self.turns.append(turn)

    @precondition(lambda self: self.inside)
    @rule()
    def leave(self) -> None:
        self.gate.leave()
        self.inside -= 1
        self.seat()

    @precondition(lambda self: self.turns)
    @rule(data=st.data(), cancelled=st.booleans())
    def abandon(self, data: st.DataObject, *, cancelled: bool) -> None:
        turn = self.turns.pop(data.draw(st.integers(0, len(self.turns) - 1)))
        if cancelled:
            turn.cancel()
        self.gate.abandon(turn)

    @precondition(lambda self: self.inside and self.turns)
    @rule()
    def abandon_at_the_very_moment_of_the_turn(self) -> None:
        self.gate.leave()
        self.inside -= 1
        ready = [turn for turn in self.turns if turn.done()]
        assert len(ready) == 1
        self.turns.remove(ready[0])
        self.gate.abandon(ready[0])
        self.seat()

    def seat(self) -> None:
        for turn in [turn for turn in self.turns if turn.done()]:
            self.turns.remove(turn)
            self.inside += 1

    @invariant()
    def places_add_up(self) -> None:
        assert self.gate.inside == self.inside <= 2
        assert self.gate.waiting == len(self.turns)
        assert self.inside == 2 or not self.turns
        assert self.gate.busy == bool(self.inside)


TestGateMachine = GateMachine.TestCase
TestGateMachine.settings = settings(max_examples=50, stateful_step_count=30, derandomize=True, deadline=None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, "limit must be at least 1, got 0"),
        ({"limit": 1, "queue": -1}, "queue must be at least 0, got -1"),
        ({"limit": 1, "per": "host"}, "per must be 'endpoint' or 'origin', got 'host'"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], message: str) -> None:
    """Options out of range fail in the constructor with their name and value."""
    with pytest.raises(ValueError, match=message):
        ConcurrencyLimit(**options)


def test_the_repr_tells_the_options() -> None:
    """A person sees how many, of what."""
    assert repr(ConcurrencyLimit(5)) == "ConcurrencyLimit(5, per='endpoint', queue=1000)"
