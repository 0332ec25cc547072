"""Tokens kept in a file, for restarts and for sibling processes on one machine."""

import asyncio
import os
import secrets
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS texts (key TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS leases (key TEXT PRIMARY KEY, lease TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID;
"""
_MAKING = threading.Lock()
# A lease of another that seems to last for longer was acquired before the clock was set back, in seconds.
_LONGEST = 60.0


class SqliteTokenStore:
    """Shares tokens between the processes of one machine, through an SQLite file that only its owner can read.

    The file is made with mode 0600 and brought back to it where it has another; a folder that is missing is
    made with 0700. Put it on a local disk: SQLite's locks do not hold on network file systems. Each
    operation opens the file anew, so that forks and several event loops do no harm.

    Args:
        path: The file.
        now: Wall clock that leases run by, in seconds; the processes must agree on it. Where it is set back, a
            lease lasts for that much longer, and for a minute or its own time at most.
        busy: Seconds to wait for another process's transaction.

    Raises:
        ValueError: The path is a folder, or ``busy`` is not above 0.
        OSError: (from an operation) The file cannot be made, or belongs to somebody else.
        sqlite3.Error: (from an operation) It is not a database, or the disk is full.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, now: Callable[[], float] = time.time, busy: float = 5.0
    ) -> None:
        self._path = Path(path)
        if self._path.is_dir():
            raise ValueError(f"path must name a file, got the folder {str(path)!r}")
        if not busy > 0:
            raise ValueError(f"busy must be above 0, got {busy!r}")
        self._now = now
        self._busy = busy

    def __repr__(self) -> str:
        return f"SqliteTokenStore({str(self._path)!r})"

    async def load(self, key: str) -> str | None:
        """Return what was saved last under *key*, or None."""
        return await asyncio.to_thread(self._load, key)

    async def acquire(self, key: str, seconds: float) -> str | None:
        """Return a lease on *key* for *seconds*, or None where another holds it."""
        return await asyncio.to_thread(self._acquire, key, seconds)

    async def renew(self, key: str, lease: str, seconds: float) -> bool:
        """Let *lease* end *seconds* from now if nobody else has acquired it since; return whether it does."""
        return await asyncio.to_thread(self._renew, key, lease, seconds)

    async def save(self, key: str, text: str, lease: str) -> bool:
        """Save *text* durably if nobody else has acquired the lease since; return whether it was saved."""
        return await asyncio.to_thread(self._save, key, text, lease)

    async def release(self, key: str, lease: str) -> None:
        """Give *lease* back."""
        await asyncio.to_thread(self._release, key, lease)

    def _load(self, key: str) -> str | None:
        with self._database() as database:
            row = database.execute("SELECT text FROM texts WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def _acquire(self, key: str, seconds: float) -> str | None:
        lease = secrets.token_hex(16)
        now = self._now()
        with self._database(write=True) as database:
            taken = database.execute(
                "INSERT INTO leases (key, lease, until) VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE"
                " SET lease = excluded.lease, until = excluded.until WHERE until <= ? OR until > ?",
                (key, lease, now + seconds, now, now + max(seconds, _LONGEST)),
            ).rowcount
        return lease if taken == 1 else None

    def _renew(self, key: str, lease: str, seconds: float) -> bool:
        with self._database(write=True) as database:
            until = self._now() + seconds
            return (
                database.execute(
                    "UPDATE leases SET until = ? WHERE key = ? AND lease = ?", (until, key, lease)
                ).rowcount
                == 1
            )

    def _save(self, key: str, text: str, lease: str) -> bool:
        with self._database(write=True) as database:
            saved = database.execute(
                "INSERT INTO texts (key, text) SELECT ?, ? WHERE EXISTS"
                " (SELECT 1 FROM leases WHERE key = ? AND lease = ?)"
                " ON CONFLICT (key) DO UPDATE SET text = excluded.text",
                (key, text, key, lease),
            ).rowcount
        return saved == 1

    def _release(self, key: str, lease: str) -> None:
        with self._database(write=True) as database:
            database.execute("DELETE FROM leases WHERE key = ? AND lease = ?", (key, lease))

    @contextmanager
    def _database(self, *, write: bool = False) -> Generator[sqlite3.Connection]:
        self._guard()
        database = sqlite3.connect(self._path, timeout=self._busy, isolation_level=None)
        try:
            database.execute("PRAGMA synchronous = FULL")
            database.execute("PRAGMA secure_delete = ON")
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version not in {0, 1}:
                raise sqlite3.DatabaseError(f"the token store has version {version}, this program knows version 1")
            if version == 0:
                database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = 1; COMMIT;")
            database.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            yield database
            database.execute("COMMIT")
        finally:
            database.close()

    def _guard(self) -> None:
        # Never opens a file that is there already: closing any descriptor of a database gives up the locks
        # that this process holds on it. A new one is made before SQLite sees it, which would use the umask.
        with _MAKING:
            try:
                mode = stat.S_IMODE(self._path.stat().st_mode)
            except FileNotFoundError:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            else:
                if mode != 0o600:
                    self._path.chmod(0o600)
