"""The file of a cassette: JSON, one interaction after the other, in the order in which the requests were begun."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from apiclient.testing._interaction import Interaction

AGAIN = (
    'Cassette(path, mode="record"), pytest --apiclient-cassette=record for the fixture, '
    "or --record FILE on the command line"
)
_FORMAT = "apiclient cassette"
_VERSION = 1


class CassetteError(ValueError):
    """A cassette that cannot be used, or a request or answer that it cannot hold; the message says what to do."""


def read_cassette(path: Path) -> list[Interaction]:
    """Return what the file at *path* holds.

    Raises:
        CassetteError: There is none, or it is none of ours, or it was changed or cut.
        OSError: It cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="surrogatepass")
    except FileNotFoundError:
        raise CassetteError(f"There is no cassette at {path}. Record it: {AGAIN}") from None
    except UnicodeDecodeError:
        raise CassetteError(f"{path} is no cassette: it is no text. Give another path, or record it: {AGAIN}") from None
    try:
        whole: Any = json.loads(text)
    except ValueError as error:
        raise CassetteError(f"{path} is no cassette, or is cut off: {error}. Record it again: {AGAIN}") from None
    told: Any = whole
    if not isinstance(whole, dict) or told.get("format") != _FORMAT:
        raise CassetteError(f"{path} is JSON, but no cassette of apiclient. Give another path, or record it: {AGAIN}")
    if told.get("version") != _VERSION:
        raise CassetteError(
            f"{path} has version {told.get('version')!r}, and this apiclient reads version {_VERSION}. "
            f"Use the release that wrote it, or record it again: {AGAIN}"
        )
    found: list[Interaction] = []
    try:
        found.extend(Interaction.from_json(each) for each in told["interactions"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CassetteError(
            f"{path}: interaction {len(found) + 1} is malformed ({type(error).__name__}: {error}). "
            f"Mend it, or record it again: {AGAIN}"
        ) from None
    return found


def write_cassette(path: Path, interactions: Iterable[Any]) -> None:
    """Put *interactions*, as values for JSON, into the file at *path*: in one step, readable by its owner only.

    Raises:
        OSError: It cannot be written; what was there is still there.
    """
    whole = {"format": _FORMAT, "version": _VERSION, "interactions": list(interactions)}
    text = json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(text.encode(errors="surrogatepass"))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
