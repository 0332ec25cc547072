"""The refresh token grant, with rotation (RFC 6749 section 6, RFC 9700 section 4.14)."""

import hashlib
from collections.abc import Sequence
from typing import Unpack

from yarl import URL

from apiclient.credentials._client_auth import ClientAuth, Method, client_auth_of
from apiclient.credentials._grants import WireRequest
from apiclient.credentials._oauth import OAuthCredential
from apiclient.credentials._options import OAuthOptions
from apiclient.credentials._record import Record
from apiclient.credentials._request import token_request
from apiclient.credentials._secret import Secret


class RefreshToken(OAuthCredential):
    """Tokens in a user's name, from a refresh token that was obtained by a sign-in elsewhere.

    Where the server rotates refresh tokens, each answer brings the next one and the old one must never be
    used again: many servers then revoke the whole grant. Give a ``store`` that outlives the process, or the
    rotated token is lost with it and the user has to sign in again. Processes that share the grant must
    share the store. While that fails nothing is refreshed: the refresh token at hand may be used already.

    Args:
        refresh_token: The first one. Never shown. A store that has a later one for it wins.
        client_id: The client that it was issued to.
        client_secret: Its secret; None for a public client. Never shown.
        token_url: The token endpoint; or give ``issuer``.
        issuer: The authorization server; its metadata names the token endpoint.
        client_auth: As for ``ClientCredentials``.
        **options: See ``OAuthOptions``.

    Raises:
        ValueError: An option is out of its range, or two contradict each other.
    """

    _used_up = True

    def __init__(
        self,
        *,
        refresh_token: str,
        client_id: str,
        client_secret: str | None = None,
        token_url: str | URL | None = None,
        issuer: str | URL | None = None,
        client_auth: Method | ClientAuth | None = None,
        **options: Unpack[OAuthOptions],
    ) -> None:
        secret = None if client_secret is None else Secret(client_secret)
        first = Secret(refresh_token)
        del client_secret, refresh_token  # error reporters show the locals of a constructor that fails
        if not client_id:
            raise ValueError("client_id must not be empty")
        if not first.value:
            raise ValueError("refresh_token must not be empty")
        self._client_id = client_id
        self._first = first
        self._auth = client_auth_of(client_auth, secret)
        super().__init__(token_url, issuer, options)

    def _shown(self) -> str:
        return f"client_id={self._client_id!r}, "

    def _identity(self) -> Sequence[str | None]:
        # A new sign-in is a new grant: what the store has of the old one must not stand in its way.
        return (self._client_id, hashlib.sha256(self._first.value.encode()).hexdigest())

    def _request(self, endpoint: URL, record: Record, now: float) -> WireRequest:
        held = Secret(self._first.value if record.refresh_token is None else record.refresh_token)
        grant = (("grant_type", "refresh_token"), ("refresh_token", held.value))
        proof = self._auth.prove(self._client_id, endpoint=endpoint, now=now)
        return token_request(endpoint, grant, self._scopes, self._settings.parameters, proof, secrets=[held.value])
