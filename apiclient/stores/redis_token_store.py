"""Tokens for the processes of many machines, kept in Valkey or Redis."""

import hashlib
import importlib
import secrets
from collections.abc import Sequence
from typing import Any

from apiclient.stores._redis_server import RedisServer

# The fence names the last lease until that is given back, also when the lock has run out.
_ACQUIRE = """
-- KEYS: lock, fence. ARGV: lease, milliseconds.
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
    return 0
end
redis.call('SET', KEYS[2], ARGV[1])
return 1
"""
_RENEW = """
-- KEYS: lock, fence. ARGV: lease, milliseconds.
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
    return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_SAVE = """
-- KEYS: text, fence. ARGV: lease, text.
local fence = redis.call('GET', KEYS[2])
if fence and fence ~= ARGV[1] then
    return 0
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""
_RELEASE = """
-- KEYS: lock, fence. ARGV: lease.
if redis.call('GET', KEYS[2]) == ARGV[1] then
    redis.call('SET', KEYS[2], '')
end
if redis.call('GET', KEYS[1]) == ARGV[1] then
    redis.call('DEL', KEYS[1])
end
"""


class RedisTokenStore:
    """Shares tokens between processes: one of them at a time replaces a token, and all take the new one.

    A lease is ``SET NX PX`` with a name of its own that fences late savers, and is given back only by its holder.

    Args:
        server: Where it keeps them.
        namespace: Begins the names of its keys.
        keys: Keys of ``cryptography.fernet`` that texts are encrypted with: the first encrypts, all of them decrypt,
            so that a new one can be put first. Without any, whoever can read the server can read the tokens.
        patience: Most seconds of an operation.

    Raises:
        ImportError: ``keys`` are given, and cryptography is not installed.
        ValueError: A key is no Fernet key.
        StoreUnavailable: (from an operation) The server cannot be reached.
    """

    def __init__(
        self, server: RedisServer, *, namespace: str, keys: Sequence[str | bytes] = (), patience: float | None = None
    ) -> None:
        self._server = server
        self._namespace = namespace
        self._patience = patience
        self._fernet: Any = None
        if keys:
            try:
                fernet = importlib.import_module("cryptography.fernet")
            except ImportError as error:
                raise ImportError("token keys need cryptography: install apiclient-middleware[redis]") from error
            self._broken: type[Exception] = fernet.InvalidToken
            try:
                self._fernet = fernet.MultiFernet([fernet.Fernet(key) for key in keys])
            except ValueError as error:
                raise ValueError("keys must be Fernet keys: 32 bytes in url-safe base64") from error

    def __repr__(self) -> str:
        return f"RedisTokenStore({self._server!r}, encrypted={self._fernet is not None})"

    async def load(self, key: str) -> str | None:
        """Return what was saved last under *key*, or None; empty text where none of the keys opens it."""
        name = self._name(key)
        kept = await self._server.run(lambda client: client.get(name), patience=self._patience)
        if kept is None:
            return None
        text = bytes(kept)
        if self._fernet is None:
            return text.decode()
        try:
            # Bound to its name: what one key holds cannot be passed off as another's.
            owner, _, text = self._fernet.decrypt(text).partition(b"\n")
        except self._broken:
            return ""
        return text.decode() if owner == name.encode() else ""

    async def acquire(self, key: str, seconds: float) -> str | None:
        """Return a lease on *key* for *seconds*, or None where another holds it."""
        lease = secrets.token_hex(16)
        return lease if await self._held(_ACQUIRE, key, lease, max(1, int(seconds * 1000))) else None

    async def renew(self, key: str, lease: str, seconds: float) -> bool:
        """Let *lease* end *seconds* from now if nobody else has acquired it since; return whether it does."""
        return await self._held(_RENEW, key, lease, max(1, int(seconds * 1000)))

    async def save(self, key: str, text: str, lease: str) -> bool:
        """Save *text* if nobody else has acquired the lease since; return whether it was saved."""
        name = self._name(key)
        kept = text.encode()
        if self._fernet is not None:
            kept = self._fernet.encrypt(name.encode() + b"\n" + kept)
        saved = await self._server.script(_SAVE, [name, f"{name}:fence"], lease, kept, patience=self._patience)
        return bool(saved)

    async def release(self, key: str, lease: str) -> None:
        """Give *lease* back."""
        await self._held(_RELEASE, key, lease)

    async def _held(self, script: str, key: str, *arguments: str | int) -> bool:
        name = self._name(key)
        keys = [f"{name}:lock", f"{name}:fence"]
        return bool(await self._server.script(script, keys, *arguments, patience=self._patience))

    def _name(self, key: str) -> str:
        return f"{self._namespace}:{{token:{hashlib.sha256(key.encode()).hexdigest()[:32]}}}"
