"""The token endpoint: client credentials (RFC 6749 section 4.4), and the tokens that it issued."""

import base64
import binascii
import hmac
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from urllib.parse import parse_qs, unquote_plus

from apiclient.sandbox._answers import Answer, reply, unauthorized

UNCACHED = {"Cache-Control": "no-store", "Pragma": "no-cache"}
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token stands for."""

    client: str
    scopes: frozenset[str]
    expires: float
    revoked: bool = False


class TokenRefused(Exception):
    """A token request that gets an error answer (RFC 6749 section 5.2)."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(error)
        challenge = {"WWW-Authenticate": 'Basic realm="sandbox"'} if status == 401 else {}
        value = {"error": error} if status == 401 else {"error": error, "error_description": description}
        self.answer = reply(status, value, {**UNCACHED, **challenge})


class Tokens:
    """Issues, checks and revokes. Nothing is forgotten, so that an expired token is told from an unknown one."""

    def __init__(
        self,
        *,
        client_id: str,
        client_secret: str,
        scopes: frozenset[str],
        default_scopes: frozenset[str],
        lifetime: float,
        chance: Random,
    ) -> None:
        self._client_id = client_id
        self._client_secret = client_secret
        self._scopes = scopes
        self._default_scopes = default_scopes
        self._lifetime = lifetime
        self._chance = chance
        self._grants: dict[str, Grant] = {}

    def __repr__(self) -> str:
        return f"Tokens({len(self._grants)} issued)"

    def issue(self, now: float, *, client: str, scopes: frozenset[str], lifetime: float) -> str:
        """Return a new token that expires *lifetime* seconds after *now*."""
        token = f"sandbox-{self._chance.getrandbits(128):032x}"
        self._grants[token] = Grant(client, scopes, now + lifetime)
        return token

    def revoke(self) -> int:
        """Reject from now on every token that was issued, and return how many these are."""
        standing = {token: grant for token, grant in self._grants.items() if not grant.revoked}
        self._grants |= {token: replace(grant, revoked=True) for token, grant in standing.items()}
        return len(standing)

    def owner(self, headers: Mapping[str, str]) -> str | None:
        """Tell whose token a request carries, valid or not."""
        grant = self._grants.get(_bearer(headers))
        return None if grant is None else grant.client

    def check(self, headers: Mapping[str, str], now: float) -> Grant | Answer:
        """Return what the request's token grants, or the 401 that it deserves."""
        if "Authorization" not in headers:
            return reply(401, {"error": "unauthorized"}, {"WWW-Authenticate": 'Bearer realm="sandbox"'})
        grant = self._grants.get(_bearer(headers))
        if grant is None or grant.revoked:
            return unauthorized("invalid_token", "The access token is unknown or was revoked.")
        if now >= grant.expires:
            return unauthorized("token_expired", "The access token expired.")
        return grant

    def claimant(self, headers: Mapping[str, str], body: bytes) -> str | None:
        """Tell who asks for a token, before anything is verified."""
        try:
            return _credentials(headers, _form(headers, body))[0]
        except TokenRefused:
            return None

    def answer(self, headers: Mapping[str, str], body: bytes, now: float) -> Answer:
        """Answer a token request."""
        try:
            return self._granted(headers, _form(headers, body), now)
        except TokenRefused as refusal:
            return refusal.answer

    def _granted(self, headers: Mapping[str, str], form: Mapping[str, str], now: float) -> Answer:
        client, secret = _credentials(headers, form)
        known = hmac.compare_digest(client.encode(), self._client_id.encode())
        if not (hmac.compare_digest(secret.encode(), self._client_secret.encode()) and known):
            raise TokenRefused("invalid_client", "The client id or the client secret is wrong.", 401)
        if "grant_type" not in form:
            raise TokenRefused("invalid_request", "The parameter grant_type is missing.")
        if form["grant_type"] != "client_credentials":
            raise TokenRefused("unsupported_grant_type", "Only client_credentials is supported.")
        scopes = frozenset(form.get("scope", "").split())
        if not scopes:
            scopes = self._default_scopes
        if not scopes <= self._scopes:
            raise TokenRefused("invalid_scope", f"Not allowed: {' '.join(sorted(scopes - self._scopes))}.")
        token = self.issue(now, client=client, scopes=scopes, lifetime=self._lifetime)
        value = {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": math.floor(self._lifetime),
            "scope": " ".join(sorted(scopes)),
        }
        return reply(200, value, UNCACHED)


def _bearer(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _form(headers: Mapping[str, str], body: bytes) -> dict[str, str]:
    if headers.get("Content-Type", "").partition(";")[0].strip().lower() != FORM:
        raise TokenRefused("invalid_request", f"The Content-Type must be {FORM}.")
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=32)
    except ValueError:
        raise TokenRefused("invalid_request", "The body is not a form in UTF-8.") from None
    if any(len(values) > 1 for values in fields.values()):
        raise TokenRefused("invalid_request", "A parameter is repeated.")
    return {name: values[0] for name, values in fields.items()}


def _credentials(headers: Mapping[str, str], form: Mapping[str, str]) -> tuple[str, str]:
    if "Authorization" not in headers:
        return form.get("client_id", ""), form.get("client_secret", "")
    if "client_secret" in form:
        raise TokenRefused("invalid_request", "The client authenticated in two ways.")
    scheme, _, encoded = headers["Authorization"].partition(" ")
    try:
        client, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        scheme = client = colon = secret = ""
    if scheme.lower() != "basic" or not colon:
        raise TokenRefused("invalid_client", "The Authorization header is not Basic.", 401)
    return unquote_plus(client), unquote_plus(secret)  # RFC 6749 section 2.3.1 encodes both before base64 does.
