"""The right to replace a token, held for as long as that takes and not much longer."""

import asyncio
import contextlib
import math
from types import TracebackType

from apiclient.stores.token_store import RenewableTokenStore, TokenStore

LEASE = 10.0
"""Seconds by which a holder that died delays its siblings at most."""


class Tenure:
    """A lease on *key*, renewed while it is needed and given back at the end.

    Args:
        store: Lends it. One that cannot renew lends it for *longest* at once.
        key: Of the token.
        longest: Seconds that a refresh can take.

    Attributes:
        lease: Its name, once it is acquired.
        until: Time on the loop's clock before which nobody else can have acquired it.
    """

    def __init__(self, store: TokenStore, key: str, *, longest: float) -> None:
        self._store = store
        self._key = key
        self._seconds = LEASE if isinstance(store, RenewableTokenStore) else longest
        self._time = asyncio.get_running_loop().time
        self._renewing: asyncio.Task[None] | None = None
        self.lease = ""
        self.until = -math.inf

    def __repr__(self) -> str:
        return f"Tenure({self._store!r}, {self._seconds:g} s)"

    async def acquire(self) -> bool:
        """Return whether the lease could be had."""
        until = self._time() + self._seconds
        lease = await self._store.acquire(self._key, self._seconds)
        if lease is None:
            return False
        self.lease, self.until = lease, until
        return True

    async def __aenter__(self) -> None:
        if isinstance(self._store, RenewableTokenStore):
            self._renewing = asyncio.get_running_loop().create_task(self._renew(self._store))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
        # What is not given back ends by itself.
        with contextlib.suppress(Exception):
            await self._store.release(self._key, self.lease)

    async def _renew(self, store: RenewableTokenStore) -> None:
        pause = self._seconds / 3
        while True:
            await asyncio.sleep(pause)
            until = self._time() + self._seconds
            pause = self._seconds / 10
            with contextlib.suppress(Exception):
                async with asyncio.timeout(self._seconds / 3):
                    held = await store.renew(self._key, self.lease, self._seconds)
                if not held:
                    self.until = -math.inf
                    return
                self.until, pause = until, self._seconds / 3
