"""What a transport error of aiohttp says: was anything sent, and can it ever work?"""

from typing import NamedTuple

import aiohttp

from apiclient.middleware._censored import censored
from apiclient.middleware.errors import (
    ApiError,
    AttemptTimedOut,
    ConnectFailed,
    ConnectionLost,
    InvalidRequest,
    ResponseBroken,
    TransportError,
    TransportOutcomeUnknown,
)


class Fault(NamedTuple):
    """What an exception from the wire means.

    Attributes:
        kind: The error of ours that tells of it.
        nothing_sent: No byte of the request left, so anything may be sent again.
        permanent: Sending it again cannot help.
        local: It says nothing about the server (a full connection pool, a bad argument).
    """

    kind: type[ApiError]
    nothing_sent: bool = False
    permanent: bool = False
    local: bool = False


# The order matters: ClientConnectorError is a ClientOSError, and the timeouts are ClientConnectionErrors.
_FAULTS: tuple[tuple[type[BaseException], Fault], ...] = (
    (aiohttp.ClientConnectorCertificateError, Fault(ConnectFailed, nothing_sent=True, permanent=True)),
    (aiohttp.ServerFingerprintMismatch, Fault(ConnectFailed, nothing_sent=True, permanent=True)),
    (aiohttp.ClientConnectorSSLError, Fault(ConnectFailed, nothing_sent=True, permanent=True)),
    (aiohttp.ClientConnectorError, Fault(ConnectFailed, nothing_sent=True)),
    # Also raised when the pool is full: no evidence against the host.
    (aiohttp.ConnectionTimeoutError, Fault(ConnectFailed, nothing_sent=True, local=True)),
    (aiohttp.InvalidURL, Fault(InvalidRequest, nothing_sent=True, permanent=True, local=True)),
    (aiohttp.ServerTimeoutError, Fault(AttemptTimedOut)),
    (TimeoutError, Fault(AttemptTimedOut)),
    (AttemptTimedOut, Fault(AttemptTimedOut)),
    (ConnectFailed, Fault(ConnectFailed, nothing_sent=True)),
    (aiohttp.ClientPayloadError, Fault(ResponseBroken)),
    (ResponseBroken, Fault(ResponseBroken)),
    (aiohttp.ClientResponseError, Fault(ResponseBroken, permanent=True)),
    (aiohttp.ClientConnectionError, Fault(ConnectionLost)),
)


def fault_of(error: BaseException) -> Fault | None:
    """Return what *error* means, or None where it did not come from the wire.

    An ``ApiError`` is a decision of one of our policies rather than a fault of the wire, except for
    ``TransportError``.
    """
    if isinstance(error, ApiError) and not isinstance(error, TransportError):
        return None
    if isinstance(error, TransportOutcomeUnknown):
        return None
    for kind, fault in _FAULTS:
        if isinstance(error, kind):
            return fault
    return None


def transport_error(error: BaseException, *, repeatable: bool) -> ApiError | None:
    """Return the error of ours for *error*, to be raised ``from`` it, or None where it is none of the wire.

    Leaving the chain as aiohttp's own ClientOSError or ServerDisconnectedError would make aiohttp run the
    whole chain a second time, unseen and uncounted.

    Args:
        error: What the handler raised.
        repeatable: Whether the call may be sent twice (idempotent method, or a key).
    """
    fault = fault_of(error)
    if fault is None:
        return None
    # aiohttp's messages quote the whole URL, and the error stays in the traceback as the cause.
    text = str(error) if isinstance(error, ApiError) else censored(error)
    reason = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if not fault.nothing_sent and not repeatable:
        return TransportOutcomeUnknown(f"No answer arrived, and the request may have been carried out ({reason})")
    if isinstance(error, TransportError):
        return error
    if fault.kind is ConnectFailed and fault.permanent:
        return ConnectFailed(
            f"No secure connection ({reason})",
            recoverable=False,
            hint="Check the server's certificate and host name, and that it speaks TLS there",
        )
    wording: dict[type[ApiError], str] = {
        ConnectFailed: "No connection could be made",
        ConnectionLost: "The connection broke before the answer",
        AttemptTimedOut: "No answer within the time of the attempt",
        ResponseBroken: "The answer is not a whole HTTP response",
    }
    recoverable = False if fault.permanent else None
    return fault.kind(f"{wording.get(fault.kind, 'The request cannot be sent')} ({reason})", recoverable=recoverable)
