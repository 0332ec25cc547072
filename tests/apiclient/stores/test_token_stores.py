"""The law of a token store, kept by each of them."""

import asyncio
import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from apiclient.stores import MemoryTokenStore, SqliteTokenStore, TokenStore
from apiclient.stores.token_store import RenewableTokenStore

Make = Callable[[Callable[[], float]], RenewableTokenStore]


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    if request.param == "memory":
        return lambda now: MemoryTokenStore(now=now)
    return lambda now: SqliteTokenStore(tmp_path / "tokens.db", now=now)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_what_is_saved_is_loaded(make: Make) -> None:
    """The last text wins; keys do not mix; nothing is there at first."""
    store = make(Clock())
    assert isinstance(store, TokenStore)
    assert await store.load("a") is None
    lease = await store.acquire("a", 10.0)
    assert lease is not None
    assert await store.save("a", "one", lease)
    assert await store.save("a", "two \u00e9 '\"", lease)
    assert await store.load("a") == "two \u00e9 '\""
    assert await store.load("b") is None


async def test_one_holder_at_a_time(make: Make) -> None:
    """While a lease is held nobody else gets it; given back or run out, the next one does."""
    clock = Clock()
    store = make(clock)
    first = await store.acquire("a", 10.0)
    assert first is not None
    assert await store.acquire("a", 10.0) is None
    assert await store.acquire("b", 10.0) is not None
    await store.release("a", first)
    second = await store.acquire("a", 10.0)
    assert second not in {None, first}
    clock.now += 10.0
    third = await store.acquire("a", 10.0)
    assert third not in {None, first, second}


async def test_only_the_holder_saves(make: Make) -> None:
    """Who lost the lease to another cannot overwrite; who merely let it run out still can."""
    clock = Clock()
    store = make(clock)
    late = await store.acquire("a", 10.0)
    assert late is not None
    clock.now += 60.0
    assert await store.save("a", "late", late)
    taken = await store.acquire("a", 10.0)
    assert taken is not None
    assert not await store.save("a", "too late", late)
    assert await store.save("a", "in time", taken)
    assert await store.load("a") == "in time"
    assert not await store.save("b", "x", taken)


async def test_a_renewed_lease_lasts_from_then_on(make: Make) -> None:
    """Also one that had run out, unless another has it by now, or it was given back."""
    clock = Clock()
    store = make(clock)
    first = await store.acquire("a", 10.0)
    assert first is not None
    clock.now += 9.0
    assert await store.renew("a", first, 10.0)
    clock.now += 9.0
    assert await store.acquire("a", 10.0) is None
    clock.now += 60.0
    assert await store.renew("a", first, 10.0)
    assert await store.acquire("a", 10.0) is None
    clock.now += 10.0
    second = await store.acquire("a", 10.0)
    assert second is not None
    assert not await store.renew("a", first, 60.0)
    await store.release("a", second)
    assert not await store.renew("a", second, 60.0)
    assert not await store.renew("never", second, 60.0)
    assert await store.acquire("a", 10.0) is not None


async def test_a_file_clock_that_was_set_back_locks_nobody_out(tmp_path: Path) -> None:
    """A lease that seems to last for hours is taken for what it is: at most a minute is waited for its holder."""
    clock = Clock()
    store = SqliteTokenStore(tmp_path / "tokens.db", now=clock)
    assert await store.acquire("a", 10.0) is not None
    clock.now -= 3600.0
    assert await store.acquire("a", 10.0) is not None
    clock.now -= 40.0
    assert await store.acquire("a", 10.0) is None


async def test_giving_back_what_is_not_held_changes_nothing(make: Make) -> None:
    """An old holder cannot free the lease of the next."""
    clock = Clock()
    store = make(clock)
    old = await store.acquire("a", 1.0)
    assert old is not None
    clock.now += 2.0
    assert await store.acquire("a", 10.0) is not None
    await store.release("a", old)
    await store.release("never", old)
    assert await store.acquire("a", 10.0) is None


async def test_of_many_at_once_one_gets_the_lease(make: Make) -> None:
    """30 tasks, through as many threads as there are: one winner."""
    store = make(Clock())
    leases = await asyncio.gather(*(store.acquire("a", 10.0) for _ in range(30)))
    assert sum(lease is not None for lease in leases) == 1


@pytest.mark.skipif(os.name != "posix", reason="file modes")
async def test_the_file_is_the_owners_alone(tmp_path: Path) -> None:
    """Mode 0600 whatever the umask; a folder made for it has 0700; a looser file is tightened."""
    path = tmp_path / "new" / "tokens.db"
    before = os.umask(0)
    try:
        store = SqliteTokenStore(path)
        lease = await store.acquire("a", 10.0)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert lease is not None
        await store.save("a", "x", lease)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["tokens.db"]
    path.chmod(0o644)
    await store.load("a")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_what_was_replaced_is_wiped(tmp_path: Path) -> None:
    """An old token does not linger in the file's free pages."""
    path = tmp_path / "tokens.db"
    store = SqliteTokenStore(path)
    lease = await store.acquire("a", 10.0)
    assert lease is not None
    await store.save("a", "old-secret" * 300, lease)
    await store.save("a", "new", lease)
    assert b"old-secret" not in path.read_bytes()


async def test_a_file_that_is_no_store_says_so(tmp_path: Path) -> None:
    """Rubbish, a folder, or a store of a later version: an error, and nothing is overwritten."""
    path = tmp_path / "rubbish"
    path.write_bytes(b"not a database, and long enough for a header" * 10)
    with pytest.raises(sqlite3.DatabaseError):
        await SqliteTokenStore(path).load("a")
    assert path.read_bytes().startswith(b"not a database")
    later = tmp_path / "later.db"
    database = sqlite3.connect(later)
    database.execute("PRAGMA user_version = 9")
    database.close()
    with pytest.raises(sqlite3.DatabaseError, match="version 9"):
        await SqliteTokenStore(later).load("a")
    with pytest.raises(ValueError, match="path must name a file, got the folder"):
        SqliteTokenStore(tmp_path)
    with pytest.raises(ValueError, match="busy must be above 0, got 0"):
        SqliteTokenStore(tmp_path / "x", busy=0)


def test_reprs_show_no_token(tmp_path: Path) -> None:
    """A count and a path."""
    assert repr(MemoryTokenStore()) == "MemoryTokenStore(0 kept)"
    assert repr(SqliteTokenStore("tokens.db")) == "SqliteTokenStore('tokens.db')"
