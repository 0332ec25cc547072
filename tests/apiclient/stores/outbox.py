"""What the tests of outbox stores share. A store of another kind joins them in ``STORES``."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from apiclient.middleware.intent import Intent
from apiclient.stores import Draft, MemoryOutboxStore, OutboxStore, SqliteOutboxStore

ORIGIN = "http://api.test"
Make = Callable[["Clock"], OutboxStore]


class Clock:
    """Wall time that goes as it is told."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


# How each store is made, again and again on the same folder; whether it outlives its process.
STORES: dict[str, tuple[Callable[[Path, Clock], OutboxStore], bool]] = {
    "memory": (lambda _, clock: MemoryOutboxStore(now=clock), False),
    "sqlite": (lambda folder, clock: SqliteOutboxStore(folder / "outbox.db", now=clock), True),
}


def intent(number: int = 1, endpoint: str = "POST /orders", origin: str = ORIGIN, **changes: Any) -> Intent:
    method, _, path = endpoint.partition(" ")
    given: dict[str, Any] = {
        "method": method,
        "origin": origin,
        "path": f"/v1{path}?n={number}",
        "endpoint": endpoint,
        "headers": (("Content-Type", "application/json"),),
        "body": b'{"n": %d}' % number,
        "idempotency_key": f"key-{number}",
    }
    return Intent(**(given | changes))


def drafts(count: int, **changes: Any) -> Iterator[Draft]:
    for number in range(1, count + 1):
        yield Draft(f"item-{number}", intent(number))._replace(**changes)
