"""An outbox store on Postgres, 12 or later: the protocol ``apiclient.stores.OutboxStore``."""

import asyncio
import contextlib
import math
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, LiteralString

import psycopg
from psycopg.sql import SQL, Composed, Identifier
from psycopg_pool import AsyncConnectionPool

from apiclient.errors import OutboxError
from apiclient.middleware.intent import Intent
from apiclient.stores import Draft, Entry, Stats
from apiclient.stores.outbox_store import State

Connection = psycopg.AsyncConnection[Any]

# All times are the server's. {now} is its clock, or in tests a number.
_SCHEMA: tuple[LiteralString, ...] = (
    """
    CREATE TABLE IF NOT EXISTS {table} (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        id text NOT NULL UNIQUE,
        state text NOT NULL DEFAULT 'pending',
        origin text NOT NULL,
        endpoint text NOT NULL,
        ordered boolean NOT NULL,
        due float8 NOT NULL,
        created float8 NOT NULL,
        expires float8 NOT NULL,
        dedupe text,
        lease text,
        attempts int NOT NULL DEFAULT 0,
        intent text NOT NULL,
        error text,
        status int,
        body bytea NOT NULL DEFAULT '',
        settled float8
    )
    """,
    "CREATE INDEX IF NOT EXISTS {due} ON {table} (origin, due, number) WHERE state = 'pending'",
    "CREATE INDEX IF NOT EXISTS {lanes} ON {table} (origin, endpoint, number) WHERE state = 'pending' AND ordered",
    """
    CREATE UNIQUE INDEX IF NOT EXISTS {twins} ON {table} (origin, dedupe)
    WHERE state = 'pending' AND dedupe IS NOT NULL
    """,
    "CREATE INDEX IF NOT EXISTS {finals} ON {table} (state, settled) WHERE state <> 'pending'",
)
# Of two with one name the later changes nothing, and is answered with the earlier.
_PUT = """
    INSERT INTO {table} (id, origin, endpoint, ordered, due, created, expires, dedupe, intent, error)
    SELECT %(id)s, %(origin)s, %(endpoint)s, %(ordered)s, least(now + %(delay)s, now + %(lifetime)s), now,
        now + %(lifetime)s, %(dedupe)s, %(intent)s, %(error)s
    FROM (SELECT {now} AS now) AS clock
    ON CONFLICT (origin, dedupe) WHERE state = 'pending' AND dedupe IS NOT NULL DO UPDATE SET dedupe = excluded.dedupe
    RETURNING id
"""
# SKIP LOCKED: what another claimant is just taking is not waited for. A row that it has taken meanwhile is looked at
# again once locked, and is not due any more. Of an ordered endpoint only the oldest that is pending can be taken.
# Materialized: a plan that asked for the rows once for each that it updates would take more than the limit.
_CLAIM = """
    WITH next AS MATERIALIZED (
        SELECT number FROM {table} AS item
        WHERE state = 'pending' AND origin = %(origin)s AND due <= %(at)s AND endpoint <> ALL (%(skip)s)
        AND NOT (ordered AND EXISTS (
            SELECT 1 FROM {table} AS older WHERE older.state = 'pending' AND older.ordered
            AND older.origin = item.origin AND older.endpoint = item.endpoint AND older.number < item.number))
        ORDER BY due, number LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
    UPDATE {table} SET lease = %(lease)s, due = %(at)s + %(seconds)s, attempts = attempts + 1
    WHERE number IN (SELECT number FROM next)
    RETURNING {columns}, expires <= %(at)s
"""
_ALL_DUE = "UPDATE {table} SET due = %(at)s WHERE state = 'pending' AND due > %(at)s"
_EXTEND = "UPDATE {table} SET due = {now} + %(seconds)s WHERE id = %(id)s AND lease = %(lease)s AND state = 'pending'"
_RETRY_AT = """
    UPDATE {table} SET lease = NULL, due = least({now} + %(delay)s, expires), error = coalesce(%(error)s, error),
        attempts = attempts - %(uncounted)s
    WHERE id = %(id)s AND lease = %(lease)s AND state = 'pending'
"""
_SETTLE = """
    UPDATE {table} SET state = %(state)s, lease = NULL, error = %(error)s, status = %(status)s, body = %(body)s,
        settled = {now}
    WHERE id = %(id)s AND lease = %(lease)s AND state = 'pending'
"""
_REVIVE = """
    UPDATE {table} SET state = 'pending', due = {now}, attempts = 0, expires = 'Infinity', dedupe = NULL, status = NULL,
        body = '', settled = NULL
    WHERE id = %(id)s AND (state = 'dead' OR (state = 'pending' AND lease IS NULL))
"""
_STATS = """
    SELECT state, origin, endpoint, count(*), count(*) FILTER (WHERE lease IS NOT NULL AND due > {now}),
        {now} - min(created)
    FROM {table} GROUP BY state, origin, endpoint
"""
_CLOCK = "SELECT {now}"
_LATEST = "SELECT coalesce(max(created), {now}) FROM {table} WHERE state = 'pending'"
_PAGE = """
    SELECT {columns}, false FROM {table}
    WHERE number > %(after)s AND (%(state)s::text IS NULL OR state = %(state)s) ORDER BY number LIMIT %(limit)s
"""
_GET = "SELECT {columns}, false FROM {table} WHERE id = %(id)s"
_DROP = "DELETE FROM {table} WHERE id = %(id)s"
_PURGE = """
    DELETE FROM {table} WHERE number IN (
        SELECT number FROM {table} WHERE state = %(state)s AND settled <= {now} - %(seconds)s LIMIT %(most)s)
"""
_COLUMNS = (
    "number", "id", "state", "ordered", "due", "created", "expires", "lease", "attempts", "intent", "error", "status",
    "body", "settled",
)  # fmt: skip
_STEP_BACK = 60.0
_PURGED = 1000


