"""``--record FILE``: keep what a command sends and gets, for tests."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from apiclient._refused import Refused, reason_of

Record = Annotated[
    Path | None,
    typer.Option("--record", metavar="FILE", help="Write each wire request and answer, without secrets, for replay."),
]


@contextmanager
def recorded(path: Path | None) -> Generator[None]:
    """Record into a cassette at *path*, if there is one, what is sent meanwhile.

    Raises:
        Refused: The file cannot be written.
    """
    if path is None:
        yield
        return
    from apiclient.testing import Cassette, set_testing  # noqa: PLC0415 - only where it is asked for

    if not path.parent.is_dir():
        raise Refused(f"--record {path}: there is no folder {path.parent}")
    cassette = Cassette(path, mode="record")
    try:
        with set_testing(attempts=None, waits=True, innermost=[cassette], tokens=[cassette]):
            yield
    finally:
        try:
            cassette.save()
        except OSError as error:
            raise Refused(f"--record {path}: cannot be written: {reason_of(error)}") from error
