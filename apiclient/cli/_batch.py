"""``apiclient batch``: a job, its progress on stderr, its signals, its summary."""

import asyncio
import importlib
import json
import re
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from apiclient._refused import Refused, reason_of
from apiclient.client import ApiClient
from apiclient.job import Job, Options, Progress, Queue, Statistics
from apiclient.job._report import page
from apiclient.job._results import statistics_of

_LINES_EVERY = 5.0
_LIVE_EVERY = 0.25
_NOTICES = 20
_TOP = 5
_PASSWORD = re.compile(r"(://[^/@:]*:)[^/@]*(?=@)|([?&]password=)[^&]*")  # of a URL


class Voice:
    """What is said on stderr: a bounded number of notices, whatever the display is."""

    def __init__(self, *, quiet: bool) -> None:
        self._left = _NOTICES
        self._quiet = quiet
        self.untold = 0
        self.write: Callable[[str], None] = _to_stderr

    def notice(self, text: str) -> None:
        """Say something about a single line of the input."""
        if self._left:
            self._left -= 1
            self.write(f"apiclient: {text}")
        else:
            self.untold += 1

    def say(self, text: str) -> None:
        """Say something that ``--quiet`` leaves out."""
        if not self._quiet:
            self.write(text)


def run_job(
    client: ApiClient,
    options: Options,
    *,
    quiet: bool,
    summary: str | None,
    report: str | None,
    arguments: Sequence[str],
    queue: Queue | None = None,
) -> int:
    """Run a job, on the lines of *queue* where there is one, and return the exit code.

    Raises:
        Refused: Input, output, summary or report cannot be used.
    """
    for name in (summary, report):
        if name is not None and name != "-":
            _check_writable(Path(name))
    voice = Voice(quiet=quiet)
    try:
        job = Job(client, options, notice=voice.notice, queue=queue)
    except ValueError as error:
        raise Refused(f"batch: {error}") from error
    if job.resumed:
        of = "" if job.total is None else f" of {job.total}"
        voice.say(f"going on: {job.resumed}{of} requests have a result already")
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        number, code = runner.run(_run(job, voice, quiet=quiet))
    if voice.untold:
        voice.write(f"apiclient: and {voice.untold} more such lines")
    data = job.statistics.data()
    if summary is not None:
        _write(summary, json.dumps(data) + "\n")
    if report is not None:
        _write(report, page([job.statistics], title=f"{options.source} to {options.target}"))
    if not quiet:
        for line in summary_lines(job.statistics):
            voice.write(line)
    return _ended(job, options, voice, number=number, code=code, arguments=arguments)


def _ended(job: Job, options: Options, voice: Voice, *, number: int | None, code: int, arguments: Sequence[str]) -> int:
    again = f"go on with: apiclient {shlex.join(_resuming(arguments))}"
    resumable = options.output != "-" and options.source != "-"
    if job.output.error is not None:
        voice.write(f"apiclient: {options.output}: cannot be written: {reason_of(job.output.error)}; {again}")
        return code
    if job.stopped is not None:
        cause = job.stopped.__cause__
        hint = getattr(cause, "hint", None) if cause is not None else None
        voice.write(
            f"apiclient: {job.stopped.message}" + (f". {hint}" if hint and hint not in job.stopped.message else "")
        )
        if resumable:
            voice.write(f"apiclient: {again}")
        return code
    if number is not None and (job.total is None or job.resumed + job.statistics.calls < job.total):
        if resumable:
            voice.write(f"apiclient: interrupted; {again}")
        return 128 + number
    if job.failures and options.output != "-":
        voice.write(f"apiclient: {job.failures} failed; see {_dead_of(job)}")
    return code


def _dead_of(job: Job) -> str:
    return str(getattr(job.output, "dead_path", ""))


def _resuming(arguments: Sequence[str]) -> list[str]:
    kept = [_PASSWORD.sub(r"\1\2***", each) for each in arguments if each not in {"--force", "--retry-failed"}]
    return kept if "--resume" in kept else [*kept, "--resume"]


async def _run(job: Job, voice: Voice, *, quiet: bool) -> tuple[int | None, int]:
    loop = asyncio.get_running_loop()
    received: list[int] = []

    def on_signal(number: int) -> None:
        if not received:
            voice.say("\nending: calls under way get up to 25 s; again to end at once")
        received.append(number)
        job.interrupt()

    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        with suppress(NotImplementedError):
            loop.add_signal_handler(number, on_signal, number)
    display: asyncio.Task[None] | None = None
    if not quiet:
        console = Console(stderr=True)
        display = loop.create_task(_live(job, voice, console) if console.is_terminal else _lines(job, voice))
    try:
        code = await job.run()
    finally:
        if display is not None:
            display.cancel()
            await asyncio.gather(display, return_exceptions=True)
        for number in numbers:
            with suppress(NotImplementedError):
                loop.remove_signal_handler(number)
    return (received[0] if received else None), code


