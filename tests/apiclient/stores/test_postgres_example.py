"""The outbox store of docs/examples/outbox-postgres in a real Postgres server: the law of all outbox stores."""

import asyncio
import importlib.util
import secrets
from pathlib import Path
from typing import Any

import pytest

from apiclient.middleware.errors import OutboxError
from apiclient.stores import Draft, OutboxStore
from tests.apiclient.stores import outbox, test_outbox_store, test_outbox_store_model
from tests.apiclient.stores.outbox import ORIGIN, Clock, Make, drafts, intent
from tests.apiclient.stores.test_outbox_store import clock, store
from tests.postgres import common, programs

__all__ = ["clock", "store"]

psycopg: Any = pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'psycopg[binary,pool]'")
pytest.importorskip("psycopg_pool", reason="psycopg_pool is not installed: pip install 'psycopg[binary,pool]'")
pytestmark = pytest.mark.skipif(programs() is None, reason="no Postgres server: install the package postgresql")

FILE = Path(__file__).parents[3] / "docs" / "examples" / "outbox-postgres" / "postgres_outbox.py"

# The tests of the law, collected here once more with this module's ``make``.
globals().update({name: test for name, test in vars(test_outbox_store).items() if name.startswith("test_")})


def loaded() -> Any:
    spec = importlib.util.spec_from_file_location("postgres_outbox", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PostgresOutboxStore = loaded().PostgresOutboxStore


def opened(table: str, clock: Clock | None = None, **options: Any) -> Any:
    return PostgresOutboxStore(common(), table=table, now=clock, **options)


@pytest.fixture
def make() -> Make:
    name = f"t_{secrets.token_hex(6)}"
    return lambda clock: opened(name, clock)


def kept_in_postgres(folder: Path, clock: Clock) -> OutboxStore:
    kept: OutboxStore = opened(folder.name, clock)
    return kept


@pytest.mark.parametrize(
    "examples", [3, pytest.param(500, marks=[pytest.mark.long, pytest.mark.timeout(900)])], ids=["short", "long"]
)
def test_the_store_does_what_its_model_does(monkeypatch: pytest.MonkeyPatch, examples: int) -> None:
    """In any order of operations, crashes and jumps of the clock no item is lost or settled twice."""
    monkeypatch.setitem(outbox.STORES, "postgres", (kept_in_postgres, True))
    test_outbox_store_model.check("postgres", examples=examples, steps=20)


async def test_many_processes_share_the_items_out() -> None:
    """Twenty stores with connections of their own, all at once: each item is claimed by one, in order where it matters."""
    name = f"t_{secrets.token_hex(6)}"
    stores = [opened(name, connections=2) for _ in range(10)]
    for draft in drafts(60):
        await stores[0].put(draft)
    for number in range(3):
        await stores[0].put(Draft(f"o{number}", intent(number, endpoint="POST /ordered"), ordered=True))
    got = await asyncio.gather(*(each.claim(ORIGIN, limit=5, seconds=60) for each in stores * 3))
    ids = [entry.id for entries in got for entry in entries]
    assert len(ids) == len(set(ids))
    assert [each for each in ids if each.startswith("o")] == ["o0"]
    while entries := await stores[0].claim(ORIGIN, limit=50, seconds=60):
        ids += [entry.id for entry in entries]
    assert len(ids) == 61
    await asyncio.gather(*(each.aclose() for each in stores))


async def test_times_are_the_servers() -> None:
    """Without a clock of the test's own, what is due is due by the server's clock."""
    store = opened(f"t_{secrets.token_hex(6)}")
    await store.put(Draft("now", intent(1)))
    await store.put(Draft("later", intent(2), delay=3600))
    assert [entry.id for entry in await store.claim(ORIGIN, limit=9, seconds=60)] == ["now"]
    await store.aclose()


async def test_an_item_is_stored_with_the_change_that_it_tells_of_or_not_at_all() -> None:
    """``within``: the put is part of the caller's transaction."""
    store = opened(f"t_{secrets.token_hex(6)}")
    await store.stats()
    async with await psycopg.AsyncConnection.connect(common()) as connection:
        with store.within(connection):
            await store.put(Draft("undone", intent(1)))
        await connection.rollback()
        with store.within(connection):
            await store.put(Draft("done", intent(2)))
        assert await store.page() == []
    assert [entry.id for entry in await store.page()] == ["done"]
    await store.aclose()


async def test_a_dead_server_is_an_error_within_the_patience() -> None:
    """Nothing is swallowed: who wanted to store knows that it is not stored."""
    store = PostgresOutboxStore("postgresql://postgres@127.0.0.1:1/postgres", patience=0.5)
    with pytest.raises(OutboxError, match="cannot be reached") as caught:
        await store.put(Draft("a", intent()))
    assert caught.value.recoverable
    await store.aclose()
