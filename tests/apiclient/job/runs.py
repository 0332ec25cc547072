"""Jobs as the tests run them: in this process, on files of a temporary folder."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from apiclient import ApiClient, default_pipeline
from apiclient._jsonl import parse_line
from apiclient.job import Job, Options, Queue
from apiclient.job._loader import Loader
from apiclient.job._source import Source
from apiclient.middleware import Retry
from apiclient.stores.redis_queue_store import RedisQueueStore


def write(path: Path, lines: Iterable[Any]) -> Path:
    """Write *lines*, as JSON where they are not bytes."""
    with path.open("wb") as file:
        for line in lines:
            file.write((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    """Return the lines of *path*, parsed."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def things(count: int, **more: Any) -> list[dict[str, Any]]:
    """Return *count* requests with ids from 0."""
    return [{"id": number, "path": "/things/{n}", "path_params": {"n": number}, **more} for number in range(count)]


async def loaded(store: RedisQueueStore, source: Path) -> Queue:
    """Load *source* into *store*."""
    facts, _ = await Loader(store, Source(str(source), parse_line)).run()
    return Queue(store, facts)


def runner(queue: Queue, url: str, output: Path, **options: Any) -> Job:
    """Return a job that takes its lines from *queue*."""
    client = ApiClient(url, pipeline=default_pipeline(telemetry=False).replace(Retry, Retry(attempts=2)))
    given = Options(source="queue", output=str(output), target=url, **{"concurrency": 4, **options})
    return Job(client, given, notice=lambda _: None, queue=queue)


def job(url: str, source: Path | str, output: Path | str, **options: Any) -> Job:
    """Return a job; *options* for it, and ``client``, and ``notices`` (a list)."""
    notices: list[str] = options.pop("notices", [])
    client = options.pop("client", None)
    if client is None:
        client = ApiClient(url, pipeline=default_pipeline(telemetry=False).replace(Retry, Retry(attempts=2)))
    given = Options(source=str(source), output=str(output), target=url, **{"concurrency": 4, **options})
    return Job(client, given, notice=notices.append)


async def run(url: str, source: Path | str, output: Path | str, **options: Any) -> int:
    """Run a job and return its exit code."""
    return await job(url, source, output, **options).run()
