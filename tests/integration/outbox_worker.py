"""What runs in the processes that test_outbox_kill kills: one that defers, one that delivers."""

import asyncio
import os
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from apiclient import ApiClient, default_pipeline
from apiclient.credentials import StaticToken
from apiclient.middleware import RateLimit
from apiclient.outbox import Outbox, Outcome
from apiclient.shared import Redis
from apiclient.stores import Entry, OutboxStore, SqliteOutboxStore

LEASE = 1.5


class Job(NamedTuple):
    """Where everything is."""

    folder: Path
    url: str
    token: str
    server: str | None = None


def store_of(job: Job) -> OutboxStore:
    """Return the store that all of them share: on a server where there is one, else in a file."""
    return SqliteOutboxStore(job.folder / "outbox.db") if job.server is None else Redis(job.server).outbox("kill")


def client_of(job: Job, outbox: Outbox) -> ApiClient:
    credentials = StaticToken(job.token)
    # Without the limiter, which would spend the short life of a process on feeling its way.
    pipeline = default_pipeline(credentials=credentials, outbox=outbox).without(RateLimit)
    return ApiClient(job.url, pipeline=pipeline, outbox=outbox)


def outbox_of(job: Job, name: str) -> Outbox:
    told = line_file(job.folder / f"told-{name}")

    def tell(entry: Entry, _: Outcome) -> None:
        os.write(told, f"{entry.id}\n".encode())

    return Outbox(store_of(job), lease=LEASE, wait=0.05, max_pause=0.5, poll=0.1, on_delivered=tell)


def line_file(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def produce(job: Job, ready: Connection) -> None:
    """Defer calls for ever, and note each one that was acknowledged."""

    async def run() -> None:
        acknowledged = line_file(job.folder / f"acknowledged-{os.getpid()}")
        outbox = outbox_of(job, str(os.getpid()))

        async def one(worker: int) -> None:
            for number in range(1_000_000):
                name = f"{os.getpid()}-{worker}-{number}"
                ticket = await client.defer(
                    "POST",
                    "/timesheets",
                    params={"delay": 0.05},
                    json={"hours": 1, "name": name},
                    idempotency_key=f"key-{name}",
                )
                os.write(acknowledged, f"{ticket.id} {name}\n".encode())
                await asyncio.sleep(0.03)

        async with client_of(job, outbox) as client:
            ready.send(1)
            await asyncio.gather(*(one(worker) for worker in range(3)))

    asyncio.run(run())


def deliver(job: Job, ready: Connection) -> None:
    """Drain for ever."""

    async def run() -> None:
        outbox = outbox_of(job, str(os.getpid()))
        async with client_of(job, outbox), outbox.running():
            ready.send(1)
            await asyncio.Event().wait()

    asyncio.run(run())
