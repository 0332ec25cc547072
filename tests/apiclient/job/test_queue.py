"""A runner of a queue in this process, against a real Valkey server."""

import asyncio
import json
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from apiclient import ApiClient
from apiclient._jsonl import parse_line
from apiclient._refused import Refused
from apiclient.job import Job, Options, Queue
from apiclient.job._loader import Loader
from apiclient.job._source import Source
from apiclient.shared import Redis
from apiclient.stores._redis_server import StoreUnavailable
from apiclient.stores.redis_queue_store import RedisQueueStore, Round
from tests.apiclient.job.runs import loaded, read, runner, things, write
from tests.conftest import Peer
from tests.valkey import Server, common, connections

__all__ = ["connections"]

pytestmark = pytest.mark.usefixtures("connections")


@pytest.fixture
def store() -> RedisQueueStore:
    return Redis(common().url, namespace=secrets.token_hex(6)).queue("orders")


class LosesAnswers(RedisQueueStore):
    """Does what it is asked, and says now and then that it did not answer."""

    rounds = 0

    async def round(self, runner: str, run: str, *, wanted: int, done: Sequence[int]) -> Round | None:
        answer = await super().round(runner, run, wanted=wanted, done=done)
        self.rounds += 1
        if self.rounds % 3 == 1:
            raise StoreUnavailable("the answer was lost")
        return answer


async def test_one_runner_does_all_and_says_so(peer: Peer, tmp_path: Path, store: RedisQueueStore) -> None:
    """Each line has one result, bad ones a dead letter; the code is as of a batch from a file; the queue is drained."""
    queue = await loaded(store, write(tmp_path / "in.jsonl", [*things(40), b"", b"nonsense"]))
    job = runner(queue, peer.url, tmp_path / "out.jsonl")
    assert await job.run() == 1
    rows = read(tmp_path / "out.jsonl")
    assert sorted(row["id"] for row in rows if row["ok"]) == list(range(40))
    (bad,) = [row for row in rows if not row["ok"]]
    assert bad["id"].startswith("line:42:")
    assert len(read(tmp_path / "out.dead.jsonl")) == 1
    facts = await store.facts()
    assert facts is not None
    assert facts.done == facts.lines == 41
    assert job.progress().done == job.progress().total == 41
    again = runner(queue, peer.url, tmp_path / "later.jsonl")
    assert await again.run() == 0
    assert (tmp_path / "later.jsonl").read_bytes() == b""


async def test_two_runners_share_the_lines_and_the_keys(peer: Peer, tmp_path: Path, store: RedisQueueStore) -> None:
    """Every line is run by one of them, and its key is that of the load, not of the runner."""
    queue = await loaded(store, write(tmp_path / "in.jsonl", things(80, method="POST", body={"a": 1})))
    jobs = [runner(queue, peer.url, tmp_path / f"{n}.jsonl") for n in range(2)]
    assert await asyncio.gather(*(job.run() for job in jobs)) == [0, 0]
    each = [read(tmp_path / f"{n}.jsonl") for n in range(2)]
    assert all(len(rows) > 4 for rows in each)
    assert sorted(row["id"] for rows in each for row in rows) == list(range(80))
    keys = {headers["Idempotency-Key"] for headers in peer.headers}
    assert len(keys) == 80
    probe = runner(queue, peer.url, tmp_path / "probe.jsonl")
    assert {probe._key(str(n)) for n in range(80)} == keys
    await probe.run()


