"""Signed assertions: the JWT bearer grant and ``private_key_jwt`` (RFC 7523). Needs the extra ``jwt``."""

import secrets
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Unpack

from yarl import URL

from apiclient.credentials._client_auth import ASSERTION_TYPE, ClientAuth, Method, Proof, client_auth_of
from apiclient.credentials._grants import WireRequest
from apiclient.credentials._oauth import OAuthCredential
from apiclient.credentials._options import OAuthOptions
from apiclient.credentials._record import Record
from apiclient.credentials._request import token_request
from apiclient.credentials._secret import Secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")

_GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_CLAIMS = frozenset({"iss", "sub", "aud", "iat", "exp", "jti"})


class SigningKey:
    """A private key that signs assertions.

    Args:
        pem: The key in PEM form. Never shown, and not kept: only the parsed key is.
        algorithm: One of RS, PS or ES with 256, 384 or 512, or EdDSA.
        key_id: The ``kid`` that the server knows the key by, or None.
        password: Of an encrypted key.

    Raises:
        ImportError: The extra is not installed.
        ValueError: The algorithm is unknown, or the key cannot be read or does not fit it.
    """

    def __init__(
        self,
        pem: str | bytes,
        *,
        algorithm: str = "RS256",
        key_id: str | None = None,
        password: str | bytes | None = None,
    ) -> None:
        key = _parsed(pem, password)
        del pem, password  # error reporters show the locals of a constructor that fails
        if algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm must be one of {', '.join(ALGORITHMS)}, got {algorithm!r}")
        if key is None:
            raise ValueError("pem must be a private key in PEM form, with the right password where it has one")
        self._key = key
        self._algorithm = algorithm
        self._key_id = key_id
        try:
            self.sign({})
        except Exception:  # noqa: BLE001 - whatever the library raises, the key and the algorithm do not go together
            raise ValueError(f"pem is a key that algorithm {algorithm!r} cannot sign with") from None

    def __repr__(self) -> str:
        shown = "" if self._key_id is None else f", key_id={self._key_id!r}"
        return f"SigningKey(algorithm={self._algorithm!r}{shown})"

    def sign(self, claims: Mapping[str, Any]) -> Secret:
        """Return *claims* as a signed JWT."""
        import jwt  # noqa: PLC0415 - an extra

        headers = None if self._key_id is None else {"kid": self._key_id}
        return Secret(jwt.encode(dict(claims), self._key, algorithm=self._algorithm, headers=headers))  # type: ignore[arg-type]


class PrivateKeyJwt:
    """``private_key_jwt``: the client signs a short assertion in place of sending a secret.

    Args:
        key: The client's private key.
        audience: Who the assertion is for; None means the token endpoint's address.
        lifetime: Seconds that an assertion is valid for; each is used once.

    Raises:
        ValueError: ``lifetime`` is not above 0.
    """

    def __init__(self, key: SigningKey, *, audience: str | None = None, lifetime: float = 60.0) -> None:
        if not lifetime > 0:
            raise ValueError(f"lifetime must be above 0, got {lifetime!r}")
        self._key = key
        self._audience = audience
        self._lifetime = lifetime

    def __repr__(self) -> str:
        return f"PrivateKeyJwt({self._key!r})"

    def prove(self, client_id: str, *, endpoint: URL, now: float) -> Proof:
        """Return the assertion's fields."""
        audience = str(endpoint) if self._audience is None else self._audience
        claims = _timed({"iss": client_id, "sub": client_id, "aud": audience}, now, self._lifetime)
        assertion = self._key.sign(claims)
        form = (
            ("client_id", Secret(client_id)),
            ("client_assertion_type", Secret(ASSERTION_TYPE)),
            ("client_assertion", assertion),
        )
        return Proof(None, form, (assertion,))


class JwtBearer(OAuthCredential):
    """A token for a signed assertion (RFC 7523 section 2.1), as service accounts use it.

    Args:
        key: Signs the assertion.
        iss: Who makes the assertion.
        sub: Who it is about; None means ``iss``.
        aud: Who it is for; None means the token endpoint's address.
        claims: Further claims.
        lifetime: Seconds that an assertion is valid for; each is used once.
        token_url: The token endpoint; or give ``issuer``.
        issuer: The authorization server; its metadata names the token endpoint.
        client_id: Where the client must prove itself besides.
        client_secret: Its secret. Never shown.
        client_auth: As for ``ClientCredentials``.
        **options: See ``OAuthOptions``.

    Raises:
        ValueError: An option is out of its range, or two contradict each other.
    """

    def __init__(
        self,
        *,
        key: SigningKey,
        iss: str,
        sub: str | None = None,
        aud: str | None = None,
        claims: Mapping[str, Any] | None = None,
        lifetime: float = 300.0,
        token_url: str | URL | None = None,
        issuer: str | URL | None = None,
        client_id: str | None = None,
        client_secret: str | None = None,
        client_auth: Method | ClientAuth | None = None,
        **options: Unpack[OAuthOptions],
    ) -> None:
        secret = None if client_secret is None else Secret(client_secret)
        del client_secret  # error reporters show the locals of a constructor that fails
        if client_id is None and (secret is not None or client_auth is not None):
            raise ValueError("client_id must be given with client_secret or client_auth")
        if not lifetime > 0:
            raise ValueError(f"lifetime must be above 0, got {lifetime!r}")
        extra = {} if claims is None else dict(claims)
        if taken := sorted(_CLAIMS.intersection(extra)):
            raise ValueError(f"claims must not contain {taken[0]!r}: it is set from an option of its own")
        self._key_pair = key
        self._iss = iss
        self._claims = {**extra, "iss": iss, "sub": iss if sub is None else sub}
        self._aud = aud
        self._lifetime = lifetime
        self._client_id = client_id
        self._auth = None if client_id is None else client_auth_of(client_auth, secret)
        super().__init__(token_url, issuer, options)

    def _shown(self) -> str:
        return f"iss={self._iss!r}, sub={self._claims['sub']!r}, "

    def _identity(self) -> Sequence[str | None]:
        return (self._client_id, self._aud, *(f"{name}={value!r}" for name, value in sorted(self._claims.items())))

    def _request(self, endpoint: URL, record: Record, now: float) -> WireRequest:  # noqa: ARG002 - no refresh token here
        audience = str(endpoint) if self._aud is None else self._aud
        assertion = self._key_pair.sign(_timed({**self._claims, "aud": audience}, now, self._lifetime)).value
        grant = (("grant_type", _GRANT_TYPE), ("assertion", assertion))
        proof = None
        if self._auth is not None and self._client_id is not None:
            proof = self._auth.prove(self._client_id, endpoint=endpoint, now=now)
        return token_request(endpoint, grant, self._scopes, self._settings.parameters, proof, secrets=[assertion])


def _timed(claims: Mapping[str, Any], now: float, lifetime: float) -> dict[str, Any]:
    return {**claims, "iat": int(now), "exp": int(now + lifetime), "jti": secrets.token_urlsafe(18)}


def _parsed(pem: str | bytes, password: str | bytes | None) -> "PrivateKeyTypes | None":
    try:
        import_module("jwt")
        from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415
    except ImportError:
        raise ImportError("signed assertions need the extra: pip install 'apiclient-middleware[jwt]'") from None
    try:
        return load_pem_private_key(
            pem.encode() if isinstance(pem, str) else pem,
            password.encode() if isinstance(password, str) else password,
        )
    except (ValueError, TypeError):
        return None
