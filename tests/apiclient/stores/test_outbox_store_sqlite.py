"""What is particular to the outbox in a file: the disk, the locks, the versions, other processes."""

import asyncio
import multiprocessing
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from apiclient.middleware.errors import OutboxError
from apiclient.stores import Draft, SqliteOutboxStore, _filesystem, _outbox_schema, sqlite_outbox_store
from tests.apiclient.stores.outbox import ORIGIN, Clock, drafts, intent

LOCKER = "import sqlite3, sys; d = sqlite3.connect(sys.argv[1], isolation_level=None); d.execute('BEGIN IMMEDIATE'); print('locked', flush=True); sys.stdin.read()"


async def put(store: SqliteOutboxStore, count: int = 1, prefix: str = "item") -> None:
    await asyncio.gather(*(store.put(draft._replace(id=f"{prefix}-{draft.id}")) for draft in drafts(count)))


async def count(path: Path) -> int:
    store = SqliteOutboxStore(path)
    try:
        return (await store.stats()).pending
    finally:
        await store.aclose()


def outside(path: Path, statement: str) -> Any:
    database = sqlite3.connect(path)
    try:
        return database.execute(statement).fetchone()
    finally:
        database.close()


@pytest.mark.skipif(os.name != "posix", reason="file modes")
async def test_the_files_are_the_owners_alone(tmp_path: Path) -> None:
    """Mode 0600 whatever the umask, the log beside it included; a folder made for it has 0700."""
    path = tmp_path / "new" / "outbox.db"
    before = os.umask(0)
    try:
        store = SqliteOutboxStore(path)
        await put(store)
    finally:
        os.umask(before)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert modes == {"outbox.db": 0o600, "outbox.db-wal": 0o600, "outbox.db-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    await store.aclose()
    path.chmod(0o644)
    await put(store, prefix="more")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await store.aclose()


async def test_each_commit_reaches_the_disk(tmp_path: Path) -> None:
    """The promise rests on these two settings."""
    store = SqliteOutboxStore(tmp_path / "outbox.db")
    settings = await store._worker.read(
        lambda database: [
            database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "user_version")
        ]
    )
    assert settings == ["wal", 2, len(_outbox_schema.MIGRATIONS)]
    await store.aclose()


async def test_puts_that_wait_together_share_a_transaction(tmp_path: Path) -> None:
    """A hundred concurrent puts cost few commits, and none is acknowledged before its commit."""
    store = SqliteOutboxStore(tmp_path / "outbox.db")
    statements: list[str] = []
    await store._worker.read(lambda database: database.set_trace_callback(statements.append))

    async def seen_by_others(draft: Draft) -> None:
        await store.put(draft)
        found = outside(tmp_path / "outbox.db", f"SELECT count(*) FROM items WHERE id = '{draft.id}'")  # noqa: S608
        assert found == (1,)

    await asyncio.gather(*(seen_by_others(draft) for draft in drafts(100)))
    assert statements.count("COMMIT") <= 2
    assert (await store.stats()).pending == 100
    await store.aclose()


