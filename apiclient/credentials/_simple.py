"""Credentials that never change: a token, a key, a user and a password."""

import re
from base64 import b64encode
from typing import cast

from apiclient.credentials._secret import Secret
from apiclient.middleware.credential import Token

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")  # RFC 9110 section 5.1


class _Fixed:
    """Gives out one token for ever; a rejection of it is final."""

    renewable = False

    def __init__(
        self,
        name: str,
        secret: Secret,
        *,
        header: str = "Authorization",
        scheme: str | None = None,
        query: str | None = None,
    ) -> None:
        if not isinstance(cast("object", secret.value), str):
            raise TypeError(f"{name} must be a str, got {type(secret.value).__name__}")
        if not secret.value:
            raise ValueError(f"{name} must not be empty")
        if any(ord(character) < 0x20 or ord(character) == 0x7F for character in secret.value):
            raise ValueError(f"{name} must not contain control characters (value not shown)")
        self._token = Token(secret.value, header=header, scheme=scheme, query=query)

    def current(self) -> Token:
        """Return the one token."""
        return self._token

    async def token(self) -> Token:
        """Return the one token."""
        return self._token

    def invalidate(self, token: Token) -> bool:  # noqa: ARG002 - part of the protocol
        """Return False: there is nothing else to try."""
        return False


class StaticToken(_Fixed):
    """A token that was obtained elsewhere.

    Args:
        value: The token. Never shown.
        scheme: Word in front of it in the ``Authorization`` header, or None for the bare value.

    Raises:
        TypeError: The token is no text: a variable of the environment that is not set, say.
        ValueError: The token is empty, has control characters in it, or begins with the scheme.
    """

    def __init__(self, value: str, *, scheme: str | None = "Bearer") -> None:
        secret = Secret(value)
        del value  # error reporters show the locals of a constructor that fails
        super().__init__("value", secret, scheme=scheme)
        if scheme is not None and secret.value[: len(scheme) + 1].lower() == f"{scheme.lower()} ":
            raise ValueError(f"value must be the token alone: {scheme!r} is put in front of it (value not shown)")

    def __repr__(self) -> str:
        return f"StaticToken(scheme={self._token.scheme!r})"


class ApiKey(_Fixed):
    """A key in a request header, or in a query parameter where the API leaves no choice.

    A query parameter ends up in logs and traces of proxies and servers; prefer the header.

    Args:
        value: The key. Never shown.
        header: Name of the header that carries it bare.
        query: Name of a query parameter to use instead of the header.

    Raises:
        ValueError: The key is empty or has control characters in it, or both places were given.
    """

    def __init__(self, value: str, *, header: str | None = None, query: str | None = None) -> None:
        secret = Secret(value)
        del value  # error reporters show the locals of a constructor that fails
        if header is not None and query is not None:
            raise ValueError(f"header and query exclude each other, got header={header!r} and query={query!r}")
        if header is not None and not _NAME.fullmatch(header):
            raise ValueError(f"header must be the name of a header, got {header!r}")
        if query is not None and not query:
            raise ValueError("query must not be empty")
        super().__init__("value", secret, header="X-Api-Key" if header is None else header, query=query)

    def __repr__(self) -> str:
        token = self._token
        return f"ApiKey(query={token.query!r})" if token.query is not None else f"ApiKey(header={token.header!r})"


class Basic(_Fixed):
    """A user and a password (RFC 7617), encoded as UTF-8.

    Args:
        user: The user's name, without a colon.
        password: The password. Never shown.

    Raises:
        ValueError: The user has a colon, or either has control characters.
    """

    def __init__(self, user: str, password: str) -> None:
        given = Secret(password)
        del password  # error reporters show the locals of a constructor that fails
        if ":" in user:
            raise ValueError(f"user must not contain a colon (RFC 7617 section 2), got {user!r}")
        if any(ord(character) < 0x20 or ord(character) == 0x7F for character in user + given.value):
            raise ValueError("user and password must not contain control characters (values not shown)")
        self._user = user
        secret = Secret(b64encode(f"{user}:{given.value}".encode()).decode("ascii"))
        super().__init__("password", secret, scheme="Basic")

    def __repr__(self) -> str:
        return f"Basic({self._user!r})"
