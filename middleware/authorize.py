"""Attach the credential to requests to its own origin."""

from typing import cast

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
from yarl import URL

from apiclient.middleware._call import joined, opened
from apiclient.middleware._token import ready, token_for
from apiclient.middleware.credential import Credential, Token
from apiclient.middleware.errors import InvalidRequest, redacted


class Authorize:
    """Send a valid token with each request to one origin, and to no other.

    List it inside everything that waits (``RateLimit``, ``Retry``), so that the token is asked for when the
    request is about to leave. A header of the same name that the request already has is replaced. The
    header is taken off the request again once the answer is there, so that ``response.request_info`` does
    not carry the secret on.

    Args:
        credential: Gives out the token.
        origin: The only origin (scheme, host and port) that gets it; a path in it is ignored. None means
            the origin of the ``ApiClient`` that makes the call; on a bare session it must be given.

    Raises:
        TypeError: The credential has no ``token`` and ``invalidate``.
        ValueError: The origin is not an absolute http or https URL.
        InvalidRequest: (from a call) No origin is known: a bare session, and none was given.
        CredentialsRejected: (from a call) The credential is refused for good.
        TokenUnavailable: (from a call) No token could be had just now.
    """

    def __init__(self, credential: Credential, *, origin: str | URL | None = None) -> None:
        if not isinstance(cast("object", credential), Credential):
            raise TypeError(f"credential must have token() and invalidate(), got {type(credential).__name__}")
        self._credential = credential
        self._origin = None if origin is None else _origin_of(origin)

    def __repr__(self) -> str:
        shown = "" if self._origin is None else f", origin={str(self._origin)!r}"
        return f"Authorize({self._credential!r}{shown})"

    @property
    def credential(self) -> Credential:
        """What gives out the token."""
        return self._credential

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send *request* with a valid token if it goes to the credential's origin, else without one."""
        call = joined()
        if call is None:
            return await opened(self, request, handler)
        call.token = None
        origin = call.origin if self._origin is None else self._origin
        if origin is None:
            raise InvalidRequest(
                "Authorize does not know whose origin the credential belongs to",
                hint="On a bare session say Authorize(credential, origin='https://api.example.com')",
            )
        if not _at(request.url, origin):
            return await handler(request)
        credential = self._credential if call.credential is None else call.credential
        token = ready(credential)
        if token is None:
            token = await token_for(call, credential)
        call.token = token
        if token.query is not None:
            return await _sent_with_query(request, handler, token)
        headers = request.headers
        headers[token.header] = token.line
        try:
            return await handler(request)
        finally:
            headers.popall(token.header, None)


async def _sent_with_query(request: ClientRequest, handler: ClientHandlerType, token: Token) -> ClientResponse:
    bare = request.url
    request.url = bare.update_query({str(token.query): token.value})
    try:
        return await handler(request)
    finally:
        request.url = bare


def _at(url: URL, origin: URL) -> bool:
    # The same text is the same origin, and several times as fast to compare.
    return (url.raw_authority == origin.raw_authority and url.scheme == origin.scheme) or url.origin() == origin


def _origin_of(origin: str | URL) -> URL:
    url = URL(origin)
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError(f"origin must be an absolute http or https URL, got {redacted(url)!r}")
    return url.origin()
