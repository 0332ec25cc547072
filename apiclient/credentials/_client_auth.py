"""How a client proves to the token endpoint who it is (RFC 6749 section 2.3, RFC 7523 section 2.2)."""

from base64 import b64encode
from typing import Literal, NamedTuple, Protocol
from urllib.parse import quote_plus

from yarl import URL

from apiclient.credentials._grants import Pairs
from apiclient.credentials._secret import Secret

Method = Literal["client_secret_basic", "client_secret_post", "none"]

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Proof(NamedTuple):
    """What a request to the token endpoint carries to prove the client.

    Attributes:
        header: Value of ``Authorization``, or None.
        form: Fields of the body.
        hidden: What must never appear in a message.
    """

    header: Secret | None
    form: tuple[tuple[str, Secret], ...]
    hidden: tuple[Secret, ...] = ()

    def pairs(self) -> Pairs:
        """Return the fields with their values bare."""
        return tuple((name, value.value) for name, value in self.form)

    def secrets(self) -> tuple[str, ...]:
        """Return what must never appear in a message."""
        return tuple(each.value for each in self.hidden)


class ClientAuth(Protocol):
    """A way of client authentication."""

    def prove(self, client_id: str, *, endpoint: URL, now: float) -> Proof:
        """Return the proof for one request to *endpoint* at *now* (Unix seconds)."""
        ...


class SecretBasic:
    """``client_secret_basic``: id and secret in the header, each form-encoded first (RFC 6749 section 2.3.1)."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    def __repr__(self) -> str:
        return "client_secret_basic"

    def prove(self, client_id: str, *, endpoint: URL, now: float) -> Proof:  # noqa: ARG002 - part of the protocol
        """Return the header."""
        pair = f"{quote_plus(client_id)}:{quote_plus(self._secret.value)}"
        coded = Secret(b64encode(pair.encode("ascii")).decode("ascii"))
        return Proof(Secret(f"Basic {coded.value}"), (), (self._secret, coded))


class SecretPost:
    """``client_secret_post``: id and secret in the body."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    def __repr__(self) -> str:
        return "client_secret_post"

    def prove(self, client_id: str, *, endpoint: URL, now: float) -> Proof:  # noqa: ARG002 - part of the protocol
        """Return the fields."""
        return Proof(None, (("client_id", Secret(client_id)), ("client_secret", self._secret)), (self._secret,))


class Public:
    """``none``: a client without a secret, which only names itself."""

    def __repr__(self) -> str:
        return "none"

    def prove(self, client_id: str, *, endpoint: URL, now: float) -> Proof:  # noqa: ARG002 - part of the protocol
        """Return the field."""
        return Proof(None, (("client_id", Secret(client_id)),))


def client_auth_of(method: Method | ClientAuth | None, secret: Secret | None) -> ClientAuth:
    """Return the way of authentication that the two options ask for.

    Raises:
        ValueError: They contradict each other, or *method* is unknown.
    """
    if method is None:
        return Public() if secret is None else SecretBasic(secret)
    if not isinstance(method, str):
        if secret is not None:
            raise ValueError(f"client_secret and client_auth={method!r} exclude each other")
        return method
    if method == "none":
        if secret is not None:
            raise ValueError("client_secret must not be given with client_auth='none'")
        return Public()
    if method not in {"client_secret_basic", "client_secret_post"}:
        raise ValueError(
            "client_auth must be 'client_secret_basic', 'client_secret_post', 'none' or a PrivateKeyJwt, "
            f"got {method!r}"
        )
    if secret is None:
        raise ValueError(f"client_auth={method!r} needs a client_secret")
    return SecretBasic(secret) if method == "client_secret_basic" else SecretPost(secret)
