"""What a runner of a queue holds: kept while it works, given up where others have it, never held by nobody."""

import asyncio
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web

from apiclient.job import Queue
from apiclient.job._queued import Queued
from apiclient.shared import Redis
from apiclient.stores.redis_queue_store import QueuedLine, QueueFacts, RedisQueueStore, Round
from tests.apiclient.job.runs import loaded, read, runner, things, write
from tests.conftest import Peer
from tests.valkey import common, connections

__all__ = ["connections"]

pytestmark = pytest.mark.usefixtures("connections")


class Endless:
    """A store with lines for ever, in this process: notes when it was asked, and what was acknowledged."""

    name = "endless"

    def __init__(self, lease: float) -> None:
        self.lease = lease
        self.asked: list[float] = []
        self.wanted: list[int] = []
        self.acknowledged: list[int] = []
        self._held: set[int] = set()
        self._next = 1

    @property
    def facts(self) -> QueueFacts:
        return QueueFacts("input", "run", 10**6, 10**6, len(self.acknowledged))

    async def agree(self, _runner: str, _run: str, *, known: Sequence[int]) -> set[int]:
        return set(known)

    async def round(self, _runner: str, _run: str, *, wanted: int, done: Sequence[int]) -> Round:
        self.asked.append(asyncio.get_running_loop().time())
        self.wanted.append(wanted)
        self.acknowledged += done
        given = range(self._next, self._next + wanted)
        self._next += wanted
        self._held = (self._held | set(given)) - set(done)
        return Round(self.facts, 1, len(self._held), tuple(QueuedLine(place, place, b"{}") for place in given))

    def taken_by(self, settle: Any, concurrency: int = 1) -> Queued:
        store: Any = self
        queue = Queue(cast("RedisQueueStore", store), self.facts)
        return Queued(queue, runner="one", concurrency=concurrency, settle=settle, notice=lambda _: None)


async def at_once() -> bool:
    return True


async def works(queued: Queued, seconds: float, pause: float) -> int:
    """Take lines one by one for *seconds*, each done after *pause*, while the lease is kept; return how many."""
    keeping = asyncio.create_task(queued.keep())
    loop = asyncio.get_running_loop()
    count = 0
    async for line in queued.lines():
        await asyncio.sleep(pause)
        queued.done(line.number)
        count += 1
        if loop.time() > seconds:
            break
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    return count


@pytest.mark.looptime
@pytest.mark.parametrize("lease", [1.0, 30.0])
@pytest.mark.parametrize("stalled", [False, True])
async def test_a_runner_is_heard_well_within_its_lease(lease: float, *, stalled: bool) -> None:
    """However slow its calls are, and its disk: a stalled one holds up what is acknowledged, and nothing else."""
    store = Endless(lease)

    async def never() -> bool:
        await asyncio.sleep(1000.0)
        return True

    await works(store.taken_by(never if stalled else at_once), 20 * lease, pause=0.7 * lease)
    gaps = [later - earlier for earlier, later in zip(store.asked, store.asked[1:], strict=False)]
    assert max(gaps) < 0.6 * lease
    assert len(store.acknowledged) == (0 if stalled else pytest.approx(28, abs=3))


@pytest.mark.looptime
@pytest.mark.parametrize(("pause", "least", "most"), [(0.005, 20, 64), (0.1, 8, 16)])
async def test_what_is_taken_ahead_follows_the_pace(pause: float, least: int, most: int) -> None:
    """A fast runner asks some ten times a second for many lines, a slow one hoards none; neither runs dry."""
    store = Endless(30.0)
    count = await works(store.taken_by(at_once), 5.0, pause=pause)
    assert count == pytest.approx(5.0 / pause, rel=0.05)
    assert least <= max(store.wanted[5:]) <= most
    assert len(store.asked) < 60


