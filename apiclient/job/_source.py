"""Where the lines of a batch come from: a file, compressed or not, or standard input."""

import asyncio
import gzip
import hashlib
import importlib
import io
import os
import queue
import sys
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from apiclient._jsonl import LONGEST_LINE, BadLine, Line, key_in
from apiclient._refused import Refused, reason_of
from apiclient.job._ids import Ids, digest_of

_CHECKED = 20
_CHUNK = 64
_MODULES_FOR_ZSTD = ("compression.zstd", "zstandard", "backports.zstd")
_LONGEST_NAMED = 5


class Scanned(NamedTuple):
    """What a first pass over the input found.

    Attributes:
        lines: Those that count: requests, and lines that are none; blank ones left out.
        digest: SHA-256 of what was read, after decompression, in hex.
    """

    lines: int
    digest: str


class Source:
    """The input of a batch.

    Args:
        path: A file, ``.gz`` and ``.zst`` decompressed as they are read; or ``-`` for standard input.
        parse: Turns a line and its number into a request.

    Raises:
        Refused: It cannot be read.
    """

    def __init__(self, path: str, parse: Callable[[bytes, int], Line]) -> None:
        self.path = path
        self._parse = parse
        self.streamed = path == "-"
        if not self.streamed:
            with _reading(path):
                pass

    def __repr__(self) -> str:
        return f"Source({self.path!r})"

    def lines(self) -> Iterator[Line]:
        """Yield each line that is not blank.

        Raises:
            Refused: It cannot be read any more.
        """
        for chunk in self.chunks():
            yield from chunk

    def chunks(self) -> Iterator[list[Line]]:
        """Yield the lines, many at a time, which is faster than each by itself; raises as ``lines``."""
        chunk: list[Line] = []
        try:
            for raw, number in self.raw():
                chunk.append(self._parse(raw, number))
                if len(chunk) >= _CHUNK:
                    yield chunk
                    chunk = []
        except Refused:
            yield chunk
            raise
        yield chunk

    def raw(self) -> Iterator[tuple[bytes, int]]:
        """Yield each line that is not blank as it is, and its number; raises as ``lines``."""
        number = 0
        with _reading(self.path) as file:
            try:
                for number, line in enumerate(_whole_lines(file), start=1):
                    if not line.isspace():
                        yield line, number
            except OSError as error:
                raise Refused(f"{self.path}: cannot be read after line {number}: {reason_of(error)}") from error
            except Exception as error:  # each decompressor has errors of its own
                raise Refused(f"{self.path}: is damaged after line {number}: {error}") from error

    async def streamed_lines(self) -> AsyncIterator[Line]:
        """Yield each line of standard input that is not blank, without holding up the event loop."""
        number = 0
        rest = b""
        pipe = StandardInput()
        while chunk := await pipe.read():
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            for line in lines:
                number += 1
                if line and not line.isspace():
                    yield self._parse(line, number)
            if len(rest) > LONGEST_LINE:
                raise Refused(f"standard input: line {number + 1} is over {LONGEST_LINE} bytes")
        if rest and not rest.isspace():
            yield self._parse(rest, number + 1)

    def scan(self, mine: Callable[[int], bool]) -> Scanned:
        """Read everything once, before anything is sent.

        Args:
            mine: Tells which digests of ids are counted.

        Raises:
            Refused: It cannot be read, two lines have one id, or it is no file of requests at all.
        """
        hashed = hashlib.sha256()
        ids = Ids()
        bad: list[BadLine] = []
        count = counted = 0
        for raw, number in self.raw():
            count += 1
            hashed.update(raw)
            if count <= _CHECKED and (line := self._parse(raw, number)).bad is not None:
                bad.append(line.bad)
            digest = digest_of(key_in(raw, number))
            counted += mine(digest)
            ids.add(digest)
        if bad and len(bad) == min(count, _CHECKED):
            first = bad[0]
            raise Refused(
                f"{self.path}: none of the first {len(bad)} lines is a request; line {first.number}: {first.reason}"
            )
        repeated = ids.repeated()
        if repeated:
            self._refuse_repeated(repeated)
        return Scanned(counted, hashed.hexdigest())

    def _refuse_repeated(self, repeated: set[int]) -> None:
        seen: dict[str, int] = {}
        named: list[str] = []
        for line in self.lines():
            if digest_of(line.key) not in repeated:
                continue
            if line.key in seen:
                named.append(f"{line.key} in lines {seen[line.key]} and {line.number}")
            seen.setdefault(line.key, line.number)
        if named:
            more = f", and {len(named) - _LONGEST_NAMED} more" if len(named) > _LONGEST_NAMED else ""
            raise Refused(f"{self.path}: ids must be unique: {'; '.join(named[:_LONGEST_NAMED])}{more}")


class StandardInput:
    """Standard input, read in a thread that nobody waits for: one that waits for a terminal cannot be stopped."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[asyncio.Future[bytes]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def read(self) -> bytes:
        """Return what is there, at least a byte; nothing at the end."""
        loop = asyncio.get_running_loop()
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, args=(loop,), name="stdin", daemon=True)
            self._thread.start()
        answer: asyncio.Future[bytes] = loop.create_future()
        self._asked.put(answer)
        return await answer

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            answer = self._asked.get()
            try:
                # Not through the buffer, whose lock a thread that still waits at the end would hold.
                chunk = os.read(sys.stdin.fileno(), 65536)
            except (OSError, ValueError):
                chunk = b""
            with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
                loop.call_soon_threadsafe(_give, answer, chunk)
            if not chunk:
                return


def _give(answer: asyncio.Future[bytes], chunk: bytes) -> None:
    if not answer.done():
        answer.set_result(chunk)


@contextmanager
def _reading(path: str) -> Generator[IO[bytes]]:
    with ExitStack() as stack:
        try:
            raw = stack.enter_context(Path(path).open("rb"))
        except OSError as error:
            raise Refused(f"{path}: cannot be read: {reason_of(error)}") from error
        if path.endswith(".gz"):
            yield cast("IO[bytes]", stack.enter_context(gzip.open(raw, "rb")))
        elif path.endswith(".zst"):
            yield cast("IO[bytes]", stack.enter_context(io.BufferedReader(_zstd()(raw))))
        else:
            yield raw


def _zstd() -> Callable[[IO[bytes]], Any]:
    for name in _MODULES_FOR_ZSTD:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        return cast("Callable[[IO[bytes]], Any]", module.open)
    raise Refused("a .zst file needs the package zstandard: pip install zstandard")


def _whole_lines(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines; of one that is too long only so much as shows that."""
    while line := file.readline(LONGEST_LINE + 1):
        yield line
        while len(line) > LONGEST_LINE and not line.endswith(b"\n"):
            line = file.readline(LONGEST_LINE + 1)
            if not line:
                return