async def test_answers_that_are_lost_cost_nothing(peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines given in an answer that never came are not lost, none is run twice, and none is counted twice."""
    monkeypatch.setattr("apiclient.job._queued._AGAIN", 0.0)
    server = Redis(common().url, namespace=secrets.token_hex(6))
    store = LosesAnswers(server._slow, namespace=secrets.token_hex(6))
    notices: list[str] = []
    queue = await loaded(store, write(tmp_path / "in.jsonl", things(100)))
    job = runner(queue, peer.url, tmp_path / "out.jsonl")
    job._notice = notices.append
    assert await job.run() == 0
    assert store.rounds > 6
    assert sorted(row["id"] for row in read(tmp_path / "out.jsonl")) == list(range(100))
    assert peer.count == 100
    assert any("the answer was lost; what is at hand goes on" in notice for notice in notices)


async def test_a_lease_that_ran_out_unnoticed_runs_nothing_twice_here(
    peer: Peer, tmp_path: Path, store: RedisQueueStore
) -> None:
    """Lines that came back while this runner was at work on them, and are given to it again, are not begun again."""
    begun, free = asyncio.Event(), asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        begun.set()
        await free.wait()
        return web.Response()

    peer.handler = handler
    queue = await loaded(store, write(tmp_path / "in.jsonl", things(12)))
    job = runner(queue, peer.url, tmp_path / "out.jsonl", canary=False)
    task = asyncio.create_task(job.run())
    await begun.wait()
    await store.leave(job.output.run, queue.facts.run)
    while await store._server.run(lambda client: client.zcard(f"{store._base}:returned")):
        await asyncio.sleep(0.01)
    free.set()
    assert await task == 0
    assert peer.count == 12
    assert len(read(tmp_path / "out.jsonl")) == 12


async def test_nothing_is_acknowledged_before_the_disk_has_it(
    peer: Peer, tmp_path: Path, store: RedisQueueStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file cannot be synced the run ends with 2, and all lines go back to the queue."""

    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    queue = await loaded(store, write(tmp_path / "in.jsonl", things(30)))
    job = runner(queue, peer.url, tmp_path / "out.jsonl")
    monkeypatch.setattr("apiclient.job._checkpoint.os.fsync", broken)
    assert await job.run() == 2
    monkeypatch.undo()
    facts = await store.facts()
    assert facts is not None
    assert facts.done == 0
    assert await runner(queue, peer.url, tmp_path / "two.jsonl").run() == 0
    assert len(read(tmp_path / "two.jsonl")) == 30


async def test_what_is_in_the_file_is_not_sent_again(peer: Peer, tmp_path: Path, store: RedisQueueStore) -> None:
    """A runner that died between the disk and the acknowledgement resumes: its results are acknowledged as they are."""
    queue = await loaded(store, write(tmp_path / "in.jsonl", things(30)))
    dead = runner(queue, peer.url, tmp_path / "out.jsonl")
    rows = [json.dumps({"id": n, "ok": True}).encode() for n in range(10)]
    dead.output.close()
    write(tmp_path / "out.jsonl", rows)
    # It held lines, and its lease has not run out.
    await store.round(dead.output.run, queue.facts.run, wanted=25, done=[])
    assert await runner(queue, peer.url, tmp_path / "out.jsonl", resume=True).run() == 0
    assert peer.count == 20
    assert sorted(row["id"] for row in read(tmp_path / "out.jsonl")) == list(range(30))


async def test_an_interruption_gives_the_rest_back(peer: Peer, tmp_path: Path, store: RedisQueueStore) -> None:
    """What is under way ends and counts; what was only taken is at once another's."""
    begun = asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        if peer.count > 6:
            begun.set()
        return web.Response()

    peer.handler = handler
    queue = await loaded(store, write(tmp_path / "in.jsonl", things(2000)))
    job = runner(queue, peer.url, tmp_path / "out.jsonl")
    task = asyncio.create_task(job.run())
    await begun.wait()
    job.interrupt()
    await task
    rows = len(read(tmp_path / "out.jsonl"))
    facts = await store.facts()
    assert facts is not None
    assert 6 < facts.done == rows == peer.count < 1000
    answer = await store.round("other", queue.facts.run, wanted=2000, done=[])
    assert answer is not None
    assert len(answer.lines) == 2000 - rows


async def test_a_runner_without_credentials_leaves_the_lines_to_others(
    peer: Peer, tmp_path: Path, store: RedisQueueStore
) -> None:
    """The code is 4; no line has a result for it."""
    peer.answers(401)
    queue = await loaded(store, write(tmp_path / "in.jsonl", things(5)))
    assert await runner(queue, peer.url, tmp_path / "out.jsonl").run() == 4
    peer.answers(200)
    assert await runner(queue, peer.url, tmp_path / "two.jsonl").run() == 0
    assert len(read(tmp_path / "two.jsonl")) == 5


async def test_a_queue_that_goes_ends_its_runners(peer: Peer, tmp_path: Path, store: RedisQueueStore) -> None:
    """Forgotten, or lost with the server's memory: the runner says what to do, and what it has is kept."""

    async def handler(_: web.Request) -> web.Response:
        if peer.count == 10:
            await store.forget()
        return web.Response()

    peer.handler = handler
    queue = await loaded(store, write(tmp_path / "in.jsonl", things(2000)))
    with pytest.raises(Refused, match=r"the queue is gone.*apiclient merge RESULTS --input IN\.JSONL says"):
        await runner(queue, peer.url, tmp_path / "out.jsonl").run()
    assert 10 <= len(read(tmp_path / "out.jsonl")) < 1000


async def test_runners_wait_for_an_input_that_is_half_loaded(
    peer: Peer, tmp_path: Path, store: RedisQueueStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Empty is not drained: what is loaded later is run too, and who waits long is told what to do."""
    monkeypatch.setattr("apiclient.job._queued._PATIENCE", 0.05)
    source = write(tmp_path / "in.jsonl", things(20))
    loader = Loader(store, Source(str(source), parse_line))
    lines = [(number, raw) for raw, number in loader._source.raw()]
    facts = await store.load(loader._digest, "run", 20, position=0, part=lines[:5])
    told = asyncio.Event()
    job = runner(Queue(store, facts), peer.url, tmp_path / "out.jsonl")
    job._notice = lambda text: told.set() if "only 5 of 20 lines are loaded" in text else None
    task = asyncio.create_task(job.run())
    await told.wait()
    assert (await loader.run())[0].loaded == 20
    assert await task == 0
    assert len(read(tmp_path / "out.jsonl")) == 20


async def test_several_load_one_input_together(
    tmp_path: Path, store: RedisQueueStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line is there once and in its place, also where a loader with parts of another size had begun."""
    monkeypatch.setattr("apiclient.job._loader._PART_LINES", 7)
    source = write(tmp_path / "in.jsonl", things(200))
    loaders = [Loader(store, Source(str(source), parse_line)) for _ in range(3)]
    lines = [(number, raw) for raw, number in loaders[0]._source.raw()]
    await store.load(loaders[0]._digest, "run", 200, position=0, part=lines[:4])
    tasks = [asyncio.create_task(loader.run()) for loader in loaders]
    await store.load(loaders[0]._digest, "run", 200, position=4, part=lines[4:9])
    await asyncio.gather(*tasks)
    answer = await store.round("one", "run", wanted=300, done=[])
    assert answer is not None
    assert [line.raw for line in answer.lines] == source.read_bytes().splitlines(keepends=True)


async def test_a_loader_that_was_cut_off_goes_on(
    tmp_path: Path, store: RedisQueueStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server fails in the middle, before or after it did what it was asked: each line is there once."""
    monkeypatch.setattr("apiclient.job._loader._PART_LINES", 9)
    monkeypatch.setattr("apiclient.job._loader._AGAIN", 0.0)
    real: Callable[..., Any] = store.load
    count = 0

    async def load(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count % 4 == 2:
            raise StoreUnavailable("before")
        facts = await real(*arguments, **options)
        if count % 4 == 0:
            raise StoreUnavailable("after")
        return facts

    monkeypatch.setattr(store, "load", load)
    source = write(tmp_path / "in.jsonl", things(100))
    queue = await loaded(store, source)
    answer = await store.round("one", queue.facts.run, wanted=300, done=[])
    assert answer is not None
    assert [line.raw for line in answer.lines] == source.read_bytes().splitlines(keepends=True)
    assert count > 12


async def test_the_first_contact_with_a_dead_server_does_not_wait(tmp_path: Path) -> None:
    """A loader that cannot begin says so at once."""
    server = Server()
    server.stop()
    store = Redis(server.url, patience=0.5).queue()
    with pytest.raises(StoreUnavailable):
        await loaded(store, write(tmp_path / "in.jsonl", things(1)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep_order": True}, "keep_order makes no sense with a queue"),
        ({"retry_failed": True}, "retry_failed makes no sense with a queue"),
        ({"shard": (1, 2)}, "shard makes no sense with a queue"),
        ({"output": "-"}, "output must be a file with a queue"),
    ],
)
async def test_options_that_make_no_sense_are_refused(
    tmp_path: Path, store: RedisQueueStore, options: dict[str, Any], message: str
) -> None:
    """The message names the option and says why."""
    queue = await loaded(store, write(tmp_path / "in.jsonl", things(1)))
    given = Options(**{"source": "queue", "output": str(tmp_path / "out.jsonl"), **options})
    async with ApiClient("http://api.test") as client:
        with pytest.raises(ValueError, match=message):
            Job(client, given, notice=lambda _: None, queue=queue)


async def test_a_file_of_another_load_is_not_resumed(peer: Peer, tmp_path: Path, store: RedisQueueStore) -> None:
    """A queue loaded anew has other keys: its results do not go into the file of the first."""
    source = write(tmp_path / "in.jsonl", things(2))
    assert await runner(await loaded(store, source), peer.url, tmp_path / "out.jsonl").run() == 0
    await store.forget()
    queue = await loaded(store, source)
    with pytest.raises(Refused, match="belongs to another queue"):
        runner(queue, peer.url, tmp_path / "out.jsonl", resume=True)
    await store.aclose()
