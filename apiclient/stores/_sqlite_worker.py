"""One SQLite file, one thread that works on it, and one transaction for all who wait at the same moment."""

import asyncio
import contextlib
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

from apiclient.middleware.errors import OutboxError
from apiclient.stores._filesystem import network_filesystem

Value = TypeVar("Value")
Job = Callable[[sqlite3.Connection], Any]
_MOST = 1000
_WAL_RETRY = 0.01


class _Group:
    """The operations of one event loop: those that wait for the next transaction, and those that are in one.

    Attributes:
        waiting: Jobs, and who waits for them.
        busy: Whether a transaction is under way, or about to be.
    """

    def __init__(self) -> None:
        self.waiting: list[tuple[Job, asyncio.Future[Any]]] = []
        self.busy = False


class SqliteWorker:
    """Runs jobs on one database, in a thread of its own.

    Jobs that write and wait at the same moment share a transaction, and with it the wait for the disk; each
    sees its own result. If one of them fails by its own fault, the others are carried out all the same.

    After a fork SQLite takes the parent's locks for the child's own, on every connection that the child opens to the
    same file: the parent might then remove a log that the child writes to. So a child closes what it inherited before
    it opens anything. Where the parent was at work just then that is impossible, and the child gets errors.

    Args:
        path: The file; made with mode 0600 where it is missing.
        prepare: Called with each new connection: migrations.
        busy: Seconds to wait for another process's transaction.
        timeout: Seconds that an operation may take altogether.

    Raises:
        ValueError: The path is a folder, or an option is out of its range.
    """

    _database: sqlite3.Connection | None = None
    _all: ClassVar["WeakValueDictionary[int, SqliteWorker]"] = WeakValueDictionary()

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        prepare: Callable[[sqlite3.Connection], None],
        busy: float,
        timeout: float,
    ) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            raise ValueError(f"path must name a file, got the folder {str(path)!r}")
        if not busy > 0:
            raise ValueError(f"busy must be above 0 seconds, got {busy!r}")
        if not timeout > busy:
            raise ValueError(f"timeout must be above busy ({busy!r} seconds), got {timeout!r}")
        self._prepare = prepare
        self._busy = busy
        self._timeout = timeout
        self._groups: WeakKeyDictionary[asyncio.AbstractEventLoop, _Group] = WeakKeyDictionary()
        self._executor = _thread_of_its_own()
        self._file: tuple[int, int] | None = None
        self._process = os.getpid()
        self._opened_in = 0
        self._at_work: set[int] = set()
        self._inherited: list[Any] = []
        self._all[id(self)] = self

    def write(self, job: Callable[[sqlite3.Connection], Value]) -> "asyncio.Future[Value]":
        """Run *job* inside a transaction; once this returns, what it wrote is on the disk.

        Raises:
            OutboxError: (when awaited) It failed, or did not end in time.
        """
        loop = asyncio.get_running_loop()
        group = self._groups.get(loop)
        if group is None:
            group = self._groups[loop] = _Group()
        done: asyncio.Future[Any] = loop.create_future()
        group.waiting.append((job, done))
        if not group.busy:
            group.busy = True
            # Not at once: whoever else comes in this turn of the loop joins the same transaction.
            loop.call_soon(self._next, loop, group)
        return done

    async def read(self, job: Callable[[sqlite3.Connection], Value]) -> Value:
        """Run *job*, which only reads.

        Raises:
            OutboxError: It failed, or did not end in time.
        """
        done = asyncio.get_running_loop().run_in_executor(self._thread(), self._working, self._look, job)
        try:
            async with asyncio.timeout(self._timeout):
                value: Value = await done
                return value
        except TimeoutError as error:
            raise explained(error, self.path) from error
        except (sqlite3.Error, OSError, ValueError) as error:
            raise explained(error, self.path) from error

    async def aclose(self) -> None:
        """Close the file, after what is under way; the next operation opens it anew."""
        if self._database is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread(), self._working, self._close)

    def shed(self, file: tuple[int, int] | None) -> None:
        """In a forked child, let go of a connection of the parent's.

        Raises:
            sqlite3.OperationalError: It is one to *file*, and was in use at the fork.
        """
        if self._database is not None and self._opened_in != os.getpid():
            self._close()
            if self._torn() and self._file == file:
                raise sqlite3.OperationalError("the process was forked while it was in use")

    def __del__(self) -> None:
        if self._database is not None and self._opened_in == os.getpid():
            self._close()

    def _thread(self) -> ThreadPoolExecutor:
        if self._process != os.getpid():
            self._inherited.append(self._executor)
            self._executor, self._process = _thread_of_its_own(), os.getpid()
        return self._executor

    def _next(self, loop: asyncio.AbstractEventLoop, group: _Group) -> None:
        batch = [(job, done) for job, done in group.waiting[:_MOST] if not done.done()]
        del group.waiting[:_MOST]
        if not batch:
            group.busy = bool(group.waiting)
            if group.busy:
                loop.call_soon(self._next, loop, group)
            return
        run = loop.run_in_executor(self._thread(), self._working, self._run, [job for job, _ in batch])
        # Who waits behind a transaction that hangs has waited as long when it is given up.
        timer = loop.call_later(self._timeout, self._give_up, group, batch)

        def ended(run: "asyncio.Future[list[Any]]") -> None:
            timer.cancel()
            if not run.cancelled():
                self._settle(batch, run.result())
            self._next(loop, group)

        run.add_done_callback(ended)

    def _settle(self, batch: list[tuple[Job, asyncio.Future[Any]]], results: Sequence[Any]) -> None:
        for (_, done), result in zip(batch, results, strict=True):
            if done.done():
                continue
            if isinstance(result, Exception):
                # An error of its own for each: who catches it may write to it.
                error = explained(result, self.path)
                error.__cause__ = result
                done.set_exception(error)
            else:
                done.set_result(result)

    def _give_up(self, group: _Group, batch: list[tuple[Job, asyncio.Future[Any]]]) -> None:
        late = [*batch, *group.waiting]
        group.waiting.clear()
        self._settle(late, [TimeoutError()] * len(late))

    def _working(self, work: Callable[..., Any], *arguments: Any) -> Any:
        self._at_work.add(os.getpid())
        try:
            return work(*arguments)
        finally:
            self._at_work.discard(os.getpid())

    def _run(self, jobs: Sequence[Job]) -> list[Any]:
        try:
            database = self._open()
            database.execute("BEGIN IMMEDIATE")
            results = [job(database) for job in jobs]
            database.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - it is the result
            self._recover(error)
            if len(jobs) == 1 or isinstance(error, sqlite3.OperationalError | OSError):
                return [error] * len(jobs)
            # One of them is at fault: each by itself, so that it alone fails.
            return [result for job in jobs for result in self._run([job])]
        return results

    def _look(self, job: Job) -> Any:
        try:
            return job(self._open())
        except Exception as error:
            self._recover(error)
            raise

    def _recover(self, error: Exception) -> None:
        if self._database is None or self._torn():
            return
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.IntegrityError):
            # A file that is damaged, full or gone may be put right by somebody: the next one opens it anew.
            self._close()
        elif self._database.in_transaction:
            self._database.rollback()

    def _torn(self) -> bool:
        """Return whether the connection is the parent's, and was in use at the fork."""
        return self._opened_in != os.getpid() and self._opened_in in self._at_work

    def _open(self) -> sqlite3.Connection:
        if self._opened_in != os.getpid():
            present = self._present()
            for reference in self._all.valuerefs():
                worker = reference()
                if worker is not None:
                    worker.shed(present)
        if self._database is not None:
            if self._present() == self._file:
                return self._database
            # Somebody replaced or removed the file: what goes on into the old one would be lost.
            self._close()
        filesystem = network_filesystem(self.path)
        if filesystem is not None:
            raise sqlite3.OperationalError(f"{filesystem} is a network file system")
        self._guard()
        database = sqlite3.connect(self.path, timeout=self._busy, isolation_level=None, check_same_thread=False)
        try:
            self._write_ahead(database)
            database.execute("PRAGMA synchronous = FULL")
            self._prepare(database)
        except BaseException:
            database.close()
            raise
        self._database, self._file, self._opened_in = database, self._present(), os.getpid()
        return database

    def _write_ahead(self, database: sqlite3.Connection) -> None:
        # The switch does not wait for other connections by itself.
        until = time.monotonic() + self._busy
        while True:
            try:
                mode = database.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(_WAL_RETRY)
                continue
            if mode != "wal":
                raise sqlite3.OperationalError(f"no write-ahead log is possible there (journal_mode {mode})")
            return

    def _close(self) -> None:
        if self._torn():
            return
        database, self._database = self._database, None
        if database is not None:
            with contextlib.suppress(sqlite3.Error):
                database.close()

    def _present(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _guard(self) -> None:
        # Made before SQLite sees it, which would use the umask; its other files take over the mode.
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            if stat.S_IMODE(self.path.stat().st_mode) != 0o600:
                self.path.chmod(0o600)
            return
        except FileNotFoundError:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._guard()
            return
        os.close(descriptor)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _thread_of_its_own() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="outbox")


