"""What a token store is: the small protocol that memory, SQLite and servers for many machines fit."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class TokenStore(Protocol):
    """Keeps one secret text per key, and lets one holder at a time replace it.

    Restarts and sibling processes then share a token and its refresh. A lease ends by itself, so that a
    holder that died stops nobody for long. What is kept is as secret as a password.

    Whoever wants a new token acquires the lease, loads again (somebody else may have been first), asks the
    token endpoint, saves, and releases: only then is the new token used.
    """

    async def load(self, key: str) -> str | None:
        """Return what was saved last under *key*, or None; empty text where that is there and cannot be read.

        To take what cannot be read for nothing would let a refresh token that is used up be used again.
        """
        ...

    async def acquire(self, key: str, seconds: float) -> str | None:
        """Return a lease on *key* for *seconds*, or None where another holds it; do not wait for it."""
        ...

    async def save(self, key: str, text: str, lease: str) -> bool:
        """Save *text* durably if nobody else has acquired the lease since; return whether it was saved."""
        ...

    async def release(self, key: str, lease: str) -> None:
        """Give *lease* back; one that is not held any more changes nothing."""
        ...


@runtime_checkable
class RenewableTokenStore(TokenStore, Protocol):
    """A token store whose leases can be prolonged, so that short ones do, and a holder that died is soon replaced.

    One that cannot is asked for leases that outlast any refresh.
    """

    async def renew(self, key: str, lease: str, seconds: float) -> bool:
        """Let *lease* end *seconds* from now, unless it was given back or another has it; return whether it does."""
        ...
