"""Items kept in an SQLite file: they survive the end of the process, and several processes share them."""

import asyncio
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Collection
from typing import Any

from apiclient.stores import _outbox_schema as sql
from apiclient.stores._sqlite_worker import SqliteWorker
from apiclient.stores.outbox_store import STATES, Draft, Entry, State, Stats

_DELIVERED, _DEAD = STATES.index("delivered"), STATES.index("dead")
_PURGED = 1000


class SqliteOutboxStore:
    """Keeps items in a file that only its owner can read, on a local disk.

    What ``put`` returned for is on the disk: write-ahead log, ``synchronous=FULL``, and one transaction for all
    operations that wait at the same moment. One thread of its own does the work, so that nothing blocks the
    event loop. A folder that is missing is made with mode 0700, the file with 0600.

    Args:
        path: The file.
        now: Wall clock, in Unix seconds; the processes that share the file must agree on it within a minute.
        busy: Seconds to wait for another process's transaction.
        timeout: Seconds that an operation may take altogether.

    Raises:
        ValueError: The path is a folder, or an option is out of its range.
        OutboxError: (from an operation) See ``hint``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        now: Callable[[], float] = time.time,
        busy: float = 5.0,
        timeout: float = 15.0,
    ) -> None:
        self._now = now
        self._worker = SqliteWorker(path, prepare=self._prepare, busy=busy, timeout=timeout)

    def __repr__(self) -> str:
        return f"SqliteOutboxStore({str(self._worker.path)!r})"

    async def put(self, draft: Draft) -> str:
        """Store *draft* durably; return its id, or that of the pending item that it duplicates."""
        intent = draft.intent
        text = intent.to_json()

        def put(database: sqlite3.Connection) -> str:
            now = self._now()
            expires = now + draft.lifetime
            lane = (intent.origin, intent.endpoint)
            blocked = draft.ordered and database.execute(sql.IS_BLOCKED, lane).fetchone()[0]
            due = min(now + draft.delay, expires)
            row = (draft.id, *lane, draft.ordered, blocked, due, now, expires, draft.dedupe, text, draft.error)
            return str(database.execute(sql.PUT, row).fetchone()[0])

        return await self._worker.write(put)

    async def claim(self, origin: str, *, limit: int, seconds: float, skip: Collection[str] = ()) -> list[Entry]:
        """Lease at most *limit* items of *origin* that are due, the longest due first, for *seconds*."""
        lease, skipped = secrets.token_hex(8), sql.names(skip)

        def claim(database: sqlite3.Connection) -> list[tuple[Any, ...]]:
            now = self._clock(database)
            given = {
                "lease": lease, "until": now + seconds, "now": now, "origin": origin, "limit": limit, "skip": skipped
            }  # fmt: skip
            return database.execute(sql.CLAIM, given).fetchall()

        rows = await self._worker.write(claim)
        return sorted((sql.entry_of(row) for row in rows), key=lambda entry: entry.number)

    async def extend(self, item: str, lease: str, seconds: float) -> bool:
        """Let the lease end *seconds* from now."""
        return await self._update(sql.EXTEND, lambda: (self._now() + seconds, item, lease))

    async def retry_at(self, item: str, lease: str, delay: float, *, error: str | None, counted: bool = True) -> bool:
        """Give the item back, to be claimed *delay* seconds from now or when it expires."""
        return await self._update(sql.RETRY_AT, lambda: (self._now() + delay, error, not counted, item, lease))

    async def ack(self, item: str, lease: str, *, status: int | None, body: bytes = b"") -> bool:
        """Record that the item was delivered, and what was answered."""
        return await self._release(sql.SETTLE, lambda: (_DELIVERED, None, status, body, self._now(), item, lease))

    async def bury(self, item: str, lease: str, *, error: str, status: int | None = None, body: bytes = b"") -> bool:
        """Record that the item will not be delivered, and why."""
        return await self._release(sql.SETTLE, lambda: (_DEAD, error, status, body, self._now(), item, lease))

    async def stats(self) -> Stats:
        """Count."""

        def stats(database: sqlite3.Connection) -> Stats:
            now = self._now()
            counts = dict(database.execute(sql.COUNTS).fetchall())
            lanes = database.execute(sql.PENDING, {"now": now}).fetchall()
            return Stats(
                pending=sum(lane[2] for lane in lanes),
                leased=sum(lane[3] for lane in lanes),
                delivered=counts.get(_DELIVERED, 0),
                dead=counts.get(_DEAD, 0),
                oldest=max((max(0.0, now - lane[4]) for lane in lanes), default=0.0),
                endpoints={(lane[0], lane[1]): lane[2] for lane in lanes},
            )

        return await self._worker.read(stats)

    async def page(self, state: State | None = None, *, after: int = 0, limit: int = 100) -> list[Entry]:
        """Return at most *limit* items with a number above *after*, by number."""
        least, most = (0, len(STATES)) if state is None else (STATES.index(state),) * 2
        rows = await self._worker.read(
            lambda database: database.execute(sql.PAGE, (after, least, most, limit)).fetchall()
        )
        return [sql.entry_of(row) for row in rows]

    async def get(self, item: str) -> Entry | None:
        """Return one item, or None where there is no such."""
        row = await self._worker.read(lambda database: database.execute(sql.GET, (item,)).fetchone())
        return None if row is None else sql.entry_of(row)

    async def revive(self, item: str) -> bool:
        """Make a dead or a waiting item pending and due now, with no attempts and no expiry; return whether it was."""
        # It may be older than the one whose turn it is.
        return await self._release(sql.REVIVE, lambda: {"now": self._now(), "id": item}, first=sql.BLOCK)

    async def drop(self, item: str) -> bool:
        """Forget an item, whatever its state; return whether it was there."""
        return await self._release(sql.DROP, lambda: (item,))

    async def purge(self, state: State, seconds: float) -> int:
        """Forget the items that have been in the final *state* for *seconds* or longer; return how many."""

        def purge(database: sqlite3.Connection) -> int:
            return database.execute(sql.PURGE, (STATES.index(state), self._now() - seconds, _PURGED)).rowcount

        total = 0
        while (gone := await self._worker.write(purge)) == _PURGED:
            total += gone
        return total + gone

    async def aclose(self) -> None:
        """Let go of the file; the next operation opens it anew."""
        await asyncio.shield(self._worker.aclose())

    async def _update(self, statement: str, values: Callable[[], tuple[Any, ...]]) -> bool:
        return await self._worker.write(lambda database: database.execute(statement, values()).rowcount == 1)

    async def _release(self, statement: str, values: Callable[[], Any], *, first: str | None = None) -> bool:
        """Run *statement*, after which the next item of an ordered endpoint may have become the oldest."""

        def release(database: sqlite3.Connection) -> bool:
            row = database.execute(statement, values()).fetchone()
            if row is not None and row[0]:
                if first is not None:
                    database.execute(first, row[1:])
                database.execute(sql.UNBLOCK, row[1:])
            return row is not None

        return await self._worker.write(release)

    def _prepare(self, database: sqlite3.Connection) -> None:
        sql.migrate(database)
        latest = database.execute(sql.LATEST).fetchone()[0]
        self._seen = self._now() if latest is None else float(latest)

    def _clock(self, database: sqlite3.Connection) -> float:
        now = self._now()
        if now < self._seen - 60.0:
            # The clock was set back: what was to happen soon would be in the far future.
            database.execute(sql.ALL_DUE, (now, now))
        self._seen = now
        return now
