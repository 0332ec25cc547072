"""One outbox for the processes of many machines, kept in Valkey or Redis."""

import math
import secrets
from collections.abc import Callable, Collection
from typing import Any

from apiclient.middleware.errors import OutboxError
from apiclient.middleware.intent import Intent
from apiclient.stores import _redis_outbox_lua as lua
from apiclient.stores._redis_server import RedisServer, StoreUnavailable
from apiclient.stores.outbox_store import Draft, Entry, State, Stats

_FOREVER = 9e99
_PURGED = 500


class RedisOutboxStore:
    """Keeps items on one server, for any number of processes on any number of machines.

    Times are those of the server's clock. How durable an item is that ``put`` returned for is up to the server:
    see ``durable``. On a cluster one outbox lies on one node.

    Args:
        server: Where it keeps them.
        namespace: Begins the names of its keys.
        name: Of this outbox, where there are several.
        durable: Whether ``put`` and the recording of outcomes wait until the server has written its append-only file
            to the disk (``WAITAOF``, Redis 7.2 and Valkey). None means where the server can; True makes it an error
            where it cannot; False never waits.
        replicas: Replicas that must have written it to their disks too; where the server cannot say so, that must have
            it in memory (``WAIT``).
        patience: Most seconds of an operation, the wait for the disk included.
        now: For tests: Unix seconds in place of the server's clock.

    Raises:
        ValueError: An option is out of its range.
        OutboxError: (from an operation) See ``hint``.
    """

    def __init__(
        self,
        server: RedisServer,
        *,
        namespace: str,
        name: str = "default",
        durable: bool | None = None,
        replicas: int = 0,
        patience: float = 5.0,
        now: Callable[[], float] | None = None,
    ) -> None:
        if not name:
            raise ValueError("name must not be empty, got ''")
        if replicas < 0:
            raise ValueError(f"replicas must be at least 0, got {replicas!r}")
        if not patience > 0:
            raise ValueError(f"patience must be above 0 seconds, got {patience!r}")
        self._server = server
        self._base = f"{namespace}:{{outbox:{name}}}"
        self._durable = durable
        self._replicas = replicas
        self._patience = patience
        self._now = now

    def __repr__(self) -> str:
        return f"RedisOutboxStore({self._server!r}, {self._base!r})"

    async def put(self, draft: Draft) -> str:
        """Store *draft*, durably where the server can; return its id, or that of the item that it duplicates."""
        intent = draft.intent
        stored = await self._wrote(
            lua.PUT, draft.id, intent.origin, intent.endpoint, int(draft.ordered), draft.delay,
            min(draft.lifetime, _FOREVER), _text(draft.dedupe), intent.to_json(), _text(draft.error)
        )  # fmt: skip
        if stored is None:
            raise OutboxError(f"The outbox has an item {draft.id!r} already")
        return _str(stored)

    async def claim(self, origin: str, *, limit: int, seconds: float, skip: Collection[str] = ()) -> list[Entry]:
        """Lease at most *limit* items of *origin* that are due, the longest due first, for *seconds*."""
        rows = await self._ran(lua.CLAIM, origin, limit, seconds, secrets.token_hex(8), *skip)
        return sorted((_entry(row) for row in rows), key=lambda entry: entry.number)

    async def extend(self, item: str, lease: str, seconds: float) -> bool:
        """Let the lease end *seconds* from now."""
        return bool(await self._ran(lua.EXTEND, item, lease, seconds))

    async def retry_at(self, item: str, lease: str, delay: float, *, error: str | None, counted: bool = True) -> bool:
        """Give the item back, to be claimed *delay* seconds from now or when it expires."""
        delay = min(delay, _FOREVER)
        return bool(await self._wrote(lua.RETRY_AT, item, lease, delay, _text(error), int(counted)))

    async def ack(self, item: str, lease: str, *, status: int | None, body: bytes = b"") -> bool:
        """Record that the item was delivered, and what was answered."""
        known = "" if status is None else status
        return bool(await self._wrote(lua.SETTLE, item, lease, "delivered", "", known, body))

    async def bury(self, item: str, lease: str, *, error: str, status: int | None = None, body: bytes = b"") -> bool:
        """Record that the item will not be delivered, and why."""
        known = "" if status is None else status
        return bool(await self._wrote(lua.SETTLE, item, lease, "dead", error, known, body))

    async def stats(self) -> Stats:
        """Count."""
        pending, leased, delivered, dead, oldest, flat = await self._ran(lua.STATS)
        lanes: dict[tuple[str, str], int] = {}
        for lane, count in zip(flat[::2], flat[1::2], strict=True):
            origin, _, endpoint = _str(lane).partition(" ")
            lanes[origin, endpoint] = int(count)
        return Stats(
            pending=pending, leased=leased, delivered=delivered, dead=dead, oldest=float(oldest), endpoints=lanes
        )

    async def page(self, state: State | None = None, *, after: int = 0, limit: int = 100) -> list[Entry]:
        """Return at most *limit* items with a number above *after*, by number."""
        return [_entry(row) for row in await self._ran(lua.PAGE, "all" if state is None else state, after, limit)]

    async def get(self, item: str) -> Entry | None:
        """Return one item, or None where there is no such."""
        rows = await self._ran(lua.GET, item)
        return _entry(rows[0]) if rows else None

    async def revive(self, item: str) -> bool:
        """Make a dead or a waiting item pending and due now, with no attempts and no expiry; return whether it was."""
        return bool(await self._wrote(lua.REVIVE, item))

    async def drop(self, item: str) -> bool:
        """Forget an item, whatever its state; return whether it was there."""
        return bool(await self._wrote(lua.DROP, item))

    async def purge(self, state: State, seconds: float) -> int:
        """Forget the items that have been in the final *state* for *seconds* or longer; return how many."""
        total = 0
        while (gone := int(await self._ran(lua.PURGE, state, seconds, _PURGED))) == _PURGED:
            total += gone
        return total + gone

    async def aclose(self) -> None:
        """Close the connections; the next operation opens new ones."""
        await self._server.aclose()

    async def _ran(self, source: str, *arguments: Any) -> Any:
        now = "" if self._now is None else repr(self._now())
        try:
            return await self._server.script(source, [self._base], now, *arguments, patience=self._patience)
        except StoreUnavailable as error:
            raise _unreachable(error) from error

    async def _wrote(self, source: str, *arguments: Any) -> Any:
        """Run *source*, and wait until what it wrote is as durable as it is meant to be."""
        if self._durable is False:
            return await self._ran(source, *arguments)
        now = "" if self._now is None else repr(self._now())
        try:
            answer, kept = await self._server.durable_script(
                source,
                [self._base],
                now,
                *arguments,
                replicas=self._replicas,
                patience=self._patience,
                forced=bool(self._durable),
            )
        except StoreUnavailable as error:
            raise _unreachable(error) from error
        if not kept:
            others = f", or {self._replicas} replicas theirs," if self._replicas else ""
            raise OutboxError(
                f"The server did not write its append-only file{others} within {self._patience:g} s; it may be stored",
                hint="Set appendonly yes there and look at its replicas, or durable=False here",
                recoverable=True,
            )
        return answer


def _entry(row: list[Any]) -> Entry:
    number, item, state, ordered, due, created, expires, lease, attempts, intent, error, status, body, settled = row[
        :14
    ]
    until = float(expires)
    return Entry(
        number=int(number),
        id=_str(item),
        state=_str(state),  # type: ignore[arg-type]
        ordered=ordered == b"1",
        due=float(due),
        created=float(created),
        expires=math.inf if until >= _FOREVER / 10 else until,
        lease=None if lease is None else _str(lease),
        attempts=int(attempts),
        intent=Intent.from_json(_str(intent)),
        error=None if error is None else _str(error),
        status=None if status is None else int(status),
        body=b"" if body is None else bytes(body),
        settled=None if settled is None else float(settled),
        expired=bool(row[14]) if len(row) > 14 else False,
    )


def _str(value: bytes) -> str:
    return bytes(value).decode()


def _text(value: str | None) -> str:
    return "" if value is None else value


def _unreachable(error: StoreUnavailable) -> OutboxError:
    return OutboxError(
        f"The outbox cannot be reached: {error}",
        hint="Look whether the server runs, and lets this user run scripts",
        recoverable=True,
    )
