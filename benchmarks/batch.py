"""A batch from file to file, beside a bare worker-pool loop on aiohttp that reads and writes the same lines.

``python benchmarks/batch.py`` prints requests per second and peak memory of both, and their ratio. Each run is a
process of its own, the two alternate, and the server is a third process. ``--lines 1000000`` is the long form;
the growth of memory is taken against a run of 10,000 lines.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from _measure import machine, positive
from _server import CLIENT_CORE, pin, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_SMALL = 10_000
_IDS = 1000


def write_input(path: Path, lines: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        for number in range(lines):
            request = {
                "id": f"employee-{number}",
                "method": "GET",
                "path": "/employees/{id}",
                "path_params": {"id": number % _IDS},
            }
            file.write(json.dumps(request) + "\n")


async def _bare(base: str, source: Path, output: Path, concurrency: int) -> None:
    """Do by hand what the batch does, without any policy: what an experienced person writes in ten minutes."""
    import aiohttp

    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        with source.open("rb") as lines, output.open("w", encoding="utf-8") as results:

            async def work() -> None:
                for line in lines:
                    request = json.loads(line)
                    began = time.time()
                    url = base + request["path"].format(**request["path_params"])
                    async with session.request(request["method"], url) as response:
                        body = await response.json()
                    result = {
                        "id": request["id"],
                        "ok": response.status < 400,
                        "status": response.status,
                        "attempts": 1,
                        "started_at": round(began, 3),
                        "duration_ms": round((time.time() - began) * 1000, 1),
                        "body": body,
                    }
                    results.write(json.dumps(result) + "\n")

            async with asyncio.TaskGroup() as workers:
                for _ in range(concurrency):
                    workers.create_task(work())


async def _batch(base: str, source: Path, output: Path, concurrency: int) -> None:
    from apiclient import ApiClient
    from apiclient.job import Job, Options, lean_pipeline

    client = ApiClient(base, connections=concurrency, pipeline=lean_pipeline())
    options = Options(source=str(source), output=str(output), target=base, concurrency=concurrency)
    code = await Job(client, options, notice=print).run()
    if code != 0:
        raise RuntimeError(f"the batch ended with {code}")


def loop_factory(*, uvloop: bool) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if not uvloop:
        return None
    return cast("Callable[[], asyncio.AbstractEventLoop]", importlib.import_module("uvloop").new_event_loop)


def _one(options: argparse.Namespace) -> None:
    """Be the process that is measured: reading the input, calling and writing, but not loading modules."""
    pin(CLIENT_CORE)
    for module in ("aiohttp", "apiclient.job") if options.one == "batch" else ("aiohttp",):
        importlib.import_module(module)
    run: Callable[..., Coroutine[Any, Any, None]] = _bare if options.one == "bare" else _batch
    began, cpu = time.perf_counter(), time.process_time()
    with asyncio.Runner(loop_factory=loop_factory(uvloop=options.uvloop)) as runner:
        runner.run(run(options.base, options.source, options.output, options.concurrency))
    figures = {
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(figures))


def _measured(name: str, base: str, source: Path, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    output = folder / f"{name}.jsonl"
    for left in folder.glob(f"{name}.*"):
        left.unlink()
    command = [sys.executable, __file__, "--one", name, "--base", base, "--source", str(source)]
    command += ["--output", str(output), "--concurrency", str(options.concurrency)]
    if options.uvloop:
        command.append("--uvloop")
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    with output.open("rb") as results, source.open("rb") as requests:
        written, wanted = sum(1 for _ in results), sum(1 for _ in requests)
    if written != wanted:
        sys.exit(f"{name} wrote {written} results for {wanted} requests")
    return cast("dict[str, float]", json.loads(done.stdout))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--lines", type=positive, default=20_000, help="requests in the input")
    parser.add_argument("--rounds", type=positive, default=3, help="runs of each, alternating")
    parser.add_argument("--concurrency", type=positive, default=50, help="workers, and connections")
    parser.add_argument("--uvloop", action="store_true", help="run both on uvloop")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to FILE")
    parser.add_argument("--one", choices=("bare", "batch"), help=argparse.SUPPRESS)
    parser.add_argument("--base", help=argparse.SUPPRESS)
    parser.add_argument("--source", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        _one(options)
        return
    with tempfile.TemporaryDirectory() as name, serving() as base:
        folder = Path(name)
        large, small = folder / "large.in", folder / "small.in"
        write_input(large, options.lines)
        write_input(small, _SMALL)
        figures: dict[str, list[dict[str, float]]] = {"bare": [], "batch": []}
        for number in range(options.rounds):
            for each in ("bare", "batch") if number % 2 == 0 else ("batch", "bare"):
                figures[each].append(_measured(each, base, large, folder, options))
        little = {each: _measured(each, base, small, folder, options) for each in figures}
    print(f"{machine(uvloop=options.uvloop)}; {options.lines} lines, {options.concurrency} workers")
    print(f"{'':6}  requests/s  CPU us each  peak MB  over that of {_SMALL} lines")
    for each, rounds in figures.items():
        rate = statistics.median(options.lines / one["seconds"] for one in rounds)
        cpu = statistics.median(one["cpu"] / options.lines * 1e6 for one in rounds)
        peak = max(one["megabytes"] for one in rounds)
        print(f"{each:6}  {rate:10.0f}  {cpu:11.1f}  {peak:7.1f}  {peak - little[each]['megabytes']:+.1f} MB")
    ratios = [bare["seconds"] / batch["seconds"] for bare, batch in zip(figures["bare"], figures["batch"], strict=True)]
    print(f"throughput of the batch over that of the bare loop: {statistics.median(ratios):.3f} (by round: ", end="")
    print(", ".join(f"{ratio:.3f}" for ratio in ratios) + ")")
    if options.json is not None:
        options.json.write_text(json.dumps({"figures": figures, "small": little}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
