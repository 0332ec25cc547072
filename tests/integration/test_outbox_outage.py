"""A long time without the API."""

import asyncio
import logging
import time
from pathlib import Path

import pytest

from apiclient import ApiClient, default_pipeline, errors
from apiclient.credentials import StaticToken
from apiclient.middleware import RateLimit
from apiclient.outbox import Outbox
from apiclient.sandbox import Sandbox
from apiclient.stores import SqliteOutboxStore

FIGURES = logging.getLogger("figures")  # pytest -o log_cli=true -o log_cli_level=INFO shows them
ENDPOINT = "POST /v1/timesheets"


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("calls", "rate", "period", "outage"),
    [
        pytest.param(150, 1, 2.0, 900.0, id="short"),
        pytest.param(5000, 5, 1.0, 3600.0, id="whole", marks=[pytest.mark.long, pytest.mark.timeout(300)]),
    ],
)
async def test_after_an_outage_all_that_was_deferred_is_delivered(
    tmp_path: Path, calls: int, rate: int, period: float, outage: float
) -> None:
    """All are deferred; then all arrive, paced by the limiter, within 1.1 of the least time, and none is lost."""
    loop = asyncio.get_running_loop()
    epoch = time.time()
    store = SqliteOutboxStore(tmp_path / "outbox.db", now=lambda: epoch + loop.time())
    pause = outage / 120
    outbox = Outbox(store, poll=5.0, max_pause=pause)
    async with Sandbox(limits={ENDPOINT: (rate, period)}) as sandbox:
        credentials = StaticToken(sandbox.issue_token(lifetime=1e6))
        limit = RateLimit(limits={"POST /timesheets": f"{rate}/{period:g}s"})
        pipeline = default_pipeline(credentials=credentials, outbox=outbox).replace(RateLimit, limit)
        async with ApiClient(sandbox.api_url, pipeline=pipeline, outbox=outbox) as client, outbox.running():
            sandbox.outage()

            async def call(number: int) -> None:
                await asyncio.sleep(number * outage / calls)
                with pytest.raises(errors.Deferred):
                    await client.post(
                        "/timesheets", json={"n": number}, idempotency_key=f"n-{number}", defer=True, timeout=30
                    )

            await asyncio.gather(*(call(number) for number in range(calls)))
            await asyncio.sleep(max(0.0, outage - loop.time()))
            during = sandbox.count(ENDPOINT)
            assert (await outbox.stats()).pending == calls
            sandbox.outage(on=False)
            began = loop.time()
            while (stats := await outbox.stats()).pending:
                await asyncio.sleep(2.0)
            took = loop.time() - began
        assert (stats.delivered, stats.dead) == (calls, 0)
        assert sorted(int(sheet["n"]) for sheet in sandbox.timesheets) == list(range(calls))
        least = period * (calls - rate) / rate
        FIGURES.info("%.1f s, least %.1f s, %.3f; %d requests during the outage", took, least, took / least, during)
        assert took <= 1.1 * least
        assert sandbox.count(ENDPOINT, 429) == 0
        # Each call has its four attempts, and each probe of the outbox, of which there is one per half a pause or less.
        assert during <= 4 * (calls + outage / (pause / 2))
