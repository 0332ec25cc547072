"""One Valkey or Redis server, or several of them, as the stores see it: scripts in, answers out, in bounded time."""

import asyncio
import contextlib
import hashlib
import importlib
import inspect
import random
import ssl
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

Value = TypeVar("Value")
_PLAIN = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss", "unix": "unix"}
_MANY = {"redis+sentinel": "sentinel", "rediss+sentinel": "sentinel", "redis+cluster": "cluster", "rediss+cluster": "cluster"}  # fmt: skip  # noqa: E501


class StoreUnavailable(Exception):
    """The server cannot be reached, did not answer in time, or refuses to serve."""


class RedisServer:
    """Runs commands and scripts on a server; each of them ends within *timeout*.

    After a failure nothing is asked for a moment, so that a dead server costs one request its patience and not all.

    Args:
        url: ``redis://``, ``rediss://`` (TLS), ``unix://``; ``redis+cluster://host:port``;
            ``redis+sentinel://host:port,host:port/service/database``. User and password go into it as usual.
        timeout: Most seconds that any operation takes.
        cooldown: Seconds for which a server that failed is left alone; the half to the whole of it is waited.
        options: Passed on to redis-py.

    Attributes:
        cooldown: As given.

    Raises:
        ImportError: redis-py is not installed.
        ValueError: An option is out of its range, or the URL is of no kind known.
    """

    def __init__(self, url: str, *, timeout: float, cooldown: float, options: dict[str, Any]) -> None:
        if not timeout > 0:
            raise ValueError(f"timeout must be above 0 seconds, got {timeout!r}")
        if not cooldown > 0:
            raise ValueError(f"cooldown must be above 0 seconds, got {cooldown!r}")
        scheme = urlsplit(url).scheme
        if scheme not in _PLAIN and scheme not in _MANY:
            raise ValueError(f"url must begin with one of {', '.join([*_PLAIN, *_MANY])}, got {scheme!r}")
        try:
            self._redis = importlib.import_module("redis.asyncio")
        except ImportError as error:
            raise ImportError("Redis needs redis-py: install apiclient-middleware[redis]") from error
        known = importlib.import_module("redis.exceptions")
        # That of a cluster none of whose nodes can be reached is no RedisError.
        self._errors: tuple[type[Exception], ...] = (
            known.RedisError,
            known.RedisClusterException,
            OSError,
            TimeoutError,
        )
        self._url = url
        self._timeout = timeout
        self.cooldown = cooldown
        self._options = options
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()
        self._sentinels: WeakKeyDictionary[asyncio.AbstractEventLoop, list[Any]] = WeakKeyDictionary()
        self._digests: dict[str, str] = {}
        self._met = False
        self._unwritten = False
        # A cluster's pipeline has no connection of its own that could wait.
        self._scattered = _MANY.get(scheme) == "cluster"
        self._down_until: WeakKeyDictionary[asyncio.AbstractEventLoop, float] = WeakKeyDictionary()

    def __repr__(self) -> str:
        parts = urlsplit(self._url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def down(self) -> bool:
        """Whether it failed a moment ago and is left alone."""
        loop = asyncio.get_running_loop()
        return loop.time() < self._down_until.get(loop, 0.0)

    async def script(self, source: str, keys: Sequence[str], *arguments: Any, patience: float | None = None) -> Any:
        """Run the Lua script *source*, and return what it returned.

        Raises:
            StoreUnavailable: The server failed, or fails at present.
        """
        return await self.run(lambda client: self._evaluated(client, source, keys, arguments), patience=patience)

    async def durable_script(
        self,
        source: str,
        keys: Sequence[str],
        *arguments: Any,
        replicas: int,
        patience: float,
        forced: bool,
    ) -> tuple[Any, bool]:
        """Run *source* and wait until the server's disk has what it wrote; return its answer, and whether it has.

        Args:
            source: Lua.
            keys: Of the script.
            *arguments: Of the script.
            replicas: Whose disks must have it too, or whose memory where the server cannot say what is on disks.
            patience: Most seconds.
            forced: Whether a server that has no such file is one that did not write it.

        Raises:
            StoreUnavailable: The server failed, or fails at present.
        """
        limit = max(1, int(900 * patience / (2 if replicas else 1)))

        async def run(client: Any) -> tuple[Any, bool]:
            if self._scattered or (self._unwritten and not replicas):
                return await self._evaluated(client, source, keys, arguments), not forced
            answer: Any = None
            copied: Any = 0
            written: Any = None
            for known in (True, False):
                async with client.pipeline(transaction=False) as pipe:
                    # On one connection: the server waits for what this very connection wrote.
                    evaluate, script = (pipe.evalsha, self._digest(source)) if known else (pipe.eval, source)
                    evaluate(script, len(keys), *keys, *arguments)
                    if replicas:
                        pipe.execute_command("WAIT", replicas, limit)
                    if not self._unwritten:
                        pipe.execute_command("WAITAOF", 1, replicas, limit)
                    answer, *waited = await pipe.execute(raise_on_error=False)
                    copied = waited.pop(0) if replicas else 0
                    written = waited.pop() if waited else None
                if not _is_unknown(answer):
                    break
            if isinstance(answer, Exception):
                raise answer
            if isinstance(copied, Exception):
                raise copied
            if self._unwritten or isinstance(written, Exception):
                self._unwritten = True
                # Without such a file the memory of replicas is all there is to wait for.
                return answer, copied >= replicas and not forced
            return answer, written[0] >= 1 and written[1] >= replicas

        return await self.run(run, patience=patience)

    async def run(self, work: Callable[[Any], Awaitable[Value]], *, patience: float | None = None) -> Value:
        """Do *work* with the client, within *patience* seconds (by default the timeout).

        Raises:
            StoreUnavailable: The server failed, or fails at present.
        """
        loop = asyncio.get_running_loop()
        if loop.time() < self._down_until.get(loop, 0.0):
            raise StoreUnavailable(f"{self!r} failed a moment ago")
        if patience is None:
            patience = self._timeout if self._met else 4 * self._timeout
        try:
            async with _Patience(patience, loop):
                value = await work(self._client(loop))
            self._met = True
            return value
        except self._errors as error:
            if type(error).__name__ in {"ResponseError", "NoPermissionError", "DataError"}:
                raise StoreUnavailable(f"{self!r} refuses: {error}") from error
            if type(error).__name__ == "ReadOnlyError":
                # It was demoted: by its name or address another may be found.
                await self.aclose()
            self._down_until[loop] = loop.time() + self.cooldown * random.uniform(0.5, 1.0)  # noqa: S311
            raise StoreUnavailable(f"{self!r} {_complaint(error)}") from error

    async def _evaluated(self, client: Any, source: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        try:
            return await client.evalsha(self._digest(source), len(keys), *keys, *arguments)
        except self._errors as error:
            if not _is_unknown(error):
                raise
            return await client.eval(source, len(keys), *keys, *arguments)

    def _digest(self, source: str) -> str:
        digest = self._digests.get(source)
        if digest is None:
            digest = self._digests[source] = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
        return digest

    async def aclose(self) -> None:
        """Close this event loop's connections; the next operation opens new ones."""
        loop = asyncio.get_running_loop()
        client = self._clients.pop(loop, None)
        if client is not None:
            with contextlib.suppress(*self._errors):
                await client.aclose()
        for sentinel in self._sentinels.pop(loop, ()):
            with contextlib.suppress(*self._errors):
                await sentinel.aclose()

    def _client(self, loop: asyncio.AbstractEventLoop) -> Any:
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = self._connected(loop)
        return client

    def _connected(self, loop: asyncio.AbstractEventLoop) -> Any:
        retry = importlib.import_module("redis.asyncio.retry").Retry
        backoff = importlib.import_module("redis.backoff").NoBackoff
        # No retries of its own: a script that may have run must not run twice unasked.
        options: dict[str, Any] = {
            "retry": retry(backoff(), 0),
            "socket_timeout": self._timeout,
            "socket_connect_timeout": self._timeout,
            **self._options,
            "decode_responses": False,
        }
        parts = urlsplit(self._url)
        if parts.scheme in _PLAIN:
            scheme = _PLAIN[parts.scheme]
            return self._redis.Redis.from_url(self._url.replace(parts.scheme, scheme, 1), **options)
        secure: dict[str, Any] = {"ssl": True} if parts.scheme.startswith("rediss") else {}
        login, _, places = parts.netloc.rpartition("@")
        options = {**self._redis.connection.parse_url(f"redis://{login}@?{parts.query}"), **secure, **options}
        hosts = [_host(each, 26379) for each in places.split(",")]
        if _MANY[parts.scheme] == "cluster":
            nodes = [self._redis.cluster.ClusterNode(host, port) for host, port in hosts]
            return self._redis.RedisCluster(startup_nodes=nodes, **options)
        service, _, database = parts.path.strip("/").partition("/")
        if database:
            options["db"] = int(database)
        # The sentinels show certificates of the same authority; users and passwords are the primary's alone.
        secure |= {name: value for name, value in options.items() if name.startswith("ssl_")}
        sentinel = self._redis.sentinel.Sentinel(hosts, sentinel_kwargs={"socket_timeout": self._timeout, **secure})
        self._sentinels[loop] = sentinel.sentinels
        return sentinel.master_for(service or "mymaster", **options)


class _Patience:
    """Ends what is awaited after *seconds* in which the event loop went on.

    In four parts: where the loop itself was held up for long, the answer may have come in the meantime.
    """

    def __init__(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        self._part = seconds / 4
        self._left = 4
        self._loop = loop
        self._limit = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()
        self._tick()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._limit.__aexit__(kind, error, trace)

    def _tick(self) -> None:
        if self._left == 0:
            self._limit.reschedule(self._loop.time())
            return
        self._left -= 1
        self._timer = self._loop.call_later(self._part, self._tick)


def known_options(scheme: str) -> frozenset[str]:
    """Return the options that a URL of *scheme* may have: those of redis-py's client."""
    client: Any = importlib.import_module("redis.asyncio")
    kind = client.RedisCluster if _MANY.get(scheme) == "cluster" else client.Redis
    return frozenset(inspect.signature(kind).parameters)


def _complaint(error: Exception) -> str:
    """Return what *error* says of the server, and what to do about it where that is known."""
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"shows a certificate that is not trusted ({cause.verify_message.rstrip('.')}): pass ssl_ca_certs= with "
            "the file of its authority, and call it by a name that the certificate has"
        )
    if isinstance(cause, FileNotFoundError):
        return "cannot be asked: a file that it is reached through or verified by (ssl_ca_certs=) is not there"
    if type(error).__name__ == "AuthenticationError":
        return "does not let this user in: look at user and password, and whether the user is on"
    return f"does not answer ({type(error).__name__})"


def _is_unknown(answer: Any) -> bool:
    """Return whether *answer* says that the server does not know the script (any more)."""
    return type(answer).__name__ == "NoScriptError"


def _host(text: str, default: int) -> tuple[str, int]:
    place = urlsplit(f"//{text}")
    return str(place.hostname), place.port or default
