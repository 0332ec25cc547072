"""The client credentials grant (RFC 6749 section 4.4)."""

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


class ClientCredentials(OAuthCredential):
    """A token for the client itself, no user involved.

    Args:
        token_url: The token endpoint; or give ``issuer``.
        issuer: The authorization server; its metadata names the token endpoint.
        client_id: The client's name.
        client_secret: Its secret. Never shown.
        client_auth: ``"client_secret_basic"`` (the default with a secret), ``"client_secret_post"``,
            ``"none"``, or a ``PrivateKeyJwt``.
        **options: See ``OAuthOptions``.

    Raises:
        ValueError: An option is out of its range, or two contradict each other.
    """

    def __init__(
        self,
        *,
        client_id: str,
        client_secret: str | None = None,
        token_url: str | URL | None = None,
        issuer: str | URL | None = None,
        client_auth: Method | ClientAuth | None = None,
        **options: Unpack[OAuthOptions],
    ) -> None:
        secret = None if client_secret is None else Secret(client_secret)
        del client_secret  # error reporters show the locals of a constructor that fails
        if not client_id:
            raise ValueError("client_id must not be empty")
        if secret is None and client_auth is None:
            raise ValueError("client_secret must be given, or client_auth say how the client proves itself")
        self._client_id = client_id
        self._auth = client_auth_of(client_auth, secret)
        super().__init__(token_url, issuer, options)

    def _shown(self) -> str:
        return f"client_id={self._client_id!r}, "

    def _identity(self) -> Sequence[str | None]:
        return (self._client_id,)

    def _request(self, endpoint: URL, record: Record, now: float) -> WireRequest:  # noqa: ARG002 - no refresh token here
        grant = (("grant_type", "client_credentials"),)
        proof = self._auth.prove(self._client_id, endpoint=endpoint, now=now)
        return token_request(endpoint, grant, self._scopes, self._settings.parameters, proof)
