"""What the processes of many machines share, configured in one place: a Valkey or Redis server."""

from collections.abc import Sequence
from typing import Any

from apiclient.stores._redis_server import RedisServer
from apiclient.stores.redis_hint_store import RedisHintStore
from apiclient.stores.redis_outbox_store import RedisOutboxStore
from apiclient.stores.redis_queue_store import RedisQueueStore
from apiclient.stores.redis_quota_store import WORKERS, RedisQuotaStore, Unreachable
from apiclient.stores.redis_token_store import RedisTokenStore


class Redis:
    """A Valkey or Redis server that processes share quotas, tokens, an outbox and the lines of a batch through.

    ``ApiClient(..., shared=Redis(...))`` shares quotas and tokens; ``outbox()`` goes to an ``Outbox`` as its store;
    ``queue()`` is what ``apiclient batch --queue`` takes lines from.
    Needs the extra: ``apiclient-middleware[redis]``.

    Args:
        url: ``redis://user:password@host:6379/0``, ``rediss://`` for TLS, ``unix://``;
            ``redis+sentinel://host:26379,host:26379/service/0``; ``redis+cluster://host:6379``.
        namespace: Begins the names of all keys: an ACL can be ``~apiclient:*``.
        timeout: Most seconds that a decision of the limiter waits for the server; four times that before the server
            has answered for the first time.
        cooldown: Seconds for which a server that failed is not asked again; the half to the whole of it is waited.
        unreachable: What the limiter does meanwhile: ``"share"``: each process goes by its part of the limit;
            ``"refuse"``: nothing leaves, and calls end as ``RateLimited``.
        workers: Processes that share a quota, as one assumes that has never reached the server.
        patience: Most seconds of an operation on tokens, the outbox or a queue.
        token_keys: Fernet keys that tokens are encrypted with, the newest first; see ``RedisTokenStore``.
        breaker_hints: Whether a client's circuit breaker tells the other processes that a circuit opened here, and
            needs less evidence of its own where another process told so.
        **options: Passed on to redis-py: ``ssl_ca_certs``, ``username``, ``password``, ``max_connections``...

    Attributes:
        quotas: For ``RateLimit(store=...)``.
        tokens: For ``ClientCredentials(store=...)`` and ``RefreshToken(store=...)``.
        hints: For ``CircuitBreaker(hints=...)``.
        breaker_hints: As given.

    Raises:
        ImportError: redis-py is not installed.
        ValueError: An option is out of its range.
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "apiclient",
        timeout: float = 0.25,
        cooldown: float = 1.0,
        unreachable: Unreachable = "share",
        workers: int = WORKERS,
        patience: float = 5.0,
        token_keys: Sequence[str | bytes] = (),
        breaker_hints: bool = False,
        **options: Any,
    ) -> None:
        if not patience > 0:
            raise ValueError(f"patience must be above 0 seconds, got {patience!r}")
        if not namespace or "{" in namespace or "}" in namespace:
            raise ValueError(f"namespace must be a name without braces, got {namespace!r}")
        self._namespace = namespace
        self._patience = patience
        # Two ways to one server: a limiter that waited as long as an outbox may would hold up every request.
        self._quick = RedisServer(url, timeout=timeout, cooldown=cooldown, options=options)
        self._slow = RedisServer(url, timeout=patience, cooldown=cooldown, options=options)
        self._users = 0
        self.quotas = RedisQuotaStore(self._quick, namespace=namespace, unreachable=unreachable, workers=workers)
        self.tokens = RedisTokenStore(self._slow, namespace=namespace, keys=token_keys, patience=patience)
        self.hints = RedisHintStore(self._quick, namespace=namespace)
        self.breaker_hints = breaker_hints

    def __repr__(self) -> str:
        return f"Redis({repr(self._quick)!r}, namespace={self._namespace!r})"

    def outbox(self, name: str = "default", *, durable: bool | None = None, replicas: int = 0) -> RedisOutboxStore:
        """Return the store of the outbox called *name*; see ``RedisOutboxStore`` for the options."""
        return RedisOutboxStore(
            self._slow,
            namespace=self._namespace,
            name=name,
            durable=durable,
            replicas=replicas,
            patience=self._patience,
        )

    def queue(self, name: str = "default", *, lease: float = 30.0) -> RedisQueueStore:
        """Return the queue of a batch called *name*; see ``RedisQueueStore`` for the options."""
        return RedisQueueStore(self._slow, namespace=self._namespace, name=name, lease=lease, patience=self._patience)

    def attach(self) -> None:
        """Note that one more client uses it."""
        self._users += 1

    async def detach(self) -> None:
        """Note that a client uses it no more; after the last one the connections are closed."""
        self._users -= 1
        if self._users <= 0:
            await self.aclose()

    async def aclose(self) -> None:
        """Close this event loop's connections; the next operation opens new ones."""
        await self.hints.aclose()
        await self.quotas.aclose()
        await self._quick.aclose()
        await self._slow.aclose()
