"""Replace a rejected token once, for everyone, and resend once."""

import logging

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, hdrs

from apiclient.middleware._body import discard, replayable
from apiclient.middleware._call import Call, joined, opened
from apiclient.middleware._keyed import Keyed
from apiclient.middleware._parsing.challenge import parse_challenges
from apiclient.middleware._token import ready, token_for
from apiclient.middleware.credential import Credential, Token


class AuthRefresh:
    """On 401, have the rejected token replaced and send the request once more.

    The token that was rejected is compared with the current one, so that of a thousand 401s the first
    leads to a new token and the others only pick it up. The second 401 of a call is returned. An endpoint
    that rejected a fresh token gets no further refresh for ``quiet`` seconds: its 401 is returned at once,
    and the calls to it do not wear out the token endpoint or everybody else's token.

    List it outside ``RateLimit`` and ``Authorize``, so that the resend takes a slot and the new token, and
    inside ``Retry``, so that it costs no attempt. In an ``ApiClient`` it also waits for the token before the
    request waits for its slot, so that no slot is held meanwhile, and a call whose credential is refused fails
    at once.

    Args:
        credential: The one that ``Authorize`` attaches.
        quiet: Seconds, above 0, for which an endpoint that rejected a fresh token leads to no refresh.

    Raises:
        ValueError: An option is out of its range.
        CredentialsRejected: (from a call) The credential is refused for good.
        TokenUnavailable: (from a call) No new token could be had just now.
    """

    def __init__(self, credential: Credential, *, quiet: float = 30.0) -> None:
        if not quiet > 0:
            raise ValueError(f"quiet must be above 0, got {quiet!r}")
        self._credential = credential
        self._quiet = quiet
        self._refusals: Keyed[object, _Refusal] = Keyed(_Refusal)

    def __repr__(self) -> str:
        return f"AuthRefresh({self._credential!r}, quiet={self._quiet:g})"

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send *request*; on 401 have the token replaced, unless it is already, and send it once more."""
        call = joined()
        if call is None:
            return await opened(self, request, handler)
        credential = self._credential if call.credential is None else call.credential
        if call.origin is not None and ready(credential) is None:
            await token_for(call, credential)
        sendable = replayable(request)
        response = await handler(request)
        rejected = call.token
        if response.status != 401 or rejected is None:
            return response
        try:
            if not (self._worth_a_refresh(response, rejected, call) and credential.invalidate(rejected) is not False):
                return response
        except BaseException:
            response.close()
            raise
        if not (sendable and replayable(request)):
            call.stopped = "not_replayable"
            return response
        discard(response, request)
        call.emit(logging.INFO, "auth.rejected", status=401)
        await token_for(call, credential)
        call.resending()
        again = await handler(request)
        if again.status == 401 and call.token is not None:
            self._refusals.get(call.key, call.time()).note(call.token, call.time() + self._quiet)
        return again

    def _worth_a_refresh(self, response: ClientResponse, rejected: Token, call: Call) -> bool:
        refusal = self._refusals.peek(call.key)
        if refusal is not None and refusal.covers(rejected, call.time()):
            return False
        if hdrs.WWW_AUTHENTICATE not in response.headers:
            return True
        challenges = parse_challenges(response.headers.getall(hdrs.WWW_AUTHENTICATE))
        ours = {"bearer", (rejected.scheme or "bearer").lower()}
        return not challenges or any(challenge.scheme.lower() in ours for challenge in challenges)


class _Refusal:
    """The fresh token that an endpoint rejected last, and until when that is remembered."""

    __slots__ = ("_token", "_until")

    def __init__(self) -> None:
        self._token: Token | None = None
        self._until = 0.0

    def note(self, token: Token, until: float) -> None:
        self._token = token
        self._until = until

    def covers(self, token: Token, now: float) -> bool:
        return self._token is not None and token.value == self._token.value and now < self._until
