"""One structured event per logical call."""

import logging
import random as _random
from collections.abc import Callable, Collection
from typing import Any

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, hdrs
from aiohttp.payload import BytesPayload

from apiclient.middleware._body_shown import LONGEST, SECRET_NAMES, body_shown, plain
from apiclient.middleware._call import Call, joined, opened
from apiclient.middleware._excerpt import secrets_of

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class AccessLog:
    """Record ``http.call`` when a call has ended: endpoint, status, attempts, duration, and where time went.

    The endpoint's template stands for the URL, so that neither path parameters nor query values reach a log.
    A redirect that is followed is part of its call, and recorded as ``http.redirect`` at debug. Each wire
    request is recorded as ``http.attempt`` at debug by the pipeline.

    Args:
        level: ``logging`` level of a call that ended in an answer below 400.
        failure_level: Level of every other outcome, cancellation included.
        sample: Share, from 0 to 1, of the calls that succeeded at the first attempt that are recorded. All others
            always are.
        body: Characters of the request's and of the response's body to record with the call; None for none at all.
            Values under the names of secrets are hidden, and a streamed body is never touched.
        redact: Further names whose values are hidden in bodies.
        random: Draws from [0, 1), for ``sample``.

    Raises:
        ValueError: An option is out of its range.
    """

    def __init__(
        self,
        *,
        level: int = logging.INFO,
        failure_level: int = logging.WARNING,
        sample: float = 1.0,
        body: int | None = None,
        redact: Collection[str] = (),
        random: Callable[[], float] = _random.random,
    ) -> None:
        if not 0 <= sample <= 1:
            raise ValueError(f"sample must be between 0 and 1, got {sample!r}")
        if body is not None and not 1 <= body <= LONGEST:
            raise ValueError(f"body must be between 1 and {LONGEST} characters, got {body!r}")
        if isinstance(redact, str):
            raise TypeError(f"redact must be a collection of names, got the string {redact!r}")
        self._level = level
        self._failure_level = failure_level
        self._sample = sample
        self._body = body
        self._redact = tuple(redact)
        self._names = SECRET_NAMES | {plain(name) for name in redact}
        self._random = random

    def __repr__(self) -> str:
        level, failure = logging.getLevelName(self._level), logging.getLevelName(self._failure_level)
        sample = "" if self._sample == 1 else f", sample={self._sample:g}"
        body = "" if self._body is None else f", body={self._body}"
        return f"AccessLog(level={level}, failure_level={failure}{sample}{body})"

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send *request*, and record how it ended."""
        call = joined()
        if call is None:
            return await opened(self, request, handler)
        try:
            response = await handler(request)
        except BaseException as error:
            if call.log.enabled(self._failure_level):
                fields = _outcome(call, getattr(error, "status", None), error)
                if self._body is not None:
                    await self._add_sent(fields, call, request)
                    problem = getattr(error, "problem", None)
                    if problem is not None:
                        told = getattr(error, "headers", None)
                        fields["response_body"] = self._shown(problem.text.encode(), told or {}, call, request)
                call.log.write(self._failure_level, "http.call", fields)
            raise
        if not call.bare and response.status in _REDIRECTS and hdrs.LOCATION in response.headers:
            call.emit(logging.DEBUG, "http.redirect", status=response.status)
            return response
        level = self._level if response.status < 400 else self._failure_level
        if call.log.enabled(level) and (self._sample == 1 or self._drawn(call, response.status)):
            fields = _outcome(call, response.status, None)
            if self._sample < 1:
                fields["sample"] = self._sample
            if self._body is not None:
                await self._add_sent(fields, call, request)
                if call.body_read:
                    fields["response_body"] = self._shown(await response.read(), response.headers, call, request)
            call.log.write(level, "http.call", fields)
        return response

    def _drawn(self, call: Call, status: int) -> bool:
        return status >= 400 or call.attempts > 1 or self._random() < self._sample

    async def _add_sent(self, fields: dict[str, object], call: Call, request: ClientRequest) -> None:
        body: Any = request.body
        if not body:
            return
        if isinstance(body, BytesPayload) and not request.headers.get(hdrs.CONTENT_ENCODING):
            fields["request_body"] = self._shown(await body.as_bytes(), request.headers, call, request)
        else:
            size = "some" if body.size is None else str(body.size)
            fields["request_body"] = f"<{size} bytes of {request.headers.get(hdrs.CONTENT_TYPE, 'an unknown type')}>"

    def _shown(self, body: bytes, headers: Any, call: Call, request: ClientRequest) -> str:
        token = None if call.token is None else call.token.value
        return body_shown(
            body,
            headers.get(hdrs.CONTENT_TYPE, "text/plain"),
            longest=LONGEST if self._body is None else self._body,
            names=self._names,
            secrets=secrets_of(request.headers, token, call.idempotency_key),
        )


def _outcome(call: Call, status: int | None, error: BaseException | None) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "call_id": call.id,
        "endpoint": call.endpoint,
        "status": status,
        "attempts": call.attempts,
        "duration_s": _micro(call.time() - call.started),
        "network_s": _micro(call.network),
    }
    for kind, seconds in call.waits.items():
        fields[f"{kind}_s"] = _micro(seconds)
    if call.stopped is not None:
        fields["stopped"] = call.stopped
    if error is not None:
        fields["error_type"] = type(error).__name__
        trace_id = getattr(error, "trace_id", None)
        if trace_id is not None:
            fields["trace_id"] = trace_id
    if call.trace_id is not None:
        fields["otel_trace_id"] = call.trace_id
    return fields


def _micro(seconds: float) -> float:
    # To microseconds, at half the price of ``round``.
    return int(seconds * 1e6 + 0.5) / 1e6
