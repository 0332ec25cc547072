"""What the processes of many machines share, configured in one place: a Valkey or Redis server."""

from collections.abc import Sequence
from typing import Any

from apiclient.stores._redis_server import RedisServer
from apiclient.stores.redis_outbox_store import RedisOutboxStore
from apiclient.stores.redis_quota_store import RedisQuotaStore, Unreachable
from apiclient.stores.redis_token_store import RedisTokenStore


class Redis:
    """A Valkey or Redis server that processes share quotas, tokens and an outbox through.

    ``ApiClient(..., shared=Redis(...))`` shares quotas and tokens; ``outbox()`` goes to an ``Outbox`` as its store.
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
        workers: Processes assumed until the server has said how many there are.
        patience: Most seconds of an operation on tokens or the outbox.
        token_keys: Fernet keys that tokens are encrypted with, the newest first; see ``RedisTokenStore``.
        **options: Passed on to redis-py: ``ssl_ca_certs``, ``username``, ``password``, ``max_connections``...

    Attributes:
        quotas: For ``RateLimit(store=...)``.
        tokens: For ``ClientCredentials(store=...)`` and ``RefreshToken(store=...)``.

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
        workers: int = 1,
        patience: float = 5.0,
        token_keys: Sequence[str | bytes] = (),
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
        self.tokens = RedisTokenStore(self._slow, namespace=namespace, keys=token_keys)

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
        await self._quick.aclose()
        await self._slow.aclose()
