"""OAuth 2.0 token requests and answers as plain values: no I/O, no clock (RFC 6749, 7521, 7523)."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast
from urllib.parse import quote_plus, urlencode

from yarl import URL

Pairs = Sequence[tuple[str, str]]

LONGEST_LIFETIME = 10 * 365 * 86400.0
"""Seconds; a token said to live longer is taken as one without a known end."""

_RESERVED = frozenset({
    "grant_type", "client_id", "client_secret", "client_assertion", "client_assertion_type", "refresh_token",
    "assertion", "scope",
})  # fmt: skip
_TOKEN = re.compile(r"[\x21-\x7e]+")  # RFC 6749 appendix A.12 without the space, which no header could carry
_NUMBER = re.compile(r"\s*[+-]?\d{1,64}(\.\d{0,64})?\s*")
_TEMPORARY_CODES = frozenset({"temporarily_unavailable", "server_error", "slow_down"})
_TEMPORARY_STATUS = frozenset({408, 425, 429})


class WireRequest:
    """A request to an authorization server, ready to be sent. Its repr tells no secret.

    Args:
        url: Where to.
        form: Fields of the body; None makes it a GET.
        headers: Besides ``Accept`` and the content type.
        secrets: What must never appear in a message.
    """

    __slots__ = ("body", "headers", "method", "secrets", "url")

    def __init__(
        self,
        url: URL,
        *,
        form: Pairs | None = None,
        headers: Mapping[str, str] | None = None,
        secrets: Iterable[str] = (),
    ) -> None:
        self.url = url
        self.method = "GET" if form is None else "POST"
        self.headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        self.body: bytes | None = None
        if form is not None:
            self.headers["Content-Type"] = "application/x-www-form-urlencoded"
            self.body = urlencode(form).encode("ascii")
        if headers is not None:
            self.headers.update(headers)
        self.secrets = tuple(secret for secret in secrets if secret)

    def __repr__(self) -> str:
        return f"WireRequest({self.method} {self.url.with_query(None)})"

    def scrubbed(self, text: str) -> str:
        """Return *text* from the server fit for a message: one line, short, and without our secrets."""
        for secret in self.secrets:
            text = text.replace(secret, "...").replace(quote_plus(secret), "...")
        return " ".join("".join(each if each.isprintable() else " " for each in text[:400]).split())[:200]


@dataclass(frozen=True, slots=True)
class Granted:
    """A token was issued (RFC 6749 section 5.1).

    Attributes:
        access_token: The secret.
        lifetime: Seconds that it is valid for, or None where that is unknown.
        refresh_token: The next refresh token where one came with it.
        scope: Scopes granted, or None where they are those asked for.
    """

    # No tuple: error reporters walk through tuples and would show what is in them.
    access_token: str = field(repr=False)
    lifetime: float | None = None
    refresh_token: str | None = field(default=None, repr=False)
    scope: str | None = None


class Refused(NamedTuple):
    """The server refuses for good (RFC 6749 section 5.2).

    Attributes:
        code: The OAuth error code, or None where there was none.
        reason: What happened, one line.
    """

    code: str | None
    reason: str


class Unavailable(NamedTuple):
    """No answer that settles it.

    Attributes:
        reason: What happened, one line.
        temporary: Whether trying again may help.
        retry_after: Seconds that the server wants to be left alone for, or None.
    """

    reason: str
    temporary: bool = True
    retry_after: float | None = None


Outcome = Granted | Refused | Unavailable


def extra_parameters(parameters: Mapping[str, str | Sequence[str]] | None) -> Pairs:
    """Return extra fields such as ``audience`` and ``resource`` (RFC 8707) as pairs; a list repeats its name.

    Raises:
        ValueError: A name belongs to the protocol and cannot be given so.
    """
    if parameters is None:
        return ()
    for name in parameters:
        if name in _RESERVED:
            raise ValueError(f"parameters must not contain {name!r}: it has an option of its own")
    return tuple(
        (name, each) for name, value in parameters.items() for each in ((value,) if isinstance(value, str) else value)
    )


def lifetime_of(expires_in: object) -> float | None:
    """Return the seconds that ``expires_in`` gives a token that was just issued, or None where it gives none.

    Numbers and numeric text count. Missing, zero, negative, infinite, absurdly long or unreadable values tell
    nothing: such a token is used until the API rejects it, which costs one request and hammers nobody.
    """
    if isinstance(expires_in, str) and _NUMBER.fullmatch(expires_in):
        expires_in = float(expires_in)
    if isinstance(expires_in, bool) or not isinstance(expires_in, int | float):
        return None
    if not 0 < expires_in <= LONGEST_LIFETIME:  # False for NaN as well
        return None
    return float(expires_in)


def parse_answer(
    request: WireRequest, status: int, body: bytes, *, truncated: bool = False, retry_after: float | None = None
) -> Outcome:
    """Return what the token endpoint's answer means.

    Args:
        request: What was asked; its secrets are kept out of messages.
        status: HTTP status.
        body: As much of the body as was read.
        truncated: Whether there was more.
        retry_after: Seconds, where the answer had such a header.
    """
    document = None if truncated else _document(body)
    if 200 <= status < 300 and document is not None and document.get("access_token") is not None:
        return _granted(document)
    code = _text(document.get("error")) if document is not None else None
    if status >= 500 or status in _TEMPORARY_STATUS or code in _TEMPORARY_CODES:
        return Unavailable(f"the token endpoint answers {status}", retry_after=retry_after)
    if code is not None and document is not None:
        shown = request.scrubbed(code)
        described = _text(document.get("error_description"))
        more = f" ({request.scrubbed(described)})" if described else ""
        return Refused(shown, f"the token endpoint answers {status} {shown}{more}")
    if status in {400, 401, 403}:
        return Refused(None, f"the token endpoint answers {status} without an OAuth error code")
    return Unavailable(
        f"the token endpoint answers {status}{_oddity(status, body, document, truncated)}", temporary=False
    )


def _granted(document: Mapping[str, Any]) -> Outcome:
    value = document["access_token"]
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        return Unavailable("the token endpoint's access_token cannot be sent in a header", temporary=False)
    kind = document.get("token_type")
    if isinstance(kind, str) and kind.lower() != "bearer":
        # RFC 6749 section 7.1: a token of a type that is not understood must not be used.
        return Unavailable("the token endpoint issues a token_type other than Bearer", temporary=False)
    return Granted(
        value,
        lifetime_of(document.get("expires_in")),
        _text(document.get("refresh_token")),
        _text(document.get("scope")),
    )


def _document(body: bytes) -> dict[str, Any] | None:
    try:
        parsed: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else None


def _oddity(status: int, body: bytes, document: object, truncated: bool) -> str:  # noqa: FBT001 - an answer's parts
    if 300 <= status < 400:
        return ", a redirect, which is not followed"
    if status >= 400:
        return ""
    if truncated:
        return " with more than any token answer"
    if document is not None:
        return " with JSON that has no access_token"
    start = body.lstrip()[:15].lower()
    if start.startswith((b"<!doctype", b"<html")):
        return " with an HTML page"
    return " with something that is not a JSON object" if start else " with an empty body"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
