"""The tables of the SQLite outbox, and the statements that work on them."""

import json
import math
import sqlite3
from typing import Any

from apiclient.middleware.intent import Intent
from apiclient.stores.outbox_store import STATES, Entry

# Each script takes the file from its place in this tuple to the next version. Never change one that was released.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE items (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            state INTEGER NOT NULL DEFAULT 0,
            origin TEXT NOT NULL,
            endpoint TEXT NOT NULL,
            ordered INTEGER NOT NULL,
            blocked INTEGER NOT NULL,
            due REAL NOT NULL,
            created REAL NOT NULL,
            expires REAL NOT NULL,
            dedupe TEXT,
            lease TEXT,
            attempts INTEGER NOT NULL DEFAULT 0,
            intent TEXT NOT NULL,
            error TEXT,
            status INTEGER,
            body BLOB,
            settled REAL
        )
        """,
        # An item that waits for an older one of its ordered endpoint is blocked, and not in here.
        # It has the endpoint in it so that those of a paused endpoint are passed over without a look at the rows.
        "CREATE INDEX claimable ON items (origin, due, number, endpoint) WHERE state = 0 AND blocked = 0",
        "CREATE INDEX lanes ON items (origin, endpoint, number) WHERE state = 0 AND ordered = 1",
        "CREATE UNIQUE INDEX duplicates ON items (origin, dedupe) WHERE state = 0 AND dedupe IS NOT NULL",
        "CREATE INDEX finals ON items (state, settled) WHERE state > 0",
    ),
)

PUT = """
    INSERT INTO items (id, origin, endpoint, ordered, blocked, due, created, expires, dedupe, intent, error)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (origin, dedupe) WHERE state = 0 AND dedupe IS NOT NULL DO UPDATE SET dedupe = excluded.dedupe
    RETURNING id
"""
IS_BLOCKED = "SELECT EXISTS (SELECT 1 FROM items WHERE state = 0 AND ordered = 1 AND origin = ? AND endpoint = ?)"
UNBLOCK = """
    UPDATE items SET blocked = 0 WHERE number = (
        SELECT number FROM items WHERE state = 0 AND ordered = 1 AND origin = ? AND endpoint = ?
        ORDER BY number LIMIT 1)
"""
COLUMNS = "number, id, state, ordered, due, created, expires, lease, attempts, intent, error, status, body, settled"
CLAIM = f"""
    UPDATE items SET lease = :lease, due = :until, attempts = attempts + 1 WHERE number IN (
        SELECT number FROM items INDEXED BY claimable
        WHERE state = 0 AND blocked = 0 AND origin = :origin AND due <= :now
        AND endpoint NOT IN (SELECT value FROM json_each(:skip))
        ORDER BY due, number LIMIT :limit)
    RETURNING {COLUMNS}, expires <= :now
"""  # noqa: S608 - our own column names
EXTEND = "UPDATE items SET due = ? WHERE id = ? AND lease = ? AND state = 0"
RETRY_AT = """
    UPDATE items SET lease = NULL, due = min(?, expires), error = coalesce(?, error), attempts = attempts - ?
    WHERE id = ? AND lease = ? AND state = 0
"""
SETTLE = """
    UPDATE items SET state = ?, lease = NULL, error = ?, status = ?, body = ?, settled = ?
    WHERE id = ? AND lease = ? AND state = 0
    RETURNING ordered, origin, endpoint
"""
BLOCK = "UPDATE items SET blocked = 1 WHERE state = 0 AND ordered = 1 AND origin = ? AND endpoint = ? AND blocked = 0"
REVIVE = """
    UPDATE items SET state = 0, blocked = ordered, due = :now, attempts = 0, expires = 9e999, dedupe = NULL,
        status = NULL, body = NULL, settled = NULL
    WHERE id = :id AND (state = 2 OR (state = 0 AND lease IS NULL))
    RETURNING ordered, origin, endpoint
"""
DROP = "DELETE FROM items WHERE id = ? RETURNING ordered, origin, endpoint"
# Some at a time, so that others get at the file in between.
PURGE = """
    DELETE FROM items WHERE number IN (
        SELECT number FROM items INDEXED BY finals WHERE state > 0 AND state = ? AND settled <= ? LIMIT ?)
"""
PAGE = f"SELECT {COLUMNS} FROM items WHERE number > ? AND state >= ? AND state <= ? ORDER BY number LIMIT ?"  # noqa: S608
GET = f"SELECT {COLUMNS} FROM items WHERE id = ?"  # noqa: S608
# None of these reads the rows of final items, of which there may be many.
COUNTS = "SELECT state, count(*) FROM items INDEXED BY finals WHERE state > 0 GROUP BY state"
PENDING = """
    SELECT origin, endpoint, count(*), sum(leased), min(created) FROM (
        SELECT origin, endpoint, lease IS NOT NULL AND due > :now AS leased, created
        FROM items INDEXED BY claimable WHERE state = 0 AND blocked = 0
        UNION ALL
        SELECT origin, endpoint, lease IS NOT NULL AND due > :now, created
        FROM items INDEXED BY lanes WHERE state = 0 AND ordered = 1 AND blocked = 1
    ) GROUP BY origin, endpoint
"""
LATEST = """
    SELECT max(created) FROM (
        SELECT created FROM items INDEXED BY claimable WHERE state = 0 AND blocked = 0
        UNION ALL
        SELECT created FROM items INDEXED BY lanes WHERE state = 0 AND ordered = 1 AND blocked = 1
    )
"""
ALL_DUE = "UPDATE items SET due = ? WHERE state = 0 AND due > ?"


def migrate(database: sqlite3.Connection) -> None:
    """Bring the file to the version of this program.

    Raises:
        sqlite3.DatabaseError: It is of a later version.
    """
    if _version(database) == len(MIGRATIONS):
        return
    database.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have done it in the meantime.
        version = _version(database)
        for script in MIGRATIONS[version:]:
            for statement in script:
                database.execute(statement)
        database.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        database.execute("COMMIT")
    except BaseException:
        database.rollback()
        raise


def _version(database: sqlite3.Connection) -> int:
    version = int(database.execute("PRAGMA user_version").fetchone()[0])
    if version > len(MIGRATIONS):
        raise sqlite3.DatabaseError(
            f"the outbox has version {version}, this program knows versions up to {len(MIGRATIONS)}"
        )
    return version


def entry_of(row: tuple[Any, ...]) -> Entry:
    """Return the item in *row*: ``COLUMNS``, and perhaps whether it is expired."""
    number, item, state, ordered, due, created, expires, lease, attempts, intent, error, status, body, settled = row[
        :14
    ]
    return Entry(
        number=number,
        id=item,
        state=STATES[int(state)],
        ordered=bool(ordered),
        due=due,
        created=created,
        expires=math.inf if expires is None else expires,
        lease=lease,
        attempts=attempts,
        intent=Intent.from_json(intent),
        error=error,
        status=status,
        body=b"" if body is None else body,
        settled=settled,
        expired=bool(row[14]) if len(row) > 14 else False,
    )


def names(skip: Any) -> str:
    """Return *skip* as the JSON list that ``CLAIM`` takes."""
    return json.dumps(sorted(skip))
