"""A batch's requests and results, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from apiclient.middleware.errors import ApiError, Attempt


@dataclass(slots=True, kw_only=True)
class Request:
    """One call of a batch, as data.

    Attributes:
        method: Any case.
        path: Relative to the client's base URL, with ``{parameters}``.
        id: Names its result; any value, or None.
        path_params: Values of the parameters.
        params: Query.
        headers: Headers of this call only.
        json: Body, to be sent as JSON.
        data: Body, as ``aiohttp`` takes it.
        idempotency_key: Sent with every attempt.
        options: Further options of ``ApiClient.request``.
    """

    path: str
    method: str = "GET"
    id: Any = None
    path_params: Mapping[str, Any] | None = None
    params: Mapping[str, Any] | None = None
    headers: Mapping[str, str] | None = None
    json: Any = None
    data: Any = None
    idempotency_key: str | None = None
    options: Mapping[str, Any] | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments for ``ApiClient.request``: those that were given."""
        given: dict[str, Any] = {}
        if self.path_params is not None:
            given["path_params"] = self.path_params
        if self.params is not None:
            given["params"] = self.params
        if self.headers is not None:
            given["headers"] = self.headers
        if self.json is not None:
            given["json"] = self.json
        if self.data is not None:
            given["data"] = self.data
        if self.idempotency_key is not None:
            given["idempotency_key"] = self.idempotency_key
        if self.options is not None:
            given.update(self.options)
        return given


@dataclass(slots=True, kw_only=True)
class BatchResult:
    """What became of one request of a batch.

    Attributes:
        request: The request.
        ok: Whether an answer below 400 arrived.
        status: Of the last answer, or None where none arrived.
        body: The answer's body where ``ok``, else empty.
        content_type: The answer's media type, or None.
        error: What the call ended with, or None where ``ok``.
        attempts: Wire requests made for it.
        duration: Seconds from its start to its end, waits included.
        network: Seconds of that spent in wire requests.
        waits: Seconds of that spent waiting, by kind: ``queue``, ``limiter``, ``token``, ``backoff``.
        trail: The attempts that did not settle it.
        endpoint: ``METHOD template``; empty where the call could not be built.
        held: Seconds that it was held back before it began, because its endpoint had no quota left; not part of
            ``duration``.
    """

    request: Request
    ok: bool
    status: int | None = None
    body: bytes = b""
    content_type: str | None = None
    error: Exception | None = None
    attempts: int = 0
    duration: float = 0.0
    network: float = 0.0
    waits: Mapping[str, float] = field(default_factory=dict[str, float])
    trail: tuple[Attempt, ...] = ()
    endpoint: str = ""
    held: float = 0.0

    @property
    def id(self) -> Any:
        """The request's id."""
        return self.request.id


class BatchStopped(ApiError):
    """A batch was ended before its requests were: by a fatal error, or by too many failures.

    Attributes:
        reason: ``stop_on``, ``max_failures`` or ``fail_rate``.
        done: Results until then, the fatal one left out.
        failed: Failures among them.
    """

    hint = "Put right what the failures have in common, and run the rest again"

    def __init__(self, message: str = "", *, reason: str = "", done: int = 0, failed: int = 0, **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.reason = reason
        self.done = done
        self.failed = failed
