"""The output of a batch, which is its checkpoint as well: written so that any moment of death can be gone on from."""

import asyncio
import errno
import importlib.util
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from apiclient._batch_model import BatchResult
from apiclient._jsonl import identity_in, key_of
from apiclient._refused import Refused, reason_of
from apiclient.job._ids import Ids, digest_of

# Not there on Windows, where the lock is left out.
_locks: Any = importlib.import_module("fcntl") if importlib.util.find_spec("fcntl") is not None else None

FLUSH_LINES = 256
FLUSH_SECONDS = 0.1
_SYNC_SECONDS = 5.0
_VERSION = 1


Render = Callable[[BatchResult, float], tuple[bytes, bytes | None]]
"""Makes the line of a result that was there at a moment (Unix seconds), and for a failure its dead letter."""


class Checkpoint:
    """Three files: the results, the dead letters, and a header that says what they belong to and is the lock.

    Lines are handed to the operating system in groups, at the latest after 256 lines or 0.1 s, so that the death of
    this process loses no more than that; and to the disk every 5 s.

    Args:
        path: Of the results. The dead letters go to ``NAME.dead.jsonl``, the header to ``NAME.jsonl.run``.
        render: Makes the lines of a result, when they are handed over.
        on_error: Called when results cannot be written any more.

    Attributes:
        run: Names the run, also across resumptions: idempotency keys are made from it.
        done: Ids that have a result.
        ok: Successes among them.
        failed: Failures among them.
        error: What went wrong in writing, or None.
    """

    def __init__(self, path: Path, *, render: Render, on_error: Callable[[], None]) -> None:
        self.path = path
        self.dead_path = dead_of(path)
        self.header_path = _header_path(path)
        self.run = ""
        self.done = Ids()
        self.ok = 0
        self.failed = 0
        self.error: OSError | None = None
        self._render = render
        self._on_error = on_error
        self._taken: list[tuple[BatchResult, float]] = []
        self._output = -1
        self._dead = -1
        self._header = -1
        self._timer: asyncio.TimerHandle | None = None
        self._synced = 0.0
        self._named = False
        self._disk = threading.Lock()

    def __repr__(self) -> str:
        return f"Checkpoint({str(self.path)!r}, {len(self.done)} done)"

    # Opening

    def open(
        self,
        described: Mapping[str, Any],
        *,
        resume: bool,
        retry_failed: bool,
        force: bool,
    ) -> None:
        """Lock, check, and read what is done already.

        Args:
            described: The input and the configuration, as plain data: what a resumption must agree with.
            resume: Go on from what is there.
            retry_failed: Forget failures, so that they are tried again.
            force: Go on although input or configuration differ.

        Raises:
            Refused: Another run has the lock, results exist and are not to be resumed, or belong to something else.
        """
        try:
            self._lock()
            present = _filled(self.path)
            if not resume:
                self._refuse_to_overwrite()
            self._head(described, resume=resume, present=present, force=force)
            if present:
                failures = self._read(forget_failures=retry_failed)
                self._mend_dead(failures)
            self._output = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | _BINARY, 0o644)
        except OSError as error:
            self.close()
            raise Refused(f"{error.filename or self.path}: cannot be written: {reason_of(error)}") from error
        except Refused:
            self.close()
            raise

    def _refuse_to_overwrite(self) -> None:
        if _filled(self.path):
            raise Refused(f"{self.path}: exists; --resume goes on with it, another -o begins anew")
        if _filled(self.dead_path):
            raise Refused(f"{self.dead_path}: exists; move it away, or give another -o")

    def _lock(self) -> None:
        self._header = os.open(self.header_path, os.O_RDWR | os.O_CREAT | _BINARY, 0o644)
        if _locks is not None and not _locked(self._header):
            raise Refused(f"{self.path}: another run is writing it at this moment")

    def _head(self, described: Mapping[str, Any], *, resume: bool, present: bool, force: bool) -> None:
        before = _header_in(os.pread(self._header, 1 << 20, 0)) if resume else None
        if resume and before is None and present and not force:
            raise Refused(f"{self.header_path}: is missing or damaged; --force resumes {self.path} all the same")
        if before is not None and not force:
            for name, value in described.items():
                if before.get(name) != value:
                    raise Refused(
                        f"{self.path}: belongs to another {name} ({_shown(before.get(name))}, now {_shown(value)}); "
                        "--force resumes it all the same"
                    )
        self.run = str(before["run"]) if before is not None and "run" in before else secrets.token_hex(8)
        header = {"version": _VERSION, "run": self.run, "began": datetime.now(UTC).isoformat(), **described}
        if before is not None and "began" in before:
            header["began"] = before["began"]
        # Written before anything is sent: the keys of a run that dies at once must be found again.
        text = json.dumps(header, indent=1).encode() + b"\n"
        os.pwrite(self._header, text, 0)
        os.ftruncate(self._header, len(text))
        os.fsync(self._header)

    def _read(self, *, forget_failures: bool) -> Ids:
        failures = Ids()
        kept = 0
        forgotten = False
        for end, number, line in whole_lines(self.path):
            result = _result_in(line)
            if result is None:
                if end == self.path.stat().st_size:
                    break
                raise Refused(f"{self.path}: line {number} is no result; this is no output of apiclient batch")
            kept = end
            key, ok = result
            if not ok and forget_failures:
                forgotten = True
                continue
            self.done.add(digest_of(key))
            if ok:
                self.ok += 1
            else:
                self.failed += 1
                failures.add(digest_of(key))
        os.truncate(self.path, kept)
        if forgotten:
            _rewrite(self.path, lambda line: bool((result := _result_in(line)) and result[1]))
        return failures

    def _mend_dead(self, failures: Ids) -> None:
        """Keep the dead letters of the failures that have a result, and no others."""
        if not self.dead_path.exists():
            return
        seen = Ids()

        def wanted(line: bytes) -> bool:
            key = letter_in(line)
            if key is None or digest_of(key) not in failures:
                return False
            seen.add(digest_of(key))
            return True

        _rewrite(self.dead_path, wanted)

    # Writing

    def add(self, result: BatchResult, now: float) -> None:
        """Take a result that was there at *now* (Unix seconds)."""
        self._taken.append((result, now))
        if len(self._taken) >= FLUSH_LINES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Hand over what has been taken to the operating system."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        taken, self._taken = self._taken, []
        # Made all at once, which takes half the time that making each by itself does.
        rendered = [self._render(result, now) for result, now in taken]
        lines = [line for line, _ in rendered]
        letters = [letter for _, letter in rendered if letter is not None]
        if self.error is not None:
            self._on_error()
            return
        try:
            # Letters first: a result that is there stands for a letter that is there as well.
            if letters:
                if self._dead < 0:
                    self._dead = os.open(self.dead_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | _BINARY, 0o644)
                    self._named = False
                _write(self._dead, b"".join(letters))
            if lines:
                _write(self._output, b"".join(lines))
        except OSError as error:
            self.error = error
            self._on_error()
            return
        now = asyncio.get_running_loop().time()
        if now - self._synced >= _SYNC_SECONDS:
            self._synced = now
            asyncio.get_running_loop().run_in_executor(None, self._force)

    async def settle(self) -> bool:
        """Hand over what has been taken, wait until the disk has all of it, and return whether it has."""
        self._synced = asyncio.get_running_loop().time()
        self.flush()
        if self.error is None:
            await asyncio.get_running_loop().run_in_executor(None, self._force)
            self.flush()
        return self.error is None

    def _force(self) -> None:
        # One at a time: of an error the system tells one of them only.
        with self._disk:
            try:
                for descriptor in (self._dead, self._output):
                    if descriptor >= 0:
                        os.fsync(descriptor)
                if not self._named and os.name == "posix":
                    # A new file is only there for good once its folder says so.
                    self._named = True
                    folder = os.open(self.path.parent, os.O_RDONLY)
                    try:
                        os.fsync(folder)
                    finally:
                        os.close(folder)
            except OSError as error:
                # A file system that cannot sync at all, or no folders, has not failed to.
                if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
                    self.error = self.error or error

    def close(self) -> None:
        """Close all three, what has been flushed being on the disk, and let go of the lock."""
        if self._timer is not None:
            self._timer.cancel()
        self._force()
        with self._disk:
            for descriptor in (self._dead, self._output, self._header):
                if descriptor >= 0:
                    os.close(descriptor)
            self._dead = self._output = self._header = -1