@pytest.mark.looptime
async def test_a_runner_that_becomes_slow_hoards_no_longer() -> None:
    """What it takes ahead goes down again."""
    store = Endless(30.0)
    queued = store.taken_by(at_once)
    await works(queued, 2.0, pause=0.001)
    assert queued._ahead > 100
    await works(queued, 100.0, pause=5.0)
    assert queued._ahead == 16


class Forgets(RedisQueueStore):
    """Loses once what it was told last, as a server does that restarts from a file of a second ago."""

    forgot = 0

    async def round(self, runner: str, run: str, *, wanted: int, done: Sequence[int]) -> Round | None:
        if self.forgot or not done:
            return await super().round(runner, run, wanted=wanted, done=done)
        self.forgot = len(done)
        keys = [f"{self._base}:{each}" for each in ("facts", "lines", "returned", "runners", f"held:{runner}")]
        before: list[bytes | None] = []

        async def save(client: Any) -> None:
            before.extend([await client.dump(key) for key in keys])

        async def restore(client: Any) -> None:
            await client.delete(*keys)
            for key, value in zip(keys, before, strict=True):
                if value is not None:
                    await client.restore(key, 0, value)

        await self._server.run(save)
        answer = await super().round(runner, run, wanted=wanted, done=done)
        await self._server.run(restore)
        return answer


async def test_an_acknowledgement_that_the_server_forgot_is_made_again(peer: Peer, tmp_path: Path) -> None:
    """Lines that the server thinks are held by a runner that has done with them come back, and the queue is drained."""
    store = Forgets(Redis(common().url)._slow, namespace=secrets.token_hex(6))
    queue = await loaded(store, write(tmp_path / "in.jsonl", things(60)))
    async with asyncio.timeout(10):
        assert await runner(queue, peer.url, tmp_path / "out.jsonl").run() == 0
    assert store.forgot
    assert sorted(row["id"] for row in read(tmp_path / "out.jsonl")) == list(range(60))
    assert peer.count == 60


class Pausing(RedisQueueStore):
    """Asks only while nobody else has its turn, and counts how often both sides agreed anew."""

    agreed = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.turn = asyncio.Lock()

    async def round(self, runner: str, run: str, *, wanted: int, done: Sequence[int]) -> Round | None:
        async with self.turn:
            return await super().round(runner, run, wanted=wanted, done=done)

    async def agree(self, runner: str, run: str, *, known: Sequence[int]) -> set[int] | None:
        places = await super().agree(runner, run, known=known)
        self.agreed += 1
        return places


async def test_lines_that_others_took_meanwhile_are_left_to_them(
    peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runner that was silent for too long ends what is under way, and begins nothing that is another's now."""
    monkeypatch.setattr("apiclient.job._queued._BUSY", 0.01)
    begun, free = asyncio.Event(), asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        begun.set()
        await free.wait()
        return web.Response()

    peer.handler = handler
    shared, namespace = Redis(common().url)._slow, secrets.token_hex(6)
    store, other = Pausing(shared, namespace=namespace), RedisQueueStore(shared, namespace=namespace)
    queue = await loaded(store, write(tmp_path / "in.jsonl", things(40)))
    job = runner(queue, peer.url, tmp_path / "out.jsonl", canary=False)
    task = asyncio.create_task(job.run())
    await begun.wait()
    async with store.turn:
        agreed = store.agreed
        # As when its lease is over.
        await other.leave(job.output.run, queue.facts.run)
        answer = await other.round("other", queue.facts.run, wanted=20, done=[])
        assert answer is not None
    theirs = [line.place for line in answer.lines]
    while store.agreed == agreed:
        await asyncio.sleep(0.01)
    under_way = job.progress().running
    free.set()
    assert await other.leave("other", queue.facts.run, done=theirs)
    assert await task == 0
    assert set(range(1, 17)) <= set(theirs)
    assert peer.count == under_way + 40 - len(theirs)
    assert 1 <= under_way <= 4
    facts = await store.facts()
    assert facts is not None
    assert facts.done == 40
