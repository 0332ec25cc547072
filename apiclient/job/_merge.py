"""Many result files made one: a row for each id."""

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from apiclient._jsonl import key_of, parse_line, with_id
from apiclient._refused import Refused, reason_of
from apiclient.job._checkpoint import dead_of, header_of, letter_in, object_in, whole_lines
from apiclient.job._ids import Ids, digest_of
from apiclient.job._source import Source


class Merged(NamedTuple):
    """What a merge found.

    Attributes:
        ok: Successes.
        failed: Failures.
        repeated: Rows left out because their lines were run more than once.
        missing: Lines without a result, or None where the number of lines is not known.
        rest: Where these lines are, or None where there are none, or the input was not given.
    """

    ok: int
    failed: int
    repeated: int
    missing: int | None
    rest: Path | None


def merge_results(paths: Sequence[Path], target: Path, *, source: str | None = None) -> Merged:
    """Write to *target* one row for each id in *paths*; beside it the dead letters, and the lines that are missing.

    Of several rows with one id a success goes before a failure, then the one that began first; what is
    equal in both is ordered by its text. So the outcome does not depend on the order of *paths*.

    Args:
        paths: Results of ``apiclient batch``: of the runners of a queue, or of shards. Files of dead letters among
            them are passed over.
        target: Must not exist.
        source: The input, to find out what is missing.

    Raises:
        Refused: A file cannot be read, is none of results, or belongs to another input; or *target* exists.
    """
    # A pattern such as results-*.jsonl names the dead letters as well; they are read beside their results.
    paths = [path for path in dict.fromkeys(paths) if not path.name.endswith(".dead.jsonl")]
    dead, rest = dead_of(target), target.with_name(f"{target.name.removesuffix('.jsonl')}.missing.jsonl")
    for path in (target, dead, rest):
        if path.exists():
            raise Refused(f"{path}: exists; give another -o")
    lines = _lines_of(paths)
    ids = Ids()
    for path in paths:
        for _, key, _, _ in _rows(path):
            ids.add(digest_of(key))
    best = _best(paths, ids.repeated())
    total = len(ids) - sum(count - 1 for _, count in best.values())
    missing = None if lines is None else lines - total
    if source is not None:
        missing = _missing(source, ids, total, rest)
    ok = failed = 0
    letters = Ids()
    with _writing(target) as output:
        for path in paths:
            for end, key, row, line in _rows(path):
                if key in best and best[key][0][3:] != (str(path), end):
                    continue
                output.write(line)
                if row["ok"]:
                    ok += 1
                else:
                    failed += 1
                    letters.add(digest_of(key))
    if failed:
        _merge_letters(paths, dead, letters)
    return Merged(ok, failed, len(ids) - total, missing, rest if source is not None and missing else None)


def _lines_of(paths: Sequence[Path]) -> int | None:
    """Return of how many lines the input was, where the headers beside *paths* say so."""
    first: tuple[Path, dict[str, Any]] | None = None
    for path in paths:
        header = header_of(path)
        if header is None:
            continue
        if first is None:
            first = path, header
        elif any(header.get(name) != first[1].get(name) for name in ("input", "queue")):
            raise Refused(f"{path}: belongs to another input or queue than {first[0]}; merge what belongs together")
    return None if first is None else first[1].get("lines")


def _rows(path: Path) -> Iterator[tuple[int, str, dict[str, Any], bytes]]:
    try:
        for end, number, line in whole_lines(path):
            row = object_in(line)
            key = None if row is None else key_of(row.get("id"))
            if row is None or key is None or not isinstance(row.get("ok"), bool):
                raise Refused(f"{path}: line {number} is no result of apiclient batch")
            yield end, key, row, line
    except OSError as error:
        raise Refused(f"{path}: cannot be read: {reason_of(error)}") from error


_Rank = tuple[bool, float, bytes, str, int]


def _best(paths: Sequence[Path], repeated: set[int]) -> dict[str, tuple[_Rank, int]]:
    """Return by id the place of the row that counts, and how many there are."""
    best: dict[str, tuple[_Rank, int]] = {}
    if not repeated:
        return best
    for path in paths:
        for end, key, row, line in _rows(path):
            if digest_of(key) in repeated:
                rank = not row["ok"], float(row.get("started_at") or 0), line, str(path), end
                before = best.get(key)
                best[key] = (rank, 1) if before is None else (min(before[0], rank), before[1] + 1)
    return best


def _missing(source: str, ids: Ids, total: int, rest: Path) -> int:
    """Write the lines without a result to *rest*, with the ids that they have in *source*; return how many."""
    missing = count = 0
    with _writing(rest) as output:
        for line in Source(source, parse_line).lines():
            count += 1
            if digest_of(line.key) not in ids:
                missing += 1
                output.write(with_id(line))
        strange = total - (count - missing)
        if strange > 0:
            raise Refused(f"{source}: {strange} of {total} results are of no line in it; is this their input?")
    if not missing:
        rest.unlink()
    return missing


def _merge_letters(paths: Sequence[Path], target: Path, wanted: Ids) -> None:
    written = Ids()
    with _writing(target) as output:
        for path in paths:
            dead = dead_of(path)
            if not dead.exists():
                continue
            for _, _, line in whole_lines(dead):
                key = letter_in(line)
                if key is not None and digest_of(key) in wanted and digest_of(key) not in written:
                    written.add(digest_of(key))
                    output.write(line)


@contextmanager
def _writing(path: Path) -> Generator[IO[bytes]]:
    """Make a file that is there whole, or not at all."""
    fresh = path.with_name(f"{path.name}.new")
    try:
        with fresh.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        raise Refused(f"{path}: cannot be written: {reason_of(error)}") from error
    finally:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
