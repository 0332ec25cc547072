"""Ask a credential for a token, and book the time that it took."""

from apiclient.middleware._call import Call
from apiclient.middleware.credential import Credential, Token

_BOOKED_ABOVE = 0.001


def ready(credential: Credential) -> Token | None:
    """Return the token that *credential* has at hand, or None where it must be awaited or cannot say.

    A credential may offer ``current() -> Token | None`` beside the protocol: most requests then need no
    coroutine for their token.
    """
    current = getattr(credential, "current", None)
    return None if current is None else current()


async def token_for(call: Call, credential: Credential) -> Token:
    """Wait for a token of *credential*; more than a millisecond of it is booked as ``token``.

    Raises:
        CredentialsRejected: The credential is refused for good.
        TokenUnavailable: No token could be had just now.
    """
    asked = call.time()
    try:
        return await credential.token()
    finally:
        if (waited := call.time() - asked) > _BOOKED_ABOVE:
            call.waited("token", waited)