async def _lines(job: Job, voice: Voice) -> None:
    while True:
        await asyncio.sleep(_LINES_EVERY)
        voice.write(progress_line(job.progress()))


async def _live(job: Job, voice: Voice, console: Console) -> None:
    with Live(console=console, auto_refresh=False, transient=True) as live:
        voice.write = lambda text: console.print(text, markup=False, highlight=False)
        try:
            while True:
                live.update(_panel(job.progress()), refresh=True)
                await asyncio.sleep(_LIVE_EVERY)
        finally:
            voice.write = _to_stderr


def _panel(progress: Progress) -> Table:
    table = Table.grid(padding=(0, 2))
    bar = ProgressBar(total=progress.total, completed=progress.done, width=40, pulse=progress.total is None)
    table.add_row(bar, Text(_share(progress)), Text(f"to go {_span(progress.eta)}"))
    both = Table.grid()
    both.add_row(table)
    both.add_row(Text(", ".join(_parts(progress))))
    return both


def progress_line(progress: Progress) -> str:
    """Return *progress* in one line."""
    return ", ".join([_share(progress), *_parts(progress), f"to go {_span(progress.eta)}"])


def _share(progress: Progress) -> str:
    if progress.total is None:
        return f"{progress.done} done"
    share = 100 * progress.done / progress.total if progress.total else 100.0
    return f"{progress.done} of {progress.total} ({share:.1f} %)"


def _parts(progress: Progress) -> list[str]:
    parts = [
        f"{progress.ok} ok",
        f"{progress.failed} failed",
        f"{progress.again} sent again",
        f"{progress.now:.1f}/s now",
        f"{progress.average:.1f}/s on average",
        f"p50 {_span(progress.p50)}",
        f"p95 {_span(progress.p95)}",
        f"{progress.running} under way",
    ]
    if progress.held:
        parts.append(f"{progress.held} waiting for quota")
    if progress.breaker:
        parts.append(f"circuit: {progress.breaker}")
    return parts


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def summary_lines(statistics: Statistics) -> list[str]:
    """Return what *statistics* say, for a person."""
    calls, attempts = statistics.call_latency, statistics.attempt_latency
    done = f"{statistics.calls} calls in {_span(statistics.seconds)}, {statistics.ok} ok, {statistics.failed} failed"
    wire = f"{statistics.wire} wire requests ({statistics.amplification:.3f} per call)"
    lines = [
        f"{done}, {statistics.calls / max(statistics.seconds, 0.001):.1f}/s",
        f"{wire}, {statistics.again} sent again, {statistics.rejected} x 429",
        "calls    " + _distribution(calls),
    ]
    if attempts.count:
        lines.append("attempts " + _distribution(attempts))
    ranked = sorted(statistics.errors.items(), key=lambda entry: -int(entry[1]["count"]))
    for name, error in ranked[:_TOP]:
        lines.append(f"{error['count']} {name}, as {error['example']}: {error['message']}. {error['hint']}")
    return lines


def _distribution(histogram: Any) -> str:
    shares = ", ".join(f"p{share} {_span(histogram.quantile(share / 100))}" for share in (50, 90, 95, 99))
    return f"{shares}, most {_span(histogram.most)}"


def _to_stderr(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _check_writable(path: Path) -> None:
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise Refused(f"{path}: cannot be written: {'is a directory' if path.is_dir() else 'there is no such folder'}")


def _write(name: str, text: str) -> None:
    if name == "-":
        sys.stdout.write(text)
        return
    path = Path(name)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Refused(f"{path}: cannot be written: {reason_of(error)}") from error


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        module = importlib.import_module("uvloop")
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = module.new_event_loop
    return factory


def merged(paths: Sequence[Path]) -> Statistics:
    """Return what the summaries in *paths* say together; results will do where there is no summary.

    Raises:
        Refused: One of them cannot be read, or is none.
    """
    total: Statistics | None = None
    for path in paths:
        try:
            statistics = statistics_of(path)
            if statistics is None:
                statistics = Statistics.of(json.loads(path.read_bytes()))
            else:
                _to_stderr(f"{path}: results tell nothing of endpoints, waits and 429; a summary (--json-summary) does")
        except OSError as error:
            raise Refused(f"{path}: cannot be read: {reason_of(error)}") from error
        except (ValueError, AttributeError, TypeError) as error:
            raise Refused(f"{path}: is no summary of apiclient batch: {error}") from error
        if total is None:
            total = statistics
        else:
            total.merge(statistics)
    if total is None:
        raise Refused("report: name at least one summary")
    return total


__all__ = ["merged", "page", "progress_line", "run_job", "summary_lines"]