_BINARY = getattr(os, "O_BINARY", 0)


def dead_of(path: Path) -> Path:
    """Return where the dead letters of the results *path* are."""
    return path.with_name(f"{path.name.removesuffix('.jsonl')}.dead.jsonl")


def header_of(path: Path) -> dict[str, Any] | None:
    """Return the header of the results *path*, or None where there is none that can be read."""
    try:
        return _header_in(_header_path(path).read_bytes())
    except OSError:
        return None


def _header_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.run")


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def whole_lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yield the offset of the end, the number and the text of each line that ends in a line break."""
    end = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            end += len(line)
            yield end, number, line


def _rewrite(path: Path, wanted: Callable[[bytes], bool]) -> None:
    """Leave out the lines that are not *wanted*; the file is replaced in one step, or not at all."""
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("wb") as file:
        file.writelines(line for _, _, line in whole_lines(path) if wanted(line))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _locked(descriptor: int) -> bool:
    try:
        _locks.flock(descriptor, _locks.LOCK_EX | _locks.LOCK_NB)
    except OSError:
        return False
    return True


def _filled(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def object_in(line: bytes) -> dict[str, Any] | None:
    """Return the JSON object in *line*, or None."""
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _result_in(line: bytes) -> tuple[str, bool] | None:
    value = object_in(line)
    if value is None or not isinstance(value.get("ok"), bool):
        return None
    key = key_of(value.get("id"))
    return None if key is None else (key, value["ok"])


def letter_in(line: bytes) -> str | None:
    """Return the id of a dead letter as JSON, or None where it is none."""
    value = object_in(line)
    return None if value is None else key_of(identity_in(value)[1])


def _header_in(text: bytes) -> dict[str, Any] | None:
    value = object_in(text)
    return value if value is not None and value.get("version") == _VERSION else None


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
