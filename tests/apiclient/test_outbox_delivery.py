"""How items are delivered: in the background, stopped, cancelled, with a server or a store that fails."""

import asyncio
import contextlib
import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from aiohttp import web

from apiclient import ApiClient, Pipeline, errors
from apiclient.credentials import StaticToken
from apiclient.middleware import CircuitBreaker, Idempotency, StatusErrors
from apiclient.middleware.credential import Token
from apiclient.outbox import MemoryOutbox, Outbox, Outcome
from apiclient.stores import Draft, Entry, MemoryOutboxStore, OutboxStore, SqliteOutboxStore
from tests.conftest import Peer

pytestmark = pytest.mark.looptime


# Without a limiter, which would feel its way with an endpoint that it does not know.
PLAIN = Pipeline([StatusErrors(), Idempotency()])


def on_loop_time() -> MemoryOutboxStore:
    return MemoryOutboxStore(now=asyncio.get_running_loop().time)


async def fill(client: ApiClient, count: int, path: str = "/orders") -> None:
    for number in range(count):
        await client.defer("POST", path, json=number, idempotency_key=f"{path}-{number}")


def slow(seconds: float) -> Callable[[web.Request], Any]:
    async def handler(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return web.Response()

    return handler


async def test_running_delivers_what_is_deferred_meanwhile(peer: Peer) -> None:
    """Its own puts wake it at once; what another process stored is found within the poll."""
    loop = asyncio.get_running_loop()
    store = on_loop_time()
    outbox, elsewhere = Outbox(store, poll=5.0), Outbox(store)
    async with ApiClient(peer.url, outbox=outbox) as client, outbox.running():
        await asyncio.sleep(1)
        began = loop.time()
        ticket = await client.defer("PUT", "/a")
        await ticket.wait()
        assert loop.time() - began < 0.1
        async with ApiClient(peer.url, outbox=elsewhere) as other:
            await other.defer("PUT", "/b")
        await asyncio.sleep(5.1)
    assert [path for _, path, _ in peer.seen] == ["/a", "/b"]


async def test_concurrency_is_kept_per_endpoint(peer: Peer) -> None:
    """A slow endpoint neither gets more than its share nor holds up another."""
    under_way: dict[str, int] = {"/slow": 0, "/fast": 0}
    most = dict(under_way)

    async def handler(request: web.Request) -> web.StreamResponse:
        under_way[request.path] += 1
        most[request.path] = max(most[request.path], under_way[request.path])
        await asyncio.sleep(10.0 if request.path == "/slow" else 0.1)
        under_way[request.path] -= 1
        return web.Response()

    peer.handler = handler
    outbox = Outbox(on_loop_time(), concurrency=4)
    loop = asyncio.get_running_loop()
    ended: dict[str, float] = {}
    outbox._callbacks[True] = lambda entry, _: ended.__setitem__(entry.intent.endpoint, loop.time())
    async with ApiClient(peer.url, outbox=outbox, pipeline=PLAIN) as client:
        await fill(client, 20, "/slow")
        await fill(client, 20, "/fast")
        assert (await outbox.drain()).delivered == 40
    assert most == {"/slow": 4, "/fast": 4}
    assert ended["POST /fast"] < 2
    assert ended["POST /slow"] == pytest.approx(50, abs=5)


async def test_leaving_lets_deliveries_end_and_begins_none(peer: Peer) -> None:
    """Graceful stop: what is under way is recorded, the rest stays pending and free."""
    peer.handler = slow(5)
    outbox = Outbox(on_loop_time(), concurrency=2)
    async with ApiClient(peer.url, outbox=outbox) as client:
        await fill(client, 6)
        async with outbox.running():
            await asyncio.sleep(1)
        stats = await outbox.stats()
    assert (stats.delivered, stats.pending, stats.leased) == (2, 4, 0)
    assert peer.count == 2


async def test_grace_has_an_end(peer: Peer) -> None:
    """A delivery that outlasts it is cancelled and gives its item back, uncounted."""
    peer.handler = slow(50)
    outbox = Outbox(on_loop_time())
    loop = asyncio.get_running_loop()
    async with ApiClient(peer.url, outbox=outbox) as client:
        await fill(client, 3)
        async with outbox.running(grace=2):
            await asyncio.sleep(1)
        assert loop.time() == pytest.approx(3, abs=0.2)
        entries = [entry async for entry in outbox.items("pending")]
    assert [(entry.lease, entry.attempts) for entry in entries] == [(None, 0)] * 3


@pytest.mark.parametrize("after", [0.0, 0.05, 0.1, 1.0])
async def test_a_cancelled_drain_gives_its_items_back(peer: Peer, after: float) -> None:
    """Law 9: at whatever moment, the cancellation passes through and no lease stays behind."""

    class Slow(MemoryOutboxStore):
        async def claim(self, *args: Any, **kwargs: Any) -> list[Entry]:
            entries = await super().claim(*args, **kwargs)
            await asyncio.sleep(0.1)
            return entries

    peer.handler = slow(5)
    outbox = Outbox(Slow(now=asyncio.get_running_loop().time), concurrency=2)
    async with ApiClient(peer.url, outbox=outbox) as client:
        await fill(client, 3)
        draining = asyncio.create_task(outbox.drain())
        await asyncio.sleep(after)
        draining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await draining
        stats = await outbox.stats()
        assert (stats.pending, stats.leased) == (3, 0)
        assert outbox._drainers == []
        assert [task for task in asyncio.all_tasks() if "Drainer" in repr(task)] == []


async def test_stop_ends_a_drain_and_so_does_its_timeout(peer: Peer) -> None:
    """For a signal handler, and for a job with a time slot: what is left stays."""
    peer.handler = slow(5)
    outbox = Outbox(on_loop_time(), concurrency=2)
    loop = asyncio.get_running_loop()
    async with ApiClient(peer.url, outbox=outbox, pipeline=PLAIN) as client:
        await fill(client, 9)
        loop.call_later(1, outbox.stop)
        assert await outbox.drain() == (2, 0, 7)
        assert await outbox.drain(timeout=6) == (4, 0, 3)


async def test_a_slow_delivery_keeps_its_item(peer: Peer) -> None:
    """The lease is extended as long as the delivery lives, so that nobody else delivers it as well."""
    peer.handler = slow(200)
    store = on_loop_time()
    first, second = Outbox(store, lease=30, timeout=600), Outbox(store, lease=30, timeout=600)
    async with ApiClient(peer.url, outbox=first) as client, ApiClient(peer.url, outbox=second) as other:
        long = client.pipeline.without(*(type(each) for each in client.pipeline if "AttemptTimeout" in repr(each)))
        async with ApiClient(peer.url, outbox=first, pipeline=long), ApiClient(peer.url, outbox=second, pipeline=long):
            await other.defer("PUT", "/a")
            assert sorted(await asyncio.gather(first.drain(), second.drain())) == [(0, 0, 0), (1, 0, 0)]
    assert peer.count == 1


@pytest.mark.parametrize("fails", [False, True])
async def test_an_outcome_that_comes_after_the_lease_is_not_recorded_twice(peer: Peer, *, fails: bool) -> None:
    """Two deliver the same item, after a hang: both requests carry one key, one outcome counts, one is told.

    Also where the store fails once for the one that comes too late: what it then finds is the other's.
    """
    told: list[str] = []
    store = on_loop_time()

    async def hang(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(20 if peer.count == 1 else 1)
        return web.Response()

    peer.handler = hang
    its_store = copy.copy(store)
    failures = [errors.OutboxError("busy", recoverable=True)] if fails else []

    async def ack(*args: Any, **kwargs: Any) -> bool:
        if failures:
            raise failures.pop()
        return await store.ack(*args, **kwargs)

    its_store.ack = ack  # type: ignore[method-assign]
    first = Outbox(its_store, lease=30, poll=100, on_delivered=lambda *_: told.append("first"))
    second = Outbox(store, lease=30, on_delivered=lambda *_: told.append("second"))
    async with (
        ApiClient(peer.url, outbox=first, pipeline=PLAIN) as client,
        ApiClient(peer.url, outbox=second, pipeline=PLAIN),
    ):
        await fill(client, 1)
        slow_one = asyncio.create_task(first.drain())
        await asyncio.sleep(1)
        (entry,) = await store.page()
        # As if the first had not been heard of for longer than its lease.
        await store.extend(entry.id, str(entry.lease), 0)
        assert await second.drain() == (1, 0, 0)
        assert await slow_one == (0, 0, 0)
        assert (await second.stats()).delivered == 1
    assert told == ["second"]
    assert not failures
    assert len({headers["Idempotency-Key"] for headers in peer.headers}) == 1
    assert peer.count == 2


async def test_a_clock_that_jumps_makes_nobody_deliver_twice(peer: Peer) -> None:
    """The lease of what is under way ends at once; whoever delivers it takes the new one and goes on."""
    peer.handler = slow(20)
    ahead = 0.0
    loop = asyncio.get_running_loop()
    outbox = Outbox(MemoryOutboxStore(now=lambda: loop.time() + ahead), lease=30)
    async with ApiClient(peer.url, outbox=outbox, pipeline=PLAIN) as client, outbox.running():
        await fill(client, 3)
        await asyncio.sleep(5)
        ahead = 3600.0
        await asyncio.sleep(5)
        ahead = 0.0
        await asyncio.sleep(30)
        assert (await outbox.stats()).delivered == 3
    assert peer.count == 3


async def test_while_the_server_is_down_an_endpoint_is_probed_now_and_then(peer: Peer) -> None:
    """Ten minutes of outage and 500 items: some tens of requests, and all are delivered soon after it is over."""
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def handler(_: web.Request) -> web.StreamResponse:
        times.append(loop.time())
        if loop.time() < 600:
            return web.Response(status=503)
        await asyncio.sleep(0.5)
        return web.Response()

    peer.handler = handler
    outbox = Outbox(on_loop_time())
    async with ApiClient(peer.url, outbox=outbox, pipeline=PLAIN) as client:
        for number in range(500):
            await client.defer("PUT", f"/orders/{number}")
        await outbox.drain()
    assert len([at for at in times if at < 600]) < 60
    assert len(times) - len([at for at in times if at < 600]) == 500
    # At most 30 s until it is noticed, and ten at once then, half a second each.
    assert loop.time() < 600 + 30 + 500 * 0.5 / 10 + 10


async def test_one_bad_item_does_not_hold_up_its_endpoint(peer: Peer) -> None:
    """A request that always ends in 500 is tried again and again, and the others pass it."""
    loop = asyncio.get_running_loop()

    async def bad(request: web.Request) -> web.StreamResponse:
        return web.Response(status=500 if await request.text() == "0" else 200)

    peer.handler = bad

    outbox = Outbox(on_loop_time(), attempts=5, wait=20)
    ended: dict[int, float] = {}
    outbox._callbacks[True] = lambda entry, _: ended.__setitem__(int(entry.intent.body), loop.time())
    async with ApiClient(peer.url, outbox=outbox, pipeline=PLAIN) as client:
        await fill(client, 100)
        assert await outbox.drain() == (99, 1, 0)
    assert max(ended.values()) < 10


async def test_what_sent_nothing_is_no_attempt(peer: Peer) -> None:
    """An open circuit uses up no attempts: an outage of any length buries nothing that was not refused."""
    peer.answers(503)
    loop = asyncio.get_running_loop()
    store = on_loop_time()
    outbox = Outbox(store, attempts=3)
    breaker = CircuitBreaker(minimum=1, failure_ratio=0.1, cooldown=3600, max_cooldown=3600)
    async with ApiClient(peer.url, outbox=outbox, pipeline=Pipeline([StatusErrors(), breaker])) as client:
        await fill(client, 20)
        async with outbox.running():
            await asyncio.sleep(3500)
        entries = await store.page()
        assert {entry.state for entry in entries} == {"pending"}
        assert sum(entry.attempts for entry in entries) == peer.count <= 10
        assert loop.time() < 3600


class Refused:
    """A credential that its issuer does not know any more."""

    refused = True

    async def token(self) -> Token:
        if self.refused:
            raise errors.CredentialsRejected("invalid_client", credential="client", code="invalid_client")
        return Token("canary")

    def invalidate(self, token: Token) -> None:
        """Keep it."""


async def test_a_credential_that_is_refused_costs_no_item(peer: Peer) -> None:
    """Their fault is ours and not theirs: they wait until somebody has put the credential right."""
    credential = Refused()
    outbox = Outbox(on_loop_time())
    async with ApiClient(peer.url, outbox=outbox, credentials=credential) as client:
        await fill(client, 5)
        async with outbox.running():
            await asyncio.sleep(300)
            assert (await outbox.stats()).pending == 5
            credential.refused = False
            await asyncio.sleep(60)
        assert (await outbox.stats()).delivered == 5


@pytest.mark.parametrize(
    ("status", "kind"), [(401, "pending"), (429, "pending"), (503, "pending"), (404, "dead"), (501, "dead")]
)
async def test_a_pipeline_without_status_errors_is_judged_by_the_status(peer: Peer, status: int, kind: str) -> None:
    """No policy is needed for an error to be seen as one."""
    peer.answers(status)
    outbox = Outbox(on_loop_time())
    async with ApiClient(peer.url, outbox=outbox, pipeline=Pipeline([])) as client:
        await client.defer("PUT", "/a")
        await outbox.drain(once=True)
        (entry,) = [entry async for entry in outbox.items()]
    assert (entry.state, entry.error) == (kind, f"status {status}")


async def test_what_a_callback_raises_disturbs_nothing(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    """The outcome is recorded before it is told; a listener that fails is logged."""

    async def broken(*_: object) -> None:
        raise KeyError("listener")

    outbox = Outbox(on_loop_time(), on_delivered=broken)
    async with ApiClient(peer.url, outbox=outbox) as client:
        await fill(client, 2)
        assert await outbox.drain() == (2, 0, 0)
    assert [record.message for record in caplog.records].count("outbox.callback_failed") == 2


async def test_a_callback_that_hangs_does_not_hold_up_the_end(peer: Peer) -> None:
    """The outcome is recorded by then: after the grace and ten seconds the callback is cancelled."""
    loop = asyncio.get_running_loop()

    async def hang(_: Entry, __: Outcome) -> None:
        await asyncio.Event().wait()

    outbox = Outbox(on_loop_time(), on_delivered=hang)
    async with ApiClient(peer.url, outbox=outbox, pipeline=PLAIN) as client:
        ticket = await client.defer("PUT", "/a")
        async with outbox.running(grace=5):
            assert (await ticket.wait(1)).ok
            began = loop.time()
        assert 10 <= loop.time() - began < 16
        assert (await outbox.stats()).delivered == 1


async def test_answers_are_kept_up_to_a_limit(peer: Peer) -> None:
    """The beginning of the body, for whoever asks later."""

    async def long(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b"x" * 1000)

    peer.handler = long
    outbox = Outbox(on_loop_time(), max_answer=10)
    async with ApiClient(peer.url, outbox=outbox) as client:
        ticket = await client.defer("PUT", "/a")
        await outbox.drain()
        assert (await ticket.wait()).body == b"x" * 10


async def test_what_is_over_is_forgotten_in_time(peer: Peer) -> None:
    """running() purges the delivered after their retention, and keeps dead letters for ever."""
    outbox = Outbox(on_loop_time(), retention=3600)
    async with ApiClient(peer.url, outbox=outbox) as client, outbox.running():
        await client.defer("PUT", "/a")
        await asyncio.sleep(1)
        peer.answers(404)
        await client.defer("PUT", "/b")
        await asyncio.sleep(3500)
        assert (await outbox.stats()).delivered == 1
        await asyncio.sleep(200)
        stats = await outbox.stats()
    assert (stats.delivered, stats.dead) == (0, 1)


class Failing:
    """A store whose Nth call fails, before or after it has done its work."""

    def __init__(self, store: OutboxStore, nth: int, *, after: bool) -> None:
        self._store = store
        self._nth = nth
        self._after = after
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name == "aclose":
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            failing = self.calls == self._nth
            if failing and not self._after:
                raise errors.OutboxError(f"call {self._nth}, {name}, fails", recoverable=True)
            result = await method(*args, **kwargs)
            if failing:
                raise errors.OutboxError(f"call {self._nth}, {name}, fails after its work", recoverable=True)
            return result

        return call


def note(told: list[str], entry: Entry, _: Outcome) -> None:
    told.append(entry.id)


@pytest.mark.parametrize("after", [False, True])
async def test_no_single_failure_of_the_store_loses_an_item(peer: Peer, *, after: bool) -> None:
    """Fail the Nth store call, for N = 1, 2, 3 ... until clean: what was acknowledged gets one outcome, under one key."""
    clean = False
    nth = 0
    while not clean:
        nth += 1
        assert nth < 60
        peer.answers(503, 200)
        peer.seen.clear()
        peer.headers.clear()
        told: list[str] = []
        store = on_loop_time()
        failing: Any = Failing(store, nth, after=after)
        outbox = Outbox(failing, lease=10.0, poll=5.0, on_delivered=partial(note, told))
        acknowledged: list[str] = []
        async with ApiClient(peer.url, outbox=outbox, pipeline=PLAIN) as client:
            async with outbox.running():
                for number in range(3):
                    with contextlib.suppress(errors.OutboxError):
                        ticket = await client.defer("POST", "/a", json=number, idempotency_key=f"k{number}")
                        acknowledged.append(ticket.id)
                await asyncio.sleep(45)
            stats = await store.stats()
            assert stats.pending == 0
            assert stats.delivered in {len(acknowledged), len(acknowledged) + 1}, "a put may fail after its work"
            delivered = [entry.id for entry in await store.page("delivered")]
            assert set(acknowledged) <= set(delivered)
            assert sorted(told) == sorted(delivered), "each outcome is told once, also where the store failed to say so"
            by_body = {
                (body, headers["Idempotency-Key"])
                for (_, _, body), headers in zip(peer.seen, peer.headers, strict=True)
            }
            assert len(by_body) == len({body for body, _ in by_body})
        clean = failing.calls < nth
    assert nth > 10


async def test_a_record_that_fails_is_tried_again_and_not_the_request(peer: Peer) -> None:
    """The answer is known: as long as the lease lasts, a store that fails for a moment costs no second delivery."""
    store = on_loop_time()
    outbox = Outbox(store)
    failures = [errors.OutboxError("busy", recoverable=True)] * 3
    ack = store.ack

    async def failing(*args: Any, **kwargs: Any) -> bool:
        if failures:
            raise failures.pop()
        return await ack(*args, **kwargs)

    store.ack = failing  # type: ignore[method-assign]
    async with ApiClient(peer.url, outbox=outbox) as client:
        await fill(client, 1)
        assert await outbox.drain() == (1, 0, 0)
    assert peer.count == 1


async def test_a_record_that_was_written_although_it_failed_is_told(peer: Peer) -> None:
    """The store keeps the outcome and its answer is lost: who waits for the ticket is told all the same, and once."""
    store = on_loop_time()
    told: list[str] = []
    outbox = Outbox(store, on_delivered=partial(note, told))
    ack = store.ack

    async def mute(*args: Any, **kwargs: Any) -> bool:
        store.ack = ack  # type: ignore[method-assign]
        await ack(*args, **kwargs)
        raise errors.OutboxError("no answer", recoverable=True)

    store.ack = mute  # type: ignore[method-assign]
    async with ApiClient(peer.url, outbox=outbox, pipeline=PLAIN) as client:
        ticket = await client.defer("PUT", "/a")
        assert await outbox.drain() == (1, 0, 0)
        assert (await ticket.wait(0)).ok
    assert told == [ticket.id]
    assert peer.count == 1


async def test_a_drain_by_hand_says_that_the_store_failed(peer: Peer) -> None:
    """Nobody listens to the log of a job: it raises, and nothing is left running."""
    outbox = MemoryOutbox()
    failing: Any = Failing(MemoryOutboxStore(), 1, after=False)
    outbox._store = failing
    async with ApiClient(peer.url, outbox=outbox):
        with pytest.raises(errors.OutboxError, match="call 1, claim, fails"):
            await outbox.drain()
    assert outbox._drainers == []


async def test_a_shared_file_serves_two_processes_worth_of_drainers(peer: Peer, tmp_path: Any) -> None:
    """Two outboxes on one file: each item goes out once."""
    first, second = Outbox(tmp_path / "outbox.db"), Outbox(SqliteOutboxStore(tmp_path / "outbox.db"))
    async with (
        ApiClient(peer.url, outbox=first, credentials=StaticToken("canary")) as client,
        ApiClient(peer.url, outbox=second),
    ):
        await asyncio.gather(*(client.defer("PUT", f"/a/{number}") for number in range(100)))
        done = await asyncio.gather(first.drain(), second.drain())
        assert sum(each.delivered for each in done) == 100
        assert all(each.delivered for each in done)
    assert len(set(peer.seen)) == peer.count == 100


def test_the_draft_and_outcome_are_plain() -> None:
    """Who writes a store sees what it is given."""
    assert Outcome(ok=True, status=200) == (True, 200, None, b"")
    assert "Draft(id='a'" in repr(Draft("a", None))  # type: ignore[arg-type]
