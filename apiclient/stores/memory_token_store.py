"""Tokens kept for as long as the process lives."""

import secrets
import time
from collections.abc import Callable


class MemoryTokenStore:
    """Shares tokens between credentials of one process.

    Args:
        now: The clock that leases run by, in seconds.
    """

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._texts: dict[str, str] = {}
        self._leases: dict[str, tuple[str, float]] = {}

    def __repr__(self) -> str:
        return f"MemoryTokenStore({len(self._texts)} kept)"

    async def load(self, key: str) -> str | None:
        """Return what was saved last under *key*, or None."""
        return self._texts.get(key)

    async def acquire(self, key: str, seconds: float) -> str | None:
        """Return a lease on *key* for *seconds*, or None where another holds it."""
        now = self._now()
        held = self._leases.get(key)
        if held is not None and now < held[1]:
            return None
        lease = secrets.token_hex(8)
        self._leases[key] = (lease, now + seconds)
        return lease

    async def renew(self, key: str, lease: str, seconds: float) -> bool:
        """Let *lease* end *seconds* from now if nobody else has acquired it since; return whether it does."""
        if self._leases.get(key, ("",))[0] != lease:
            return False
        self._leases[key] = (lease, self._now() + seconds)
        return True

    async def save(self, key: str, text: str, lease: str) -> bool:
        """Save *text* if nobody else has acquired the lease since; return whether it was saved."""
        if self._leases.get(key, ("",))[0] != lease:
            return False
        self._texts[key] = text
        return True

    async def release(self, key: str, lease: str) -> None:
        """Give *lease* back."""
        if self._leases.get(key, ("",))[0] == lease:
            del self._leases[key]
