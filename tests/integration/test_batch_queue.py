"""Real processes that share one batch, through a queue or as shards; a real Valkey server, a real API."""

import asyncio
import os
import random
import secrets
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from apiclient._jsonl import parse_line
from apiclient.cli._queue import named_queue
from apiclient.job._loader import Loader
from apiclient.job._merge import merge_results
from apiclient.job._source import Source
from apiclient.sandbox import Sandbox
from tests.apiclient.job.runs import read, write
from tests.valkey import Server, connections

__all__ = ["connections"]

pytestmark = [pytest.mark.usefixtures("connections"), pytest.mark.timeout(90)]

LONG = pytest.mark.long
ENDPOINT = "POST /v1/timesheets"
CONCURRENCY = 8
LEASE = 3.0
# Of a runner that is killed, these are run again: under way, and what ended in the last third of a second.
HELD = CONCURRENCY + 120


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(appendonly="yes", appendfsync="always")
    yield server
    server.stop()


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(limits={ENDPOINT: None}) as sandbox:
        yield sandbox


class Runners:
    """Runs ``apiclient batch`` in processes of their own, in one folder."""

    def __init__(self, folder: Path, sandbox: Sandbox, server: Server) -> None:
        self.folder = folder
        self.queue = f"{server.url}/0?name=sheets&lease={LEASE:g}"
        self.store = named_queue(self.queue, {})
        self.outputs: list[Path] = []
        self.live: dict[asyncio.subprocess.Process, Path] = {}
        self._environment = {
            **os.environ,
            "APICLIENT_TOKEN": sandbox.issue_token(lifetime=3600.0),
            "APICLIENT_BASE_URL": sandbox.api_url,
            "STORE": server.url,
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "apiclient.cli", "batch", *arguments, "-q"),
            cwd=self.folder,
            env=self._environment,
            stderr=asyncio.subprocess.PIPE,
        )

    async def load(self) -> None:
        """Load as the command does."""
        await Loader(self.store, Source(str(self.folder / "in.jsonl"), parse_line)).run()

    async def begin(self, count: int) -> None:
        """Start *count* runners on a queue that is not full yet, and load the rest once they are all there."""
        source = Source(str(self.folder / "in.jsonl"), parse_line)
        digest, lines = source.scan(lambda _: True).digest, list(source.raw())
        first = [(number, raw) for raw, number in lines[:2]]
        await self.store.load(digest, secrets.token_hex(8), len(lines), position=0, part=first)
        for _ in range(count):
            await self.run()
        while await self.store._server.run(lambda client: client.zcard(f"{self.store._base}:runners")) < count:
            await asyncio.sleep(0.02)
        await self.load()

    async def run(self, output: Path | None = None) -> None:
        """Start a runner, with a new file or on with that of one that died."""
        resume = [] if output is None else ["--resume"]
        if output is None:
            output = self.folder / f"results-{len(self.outputs)}.jsonl"
            self.outputs.append(output)
        more = ["--concurrency", str(CONCURRENCY), *resume]
        self.live[await self.start("--queue", self.queue, "-o", output.name, *more)] = output

    async def kill(self, process: asyncio.subprocess.Process) -> Path:
        process.kill()
        await process.communicate()
        return self.live.pop(process)

    async def ended(self, process: asyncio.subprocess.Process) -> None:
        _, err = await process.communicate()
        assert process.returncode == 0, err.decode()

    async def all_ended(self) -> None:
        await asyncio.gather(*(self.ended(process) for process in self.live))


def sheets(folder: Path, count: int, delay: float = 0.0) -> None:
    more = {"params": {"delay": str(delay)}} if delay else {}
    lines = ({"id": n, "method": "POST", "path": "/timesheets", "body": {"hours": 8, "n": n}} for n in range(count))
    write(folder / "in.jsonl", (line | more for line in lines))


def check(runners: Runners, sandbox: Sandbox, count: int) -> int:
    """Check that the merged results are whole, and that no line was carried out twice; return how many were repeated.

    The sandbox carries out a request once for each key: as many timesheets as lines means that each line kept its key.
    """
    folder = runners.folder
    written = [output for output in runners.outputs if output.exists()]  # not by one that was killed as it started
    merged = merge_results(written, folder / "all.jsonl", source=str(folder / "in.jsonl"))
    assert (merged.ok, merged.failed, merged.missing) == (count, 0, 0)
    assert sorted(row["id"] for row in read(folder / "all.jsonl")) == list(range(count))
    assert sorted(sheet["n"] for sheet in sandbox.timesheets) == list(range(count))
    keys = [entry.idempotency_key for entry in sandbox.ledger]
    assert len(set(keys)) == count
    assert None not in keys
    return len(keys) - count


async def until(sandbox: Sandbox, count: int, runners: Runners) -> bool:
    """Wait until *count* requests have arrived; return whether they did before the runners were through."""
    while len(sandbox.ledger) < count:
        if all(process.returncode is not None for process in runners.live):
            return False
        await asyncio.sleep(0.002)
    return True