class PostgresOutboxStore:
    """Keeps items in a table of a Postgres database, for any number of processes.

    Each operation is one transaction. What ``put`` returned for is as durable as the database's commits:
    ``synchronous_commit`` decides (``on``: the disk; ``remote_apply`` with a synchronous standby: both).

    Args:
        conninfo: ``postgresql://user@host/database``, as libpq takes it.
        table: Of this outbox; made where it is missing.
        connections: Most connections.
        patience: Most seconds of an operation.
        now: For tests: Unix seconds in place of the server's clock.

    Raises:
        OutboxError: (from an operation) The database cannot be reached, or refuses.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        table: str = "outbox",
        connections: int = 4,
        patience: float = 5.0,
        now: Callable[[], float] | None = None,
    ) -> None:
        if connections < 1:
            raise ValueError(f"connections must be at least 1, got {connections!r}")
        if not patience > 0:
            raise ValueError(f"patience must be above 0 seconds, got {patience!r}")
        self._conninfo = conninfo
        self._table = table
        self._connections = connections
        self._patience = patience
        self._now = now
        self._seen = -math.inf
        self._pool: AsyncConnectionPool[Connection] | None = None
        self._opening = asyncio.Lock()
        self._given: ContextVar[Connection | None] = ContextVar("given", default=None)

    def __repr__(self) -> str:
        return f"PostgresOutboxStore(table={self._table!r})"

    @contextlib.contextmanager
    def within(self, connection: Connection) -> Iterator[None]:
        """Let what is put meanwhile be part of the transaction on *connection*: stored if that commits, else not."""
        token = self._given.set(connection)
        try:
            yield
        finally:
            self._given.reset(token)

    async def put(self, draft: Draft) -> str:
        """Store *draft*; return its id, or that of the pending item that it duplicates."""
        intent = draft.intent
        given = draft._asdict() | {
            "origin": intent.origin, "endpoint": intent.endpoint, "intent": intent.to_json(), "now": self._time()
        }  # fmt: skip
        connection = self._given.get()
        try:
            if connection is not None:
                cursor = await connection.execute(self._sql(_PUT), given)
                return str((await cursor.fetchone() or [draft.id])[0])
            ((item,),) = await self._rows(_PUT, given)
        except psycopg.errors.UniqueViolation as error:
            raise OutboxError(f"The outbox has an item {draft.id!r} already") from error
        return str(item)

    async def claim(self, origin: str, *, limit: int, seconds: float, skip: Collection[str] = ()) -> list[Entry]:
        """Lease at most *limit* items of *origin* that are due, the longest due first, for *seconds*."""
        given = {
            "lease": secrets.token_hex(8),
            "seconds": seconds,
            "origin": origin,
            "skip": list(skip),
            "limit": limit,
        }
        async with self._transaction() as connection:
            at = await self._moment(connection, _CLOCK)
            if at < self._seen - _STEP_BACK:
                # The clock was set back: what was to happen soon would be in the far future.
                await connection.execute(self._sql(_ALL_DUE), {"at": at})
            self._seen = at
            cursor = await connection.execute(self._sql(_CLAIM), given | {"at": at})
            return sorted((_entry(row) for row in await cursor.fetchall()), key=lambda entry: entry.number)

    async def extend(self, item: str, lease: str, seconds: float) -> bool:
        """Let the lease end *seconds* from now."""
        return await self._changed(_EXTEND, id=item, lease=lease, seconds=seconds) > 0

    async def retry_at(self, item: str, lease: str, delay: float, *, error: str | None, counted: bool = True) -> bool:
        """Give the item back, to be claimed *delay* seconds from now or when it expires."""
        uncounted = 0 if counted else 1
        return await self._changed(_RETRY_AT, id=item, lease=lease, delay=delay, error=error, uncounted=uncounted) > 0

    async def ack(self, item: str, lease: str, *, status: int | None, body: bytes = b"") -> bool:
        """Record that the item was delivered, and what was answered."""
        given = {"id": item, "lease": lease, "state": "delivered", "error": None, "status": status, "body": body}
        return await self._changed(_SETTLE, **given) > 0

    async def bury(self, item: str, lease: str, *, error: str, status: int | None = None, body: bytes = b"") -> bool:
        """Record that the item will not be delivered, and why."""
        given = {"id": item, "lease": lease, "state": "dead", "error": error, "status": status, "body": body}
        return await self._changed(_SETTLE, **given) > 0

    async def stats(self) -> Stats:
        """Count."""
        rows = await self._rows(_STATS, {"now": self._time()})
        pending = [row for row in rows if row[0] == "pending"]
        return Stats(
            pending=sum(row[3] for row in pending),
            leased=sum(row[4] for row in pending),
            delivered=sum(row[3] for row in rows if row[0] == "delivered"),
            dead=sum(row[3] for row in rows if row[0] == "dead"),
            oldest=max((max(0.0, row[5]) for row in pending), default=0.0),
            endpoints={(row[1], row[2]): row[3] for row in pending},
        )

    async def page(self, state: State | None = None, *, after: int = 0, limit: int = 100) -> list[Entry]:
        """Return at most *limit* items with a number above *after*, by number."""
        return [_entry(row) for row in await self._rows(_PAGE, {"after": after, "state": state, "limit": limit})]

    async def get(self, item: str) -> Entry | None:
        """Return one item, or None where there is no such."""
        rows = await self._rows(_GET, {"id": item})
        return _entry(rows[0]) if rows else None

    async def revive(self, item: str) -> bool:
        """Make a dead or a waiting item pending and due now, with no attempts and no expiry; return whether it was."""
        return await self._changed(_REVIVE, id=item) > 0

    async def drop(self, item: str) -> bool:
        """Forget an item, whatever its state; return whether it was there."""
        return await self._changed(_DROP, id=item) > 0

    async def purge(self, state: State, seconds: float) -> int:
        """Forget the items that have been in the final *state* for *seconds* or longer; return how many."""
        total = 0
        while (gone := await self._changed(_PURGE, state=state, seconds=seconds, most=_PURGED)) == _PURGED:
            total += gone
        return total + gone

    async def aclose(self) -> None:
        """Close the connections; the next operation opens new ones."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        try:
            async with asyncio.timeout(self._patience):
                pool = self._pool or await self._opened()
                async with pool.connection() as connection:
                    yield connection
        except psycopg.errors.UniqueViolation:
            raise
        except (psycopg.Error, OSError, TimeoutError) as error:
            said = "no answer in time" if isinstance(error, TimeoutError) else str(error).strip()
            raise OutboxError(
                f"The outbox cannot be reached: {said}",
                hint="Look whether the database runs, and lets this user use the table",
                recoverable=True,
            ) from error

    async def _opened(self) -> "AsyncConnectionPool[Connection]":
        async with self._opening:
            if self._pool is None:
                pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
                    self._conninfo,
                    min_size=1,
                    max_size=self._connections,
                    timeout=self._patience,
                    check=AsyncConnectionPool.check_connection,
                    open=False,
                )
                await pool.open()
                try:
                    async with pool.connection() as connection:
                        # Of several processes that start at once one makes the table.
                        await connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [self._table])
                        for statement in _SCHEMA:
                            await connection.execute(self._sql(statement))
                        self._seen = await self._moment(connection, _LATEST)
                except BaseException:
                    await pool.close()
                    raise
                self._pool = pool
            return self._pool

    async def _moment(self, connection: Connection, query: LiteralString) -> float:
        cursor = await connection.execute(self._sql(query), {"now": self._time()})
        return float((await cursor.fetchone() or [math.nan])[0])

    async def _rows(self, query: LiteralString, given: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        async with self._transaction() as connection:
            cursor = await connection.execute(self._sql(query), given)
            return await cursor.fetchall()

    async def _changed(self, query: LiteralString, **given: Any) -> int:
        async with self._transaction() as connection:
            return (await connection.execute(self._sql(query), given | {"now": self._time()})).rowcount

    def _time(self) -> float | None:
        return None if self._now is None else self._now()

    def _sql(self, query: LiteralString) -> Composed:
        indexes = {name: Identifier(f"{self._table}_{name}") for name in ("due", "lanes", "twins", "finals")}
        now = SQL("coalesce(%(now)s::float8, extract(epoch FROM clock_timestamp())::float8)")
        columns = SQL(", ").join(map(Identifier, _COLUMNS))
        return SQL(query).format(table=Identifier(self._table), now=now, columns=columns, **indexes)


def _entry(row: tuple[Any, ...]) -> Entry:
    found: dict[str, Any] = dict(zip((*_COLUMNS, "expired"), row, strict=True))
    return Entry(**found | {"intent": Intent.from_json(found["intent"]), "body": bytes(found["body"])})
