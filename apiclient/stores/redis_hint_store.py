"""Hints of circuits that opened, passed between processes through Valkey or Redis."""

import asyncio
import hashlib
import math
import secrets
from collections.abc import Coroutine
from typing import Any

from apiclient.middleware._keyed import Keyed
from apiclient.stores._redis_server import RedisServer, StoreUnavailable

_PUBLISH = """
-- KEYS: hint. ARGV: process, milliseconds. The hint that lasts longer stays.
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
"""
_READ = """
-- KEYS: hint. ARGV: process. How long another's hint still lasts, in milliseconds.
local who = redis.call('GET', KEYS[1])
if not who or who == ARGV[1] then
    return 0
end
return redis.call('PTTL', KEYS[1])
"""
_STALE = 1.0
_MOST = 8


class RedisHintStore:
    """Tells processes of circuits that opened in others, without ever making a request wait.

    What is known is up to a second old, and is asked for in the background once an attempt has failed: while all goes
    well the server is not asked at all. At most eight questions are under way, each within the server's timeout; where
    there are more, or the server fails, nothing is known.

    Args:
        server: Where hints are kept, each until its end.
        namespace: Begins the names of its keys.
    """

    def __init__(self, server: RedisServer, *, namespace: str) -> None:
        self._server = server
        self._namespace = namespace
        self._me = secrets.token_hex(6)
        self._known: Keyed[str, _Known] = Keyed(_Known)
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"RedisHintStore({self._server!r})"

    def publish(self, key: str, seconds: float) -> None:
        """Tell the others that the circuit called *key* opened here; the hint ends *seconds* from now."""
        if seconds > 0:
            self._begin(self._publish(self._name(key), math.ceil(seconds * 1000)))

    def hinted(self, key: str) -> bool:
        """Return whether, as far as known here, another process's circuit *key* opened lately."""
        now = asyncio.get_running_loop().time()
        known = self._known.get(key, now)
        if now >= known.again:
            known.again = now + _STALE
            self._begin(self._read(self._name(key), known))
        return now < known.until

    async def aclose(self) -> None:
        """End what this event loop has under way."""
        loop = asyncio.get_running_loop()
        tasks = [task for task in self._tasks if task.get_loop() is loop]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        if len(self._tasks) >= _MOST or self._server.down:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _publish(self, name: str, milliseconds: int) -> None:
        try:
            await self._server.script(_PUBLISH, [name], self._me, milliseconds)
        except StoreUnavailable:
            return

    async def _read(self, name: str, known: "_Known") -> None:
        began = asyncio.get_running_loop().time()
        try:
            left = await self._server.script(_READ, [name], self._me)
        except StoreUnavailable:
            return
        known.until = began + left / 1000

    def _name(self, key: str) -> str:
        digest = hashlib.sha256(key.encode()).hexdigest()[:24]
        return f"{self._namespace}:{{hint:{digest}}}"


class _Known:
    """Until when a hint lasts, and when it is asked for again, in the loop's time."""

    __slots__ = ("again", "until")

    def __init__(self) -> None:
        self.again = self.until = -math.inf
