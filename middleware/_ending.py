"""How a call ended, in one word for statistics."""

from typing import NamedTuple

from apiclient.middleware.errors import (
    BodyNotReplayable,
    BodyTooLarge,
    ContentTypeMismatch,
    Deferred,
    InvalidRequest,
    RateLimited,
    RedirectRefused,
)

EXPIRED = "a limit of the client's expired"
"""Message of the cancellation by which a limit ends an attempt: inside of it, that is all there is to see."""

_REFUSED = (InvalidRequest, BodyNotReplayable, BodyTooLarge, ContentTypeMismatch, RedirectRefused)


class Ending(NamedTuple):
    """How a call ended.

    Attributes:
        outcome: ``ok``; ``rejected``, where the request itself is at fault (4xx, or refused here as invalid);
            ``limited``, where a quota was (429, or no room within its time); ``failed``, where the service or the way
            to it was; ``deferred`` to the outbox; ``cancelled``.
        error_type: Name of the error's class; the status where an answer was an error and none was raised; or None.
    """

    outcome: str
    error_type: str | None


def error_type(error: BaseException) -> str:
    """Return the name under which *error* is told: its class, except for a limit that ended the attempt."""
    name = type(error).__name__
    return "TimeoutError" if name == "CancelledError" and error.args == (EXPIRED,) else name


def ending(status: int | None, failure: BaseException | None) -> Ending:
    """Return how a call ended.

    Args:
        status: Of the response it returned, or None.
        failure: What it raised, or None.
    """
    if failure is None:
        return Ending(_by_status(status), str(status) if status is not None and status >= 400 else None)
    name = type(failure).__name__
    if not isinstance(failure, Exception):
        return Ending("cancelled", name)
    if isinstance(failure, Deferred):
        return Ending("deferred", name)
    if isinstance(failure, RateLimited):
        return Ending("limited", name)
    if isinstance(failure, _REFUSED):
        return Ending("rejected", name)
    answered = getattr(failure, "status", None)
    return Ending("failed" if answered is None else _by_status(answered), name)


def _by_status(status: int | None) -> str:
    if status is None or status < 400:
        return "ok"
    if status == 429:
        return "limited"
    return "rejected" if status < 500 else "failed"
