"""Process CPU time per call of several contenders, in alternating rounds of one run.

Wall time on loopback mostly measures the other process; what a client library costs its user is CPU time, user and
system, of the client's own process. Machines drift while a benchmark runs, so that contenders are measured in turn,
round after round in a different order, and each round's figure is also divided by the baseline's of that same round.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib
import json
import os
import platform
import random
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

    Call = Callable[[], Awaitable[object]]
    Opened = contextlib.AbstractAsyncContextManager[Call]

_REWARM = 10
_T = TypeVar("_T")


@dataclass(slots=True)
class Contender:
    """One way of making the same request.

    Args:
        name: Short label; the key in the JSON output.
        what: What it is made of, in a few words.
        open: Given the URL of the resource, an async context manager that yields the call to measure. An ImportError
            from it means that the contender is not installed, and leaves it out.
    """

    name: str
    what: str
    open: Callable[[str], Opened]


@dataclass(slots=True)
class Sample:
    """CPU and wall seconds per call of one contender in each round."""

    name: str
    what: str
    cpu: list[float] = field(default_factory=list[float])
    system: list[float] = field(default_factory=list[float])
    wall: list[float] = field(default_factory=list[float])

    def summary(self, base: Sample) -> dict[str, float]:
        """Return figures in microseconds, and ratios to *base*: of minima, of medians, and the rounds' median."""
        return {
            "cpu_min_us": min(self.cpu) * 1e6,
            "cpu_median_us": statistics.median(self.cpu) * 1e6,
            "system_share": sum(self.system) / sum(self.cpu),
            "wall_median_us": statistics.median(self.wall) * 1e6,
            "ratio_of_minima": min(self.cpu) / min(base.cpu),
            "ratio_of_medians": statistics.median(self.cpu) / statistics.median(base.cpu),
            "median_of_ratios": statistics.median(a / b for a, b in zip(self.cpu, base.cpu, strict=True)),
        }


@dataclass(slots=True)
class Outcome:
    """What a run found: samples in the order of the contenders, and why others are missing."""

    samples: list[Sample]
    missing: dict[str, str]
    calls: int


def arguments(description: str, *, rounds: int = 15, requests: int = 500) -> argparse.ArgumentParser:
    """Build the parser that every benchmark here shares."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=positive, default=rounds, help="rounds, each measures every contender once")
    parser.add_argument("--requests", type=positive, default=requests, help="calls per contender and round")
    parser.add_argument("--concurrency", type=positive, default=1, help="calls in flight; 1 awaits one after another")
    parser.add_argument("--uvloop", action="store_true", help="run on uvloop instead of asyncio's own loop")
    parser.add_argument("--only", metavar="TEXT", default="", help="leave out contenders without TEXT in their name")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write every figure of every round to FILE")
    return parser


def positive(text: str) -> int:
    """Read an option that must be at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def run(main: Coroutine[Any, Any, _T], *, uvloop: bool) -> _T:
    """Run *main* on asyncio's loop, or on uvloop's."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if uvloop:
        try:
            factory = cast("Callable[[], asyncio.AbstractEventLoop]", importlib.import_module("uvloop").new_event_loop)
        except ImportError:
            main.close()
            sys.exit("--uvloop: uvloop is not installed")
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


async def alternate(
    contenders: Sequence[Contender], url: str, *, rounds: int, requests: int, concurrency: int = 1, seed: int = 1
) -> Outcome:
    """Measure *contenders* against each other; the first is the baseline and must be there.

    Args:
        contenders: What to compare. All are opened, and warmed up, before the first round.
        url: The resource that each of them gets.
        rounds: How often each of them is measured.
        requests: Calls per contender and round, rounded down to a multiple of *concurrency*.
        concurrency: Calls in flight.
        seed: Decides the order within the rounds.
    """
    chance = random.Random(seed)
    missing: dict[str, str] = {}
    each = max(1, requests // concurrency)
    async with contextlib.AsyncExitStack() as stack:
        calls: dict[str, Call] = {}
        for contender in contenders:
            try:
                calls[contender.name] = await stack.enter_async_context(contender.open(url))
            except ImportError as error:
                missing[contender.name] = str(error)
        samples = [Sample(c.name, c.what) for c in contenders if c.name in calls]
        for call in calls.values():
            await _load(call, each, concurrency)
        # What was built so far is no contender's garbage: keep the collector from walking it in every round.
        gc.collect()
        gc.freeze()
        try:
            for _ in range(rounds):
                for sample in chance.sample(samples, len(samples)):
                    await _round(sample, calls[sample.name], each, concurrency)
        finally:
            gc.unfreeze()
    return Outcome(samples, missing, calls=len(samples) * concurrency * (each + rounds * (_REWARM + each)))


async def _round(sample: Sample, call: Call, each: int, concurrency: int) -> None:
    await _load(call, _REWARM, concurrency)
    gc.collect()
    system, cpu, wall = os.times().system, time.process_time(), time.perf_counter()
    await _load(call, each, concurrency)
    wall, cpu, system = time.perf_counter() - wall, time.process_time() - cpu, os.times().system - system
    count = each * concurrency
    sample.cpu.append(cpu / count)
    sample.system.append(system / count)
    sample.wall.append(wall / count)


async def _load(call: Call, each: int, concurrency: int) -> None:
    if concurrency == 1:
        for _ in range(each):
            await call()
        return
    async with asyncio.TaskGroup() as tasks:
        for _ in range(concurrency):
            tasks.create_task(_load(call, each, 1))


def table(outcome: Outcome) -> str:
    """Lay the figures out, baseline first."""
    base = outcome.samples[0]
    width = max(len(name) for name in [*(s.name for s in outcome.samples), *outcome.missing])
    lines = [f"{'':{width}}  CPU us: min  median   ratio: of minima  of medians  by round   made of"]
    for sample in outcome.samples:
        figures = sample.summary(base)
        lines.append(
            f"{sample.name:{width}}  {figures['cpu_min_us']:11.1f}  {figures['cpu_median_us']:6.1f}"
            f"   {figures['ratio_of_minima']:16.3f}  {figures['ratio_of_medians']:10.3f}"
            f"  {figures['median_of_ratios']:8.3f}   {sample.what}"
        )
    lines += [f"{name:{width}}  not available: {why}" for name, why in outcome.missing.items()]
    return "\n".join(lines)


def machine(*, uvloop: bool) -> str:
    """Say in words what the figures were measured on."""
    cores = os.cpu_count() or 1
    return (
        f"Python {platform.python_version()}, {'uvloop' if uvloop else 'asyncio'}, {platform.system()}, "
        f"{cores} core{'s' if cores > 1 else ''}"
    )


def save(path: Path, outcome: Outcome, **about: object) -> None:
    """Write every round's figures, in seconds, beside the summary; exit with one line if *path* cannot be written."""
    base = outcome.samples[0]
    document: Mapping[str, object] = {
        "about": about,
        "contenders": [
            {
                "name": sample.name,
                "what": sample.what,
                **sample.summary(base),
                "cpu_s": sample.cpu,
                "system_s": sample.system,
                "wall_s": sample.wall,
            }
            for sample in outcome.samples
        ],
        "missing": outcome.missing,
    }
    try:
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        sys.exit(f"--json: {path}: {error.strerror}")
