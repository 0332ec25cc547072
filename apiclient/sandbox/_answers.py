"""Answers as plain values, in the words of the API that the sandbox imitates."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from random import Random
from typing import Any

from apiclient.sandbox._window import Hit, spelled

JSON = "application/json"
SECTIONS = {
    400: "15.5.1",
    404: "15.5.5",
    405: "15.5.6",
    412: "15.5.13",
    413: "15.5.14",
    415: "15.5.16",
    422: "15.5.21",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that is yet to be sent."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def having(self, headers: Mapping[str, str]) -> "Answer":
        """Return the same answer with *headers* as well."""
        return replace(self, headers={**self.headers, **headers})


NO_ANSWER = Answer(0)
"""Close the connection without a word. Compared by identity."""


def reply(status: int, value: Any, headers: Mapping[str, str] | None = None, *, media_type: str = JSON) -> Answer:
    """Answer with *value* as JSON."""
    return Answer(
        status, json.dumps(value).encode(), {"Content-Type": media_type, **({} if headers is None else headers)}
    )


def failure(status: int, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer with the bare error of that status, as in `{"error": "internal_server_error"}`."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = f"status {status}"
    return reply(status, {"error": phrase.lower().replace(" ", "_").replace("-", "_")}, headers)


def problem(
    status: int, chance: Random, detail: str | None = None, headers: Mapping[str, str] | None = None, **members: Any
) -> Answer:
    """Answer with problem+json (RFC 9457) and a trace id in the form of W3C Trace Context."""
    value: dict[str, Any] = {
        "type": f"https://www.rfc-editor.org/rfc/rfc9110#section-{SECTIONS[status]}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "traceId": f"00-{chance.getrandbits(128):032x}-{chance.getrandbits(64):016x}-00",
    }
    if detail is not None:
        value["detail"] = detail
    return reply(status, value | members, headers, media_type="application/problem+json; charset=utf-8")


def quota_exceeded(limit: int, period: float, hit: Hit) -> Answer:
    """Refuse a request that is over its quota."""
    text = f"API calls quota exceeded! maximum admitted {limit} per {spelled(period)}."
    return Answer(429, text.encode(), {"Content-Type": "text/plain", "Retry-After": str(hit.retry_after)})


def unauthorized(error: str, description: str) -> Answer:
    """Refuse a token (RFC 6750 section 3.1)."""
    challenge = f'Bearer error="invalid_token", error_description="{description}"'
    return reply(401, {"error": error, "error_description": description}, {"WWW-Authenticate": challenge})


def scope_missing(scope: str) -> Answer:
    """Refuse a token that lacks *scope* (RFC 6750 section 3.1)."""
    value = {"error": "insufficient_scope", "error_description": f"The token lacks the scope {scope}.", "scope": scope}
    return reply(403, value, {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'})


def permission_missing(group: str) -> Answer:
    """Refuse a client whose user group may not do this."""
    message = f"The user group of this client has no permission for this resource; it needs the group {group}."
    return reply(403, {"error": "forbidden", "message": message})


def wrong_endpoint(path: str) -> Answer:
    """Refuse a path that is no endpoint, with the 403 that the imitated API gives instead of a 404."""
    return reply(403, {"error": "forbidden", "message": f"Wrong endpoint URL: there is no {path}."})
