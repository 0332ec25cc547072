"""``--record FILE`` and ``--replay FILE``: keep what a command sends and gets, and give it again without a network."""

import sqlite3
import tempfile
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from apiclient._refused import Refused, reason_of

Record = Annotated[
    Path | None,
    typer.Option("--record", metavar="FILE", help="Write each wire request and answer, without secrets, for replay."),
]
Replay = Annotated[
    Path | None, typer.Option("--replay", metavar="FILE", help="Answer from what --record wrote; nothing is sent.")
]


@contextmanager
def on_cassette(record: Path | None, replay: Path | None) -> Generator[None]:
    """Record what is sent meanwhile into a cassette at *record*, or answer it from the one at *replay*.

    Raises:
        Refused: Both are given; the file cannot be written or read; or something was asked for that is not in it.
    """
    path = record if record is not None else replay
    if path is None:
        yield
        return
    if record is not None and replay is not None:
        raise Refused("--record and --replay exclude each other")
    from apiclient.testing import Cassette, CassetteError, UnmatchedRequest, set_testing  # noqa: PLC0415 - where asked

    if record is not None and not path.parent.is_dir():
        raise Refused(f"--record {path}: there is no folder {path.parent}")
    try:
        cassette = Cassette(path, mode="record" if replay is None else "replay")
    except (CassetteError, OSError) as error:
        raise Refused(f"--replay {path}: {error if isinstance(error, CassetteError) else reason_of(error)}") from error
    unmatched: list[UnmatchedRequest] = []

    async def answering(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        try:
            return await cassette(request, handler)
        except UnmatchedRequest as error:
            # A batch or an outbox takes it for one failure of many.
            unmatched.append(error)
            raise

    try:
        with (
            set_testing(attempts=None, waits=True, innermost=[answering], tokens=[answering]),
            suppress(UnmatchedRequest),
        ):
            yield
    finally:
        try:
            cassette.save()
        except OSError as error:
            raise Refused(f"--record {path}: cannot be written: {reason_of(error)}") from error
    if unmatched:
        more = f" (and {len(unmatched) - 1} more like it)" if len(unmatched) > 1 else ""
        raise Refused(f"--replay: {unmatched[0]}{more}") from unmatched[0]


@contextmanager
def copied(path: Path) -> Generator[Path]:
    """Give a copy of the SQLite file at *path*, for a while: what a replay delivers is not to be ticked off.

    Raises:
        Refused: It cannot be copied.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        try:
            with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
                source.backup(target)
        except sqlite3.Error as error:
            raise Refused(f"--file {path}: cannot be copied: {error}") from error
        yield copy
