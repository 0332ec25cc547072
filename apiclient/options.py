"""The options of a call, typed, so that a checker finds a misspelt one."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypedDict

from apiclient._target import checked_headers
from apiclient.middleware._call import Call
from apiclient.middleware.errors import InvalidRequest
from apiclient.pipeline import Pipeline

__all__ = ["CallOptions", "DeferOptions"]

_PASSED_ON = frozenset(
    {"headers", "params", "json", "data", "compress", "chunked", "expect100", "read_bufsize", "skip_auto_headers",
     "trace_request_ctx"}
)  # fmt: skip


class CallOptions(TypedDict, total=False):
    """What can be said of one call.

    Attributes:
        path_params: Values of the path's parameters.
        params: Query; a mapping, pairs, or text.
        headers: In addition to the client's; the same name wins over it.
        json: Body, sent as JSON.
        data: Body as aiohttp takes it: bytes, text, a form, a file, an async iterable.
        timeout: Total seconds, waits and retries included; infinite for none.
        idempotency_key: Sent with every attempt; makes a POST or PATCH safe to send again.
        endpoint: ``METHOD template``, in place of the one found.
        pipeline: In place of the client's.
        priority: Higher goes first where there is a queue.
        cost: Slots of a quota that one wire request takes.
        defer: Whether it may go to the outbox; None leaves that to ``Defer``.
        body: Function without arguments that returns the body, as ``data`` takes it; called anew for each attempt.
        buffer_body: Take a streamed request body into memory first, so that it can be sent again.
        max_body: Largest response body in bytes after decompression, in place of the client's; None for any.
        compress: As in aiohttp.
        chunked: As in aiohttp.
        expect100: As in aiohttp.
        read_bufsize: As in aiohttp, bytes.
        skip_auto_headers: As in aiohttp.
        trace_request_ctx: As in aiohttp.
    """

    path_params: Mapping[str, Any] | None
    params: Any
    headers: Mapping[str, str] | None
    json: Any
    data: Any
    timeout: float | None
    idempotency_key: str | None
    endpoint: str | None
    pipeline: Pipeline | None
    priority: int
    cost: int
    defer: bool | None
    body: Callable[[], Any] | None
    buffer_body: bool
    max_body: int | None
    compress: str | bool | None
    chunked: bool | None
    expect100: bool
    read_bufsize: int | None
    skip_auto_headers: Iterable[str] | None
    trace_request_ctx: Any


class DeferOptions(CallOptions, total=False):
    """What can be said of a call that is stored and not made.

    Attributes:
        delay: Seconds before which it is not sent.
        lifetime: Seconds after which it is given up; None means the outbox's.
        dedupe: While a call with the same text here is pending, this one is taken for it and not stored.
    """

    delay: float
    lifetime: float | None
    dedupe: str | None


def specify(call: Call, options: dict[str, Any]) -> None:
    """Take out of *options* what is said of *call* itself, and leave what aiohttp is to be told.

    Raises:
        InvalidRequest: A value is out of its range, or a header is not allowed.
        TypeError: There is no such option.
    """
    headers = options.get("headers")
    if headers is not None:
        options["headers"] = headers = checked_headers(headers)
        call.idempotency_key = headers.get("Idempotency-Key")
    else:
        options.pop("headers", None)
    key = options.pop("idempotency_key", None)
    if key is not None:
        call.idempotency_key = key
    endpoint = options.pop("endpoint", None)
    if endpoint is not None:
        call.endpoint = endpoint
        call.key = (call.key[0], endpoint)
    seconds = options.pop("timeout", None)
    if seconds is not None:
        check_timeout(seconds, InvalidRequest)
        call.deadline = call.started + seconds
    call.cost = options.pop("cost", 1)
    if call.cost < 1:
        raise InvalidRequest(f"cost must be at least 1, got {call.cost!r}")
    call.priority = options.pop("priority", 0)
    call.defer = options.pop("defer", None)
    call.buffer_body = options.pop("buffer_body", False)
    if options.get("body") is not None:
        options["data"] = _made_by(call, options)
    options.pop("body", None)
    if "max_body" in options:
        call.max_body = options.pop("max_body")
    for option in options:
        if option not in _PASSED_ON:
            known = ", ".join(sorted(CallOptions.__annotations__))
            raise TypeError(f"{call.method} call has no option {option!r}; it has: {known}")


def check_timeout(seconds: Any, error: type[ValueError] = ValueError) -> None:
    """Check a total time; ``aiohttp.ClientTimeout`` is none.

    Raises:
        TypeError: It is no number.
        ValueError: It is not above 0; raised as *error*.
    """
    try:
        above = seconds > 0
    except TypeError:
        raise TypeError(f"timeout must be a number of seconds, got {seconds!r}; math.inf for none") from None
    if not above:
        raise error(f"timeout must be above 0 seconds, got {seconds!r}")


def _made_by(call: Call, options: dict[str, Any]) -> Any:
    body = options["body"]
    if not callable(body):
        raise TypeError(f"body must be a function that makes the body, got {type(body).__name__}; give data=")
    if options.get("data") is not None or options.get("json") is not None:
        raise TypeError("a call has one of body=, data= and json=")
    call.body = body
    return body()