async def test_forgetting_many_lets_others_in_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A put waits for one share of what is forgotten, and not for all of it."""
    monkeypatch.setattr(sqlite_outbox_store, "_PURGED", 10)
    store = SqliteOutboxStore(tmp_path / "outbox.db")
    await put(store, 30)
    for entry in await store.claim(ORIGIN, limit=30, seconds=60):
        assert await store.ack(entry.id, str(entry.lease), status=200)
    ended: list[str] = []

    async def noted(work: Any, name: str) -> Any:
        result = await work
        ended.append(name)
        return result

    assert (await asyncio.gather(noted(store.purge("delivered", 0), "purge"), noted(put(store), "put")))[0] == 30
    assert ended == ["put", "purge"]
    assert (await store.stats()).delivered == 0
    await store.aclose()


async def test_a_full_disk_is_an_error_and_passes(tmp_path: Path) -> None:
    """What did not fit is not acknowledged; once there is room the same store works on."""
    store = SqliteOutboxStore(tmp_path / "outbox.db")
    await put(store)
    await store._worker.read(lambda database: database.execute("PRAGMA max_page_count = 20").fetchone())
    big = intent(body=b"x" * 200_000)
    with pytest.raises(OutboxError, match="the disk is full") as caught:
        await store.put(Draft("big", big))
    assert caught.value.recoverable
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    assert await store.get("big") is None
    await store.put(Draft("big", big))
    assert (await store.stats()).pending == 2
    await store.aclose()


async def test_a_locked_file_is_an_error_in_time(tmp_path: Path) -> None:
    """Another process sits on the lock: everybody who waits is told, and once it lets go all is well."""
    path = tmp_path / "outbox.db"
    store = SqliteOutboxStore(path, busy=0.05)
    await put(store)
    with subprocess.Popen([sys.executable, "-c", LOCKER, path], stdin=-1, stdout=-1) as locker:
        assert locker.stdout is not None
        assert locker.stdin is not None
        locker.stdout.readline()
        results = await asyncio.gather(*(store.put(draft) for draft in drafts(3)), return_exceptions=True)
        assert [str(result) for result in results] == [
            "The outbox outbox.db: another process holds it. Try again; look for a process that keeps it locked"
        ] * 3
        assert len({id(result) for result in results}) == 3
        locker.stdin.close()
    await put(store, 3, "again")
    assert (await store.stats()).pending == 4
    await store.aclose()


@pytest.mark.looptime
async def test_a_disk_that_hangs_is_an_error_in_time(tmp_path: Path) -> None:
    """An operation that does not come back is given up, and so is what waits behind it."""
    store = SqliteOutboxStore(tmp_path / "outbox.db", busy=0.1, timeout=0.3)
    await put(store)
    hung = threading.Event()
    stuck = store._worker.write(lambda _: hung.wait(20))
    await asyncio.sleep(0.05)
    results = await asyncio.gather(stuck, store.put(Draft("x", intent())), return_exceptions=True)
    assert [type(result) for result in results] == [OutboxError, OutboxError]
    assert "did not answer in time" in str(results[1])
    with pytest.raises(OutboxError, match="did not answer in time"):
        await store.stats()
    hung.set()
    assert (await store.stats()).pending == 1, "what was given up before it began is not stored"
    await store.aclose()


async def test_a_file_that_is_no_outbox_says_so(tmp_path: Path) -> None:
    """Rubbish, a later version, a folder, a file of another owner: an error that says which, nothing overwritten."""
    rubbish = tmp_path / "rubbish.db"
    rubbish.write_bytes(b"not a database, and long enough for a header" * 10)
    with pytest.raises(OutboxError, match="damaged or no outbox"):
        await put(SqliteOutboxStore(rubbish))
    assert rubbish.read_bytes().startswith(b"not a database")
    later = tmp_path / "later.db"
    outside(later, "PRAGMA user_version = 99")
    with pytest.raises(OutboxError, match="has version 99, this program knows versions up to 1"):
        await put(SqliteOutboxStore(later))
    with pytest.raises(ValueError, match="path must name a file, got the folder"):
        SqliteOutboxStore(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OutboxError, match=r"below\.db failed: NotADirectoryError"):
        await put(SqliteOutboxStore(tmp_path / "file" / "below.db"))
    with pytest.raises(ValueError, match="busy must be above 0 seconds, got 0"):
        SqliteOutboxStore(tmp_path / "x.db", busy=0)
    with pytest.raises(ValueError, match="timeout must be above busy"):
        SqliteOutboxStore(tmp_path / "x.db", busy=20)


async def test_a_file_that_is_damaged_under_way_says_so(tmp_path: Path) -> None:
    """The caller is told, rather than given what is left."""
    path = tmp_path / "outbox.db"
    store = SqliteOutboxStore(path)
    await put(store, 200)
    await store.aclose()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 60_000)
    with pytest.raises(OutboxError, match="damaged or no outbox"):
        await put(store, 200, "more")
    await store.aclose()


async def test_a_file_that_is_taken_away_is_made_anew(tmp_path: Path) -> None:
    """What is put after somebody removed the file is in the new one, and not in the one that nobody can open."""
    path = tmp_path / "outbox.db"
    store = SqliteOutboxStore(path)
    await put(store)
    for each in tmp_path.iterdir():
        each.unlink()
    await put(store, 2, "more")
    assert await count(path) == 2
    await store.aclose()


@pytest.mark.parametrize(
    ("kind", "refused"), [("nfs4", True), ("fuse.sshfs", True), ("cifs", True), ("ext4", False), ("fuse.ntfs", False)]
)
async def test_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, *, refused: bool
) -> None:
    """SQLite's locks do not hold there: an error is better than an outbox that loses."""
    folder = tmp_path / "with space"
    mounts = tmp_path / "mountinfo"
    place = str(folder).replace(" ", "\\040")
    mounts.write_text(
        f"1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:4 / {place} rw,x shared:1 - {kind} host:/share rw\n", "utf-8"
    )
    monkeypatch.setattr(_filesystem, "MOUNTS", mounts)
    store = SqliteOutboxStore(folder / "outbox.db")
    if refused:
        with pytest.raises(OutboxError, match=f"{kind} is a network file system"):
            await put(store)
        assert not folder.exists()
    else:
        await put(store)
        await store.aclose()
    beside = SqliteOutboxStore(tmp_path / "with space, and more.db")
    await put(beside)
    await beside.aclose()


