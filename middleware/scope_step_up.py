"""Ask for the scope that an endpoint turns out to need."""

import logging
from typing import cast

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, hdrs

from apiclient.middleware._body import discard, replayable
from apiclient.middleware._call import Call, joined, opened
from apiclient.middleware._keyed import Keyed
from apiclient.middleware._parsing.challenge import parse_challenges
from apiclient.middleware._token import token_for
from apiclient.middleware.credential import Credential, ScopedCredential


class ScopeStepUp:
    """On ``403 insufficient_scope``, get a token that has the scope and send the request once more.

    Only where the server names the scope (RFC 6750 section 3.1) and the credential allows asking for it;
    any other 403 is returned as it is. What worked is remembered per endpoint, so that later calls carry
    the right token from the start; the other endpoints keep the narrower one.

    List it outside ``AuthRefresh``, ``RateLimit`` and ``Authorize``, and inside ``Retry``.

    Args:
        credential: The one that ``Authorize`` attaches. One without ``for_scope`` never steps up.

    Raises:
        CredentialsRejected: (from a call) The token endpoint refuses the scope.
        TokenUnavailable: (from a call) No token could be had just now.
    """

    def __init__(self, credential: Credential) -> None:
        self._credential = credential
        self._known: Keyed[object, _Choice] = Keyed(_Choice)

    def __repr__(self) -> str:
        return f"ScopeStepUp({self._credential!r})"

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send *request* with the token that its endpoint needs; step up and resend once where it falls short."""
        call = joined()
        if call is None:
            return await opened(self, request, handler)
        own = call.credential is None  # Else somebody outside has chosen one for this call, and no other may stand in.
        if own and call.key in self._known:
            call.credential = self._known.get(call.key, call.time()).credential
        sendable = replayable(request)
        response = await handler(request)
        if response.status != 403 or call.token is None:
            return response
        try:
            wider = self._wider(response, call)
        except BaseException:
            response.close()
            raise
        if wider is None:
            return response
        if not (sendable and replayable(request)):
            call.stopped = "not_replayable"
            return response
        discard(response, request)
        call.emit(logging.INFO, "auth.scope_step_up", credential=repr(wider))
        call.credential = wider
        await token_for(call, wider)
        call.resending()
        again = await handler(request)
        if own and again.status != 403:
            self._known.get(call.key, call.time()).credential = wider
        return again

    def _wider(self, response: ClientResponse, call: Call) -> Credential | None:
        if hdrs.WWW_AUTHENTICATE not in response.headers:
            return None
        for challenge in parse_challenges(response.headers.getall(hdrs.WWW_AUTHENTICATE)):
            scope = challenge.params.get("scope")
            if challenge.params.get("error") == "insufficient_scope" and scope:
                held = self._credential if call.credential is None else call.credential
                if hasattr(held, "for_scope"):
                    return cast("ScopedCredential", held).for_scope(scope)
        return None


class _Choice:
    """The credential that an endpoint needs."""

    __slots__ = ("credential",)

    def __init__(self) -> None:
        self.credential: Credential | None = None
