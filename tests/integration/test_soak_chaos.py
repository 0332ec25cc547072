"""Two hundred callers through the default pipeline, against a local API, with faults between them: everything adds up."""

import asyncio
import logging
import random
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from apiclient import ApiClient, Pipeline, default_pipeline, errors
from apiclient.credentials import ClientCredentials
from apiclient.sandbox import Sandbox
from apiclient.testing import Chaos

pytestmark = pytest.mark.looptime
CALLERS = 200
DESCRIPTORS = Path("/proc/self/fd")
FAULTS: dict[str, Any] = {
    "error": 0.03,
    "status": 0.03,
    "latency": 0.05,
    "reset": 0.03,
    "truncation": 0.02,
    "slow_body": 0.02,
}


class Soak:
    """The callers, and what they count."""

    def __init__(self, client: ApiClient, seed: int, seconds: float) -> None:
        self.client = client
        self.chance = random.Random(seed)
        self.ends = asyncio.get_running_loop().time() + seconds
        self.calls = 0
        self.attempts = 0
        self.outcomes: Counter[str] = Counter()
        self.created: list[str] = []

    async def run(self) -> None:
        await asyncio.gather(*(self.caller() for _ in range(CALLERS)))

    async def caller(self) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < self.ends:
            await asyncio.sleep(self.chance.uniform(0.0, 4.0))
            self.calls += 1
            await self.call(self.calls)

    async def call(self, number: int) -> None:
        kind = number % 4
        pending: Any
        if kind == 0:
            body = {"employee_id": 1, "hours": 8, "note": f"n-{number}"}
            pending = self.client.post("/timesheets", json=body, idempotency_key=f"key-{number}")
        else:
            path = ("/ping", "/flaky/{id}", "/reports/{id}")[kind - 1]
            pending = self.client.get(path, path_params={"id": number} if "{" in path else {})
        ended: Any
        (ended,) = await asyncio.gather(pending, return_exceptions=True)
        if isinstance(ended, BaseException):
            assert isinstance(ended, errors.ApiError)
            assert ended.attempts == pending.call.attempts
        elif kind == 0:
            self.created.append(f"n-{number}")
        self.outcomes[type(ended).__name__ if isinstance(ended, BaseException) else "fine"] += 1
        self.attempts += pending.call.attempts


async def soaked(seconds: float, *, seed: int = 11) -> None:
    """Soak, and compare the books of client, faults and server, and what is left over."""
    now = asyncio.get_running_loop().time
    limits: Any = {"POST /v1/timesheets": None}
    async with Sandbox(seed=seed, limits=limits, token_lifetime=5.0) as sandbox:
        credentials = ClientCredentials(
            token_url=sandbox.token_url, client_id="demo", client_secret="demo-secret", now=now
        )
        chaos = Chaos(seed=seed, delay=(0.05, 0.5), enabled=True, **FAULTS)
        chain = Pipeline((*default_pipeline(credentials=credentials), chaos))
        async with ApiClient(sandbox.api_url, pipeline=chain) as client:
            soak = Soak(client, seed, seconds)
            half = asyncio.ensure_future(measured(seconds / 2))
            await soak.run()
            before, after = await half, await measured(0.0)
        sent = len(sandbox.ledger) - sandbox.count("POST /oauth/token")
        assert soak.attempts == sent
        assert soak.calls == sum(soak.outcomes.values()) > seconds * CALLERS / 5
        assert soak.outcomes["fine"] > 0.9 * soak.calls
        assert min(chaos.injected[name] for name in FAULTS) > 0
        notes = Counter(sheet["note"] for sheet in sandbox.timesheets)
        assert set(notes.values()) == {1}
        assert set(soak.created) <= set(notes)
        for name, growth in after.items():
            assert growth - before[name] <= {"tasks": 20, "descriptors": 20, "bytes": 300_000}[name], name


async def measured(after: float) -> dict[str, int]:
    """Tasks and descriptors in use, and bytes that the client's own code holds if they are traced, after some time."""
    await asyncio.sleep(after)
    own = 0
    if tracemalloc.is_tracing():
        places = [
            tracemalloc.Filter(inclusive=True, filename_pattern=f"*/{place}")
            for place in ("middleware/*", "client.py", "pipeline.py")
        ]
        own = sum(each.size for each in tracemalloc.take_snapshot().filter_traces(places).statistics("filename"))
    descriptors = len(list(DESCRIPTORS.iterdir())) if DESCRIPTORS.exists() else 0
    return {"tasks": len(asyncio.all_tasks()), "descriptors": descriptors, "bytes": own}


async def test_ten_seconds_of_chaos() -> None:
    """Attempts equal what the server counted; no order twice, and nothing left over."""
    await soaked(10.0)


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_ten_minutes_of_chaos() -> None:
    """The same for longer, and without growth of memory: timers live for a minute, the rest of a call not so long."""
    logging.getLogger("apiclient").setLevel(logging.CRITICAL)  # pytest keeps every record.
    tracemalloc.start()
    try:
        await soaked(600.0, seed=12)
    finally:
        tracemalloc.stop()
        logging.getLogger("apiclient").setLevel(logging.NOTSET)