def explained(error: Exception, path: Path) -> OutboxError:
    """Return the error to raise for *error*, which says what to do."""
    if isinstance(error, TimeoutError):
        return OutboxError(
            f"The outbox {path.name} did not answer in time",
            hint="Look at its disk; what was to be stored may have been stored all the same",
            recoverable=True,
        )
    said = str(error).lower()
    rules = (
        (("locked", "busy"), "another process holds it", "Try again; look for a process that keeps it locked", True),
        (("full", "no space"), "the disk is full", "Make room on the disk", True),
        (("network file system",), str(error), "Put it on a local disk: SQLite's locks do not hold there", False),
        (("malformed", "not a database", "corrupt"), "the file is damaged or no outbox", "Move it aside", False),
        (("forked",), str(error), "Fork while no call is under way, or begin processes by spawn", False),
        (("version",), str(error), "Use the newer program, or another file", False),
        (("readonly", "read-only", "permission", "unable to open"), "it cannot be opened for writing",
         "Check the owner and the permissions of the file and its folder", False),
    )  # fmt: skip
    for words, what, hint, recoverable in rules:
        if any(word in said for word in words):
            return OutboxError(f"The outbox {path.name}: {what}", hint=hint, recoverable=recoverable)
    return OutboxError(f"The outbox {path.name} failed: {type(error).__name__}: {error}")
