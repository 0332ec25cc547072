"""The options of a call, typed, so that a checker finds a misspelt one."""

from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

from apiclient.pipeline import Pipeline


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
