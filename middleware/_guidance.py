"""What to do about a status, in the words that errors and the command line share. Pure."""

from http import HTTPStatus
from typing import Final

from apiclient.middleware.errors import StatusError

# Statuses without a class of their own.
_HINTS: Final = {
    402: "See to the account's plan or balance",
    405: "Use a method that the endpoint allows",
    406: "Ask for a type that the endpoint can give (Accept)",
    407: "Check user and password of the proxy",
    408: "Retry later; the server gave up waiting for the request",
    410: "Stop asking: the resource is gone for good",
    411: "Give the body as bytes or text, so that its length is known",
    413: "Send less in one request",
    414: "Send the parameters in the body, or fewer of them",
    416: "Ask for a range that the resource has",
    417: "Send it without expect100",
    421: "Check the base URL: this server does not answer for that host",
    423: "Wait until the resource is unlocked",
    424: "Correct the request that this one depends on",
    425: "Retry later; the server did not want it before the connection was settled",
    426: "Use the protocol version that the server asks for",
    428: "Read the resource and send its ETag as If-Match",
    431: "Send fewer or shorter headers, cookies among them",
    451: "The resource may not be given out for legal reasons; sending it again is of no use",
}


def phrase(status: int) -> str:
    """Return ``404 Not Found``; of a status that is not registered ``499``."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def hint_for(status: int) -> str:
    """Return what to do about *status*, one sentence; empty where there is nothing to say."""
    return _HINTS.get(status) or StatusError.for_status(status).hint