async def test_an_older_file_is_migrated_and_keeps_its_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new version of the program takes over what an old one stored, once, whoever comes first."""
    path = tmp_path / "outbox.db"
    old = SqliteOutboxStore(path)
    await put(old, 3)
    await old.aclose()
    step = ("ALTER TABLE items ADD COLUMN note TEXT", "UPDATE items SET note = 'migrated'")
    monkeypatch.setattr(_outbox_schema, "MIGRATIONS", (*_outbox_schema.MIGRATIONS, step))
    stores = [SqliteOutboxStore(path) for _ in range(4)]
    await asyncio.gather(*(put(store, 1, f"s{index}") for index, store in enumerate(stores)))
    assert len(await stores[0].claim(ORIGIN, limit=10, seconds=1)) == 7
    assert outside(path, "SELECT count(*) FROM items WHERE note = 'migrated'") == (3,)
    for store in stores:
        await store.aclose()


async def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a migration would be neither the old file nor the new."""
    path = tmp_path / "outbox.db"
    old = SqliteOutboxStore(path)
    await put(old)
    await old.aclose()
    step = ("ALTER TABLE items ADD COLUMN note TEXT", "UPDATE missing SET note = 1")
    with monkeypatch.context() as patch:
        patch.setattr(_outbox_schema, "MIGRATIONS", (*_outbox_schema.MIGRATIONS, step))
        with pytest.raises(OutboxError, match="no such table: missing"):
            await put(SqliteOutboxStore(path))
    assert await count(path) == 1


async def test_a_store_works_in_one_loop_after_another(tmp_path: Path) -> None:
    """A program that calls asyncio.run twice has one outbox."""
    store = SqliteOutboxStore(tmp_path / "outbox.db")

    def run(prefix: str) -> None:
        asyncio.run(put(store, 5, prefix))

    await asyncio.gather(*(asyncio.to_thread(run, f"run{number}") for number in range(3)))
    assert (await store.stats()).pending == 15
    await store.aclose()


