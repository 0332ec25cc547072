"""Law 12, with processes that are really killed."""

import asyncio
import logging
import multiprocessing
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apiclient.sandbox import Sandbox
from tests.integration import outbox_worker
from tests.integration.outbox_worker import Job, client_of, deliver, outbox_of, produce, store_of
from tests.valkey import Server

FIGURES = logging.getLogger("figures")  # pytest -o log_cli=true -o log_cli_level=INFO shows them
ENDPOINT = "POST /v1/timesheets"


class Victims:
    """A producer and two drainers, replaced whenever one is killed."""

    def __init__(self, job: Job, chance: random.Random) -> None:
        self._job = job
        self._chance = chance
        self._context: Any = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([outbox_worker.__name__])
        self._alive: list[tuple[Any, Callable[..., None]]] = []

    async def start(self, work: Callable[..., None]) -> None:
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(target=work, args=(self._job, sender), daemon=True)
        await asyncio.to_thread(process.start)
        sender.close()
        assert await asyncio.to_thread(receiver.poll, 60), "a process did not start"
        receiver.close()
        self._alive.append((process, work))

    async def kill(self, index: int) -> Callable[..., None]:
        process, work = self._alive.pop(index)
        process.kill()
        await asyncio.to_thread(process.join)
        process.close()
        return work

    async def kill_one(self) -> None:
        await asyncio.sleep(self._chance.uniform(0.0, 0.3))
        await self.start(await self.kill(self._chance.randrange(len(self._alive))))

    async def stall(self) -> None:
        """Let a drainer hang for longer than its leases, so that it comes back too late."""
        drainers = [process for process, work in self._alive if work is deliver]
        process = self._chance.choice(drainers)
        os.kill(process.pid, signal.SIGSTOP)
        await asyncio.sleep(outbox_worker.LEASE + 1.0)
        os.kill(process.pid, signal.SIGCONT)
        await asyncio.sleep(0.2)

    async def kill_all(self) -> None:
        while self._alive:
            await self.kill(0)


def lines(folder: Path, prefix: str) -> list[str]:
    return [line for file in folder.glob(f"{prefix}-*") for line in file.read_text().splitlines()]


async def torment(folder: Path, kills: int, seed: int, server: str | None = None) -> None:
    async with Sandbox(limits={ENDPOINT: None}) as sandbox:
        job = Job(folder, sandbox.api_url, sandbox.issue_token(lifetime=3600.0), server)
        chance = random.Random(seed)
        victims = Victims(job, chance)
        try:
            for work in (produce, deliver, deliver):
                await victims.start(work)
            for number in range(kills):
                if number % 10 == 5:
                    sandbox.fail_next(ENDPOINT, chance.choice([500, 503, None]), times=5, late=chance.random() < 0.5)
                await victims.kill_one()
                if number % 20 == 8:
                    await victims.stall()
        finally:
            await victims.kill_all()

        acknowledged = dict(line.split(" ") for line in lines(folder, "acknowledged"))
        store = store_of(job)
        held = {entry.id: entry.state for entry in await store.page(limit=1_000_000)}
        assert acknowledged.keys() <= held.keys(), "an acknowledged item is lost"
        assert set(held.values()) <= {"pending", "delivered"}

        outbox = outbox_of(job, "last")
        async with client_of(job, outbox):
            assert (await outbox.drain(timeout=60.0)).left == 0
        final = {entry.id: entry for entry in await store.page(limit=1_000_000)}
        await store.aclose()

    assert {entry.state for entry in final.values()} == {"delivered"}
    # The server creates one per key: twice the same name would mean that it came under two keys.
    created = Counter(str(sheet["name"]) for sheet in sandbox.timesheets)
    assert set(created.values()) == {1}
    assert set(acknowledged.values()) <= created.keys()
    assert len(created) == len(final)
    keys = Counter(entry.idempotency_key for entry in sandbox.ledger if entry.endpoint == ENDPOINT)
    assert keys.keys() == {f"key-{name}" for name in created}
    assert sandbox.count(ENDPOINT, 422) == 0, "a key came with another body"
    told = Counter(lines(folder, "told"))
    assert set(told.values()) <= {1}, "an outcome was recorded twice"
    assert told.keys() <= final.keys()
    # What this run was about: deliveries repeated because somebody died between sending and recording.
    FIGURES.info(
        "%d kills, %d acknowledged, %d delivered, %d told, %d sent more than once",
        kills, len(acknowledged), len(final), len(told), sum(count > 1 for count in keys.values()),
    )  # fmt: skip
    assert len(acknowledged) > kills


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.timeout(180)
async def test_what_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    """A producer and two drainers, killed at random: nothing lost, one key per item, one outcome each."""
    await torment(tmp_path, kills=10, seed=1)


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(5, marks=pytest.mark.timeout(180)),
        pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(900)]),
    ],
)
async def test_what_was_acknowledged_on_a_server_survives_sigkill(tmp_path: Path, kills: int) -> None:
    """The same with the outbox in Valkey, which writes its append-only file before it acknowledges."""
    server = Server(appendonly="yes", appendfsync="always")
    try:
        await torment(tmp_path, kills=kills, seed=3, server=server.url)
    finally:
        server.stop()


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_what_was_acknowledged_survives_200_kills(tmp_path: Path) -> None:
    """The same, 200 times."""
    await torment(tmp_path, kills=200, seed=2)
