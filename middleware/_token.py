"""Ask a credential for a token, and book the time that it took."""

from apiclient.middleware._call import Call
from apiclient.middleware.credential import Credential, Token

_BOOKED_ABOVE = 0.001


async def token_for(call: Call, own: Credential) -> Token:
    """Return a token for *call*: of the credential chosen for it, else of *own*.

    A wait of more than a millisecond is booked as ``token``.

    Raises:
        CredentialsRejected: The credential is refused for good.
        TokenUnavailable: No token could be had just now.
    """
    credential = own if call.credential is None else call.credential
    asked = call.time()
    try:
        return await credential.token()
    finally:
        if (waited := call.time() - asked) > _BOOKED_ABOVE:
            call.waited("token", waited)
