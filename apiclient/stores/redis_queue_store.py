"""The lines of one batch for runners on many machines, kept in Valkey or Redis."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from apiclient.stores import _redis_queue_lua as lua
from apiclient.stores._redis_server import RedisServer, StoreUnavailable

_MOST_BYTES = 4 * 2**20


class QueueFacts(NamedTuple):
    """What a queue holds.

    Attributes:
        input: SHA-256 of the input, in hex.
        run: Names this load of it: idempotency keys are made from it.
        lines: Of the input.
        loaded: Of them, how many have been loaded.
        done: How many of these have a result.
    """

    input: str
    run: str
    lines: int
    loaded: int
    done: int


class QueuedLine(NamedTuple):
    """A line of the input, as a runner takes it.

    Attributes:
        place: In the queue, from 1.
        number: In the input, from 1; blank lines count there.
        raw: As it was read.
    """

    place: int
    number: int
    raw: bytes


class Round(NamedTuple):
    """What the server says to a runner that asked.

    Attributes:
        facts: Of the queue.
        runners: How many hold a lease, this one included.
        held: How many lines this one has in all, of those without a result.
        lines: Those that it has from now on.
    """

    facts: QueueFacts
    runners: int
    held: int
    lines: tuple[QueuedLine, ...]


class RedisQueueStore:
    """Keeps the lines of one input until they have a result, for any number of runners on any number of machines.

    A runner has one lease for all the lines that it took, and renews it with everything that it asks. Of one that
    falls silent the lines go to others when its lease ends, by the server's clock. A line leaves the server when it is
    acknowledged, by whomever; acknowledging it again changes nothing. On a cluster one queue lies on one node.

    Args:
        server: Where it keeps them.
        namespace: Begins the names of its keys.
        name: Of this queue.
        lease: Seconds of silence after which a runner's lines go to others.
        patience: Most seconds of an operation.

    Attributes:
        name: As given.
        lease: As given.

    Raises:
        ValueError: An option is out of its range.
        StoreUnavailable: (from an operation) The server cannot be reached.
    """

    def __init__(
        self,
        server: RedisServer,
        *,
        namespace: str,
        name: str = "default",
        lease: float = 30.0,
        patience: float = 5.0,
    ) -> None:
        if not name or "{" in name or "}" in name:
            raise ValueError(f"name must be a name without braces, got {name!r}")
        if not 1 <= lease <= 3600:
            raise ValueError(f"lease must be from 1 to 3600 seconds, got {lease!r}")
        if not patience > 0:
            raise ValueError(f"patience must be above 0 seconds, got {patience!r}")
        self.name = name
        self.lease = lease
        self._server = server
        self._base = f"{namespace}:{{queue:{name}}}"
        self._patience = patience

    def __repr__(self) -> str:
        return f"RedisQueueStore({self._server!r}, {self._base!r}, lease={self.lease:g})"

    async def facts(self) -> QueueFacts | None:
        """Return what it holds, or None where nothing was loaded."""
        return _facts(await self._ran(lua.FACTS, ""))

    async def load(
        self, input_: str, run: str, lines: int, *, position: int, part: Sequence[tuple[int, bytes]]
    ) -> QueueFacts:
        """Add *part* (numbers and texts of lines) if exactly *position* lines are loaded; return what is there then.

        The first one decides on input, run and lines; where it has another input, nothing is changed.
        """
        texts = [b"%d %b" % (number, raw) for number, raw in part]
        facts = _facts(await self._ran(lua.LOAD, "", input_, run, lines, position, *texts))
        if facts is None:
            raise StoreUnavailable(f"{self._server!r} does not keep what it is told")
        return facts

    async def kept(self) -> bool:
        """Wait until the server has written its append-only file; return whether it has one."""
        _, kept = await self._server.durable_script(
            lua.FACTS, [self._base], "", replicas=0, patience=self._patience, forced=True
        )
        return kept

    async def round(self, runner: str, run: str, *, wanted: int, done: Sequence[int]) -> Round | None:
        """Renew the lease of *runner*, acknowledge the places in *done*, and lease at most *wanted* lines.

        Returns:
            None where the queue is gone, or was loaded anew.
        """
        answer = await self._ran(lua.ROUND, runner, run, self.lease, wanted, _MOST_BYTES, *done)
        if answer is None:
            return None
        row, runners, held, taken = answer
        facts = _facts(row)
        assert facts is not None  # noqa: S101 - the script has looked
        return Round(facts, int(runners), int(held), tuple(_line(text) for text in taken))

    async def agree(self, runner: str, run: str, *, known: Sequence[int]) -> set[int] | None:
        """Renew the lease of *runner*, give back what it has and does not know of, take again what it knows of.

        Returns:
            The places that it has: those of *known* that others neither have nor have done. None as of ``round``.
        """
        places = await self._ran(lua.AGREE, runner, run, self.lease, *known)
        return None if places is None else {int(place) for place in places}

    async def leave(self, runner: str, run: str, *, done: Sequence[int] = ()) -> bool:
        """Acknowledge the places in *done*, give back all else that *runner* has; return whether the queue is there."""
        return await self._ran(lua.LEAVE, runner, run, *done) is not None

    async def forget(self) -> None:
        """Remove everything; runners that are under way end."""
        await self._ran(lua.FORGET, "")

    async def aclose(self) -> None:
        """Close this event loop's connections; the next operation opens new ones."""
        await self._server.aclose()

    async def _ran(self, source: str, *arguments: Any) -> Any:
        return await self._server.script(source, [self._base], *arguments, patience=self._patience)


def _facts(row: Sequence[bytes | None]) -> QueueFacts | None:
    if row[0] is None:
        return None
    input_, run, lines, loaded, done = (b"" if each is None else bytes(each) for each in row)
    return QueueFacts(input_.decode(), run.decode(), int(lines), int(loaded), int(done))


def _line(text: bytes) -> QueuedLine:
    place, number, raw = bytes(text).split(b" ", 2)
    return QueuedLine(int(place), int(number), raw)