async def test_several_runners_drain_one_input(tmp_path: Path, sandbox: Sandbox, server: Server) -> None:
    """Every line is run once, by one of them; each has its part; a second load is harmless, before and after."""
    runners = Runners(tmp_path, sandbox, server)
    sheets(tmp_path, 300, delay=0.02)
    await runners.begin(3)
    assert await until(sandbox, 50, runners)
    await runners.load()
    await runners.all_ended()
    await runners.load()
    assert check(runners, sandbox, 300) == 0
    assert all(len(read(output)) >= CONCURRENCY for output in runners.outputs)


async def test_a_runner_that_is_killed_loses_nothing(tmp_path: Path, sandbox: Sandbox, server: Server) -> None:
    """What it held comes back when its lease is over, and others run it with the same keys."""
    runners = Runners(tmp_path, sandbox, server)
    sheets(tmp_path, 300, delay=0.02)
    await runners.begin(3)
    assert await until(sandbox, 100, runners)
    await runners.kill(next(iter(runners.live)))
    await runners.all_ended()
    assert 0 < check(runners, sandbox, 300) <= HELD


async def test_a_store_that_is_killed_and_comes_back(tmp_path: Path, sandbox: Sandbox, server: Server) -> None:
    """Runners work on with what they have, ask again until it answers, and each line is carried out once."""
    runners = Runners(tmp_path, sandbox, server)
    sheets(tmp_path, 300, delay=0.02)
    await runners.begin(2)
    assert await until(sandbox, 100, runners)
    server.halt()
    # Longer than a lease by the server's clock, so that nobody can have renewed.
    await asyncio.sleep(1.1 * LEASE)
    server.start()
    await runners.all_ended()
    assert check(runners, sandbox, 300) == 0


@LONG
@pytest.mark.timeout(600)
async def test_twenty_kills_and_three_of_the_store(tmp_path: Path, sandbox: Sandbox, server: Server) -> None:
    """Four runners, killed at random moments; half of them go on with their file, half are replaced by new ones."""
    chance = random.Random(5)
    count, kills = 12_000, 20
    runners = Runners(tmp_path, sandbox, server)
    sheets(tmp_path, count)
    await runners.begin(4)
    done = 0
    for number in range(1, kills + 1):
        if not await until(sandbox, int(count * 0.8 * (number - chance.random()) / kills), runners):
            break
        process = chance.choice([each for each in runners.live if each.returncode is None])
        output = await runners.kill(process)
        if number % 6 == 0:
            server.crash()
        await runners.run(output if chance.random() < 0.5 else None)
        done += 1
    await runners.all_ended()
    repeated = check(runners, sandbox, count)
    told = f"{done} kills, {len(runners.outputs)} files, {repeated} of {count} lines run again"
    assert repeated <= done * HELD, told
    assert done == kills


CLIENT = """
import os
from apiclient import ApiClient, default_pipeline
from apiclient.credentials import StaticToken
from apiclient.middleware import RateLimit
from apiclient.shared import Redis

credentials = StaticToken(os.environ["APICLIENT_TOKEN"])
# As many workers as there are: on a machine without time to spare even the first answer of the store may be late.
shared = Redis(os.environ["STORE"], workers=4, timeout=1.0)
limit = RateLimit(limits={"POST /timesheets": "%d/1s"}, store=shared.quotas)
client = ApiClient(
    os.environ["APICLIENT_BASE_URL"],
    credentials=credentials,
    pipeline=default_pipeline(credentials=credentials).replace(RateLimit, limit),
)
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("shared", "parts", "seconds"),
    [("shards", 2, 2), pytest.param("shards", 4, 30, marks=LONG), pytest.param("queue", 4, 30, marks=LONG)],
)
async def test_processes_that_share_a_batch_share_the_quota(
    tmp_path: Path, server: Server, shared: str, parts: int, seconds: int
) -> None:
    """With one limiter every id is sent once, and together at most 0.1 % are refused.

    Short runs on a busy machine only show that the quota is one: with one each, half would be refused.
    """
    limit = 50
    count = limit * seconds
    sheets(tmp_path, count)
    (tmp_path / "shop.py").write_text(CLIENT % limit)
    async with Sandbox(limits={ENDPOINT: (limit, 1.0)}) as sandbox:
        runners = Runners(tmp_path, sandbox, server)
        if shared == "queue":
            await runners.load()
        for part in range(1, parts + 1):
            output = tmp_path / f"{part}.jsonl"
            runners.outputs.append(output)
            source = ["in.jsonl", "--shard", f"{part}/{parts}"] if shared == "shards" else ["--queue", runners.queue]
            process = await runners.start(*source, "-o", output.name, "--client", "shop:client")
            runners.live[process] = output
        await runners.all_ended()
        refused = sandbox.count(status=429)
        assert refused <= (0.001 if seconds > 10 else 0.25) * count, f"{refused} of {count}"
        merged = merge_results(runners.outputs, tmp_path / "all.jsonl", source=str(tmp_path / "in.jsonl"))
        assert (merged.ok, merged.failed, merged.repeated, merged.missing) == (count, 0, 0, 0)
        assert len(sandbox.timesheets) == count
    assert sum(row["attempts"] for row in read(tmp_path / "all.jsonl")) == count + refused
