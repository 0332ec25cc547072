"""A batch on many machines: which queue ``--queue`` means, loading and forgetting it, merging what comes out."""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

from yarl import URL

from apiclient._jsonl import parse_line
from apiclient._refused import Refused
from apiclient.job import Queue
from apiclient.job._loader import EXAMPLE, Loader
from apiclient.job._merge import merge_results
from apiclient.job._source import Source
from apiclient.shared import Redis
from apiclient.stores._redis_server import StoreUnavailable, known_options
from apiclient.stores.redis_queue_store import RedisQueueStore

Value = TypeVar("Value")
_PATIENCE = 3.0
_AGAIN = 0.25
_PASSWORD = "APICLIENT_QUEUE_PASSWORD"  # noqa: S105 - of a variable, the name


def queue_of(text: str, path: str | None, base: URL, *, quiet: bool) -> Queue:
    """Return the queue that ``--queue`` means, for a runner; the lines of *path* are loaded where it is given.

    Raises:
        Refused: It means none, it holds nothing or another input, or the server cannot be reached.
    """
    store = named_queue(text)
    if path is not None:
        return _load(store, path, base, quiet=quiet)
    facts = _run(store, store.facts)
    if facts is None:
        raise Refused(
            f"--queue: nothing was loaded into {store.name!r} there; do it with: "
            "apiclient batch IN.JSONL --queue URL --load"
        )
    return Queue(store, facts)


def load_lines(text: str, path: str, base: URL | None, *, quiet: bool) -> int:
    """Bring the lines of *path* into a queue, those that are not there, and return the exit code.

    Raises:
        Refused: As ``queue_of``.
    """
    _load(named_queue(text), path, base, quiet=quiet)
    return 0


def forget_lines(text: str, *, force: bool, quiet: bool) -> int:
    """Remove what a queue holds, lines without a result only if *force*, and return the exit code.

    Raises:
        Refused: There are such lines, or the server cannot be reached.
    """
    store = named_queue(text)
    facts = _run(store, store.facts)
    left = 0 if facts is None else facts.lines - facts.done
    if facts is not None and left and not force:
        raise Refused(f"--queue: {left} of {facts.lines} lines have no result; --force forgets them as well")
    _run(store, store.forget)
    _say(f"queue {store.name}: {'nothing was loaded' if facts is None else 'forgotten'}", quiet=quiet)
    return 0


def merged_lines(paths: Sequence[Path], target: Path, source: str | None) -> tuple[int, list[str]]:
    """Merge results; return the exit code, and what is to be said.

    Raises:
        Refused: Something is no result, or does not belong together.
    """
    merged = merge_results(paths, target, source=source)
    said = [f"{merged.ok + merged.failed} results, {merged.ok} ok, {merged.failed} failed"]
    if merged.repeated:
        said.append(f"{merged.repeated} left out: their lines were run more than once")
    if merged.missing is None:
        said.append("whether any are missing is not known; --input IN.JSONL tells")
    elif merged.missing:
        said.append(f"{merged.missing} missing; {merged.rest or '--input IN.JSONL writes them to a file'}")
    return (1 if merged.failed or merged.missing else 0), said


def named_queue(text: str, environment: Mapping[str, str] | None = None) -> RedisQueueStore:
    """Return the queue that ``--queue`` means: the URL of a server, with ``name``, ``lease`` and ``namespace``.

    Raises:
        Refused: It means none.
    """
    given = os.environ if environment is None else environment
    address, _, query = text.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    name, lease = options.pop("name", "default"), options.pop("lease", "30")
    namespace = options.pop("namespace", "apiclient")
    more: dict[str, Any] = {"password": given[_PASSWORD]} if given.get(_PASSWORD) else {}
    try:
        seconds = float(lease)
        shared = Redis(f"{address}?{urlencode(options)}" if options else address, namespace=namespace, **more)
        _check_address(address, options)
        return shared.queue(name, lease=seconds)
    except ImportError as error:
        raise Refused(f"--queue: {error}") from error
    except ValueError as error:
        raise Refused(f"--queue: {error}; a queue is named as in {EXAMPLE}") from error


def _check_address(address: str, options: Mapping[str, str]) -> None:
    parts = urlsplit(address)
    if parts.scheme != "unix":
        for host in parts.netloc.rpartition("@")[2].split(","):
            _ = urlsplit(f"//{host}").port  # raises where it is none
        database = parts.path.strip("/")
        if parts.scheme.endswith("+sentinel"):
            _, _, database = database.partition("/")
        if database and not database.isdecimal():
            raise ValueError(f"the database must be a number, got {database!r}")
    unknown = sorted(options.keys() - known_options(parts.scheme))
    if unknown:
        raise ValueError(f"unknown option {unknown[0]!r}")


def _load(store: RedisQueueStore, path: str, base: URL | None, *, quiet: bool) -> Queue:
    if path == "-":
        raise Refused("--queue needs an input that can be read twice, such as a file; - cannot")
    loader = Loader(store, Source(path, lambda raw, number: parse_line(raw, number, base)))
    facts, kept = _run(store, loader.run)
    _say(f"queue {store.name}: {facts.loaded} lines loaded, {facts.done} of them done", quiet=quiet)
    if not kept:
        _say(
            f"queue {store.name}: the server does not say that it keeps an append-only file; without one, a restart "
            "of it loses the queue (appendonly yes)",
            quiet=quiet,
        )
    return Queue(store, facts)


def _say(text: str, *, quiet: bool) -> None:
    if not quiet:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def _run(store: RedisQueueStore, work: Callable[[], Coroutine[Any, Any, Value]]) -> Value:
    async def run() -> Value:
        loop = asyncio.get_running_loop()
        end = loop.time() + _PATIENCE
        try:
            while True:
                try:
                    return await work()
                except StoreUnavailable:
                    # It may be starting just now, as this process is.
                    if loop.time() >= end:
                        raise
                    await asyncio.sleep(_AGAIN)
        finally:
            await store.aclose()

    try:
        return asyncio.run(run())
    except StoreUnavailable as error:
        raise Refused(
            f"--queue: {error}; look whether the server runs there, and at user and password ({_PASSWORD})"
        ) from error