def _in_a_child(store: SqliteOutboxStore) -> None:
    asyncio.run(put(store, 5, "child"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
async def test_a_forked_process_opens_the_file_itself(tmp_path: Path) -> None:
    """Two processes never share one connection: SQLite's locks would not survive that."""
    store = SqliteOutboxStore(tmp_path / "outbox.db")
    await put(store, 5, "parent")
    child = multiprocessing.get_context("fork").Process(target=_in_a_child, args=(store,))
    child.start()
    await asyncio.to_thread(child.join, 20)
    assert child.exitcode == 0
    await put(store, 5, "after")
    assert (await store.stats()).pending == 15
    await store.aclose()


def _puts_and_waits(store: SqliteOutboxStore, pipe: Connection) -> None:
    for prefix in ("first", "second"):
        asyncio.run(put(store, 1, prefix))
        pipe.send(prefix)
        pipe.recv()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("same", [True, False])
async def test_what_a_child_acknowledged_outlives_the_parents_closing(tmp_path: Path, *, same: bool) -> None:
    """SQLite in a child takes inherited locks for its own: the parent must not find nobody there and remove the log."""
    path = tmp_path / "outbox.db"
    store = SqliteOutboxStore(path)
    await put(store, 1, "parent")
    pipe, theirs = multiprocessing.Pipe()
    given = store if same else SqliteOutboxStore(path)
    child = multiprocessing.get_context("fork").Process(target=_puts_and_waits, args=(given, theirs))
    child.start()
    theirs.close()
    for prefix in ("first", "second"):
        assert await asyncio.to_thread(pipe.recv) == prefix
        await store.aclose()
        pipe.send("go on")
    await asyncio.to_thread(child.join, 20)
    assert child.exitcode == 0
    assert {entry.id for entry in await store.page()} == {"parent-item-1", "first-item-1", "second-item-1"}
    assert outside(path, "PRAGMA integrity_check") == ("ok",)
    await store.aclose()


def _is_refused(store: SqliteOutboxStore, pipe: Connection) -> None:
    try:
        asyncio.run(put(store))
    except OutboxError as error:
        pipe.send(str(error))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("same", [True, False])
async def test_a_fork_while_the_parent_is_at_work_gives_the_child_an_error(tmp_path: Path, *, same: bool) -> None:
    """Its connection can neither be used nor closed there; the parent goes on."""
    path = tmp_path / "outbox.db"
    store = SqliteOutboxStore(path)
    await put(store, 1, "before")
    begun, go_on = threading.Event(), threading.Event()

    def hang(_: sqlite3.Connection) -> None:
        begun.set()
        go_on.wait(20)

    work = store._worker.write(hang)
    await asyncio.to_thread(begun.wait, 20)
    pipe, theirs = multiprocessing.Pipe()
    given = store if same else SqliteOutboxStore(path)
    child = multiprocessing.get_context("fork").Process(target=_is_refused, args=(given, theirs))
    child.start()
    theirs.close()
    assert "Fork while no call is under way" in await asyncio.to_thread(pipe.recv)
    await asyncio.to_thread(child.join, 20)
    go_on.set()
    await work
    await put(store, 1, "after")
    assert (await store.stats()).pending == 2
    await store.aclose()


async def test_a_cancelled_put_harms_nobody_beside_it(tmp_path: Path) -> None:
    """Those in the same transaction are stored and acknowledged; the cancellation passes through."""
    store = SqliteOutboxStore(tmp_path / "outbox.db")
    tasks = [asyncio.create_task(store.put(draft)) for draft in drafts(20)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[3], asyncio.CancelledError)
    assert (await store.stats()).pending in {19, 20}
    assert [result for number, result in enumerate(results) if number != 3] == [
        draft.id for number, draft in enumerate(drafts(20)) if number != 3
    ]
    await store.aclose()


async def test_the_clock_was_ahead_when_the_file_was_written(tmp_path: Path) -> None:
    """Also where the process has ended since: nothing waits for a future that will not come."""
    clock = Clock()
    clock.now += 86_400.0
    store = SqliteOutboxStore(tmp_path / "outbox.db", now=clock)
    await store.put(Draft("a", intent(), delay=5.0))
    await store.aclose()
    clock.now -= 86_400.0
    again = SqliteOutboxStore(tmp_path / "outbox.db", now=clock)
    assert [entry.id for entry in await again.claim(ORIGIN, limit=1, seconds=60)] == ["a"]
    await again.aclose()


async def test_the_clock_was_ahead_when_what_waits_for_another_was_written(tmp_path: Path) -> None:
    """The item behind tells that the clock was ahead, though the one in front was stored before."""
    clock = Clock()
    store = SqliteOutboxStore(tmp_path / "outbox.db", now=clock)
    await store.put(Draft("front", intent(), ordered=True))
    clock.now += 86_400.0
    (entry,) = await store.claim(ORIGIN, limit=1, seconds=60)
    await store.retry_at("front", str(entry.lease), 5.0, error="503")
    await store.put(Draft("behind", intent(), ordered=True))
    await store.aclose()
    clock.now -= 86_400.0
    again = SqliteOutboxStore(tmp_path / "outbox.db", now=clock)
    assert [entry.id for entry in await again.claim(ORIGIN, limit=9, seconds=60)] == ["front"]
    await again.aclose()


def test_the_repr_says_where() -> None:
    """A path is what a person looks for."""
    assert repr(SqliteOutboxStore("outbox.db")) == "SqliteOutboxStore('outbox.db')"
