"""What a credential is: the small protocol that anyone can implement."""

from typing import Protocol, runtime_checkable

from multidict import istr


class Token:
    """One secret, and how it is attached to a request. Compared by identity, so a reissued one differs.

    Args:
        value: The secret itself. Never shown.
        header: Name of the request header that carries it.
        scheme: Word in front of the value (RFC 9110 section 11.4), or None for the bare value.
        query: Name of a query parameter to use instead of a header, or None.
        expires_at: Wall-clock time (Unix seconds) from which it is no longer valid, or None where unknown.
        scope: Scopes granted, separated by spaces (RFC 6749 section 3.3), or None where unknown.

    Attributes:
        line: The header's whole value.
    """

    __slots__ = ("expires_at", "header", "line", "query", "scheme", "scope", "value")

    def __init__(
        self,
        value: str,
        *,
        header: str = "Authorization",
        scheme: str | None = "Bearer",
        query: str | None = None,
        expires_at: float | None = None,
        scope: str | None = None,
    ) -> None:
        line = value if scheme is None else f"{scheme} {value}"
        if any(ord(character) < 0x20 or ord(character) == 0x7F for character in line):
            del value, line  # error reporters show the locals of a constructor that fails
            raise ValueError("token must not contain control characters (value not shown)")
        self.value = value
        self.header = istr(header)  # The kind of text that a request's headers are looked up by most quickly.
        self.scheme = scheme
        self.query = query
        self.expires_at = expires_at
        self.scope = scope
        self.line = line

    def __repr__(self) -> str:
        where = f"query={self.query!r}" if self.query is not None else f"header={self.header!r}"
        return f"Token({where}, scheme={self.scheme!r}, expires_at={self.expires_at!r}, scope={self.scope!r})"


@runtime_checkable
class Credential(Protocol):
    """Gives out a valid token, and forgets one that the server rejected."""

    async def token(self) -> Token:
        """Return a token that is valid now, fetching one where needed.

        Raises:
            CredentialsRejected: The credential is refused for good.
            TokenUnavailable: None could be had just now.
        """
        ...

    def invalidate(self, token: Token) -> bool | None:
        """Forget *token* if it is still the current one; a token already replaced changes nothing.

        Returns:
            False where asking again would only give the same one (a fixed key), so that a rejection is final.
            Anything else leads to one replay.
        """
        ...


@runtime_checkable
class ScopedCredential(Credential, Protocol):
    """A credential that can ask for more than it holds."""

    def for_scope(self, scope: str) -> Credential | None:
        """Return a credential that includes *scope*, or None where it is not allowed to ask for it."""
        ...
