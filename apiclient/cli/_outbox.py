"""The commands of the outbox: look into it, deliver it, and decide about what is dead."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import typer

from apiclient._refused import Refused
from apiclient.cli._clients import client_of, named_client
from apiclient.cli._record import Record, Replay, copied, on_cassette
from apiclient.client import ApiClient
from apiclient.middleware.errors import OutboxError
from apiclient.outbox import Outbox
from apiclient.stores import Entry
from apiclient.stores.outbox_store import State

Value = TypeVar("Value")
_FILE = "APICLIENT_OUTBOX"
_SHORT = 60
_WIDE = 200

app = typer.Typer(help="Calls that are to be made later: look, deliver, decide.", no_args_is_help=True)
File = Annotated[Path | None, typer.Option("--file", help=f"The outbox; or set {_FILE}, or give --client.")]
Client = Annotated[
    str | None, typer.Option("--client", metavar="MODULE:ATTRIBUTE", help="A client of your own, with its outbox.")
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, one object a line, for programs.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="ID...", help="As list shows them.")]


@app.command("list")
def show_list(
    *,
    state: Annotated[str | None, typer.Option(help="pending, delivered or dead; else all.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most items.")] = 100,
    as_json: AsJson = False,
    file: File = None,
    client: Client = None,
) -> int:
    """List the items, the oldest first."""
    chosen = _state(state)

    async def found(outbox: Outbox) -> list[Entry]:
        entries: list[Entry] = []
        async for entry in outbox.items(chosen):
            if len(entries) == limit:
                break
            entries.append(entry)
        return entries

    entries = _with_outbox(file, client, found)
    if as_json:
        return _lines(_facts(entry) for entry in entries)
    from rich.console import Console  # noqa: PLC0415 - only where a table is drawn
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False)
    for column in ("id", "state", "endpoint", "attempts", "created", "due", "error"):
        table.add_column(column, no_wrap=True)
    for entry in entries:
        due = _time(entry.due) if entry.state == "pending" else "-"
        error = "" if entry.error is None else entry.error[:_SHORT]
        created = _time(entry.created)
        table.add_row(entry.id, entry.state, entry.intent.endpoint, str(entry.attempts), created, due, error)
    width = None if sys.stdout.isatty() else _WIDE
    Console(width=width, highlight=False, markup=False).print(table)
    return 0


@app.command()
def show(item: Annotated[str, typer.Argument(metavar="ID")], *, file: File = None, client: Client = None) -> int:
    """Show one item with its request and the answer, as JSON."""
    entry = _with_outbox(file, client, lambda outbox: outbox.get(item))
    if entry is None:
        raise Refused(f"outbox show: there is no item {item!r}", code=1)
    facts = _facts(entry) | {"request": json.loads(entry.intent.to_json())}
    if entry.body:
        facts["answer"] = entry.body.decode("utf-8", "replace")
    sys.stdout.write(json.dumps(facts, indent=2) + "\n")
    return 0


@app.command()
def stats(*, as_json: AsJson = False, file: File = None, client: Client = None) -> int:
    """Count the items by state and endpoint."""
    counted = _with_outbox(file, client, lambda outbox: outbox.stats())
    lanes = [
        {"origin": origin, "endpoint": endpoint, "pending": count}
        for (origin, endpoint), count in sorted(counted.endpoints.items())
    ]
    counts = {name: getattr(counted, name) for name in ("pending", "leased", "delivered", "dead")}
    if as_json:
        return _lines([counts | {"oldest_seconds": round(counted.oldest, 3), "endpoints": lanes}])
    rows = [*counts.items(), ("oldest", f"{counted.oldest:.0f} s")]
    rows += [(f"{lane['endpoint']} at {lane['origin']}", lane["pending"]) for lane in lanes]
    width = max(len(name) for name, _ in rows)
    sys.stdout.write("".join(f"{name:<{width}}  {value}\n" for name, value in rows))
    return 0


@app.command()
def drain(
    *,
    once: Annotated[bool, typer.Option("--once", help="End when nothing is due, even if items wait.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until SIGTERM or Ctrl-C.")] = False,
    timeout: Annotated[float | None, typer.Option(min=0.001, help="Seconds after which to stop.")] = None,
    base_url: Annotated[str | None, typer.Option(help="With --file, in place of --client.")] = None,
    as_json: AsJson = False,
    record: Record = None,
    replay: Replay = None,
    file: File = None,
    client: Client = None,
) -> int:
    """Deliver what is pending. SIGTERM and Ctrl-C end it in good order: what is under way is finished."""
    if follow and (once or timeout is not None):
        raise Refused("outbox drain: --follow excludes --once and --timeout")
    if replay is not None and (client is not None or follow):
        raise Refused("outbox drain: --replay delivers once, from a copy of --file; leave out --client and --follow")
    with contextlib.ExitStack() as stack:
        stack.enter_context(on_cassette(record, replay))
        if client is None:
            path = _path(file) if replay is None else stack.enter_context(copied(_path(file, existing=True)))
            made = client_of(None, base_url, outbox=Outbox(path))
        elif file is not None or base_url is not None:
            raise Refused(
                "outbox drain: --client has an outbox and a base URL of its own; leave out --file and --base-url"
            )
        else:
            made = named_client(client)
        if made.outbox is None:
            raise Refused(f"--client {client}: it has no outbox")
        delivered, dead, left = _run(
            _drained(made, made.outbox, once=once or replay is not None, follow=follow, within=timeout)
        )
    if as_json:
        _lines([{"delivered": delivered, "dead": dead, "left": left}])
    else:
        sys.stdout.write(f"{delivered} delivered, {dead} dead, {left} left\n")
    return 1 if dead else 0


async def _drained(
    client: ApiClient, outbox: Outbox, *, once: bool, follow: bool, within: float | None
) -> tuple[int, int, int]:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def stop() -> None:
        stopping.set()
        outbox.stop()

    with contextlib.suppress(NotImplementedError):
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
    async with client:
        if not follow:
            return await outbox.drain(once=once, timeout=within)
        before = await outbox.stats()
        async with outbox.running():
            await stopping.wait()
        after = await outbox.stats()
        return after.delivered - before.delivered, after.dead - before.dead, after.pending


@app.command()
def retry(
    items: Ids = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every dead letter.")] = False,
    file: File = None,
    client: Client = None,
) -> int:
    """Make dead letters pending again, or waiting items due at once."""
    return _each("retry", items, every, lambda outbox, item: outbox.retry(item), file=file, client=client)


@app.command()
def drop(
    items: Ids = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every dead letter.")] = False,
    file: File = None,
    client: Client = None,
) -> int:
    """Forget items for good."""
    return _each("drop", items, every, lambda outbox, item: outbox.drop(item), file=file, client=client)


@app.command()
def export(
    *,
    state: Annotated[str, typer.Option(help="pending, delivered or dead.")] = "dead",
    file: File = None,
    client: Client = None,
) -> int:
    """Write items as lines that `apiclient batch` takes; they stay in the outbox."""
    chosen = _state(state)

    async def lines(outbox: Outbox) -> list[dict[str, Any]]:
        return [line async for line in outbox.export(chosen)]

    return _lines(_with_outbox(file, client, lines))


def _each(
    verb: str,
    items: list[str] | None,
    every: bool,  # noqa: FBT001 - as typer hands it on
    work: Callable[[Outbox, str], Awaitable[bool]],
    *,
    file: Path | None,
    client: str | None,
) -> int:
    if bool(items) == every:
        raise Refused(f"outbox {verb}: name items, or say --all for every dead letter")

    async def run(outbox: Outbox) -> tuple[int, list[str]]:
        chosen = [entry.id async for entry in outbox.items("dead")] if every else items or []
        missed = [item for item in chosen if not await work(outbox, item)]
        return len(chosen) - len(missed), missed

    done, missed = _with_outbox(file, client, run)
    sys.stdout.write(f"{done} done\n")
    for item in missed:
        sys.stderr.write(f"apiclient: outbox {verb}: {item!r} is not there, or not in a state for that\n")
    return 1 if missed else 0


def _with_outbox(file: Path | None, client: str | None, work: Callable[[Outbox], Awaitable[Value]]) -> Value:
    if client is not None and file is not None:
        raise Refused("--file and --client exclude each other: the client has an outbox of its own")
    found = Outbox(_path(file, existing=True)) if client is None else named_client(client).outbox
    if found is None:
        raise Refused(f"--client {client}: it has no outbox")
    outbox = found

    async def run() -> Value:
        try:
            return await work(outbox)
        finally:
            await outbox.aclose()

    return _run(run())


def _run(work: Coroutine[Any, Any, Value]) -> Value:
    try:
        return asyncio.run(work)
    except OutboxError as error:
        raise Refused(f"{error.message}. {error.hint}", code=1) from error


def _path(file: Path | None, *, existing: bool = False) -> Path:
    given = os.environ.get(_FILE) if file is None else file
    if not given:
        raise Refused(f"say which outbox: --file PATH, or --client module:attribute, or set {_FILE}")
    path = Path(given)
    if path.is_dir() or (existing and not path.exists()):
        raise Refused(f"--file {path}: {'is a folder' if path.is_dir() else 'there is no such file'}")
    return path


def _state(text: str | None) -> State | None:
    for state in get_args(State):
        if text == state:
            found: State = state
            return found
    if text is not None:
        raise Refused(f"--state must be pending, delivered or dead, got {text!r}")
    return None


def _facts(entry: Entry) -> dict[str, Any]:
    intent = entry.intent
    return {
        "id": entry.id,
        "state": entry.state,
        "origin": intent.origin,
        "endpoint": intent.endpoint,
        "idempotency_key": intent.idempotency_key,
        "attempts": entry.attempts,
        "created": _time(entry.created),
        "due": _time(entry.due) if entry.state == "pending" else None,
        "expires": _time(entry.expires) if entry.expires < 1e15 else None,
        "settled": None if entry.settled is None else _time(entry.settled),
        "being_delivered": entry.lease is not None,
        "status": entry.status,
        "error": entry.error,
    }


def _time(seconds: float) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (OverflowError, ValueError, OSError):
        return f"{seconds:g}"


def _lines(objects: Any) -> int:
    for each in objects:
        sys.stdout.write(json.dumps(each) + "\n")
    return 0
