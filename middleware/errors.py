"""Every error that a call can end with, in one tree.

    ApiError (aiohttp.ClientError)
    ├── StatusError (also aiohttp.ClientResponseError)   the server answered with status 400 or above
    │   ├── BadRequest 400, NotFound 404, Conflict 409, PreconditionFailed 412,
    │   │   UnsupportedMediaType 415, UnprocessableContent 422, TooManyRequests 429
    │   ├── Unauthorized 401
    │   ├── Forbidden 403
    │   │   └── ScopeMissing, PermissionMissing, WrongEndpoint, Banned
    │   └── ServerError 5xx
    │       └── ServerOutcomeUnknown                     it may have been carried out all the same
    ├── TransportError (also aiohttp.ClientConnectionError)   no whole answer arrived
    │   ├── ConnectFailed                                nothing was sent
    │   ├── ConnectionLost, AttemptTimedOut, ResponseBroken   it may have been sent
    │   └── TransportOutcomeUnknown                      ... and must not be sent again without a key
    ├── OutcomeUnknown                                   base of the two ...OutcomeUnknown above
    ├── DeadlineExceeded, RateLimited, CircuitOpen       refused here, without a request
    ├── CredentialsRejected, TokenUnavailable            no token to send
    ├── InvalidRequest (also ValueError), BodyNotReplayable, ContentTypeMismatch   the request cannot go out so
    ├── RedirectRefused, BodyTooLarge                                              the answer is not acceptable
    ├── UnexpectedContentType (also aiohttp.ContentTypeError), InvalidJson (also json.JSONDecodeError)
    ├── OutboxError                                      the outbox could not take, or find, or record a call
    └── Deferred                                         kept in the outbox, to be sent later

Each error carries ``hint`` (one sentence: what to do about it), ``recoverable`` (may the same call work
later?), ``retry_after`` (seconds, or None), ``attempts`` (wire requests made), ``trail`` (the attempts
that failed) and ``request`` (method, endpoint, redacted URL). None of them holds a header value, a
query value or a body, so that a log of them leaks nothing.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, Self

import aiohttp

from apiclient.middleware._error import AnswerError, ApiError, Attempt, RequestSummary, redacted, restored
from apiclient.middleware._parsing.problem import Problem

__all__ = [
    "ApiError", "Attempt", "AttemptTimedOut", "BadRequest", "Banned", "BodyNotReplayable", "BodyTooLarge",
    "CircuitOpen", "Conflict", "ConnectFailed", "ConnectionLost", "ContentTypeMismatch", "CredentialsRejected",
    "DeadlineExceeded", "Deferred", "Forbidden", "InvalidJson", "InvalidRequest", "NotFound", "OutboxError",
    "OutcomeUnknown", "PermissionMissing", "PreconditionFailed", "RateLimited", "RedirectRefused", "RequestSummary",
    "ResponseBroken", "ScopeMissing", "ServerError", "ServerOutcomeUnknown", "StatusError", "TokenUnavailable",
    "TooManyRequests", "TransportError", "TransportOutcomeUnknown", "Unauthorized", "UnexpectedContentType",
    "UnprocessableContent", "UnsupportedMediaType", "WrongEndpoint", "redacted",
]  # fmt: skip


class OutcomeUnknown(ApiError):
    """The server may or may not have carried the request out, and sending it again could do it twice."""

    hint = "Look up whether it happened before asking again, or send it with an idempotency_key"


class StatusError(AnswerError):
    """The server answered with status 400 or above.

    Attributes:
        problem: The parsed error body (RFC 9457 or the API's own JSON).
        trace_id: The server's identifier for this failure, or None.
    """

    def __init__(self, message: str = "", *, status: int, problem: Problem | None = None, **kwargs: Any) -> None:
        super().__init__(message, status=status, **kwargs)
        self.problem = problem
        self.trace_id = problem.trace_id if problem is not None else None

    @classmethod
    def for_status(cls, status: int) -> type["StatusError"]:
        """Return the class for *status*: the exact one, ServerError for 5xx, else StatusError."""
        return _BY_STATUS.get(status, ServerError if status >= 500 else StatusError)

    def _facts(self) -> Iterator[tuple[str, str]]:
        yield from ((name, getattr(self, name, None) or "") for name in ("scope", "sent"))
        yield "accepted", ", ".join(getattr(self, "accepted", ()))
        yield "allowed", self.headers.get("Allow", "") if self.headers is not None else ""
        yield "trace id", self.trace_id or ""
        if self.problem is not None:
            yield from (("fault", line) for line in self.problem.errors)


class BadRequest(StatusError):
    """400: the server could not make sense of the request."""

    hint = "Compare the parameters and the body with the endpoint's documentation"


class Unauthorized(StatusError):
    """401: no valid credential reached the server, or a fresh one was refused too."""

    hint = "Check client id and key and refresh the token; its issuer and audience must be those of this API"


class Forbidden(StatusError):
    """403: the credential is valid, but not for this."""

    hint = "Adjust the user group's permissions, include the scope, or verify the endpoint URL"


class ScopeMissing(Forbidden):
    """403: the token lacks a scope; ``scope`` names it where the server did."""

    hint = "Include the missing scope when the token is requested"
    scope: str | None = None


class PermissionMissing(Forbidden):
    """403: the user or its group lacks a permission."""

    hint = "Adjust the user group's permissions in the API's administration"


class WrongEndpoint(Forbidden):
    """403 for a path that the API does not know."""

    hint = "Verify the endpoint URL, its version prefix and the base URL"


class Banned(Forbidden):
    """403 that is really a limit: a quota used up or a ban for a time."""

    recoverable = True
    hint = "Wait as long as the server says and lower the request rate"


class NotFound(StatusError):
    """404: there is nothing at this path."""

    hint = "Verify the path and its parameters"


class Conflict(StatusError):
    """409: the request contradicts the present state."""

    hint = "Read the resource again and decide anew"


class PreconditionFailed(StatusError):
    """412: the resource changed since it was read."""

    hint = "Read the resource again, take its new ETag, and repeat the change on top of it"


class UnsupportedMediaType(StatusError):
    """415: the server does not take this Content-Type.

    Attributes:
        sent: The Content-Type that went out, or None.
        accepted: The types that the server said it takes; empty where it did not say.
    """

    hint = "Set the Content-Type to one that the endpoint accepts, or configure ContentType(expect=...)"
    sent: str | None = None
    accepted: tuple[str, ...] = ()


class UnprocessableContent(StatusError):
    """422: understood, but not valid."""

    hint = "Correct the fields named in problem.errors"


class TooManyRequests(StatusError):
    """429: the quota is used up, and waiting for it was not possible."""

    recoverable = True
    hint = "Wait, lower the rate, or give the call a longer timeout so that it can wait for the quota"


class ServerError(StatusError):
    """5xx: the server failed."""

    recoverable = True
    hint = "Retry later, or queue it with defer=True; if it persists, give the trace id to the API's operator"


class ServerOutcomeUnknown(OutcomeUnknown, ServerError):
    """5xx in answer to a POST or PATCH without a key: it may have been carried out."""

    recoverable = False
    hint = OutcomeUnknown.hint


_BY_STATUS: dict[int, type[StatusError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: PreconditionFailed,
    415: UnsupportedMediaType,
    422: UnprocessableContent,
    429: TooManyRequests,
}


class TransportError(ApiError, aiohttp.ClientConnectionError):
    """No whole answer arrived. The aiohttp error is ``__cause__``."""

    recoverable = True
    hint = "Check that the host is reachable; the same call may work later"


class ConnectFailed(TransportError):
    """No connection could be made, so nothing was sent."""


class ConnectionLost(TransportError):
    """The connection broke after the request may have been sent."""


class AttemptTimedOut(TransportError):
    """One attempt took longer than its limit."""

    hint = "Give the attempt more time (AttemptTimeout) or ask for less in one request"


class ResponseBroken(TransportError):
    """What arrived is not a whole HTTP response."""

    hint = "If it persists, look at the proxies between here and the server"


class TransportOutcomeUnknown(OutcomeUnknown, TransportError):
    """A POST or PATCH without a key may have been carried out: no answer arrived."""

    recoverable = False
    hint = OutcomeUnknown.hint


class DeadlineExceeded(ApiError):
    """The call's total time is used up, or a wait would outlast it.

    Attributes:
        would_have_waited: Seconds of the wait that was not begun, or None where time simply ran out.
    """

    recoverable = True
    hint = "Give the call a longer timeout, or send it later"

    def __init__(self, message: str = "", *, would_have_waited: float | None = None, **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.would_have_waited = would_have_waited


class RateLimited(DeadlineExceeded):
    """The endpoint's quota leaves no slot within the call's time, or its queue is full."""

    hint = "Give the call a longer timeout, lower the rate, or send it later"


class CircuitOpen(ApiError):
    """The origin has been failing and is left alone for now; no request was made.

    Attributes:
        origin: The origin, as text.
    """

    recoverable = True
    hint = "Retry after retry_after seconds; look at the first failures to see why the origin is down"

    def __init__(self, message: str = "", *, origin: str = "", **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.origin = origin


class CredentialsRejected(ApiError):
    """The token endpoint refuses this credential for good.

    Attributes:
        credential: Which one, by its repr; never its secret.
        code: OAuth error code (RFC 6749 section 5.2), or None.
    """

    hint = "Check client id and key"

    def __init__(self, message: str = "", *, credential: str = "", code: str | None = None, **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.credential = credential
        self.code = code


class TokenUnavailable(ApiError):
    """No token could be had just now: the token endpoint is down or answers nonsense.

    Attributes:
        credential: Which credential, by its repr; never its secret.
    """

    recoverable = True
    hint = "Retry later; if it persists, check the token URL"

    def __init__(self, message: str = "", *, credential: str = "", **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.credential = credential


class InvalidRequest(ApiError, ValueError):
    """The request cannot be built: a path, a path parameter or a header that is not allowed."""

    hint = "Correct the arguments of the call"


class BodyNotReplayable(ApiError):
    """The request would have to be sent again, but its body can be read only once."""

    hint = "Give bytes, a seekable file, body= with a function that makes it, or buffer_body=True"


class ContentTypeMismatch(ApiError):
    """The declared Content-Type and the body contradict each other; nothing was sent."""

    hint = "Set the Content-Type that the body really has, or use json="


class UnexpectedContentType(AnswerError, aiohttp.ContentTypeError):
    """The answer is not of the type that the call expects: a login page, perhaps, instead of JSON.

    Attributes:
        content_type: The one that came, or None.
        excerpt: The first 200 characters that a person would see, secrets hidden.
    """

    hint = "Look at what answered: a login page or a proxy, perhaps; check the base URL and the credentials"

    def __init__(
        self, message: str = "", *, content_type: str | None = None, excerpt: str = "", status: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(message, status=status, **kwargs)
        self.content_type = content_type
        self.excerpt = excerpt

    def _facts(self) -> Iterator[tuple[str, str]]:
        yield "type", self.content_type or "none"
        yield "begins", self.excerpt


class InvalidJson(AnswerError, json.JSONDecodeError):
    """The answer says that it is JSON, and is not, or not safely: broken, NaN, a name twice, nested too deeply.

    Attributes:
        pos: Where, in characters, as far as it is known.
        excerpt: The first 200 characters, secrets hidden. ``doc`` is empty.
    """

    hint = "Tell the API's operator; json(loads=json.loads) reads it as Python would"

    def __init__(self, message: str = "", *, pos: int = 0, excerpt: str = "", status: int = 0, **kwargs: Any) -> None:
        super().__init__(message, status=status, **kwargs)
        self.msg, self.doc, self.pos, self.lineno, self.colno = message, "", pos, 1, pos + 1
        self.excerpt = excerpt

    def _facts(self) -> Iterator[tuple[str, str]]:
        yield "begins", self.excerpt


class BodyTooLarge(ApiError):
    """The response's body is over ``max_body``; the connection was closed."""

    hint = "Stream it, or raise max_body"


class RedirectRefused(ApiError):
    """The server redirects to where this client does not go."""

    hint = "Use the new address as base_url if it is to be trusted"


class OutboxError(ApiError):
    """The outbox could not do it: its file is locked, full, damaged or not its own, or the call is not fit for it.

    Where a call should have been deferred, ``__cause__`` is the call's own failure; nothing was kept.
    """

    hint = "See to the outbox; until then the call is yours to repeat"


class Deferred(ApiError):
    """The call could not be made now, and is in the outbox.

    Attributes:
        ticket: Identifies the stored request; ``await ticket.wait(timeout)`` for its outcome.
    """

    recoverable = True
    hint = "Nothing needs to be done: the outbox sends it later"

    def __init__(self, message: str = "", *, ticket: Any = None, **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.ticket = ticket

    def __reduce__(self) -> tuple[Callable[..., ApiError], tuple[Any, ...]]:
        # A ticket is bound to this process: only its id travels.
        state = self._state()
        return restored, (type(self), state | {"ticket": getattr(self.ticket, "id", self.ticket)})

    def __copy__(self) -> Self:
        return self
