"""What the outbox can take and give, and what it costs a call that is not deferred.

    python benchmarks/outbox.py [--folder FOLDER] [--items N]

Beside each figure stands what the same disk does without us, measured in the same run: plain ``fsync``, and sqlite3
with one commit per row. A put is acknowledged when its commit is on the disk (``synchronous=FULL``).
"""

import argparse
import asyncio
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from apiclient import ApiClient, Pipeline
from apiclient.middleware import Defer, StatusErrors
from apiclient.middleware.intent import Intent
from apiclient.outbox import Outbox
from apiclient.stores import Draft, SqliteOutboxStore
from apiclient.testing import MockTransport

ORIGIN = "https://api.test"
ROUNDS = 3


def intent(number: int) -> Intent:
    return Intent(
        method="POST",
        origin=ORIGIN,
        path="/v1/orders",
        endpoint="POST /orders",
        headers=(("Accept", "application/json"), ("Content-Type", "application/json")),
        body=b'{"order": %d, "lines": [{"article": "A-100", "count": 3}], "note": "as agreed"}' % number,
        idempotency_key=f"order-{number}",
    )


def plain_fsync(folder: Path, count: int = 500) -> float:
    descriptor = os.open(folder / "plain", os.O_RDWR | os.O_CREAT)
    began = time.perf_counter()
    for number in range(count):
        os.pwrite(descriptor, b"x" * 4096, number * 4096)
        os.fsync(descriptor)
    os.close(descriptor)
    return count / (time.perf_counter() - began)


def plain_sqlite(folder: Path, count: int = 500) -> float:
    database = sqlite3.connect(folder / "plain.db", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE rows (text TEXT)")
    text = intent(1).to_json()
    began = time.perf_counter()
    for _ in range(count):
        database.execute("INSERT INTO rows VALUES (?)", (text,))
    took = time.perf_counter() - began
    database.close()
    return count / took


async def puts(put: Callable[[int], Awaitable[object]], items: int, callers: int) -> float:
    """Return acknowledged puts per second by *callers*, each of which waits for its acknowledgement."""
    numbers = iter(range(items))

    async def caller() -> None:
        for number in numbers:
            await put(number)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return items / (time.perf_counter() - began)


async def through_store(folder: Path, items: int, callers: int) -> float:
    store = SqliteOutboxStore(folder / f"store-{time.monotonic_ns()}.db")
    rate = await puts(lambda number: store.put(Draft(str(number), intent(number))), items, callers)
    await store.aclose()
    return rate


async def through_outbox(folder: Path, items: int, callers: int) -> float:
    outbox = Outbox(folder / f"outbox-{time.monotonic_ns()}.db")
    rate = await puts(lambda number: outbox.put(intent(number)), items, callers)
    await outbox.aclose()
    return rate


async def through_client(folder: Path, items: int, callers: int) -> float:
    outbox = Outbox(folder / f"client-{time.monotonic_ns()}.db")
    body = {"order": 1, "lines": [{"article": "A-100", "count": 3}], "note": "as agreed"}
    async with ApiClient(f"{ORIGIN}/v1", outbox=outbox) as client:
        return await puts(
            lambda number: client.defer("POST", "/orders", json=body, idempotency_key=f"order-{number}"), items, callers
        )


async def claim_and_ack(folder: Path, items: int, limit: int) -> float:
    store = SqliteOutboxStore(folder / f"claim-{time.monotonic_ns()}.db")
    await puts(lambda number: store.put(Draft(str(number), intent(number))), items, 500)
    began = time.perf_counter()
    while entries := await store.claim(ORIGIN, limit=limit, seconds=60):
        await asyncio.gather(*(store.ack(entry.id, str(entry.lease), status=200) for entry in entries))
    rate = items / (time.perf_counter() - began)
    await store.aclose()
    return rate


async def calls(folder: Path, *, defer: bool | None, with_defer: bool, count: int = 2000) -> float:
    """Return microseconds per call that succeeds."""
    transport = MockTransport()
    transport.any().respond(status=200)
    outbox = Outbox(folder / "unused.db")
    pipeline = Pipeline([StatusErrors(), transport])
    if with_defer:
        pipeline = pipeline.before(StatusErrors, Defer(outbox))
    async with ApiClient(ORIGIN, pipeline=pipeline) as client:
        began = time.perf_counter()
        for _ in range(count):
            await client.put("/orders/1", data=b"{}", defer=defer)
        took = time.perf_counter() - began
    assert not (folder / "unused.db").exists(), "the store was touched"
    return took / count * 1e6


async def best(measure: Callable[[], Awaitable[float]]) -> float:
    return max([await measure() for _ in range(ROUNDS)])


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="Where to write; default: a temporary folder.")
    parser.add_argument("--items", type=int, default=20_000, help="Items of each grouped run.")
    options = parser.parse_args()
    items = options.items
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        fsync = statistics.median(plain_fsync(folder) for _ in range(ROUNDS))
        print(f"{'the disk: fsync of 4 KiB':<55}{fsync:>10,.0f} /s")
        print(f"{'the disk: plain sqlite3, one commit per row':<55}{plain_sqlite(folder):>10,.0f} /s")
        rows: list[tuple[str, Callable[[], Awaitable[float]]]] = [
            ("store.put, alone", lambda: through_store(folder, 500, 1)),
            ("store.put, 100 callers", lambda: through_store(folder, items, 100)),
            ("store.put, 1,000 callers", lambda: through_store(folder, items, 1000)),
            ("outbox.put, alone", lambda: through_outbox(folder, 500, 1)),
            ("outbox.put, 100 callers", lambda: through_outbox(folder, items, 100)),
            ("client.defer, 100 callers", lambda: through_client(folder, items // 4, 100)),
            ("claim 100 and ack each", lambda: claim_and_ack(folder, items // 2, 100)),
            ("claim 10 and ack each", lambda: claim_and_ack(folder, items // 10, 10)),
        ]
        for label, measure in rows:
            print(f"{label:<55}{await best(measure):>10,.0f} /s")
        costs: list[tuple[float, float, float]] = [
            (
                await calls(folder, defer=None, with_defer=False),
                await calls(folder, defer=None, with_defer=True),
                await calls(folder, defer=True, with_defer=True),
            )
            for _ in range(3 * ROUNDS)
        ]
        without, unasked, asked = (min(column) for column in zip(*costs, strict=True))
        print(f"{'a call through two middlewares, without Defer':<55}{without:>10.1f} us")
        print(f"{'... with Defer, not to be deferred':<55}{unasked - without:>+10.1f} us")
        print(f"{'... with Defer and defer=True, and it succeeds':<55}{asked - without:>+10.1f} us")


if __name__ == "__main__":
    asyncio.run(main())
