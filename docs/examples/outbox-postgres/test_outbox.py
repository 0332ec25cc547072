"""Both ways, against a database and the local API. POSTGRES_URL names a database in which a schema may be made."""

import os
import secrets
from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg import sql

from apiclient.sandbox import Sandbox

URL = os.environ.get("POSTGRES_URL")
SCHEMA = f"test_{secrets.token_hex(4)}"
# A schema of its own, so that nothing of yours is touched.
os.environ["POSTGRES_URL"] = f"{URL}?options=-c%20search_path%3D{SCHEMA}"

import hours  # noqa: E402
import jobs  # noqa: E402

pytestmark = pytest.mark.skipif(URL is None, reason="POSTGRES_URL is not set")
DAY = "2026-11-16"


@pytest.fixture
async def api(api_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sandbox]:
    monkeypatch.setenv("APICLIENT_BASE_URL", api_sandbox.api_url)
    monkeypatch.setenv("APICLIENT_TOKEN_URL", api_sandbox.token_url)
    monkeypatch.setenv("APICLIENT_CLIENT_ID", "demo")
    monkeypatch.setenv("APICLIENT_CLIENT_SECRET", "demo-secret")
    async with await psycopg.AsyncConnection.connect(os.environ["POSTGRES_URL"], autocommit=True) as connection:
        await connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))
        await connection.execute(hours.TABLE)
        yield api_sandbox
        await hours.STORE.aclose()
        await connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(SCHEMA)))


async def test_the_row_and_the_call_are_made_both_or_neither(api: Sandbox) -> None:
    async with hours.make_client() as client:
        await hours.STORE.stats()
        await hours.book(client, 7, DAY, 7.5)
        with pytest.raises(psycopg.errors.UniqueViolation):
            await hours.book(client, 7, DAY, 8.0)
        assert (await hours.STORE.stats()).pending == 1
        assert client.outbox is not None
        await client.outbox.drain(timeout=10)
    assert [sheet["hours"] for sheet in api.timesheets] == [7.5]


async def test_a_job_is_repeated_under_its_key_and_as_long_as_that_helps(api: Sandbox) -> None:
    api.fail_next("POST /v1/timesheets", 503, times=4)
    async with jobs.app.open_async():
        await jobs.app.schema_manager.apply_schema_async()
        good = await jobs.book.defer_async(employee=7, day=DAY, hours=7.5)
        bad = await jobs.book.defer_async(employee=7, day=DAY, hours=80.0)
        async with jobs.make_client() as client:
            for _ in range(2):
                await jobs.app.run_worker_async(
                    wait=False, install_signal_handlers=False, additional_context={"client": client}
                )
                await jobs.app.connector.execute_query_async("UPDATE procrastinate_jobs SET scheduled_at = now()")
        found = {job.id: job.status for job in await jobs.app.job_manager.list_jobs_async()}
    assert found == {good: "succeeded", bad: "failed"}
    assert [sheet["hours"] for sheet in api.timesheets] == [7.5]
    keys = {entry.idempotency_key for entry in api.ledger if entry.endpoint == "POST /v1/timesheets"}
    assert keys == {f"job-{good}", f"job-{bad}"}
