"""One attempt to deliver one item, and what it means."""

from typing import Literal, NamedTuple

from apiclient._caller import Caller
from apiclient.middleware.errors import (
    ApiError,
    CredentialsRejected,
    OutcomeUnknown,
    TransportError,
    Unauthorized,
)
from apiclient.middleware.intent import Intent

# Refused for a reason that lies with us and not with the item: put right, the same item works.
_OURS = (CredentialsRejected, Unauthorized)
_TEMPORARY = frozenset({401, 408, 421, 425, 429, 500, 502, 503, 504})
_LONGEST = 500


class Verdict(NamedTuple):
    """What an attempt came to.

    Attributes:
        kind: ``delivered``, ``dead`` (never again) or ``later``.
        status: Of the answer, or None.
        error: What went wrong, or None.
        body: Beginning of the answer's body.
        retry_after: Seconds that the server or a policy asks for, or None.
        counted: Whether anything went over the wire.
    """

    kind: Literal["delivered", "dead", "later"]
    status: int | None = None
    error: str | None = None
    body: bytes = b""
    retry_after: float | None = None
    counted: bool = True


async def attempt(client: Caller, intent: Intent, *, timeout: float | None, max_answer: int) -> Verdict:  # noqa: ASYNC109
    """Send *intent* through the chain of *client*.

    Args:
        client: Makes the call.
        intent: What to send.
        timeout: Total seconds; None means the client's.
        max_answer: Most bytes to keep of the answer's body.
    """
    try:
        response = await client.send(intent, timeout=timeout)
        body = (await response.read())[:max_answer]
    except ApiError as error:
        return _judged(error)
    except Exception as error:  # noqa: BLE001 - the item stays, whatever it was
        return Verdict("later", error=_told(error))
    if response.status in _TEMPORARY:
        return Verdict("later", status=response.status, error=f"status {response.status}")
    if response.status >= 400:
        return Verdict("dead", status=response.status, error=f"status {response.status}", body=body)
    return Verdict("delivered", status=response.status, body=body)


def _judged(error: ApiError) -> Verdict:
    status = getattr(error, "status", None)
    environment = isinstance(error, TransportError) and not isinstance(error, OutcomeUnknown)
    if error.recoverable or environment or isinstance(error, _OURS):
        return Verdict(
            "later", status=status, error=_told(error), retry_after=error.retry_after, counted=error.attempts > 0
        )
    return Verdict("dead", status=status, error=_told(error))


def _told(error: Exception) -> str:
    message = error.message if isinstance(error, ApiError) else str(error)
    return f"{type(error).__name__}: {message}"[:_LONGEST]
