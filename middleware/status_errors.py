"""A final answer of 400 or above becomes a typed error that says what to do."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, hdrs

from apiclient.middleware._body import head_of
from apiclient.middleware._call import Call, joined, opened
from apiclient.middleware._excerpt import secrets_of, without
from apiclient.middleware._forbidden import diagnose_403
from apiclient.middleware._guidance import hint_for, phrase
from apiclient.middleware._parsing.challenge import parse_challenges
from apiclient.middleware._parsing.media_type import accepted_types
from apiclient.middleware._parsing.problem import Problem, read_problem
from apiclient.middleware._parsing.retry_after import retry_after
from apiclient.middleware._parsing.text import one_line
from apiclient.middleware._unauthorized import hint_401
from apiclient.middleware.errors import ServerOutcomeUnknown, StatusError

# A gateway's and a server's failure: the request may have been carried out before it.
_UNCERTAIN = frozenset({408, 500, 502, 503, 504})


class StatusErrors:
    """Raise a subclass of ``StatusError`` for a final answer of 400 or above.

    The error carries the parsed body (``problem``), the server's trace id and a hint. Policies listed inside
    see the answer as a response first, and may settle it.

    Args:
        hints: Your own hints: by status (``{409: "..."}``), or by endpoint and status
            (``{("POST /orders", 409): "..."}``), which wins.
        max_body: Most bytes of an error body that are read and parsed.
        now: Wall clock, in Unix seconds.

    Raises:
        ValueError: ``max_body`` is below 1, or a hint is empty or for a status that is no error.
        StatusError: (from a call) The server answered 400 or above.
    """

    def __init__(
        self,
        *,
        hints: Mapping[int | tuple[str, int], str] | None = None,
        max_body: int = 65536,
        now: Callable[[], float] = time.time,
    ) -> None:
        if max_body < 1:
            raise ValueError(f"max_body must be at least 1 byte, got {max_body!r}")
        self._hints = dict(hints) if hints is not None else {}
        for key, hint in self._hints.items():
            status = key if isinstance(key, int) else key[1]
            if not 400 <= status <= 599:
                raise ValueError(f"hints must be for statuses from 400 to 599, got {key!r}")
            if not hint:
                raise ValueError(f"hints must be sentences, got {hint!r} for {key!r}")
        self._max_body = max_body
        self._now = now

    def __repr__(self) -> str:
        return f"StatusErrors(hints={len(self._hints)}, max_body={self._max_body})"

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send *request*, and raise if the final answer is an error."""
        call = joined()
        if call is None:
            return await opened(self, request, handler)
        response = await handler(request)
        if response.status < 400:
            return response
        try:
            # A server may repeat what it was sent. The secrets are no locals here: error reporters show those.
            body = without(
                await head_of(response, self._max_body),
                secrets_of(request.headers, call.token.value if call.token is not None else None, call.idempotency_key),
            )
        finally:
            response.release()
        raise self._error(call, request, response, body)

    def _error(self, call: Call, request: ClientRequest, response: ClientResponse, body: bytes) -> StatusError:
        status, headers = response.status, response.headers
        problem = read_problem(body, headers.get(hdrs.CONTENT_TYPE))
        kind = StatusError.for_status(status)
        details: dict[str, Any] = {}
        hint = self._hints.get((call.endpoint, status), self._hints.get(status))
        if status == 401 and hint is None:
            challenges = parse_challenges(_values(response, hdrs.WWW_AUTHENTICATE))
            hint = hint_401(challenges, problem, token=call.token, stopped=call.stopped)
        elif status == 403:
            challenges = parse_challenges(_values(response, hdrs.WWW_AUTHENTICATE))
            kind, details = diagnose_403(challenges, headers, problem)
        elif status == 415:
            said = f"{problem.detail} {problem.message}"
            details = {"sent": request.headers.get(hdrs.CONTENT_TYPE)}
            details["accepted"] = accepted_types(headers, request.method, said)
        uncertain = status in _UNCERTAIN and not call.repeatable
        if uncertain:
            kind = ServerOutcomeUnknown
        error = kind(
            _message(status, problem, details, headers),
            status=status,
            problem=problem,
            url=response.url,
            method=request.method,
            headers=headers,
            retry_after=retry_after(headers, wall=self._now()),
            endpoint=call.endpoint,
            hint=hint if hint is not None or kind.hint else hint_for(status),
            recoverable=True if status == 408 and not uncertain else None,
        )
        for name, value in details.items():
            setattr(error, name, value)
        call.stamp(error)
        return error


def _message(status: int, problem: Problem, details: Mapping[str, Any], headers: Mapping[str, str]) -> str:
    known = phrase(status)
    # A problem's title is often the status in words (RFC 9457 section 4.2.1): once is enough.
    words = known.partition(" ")[2]
    summary = "" if problem.summary == words else problem.summary.removeprefix(f"{words}: ")
    said = f"{known}: {summary}" if summary else known
    parts: list[str] = []
    if "sent" in details:
        accepted = ", ".join(details["accepted"])
        parts.append(f"sent {details['sent'] or 'no Content-Type'}" + (f", accepted {accepted}" if accepted else ""))
    if status == 405 and hdrs.ALLOW in headers:
        parts.append(f"allowed {one_line(headers[hdrs.ALLOW], 100)}")
    if details.get("scope"):
        parts.append(f"missing scope {one_line(details['scope'], 200)}")
    if problem.trace_id:
        parts.append(f"trace id {problem.trace_id}")
    return said + "".join(f" ({part})" for part in parts)


def _values(response: ClientResponse, name: str) -> list[str]:
    # 4.0's headers.getall takes no default.
    return list(response.headers.getall(name)) if name in response.headers else []
