"""The demonstration on a terminal, or in plain lines."""

import asyncio
import sys
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from apiclient.demo import Account, Kind, Tally, run_demo

_EVERY = 1.0


def show_demo(*, seed: int, plain: bool) -> int:
    """Run the demonstration, show how it goes, print its account; return the exit code."""
    live = not plain and sys.stdout.isatty()
    account = asyncio.run(_live(seed) if live else _plain(seed))
    sys.stdout.write("\n" + "\n".join(account.lines) + "\n")
    return 0 if account.ok else 1


async def _plain(seed: int) -> Account:
    sys.stdout.write("A local API with tokens that expire, quotas, and failures; a batch of every kind of request.\n")
    return await run_demo(_ticker(asyncio.get_running_loop().time), seed=seed)


def _ticker(time: Callable[[], float]) -> Callable[[Tally, list[Kind]], None]:
    began = time()
    last = began

    def tell(tally: Tally, groups: list[Kind]) -> None:
        nonlocal last
        total = sum(len(kind.requests) for kind in groups)
        if time() - last >= _EVERY or tally.calls == total:
            last = time()
            sys.stdout.write(f"{last - began:5.1f} s  {_line(tally, total)}\n")
            sys.stdout.flush()

    return tell


def _line(tally: Tally, total: int) -> str:
    return (
        f"{tally.calls} of {total} calls, {tally.wire} wire requests, {tally.retries} sent again, "
        f"{tally.rejected} x 429, {tally.tokens} tokens"
    )


async def _live(seed: int) -> Account:
    console = Console()
    table = Table.grid()
    bars = Progress(
        TextColumn("{task.description:<22}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )
    table.add_row(bars)
    tasks: dict[str, TaskID] = {}

    def tell(tally: Tally, groups: list[Kind]) -> None:
        for kind in groups:
            if kind.title not in tasks:
                ends = "" if isinstance(kind.expected, int) else f"ends as {kind.expected}"
                tasks[kind.title] = bars.add_task(kind.title, total=len(kind.requests), note=ends)
            bars.update(tasks[kind.title], completed=tally.done[kind.title])
        total = sum(len(kind.requests) for kind in groups)
        if "all" not in tasks:
            tasks["all"] = bars.add_task("[bold]all[/]", total=total, note="")
        note = f"{tally.wire} wire requests, {tally.retries} sent again, {tally.rejected} x 429, {tally.tokens} tokens"
        bars.update(tasks["all"], completed=tally.calls, note=note)

    console.print("A local API with tokens that expire, quotas, and failures; a batch of every kind of request.")
    with bars:
        return await run_demo(tell, seed=seed)
