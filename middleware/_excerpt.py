"""What of a foreign text may be shown to a person: its visible words, without what looks like a secret. Pure."""

import re
from collections.abc import Iterable, Mapping
from html import unescape
from typing import Final
from urllib.parse import quote

from apiclient.middleware._parsing.text import decoded, one_line

_READ: Final = 8192
_HIDDEN: Final = "[hidden]"
# Of these request headers the values are no secret; every other value is taken out of what a server echoes.
_PLAIN: Final = frozenset(
    {"accept", "accept-charset", "accept-encoding", "accept-language", "api-version", "cache-control", "connection",
     "content-encoding", "content-language", "content-length", "content-type", "date", "expect", "host", "if-match",
     "if-modified-since", "if-none-match", "if-unmodified-since", "origin", "prefer", "range", "te", "traceparent",
     "transfer-encoding", "user-agent", "x-api-version", "x-correlation-id", "x-request-id"}
)  # fmt: skip
_SHORTEST: Final = 6

_unseen = re.compile(
    r"<(script|style|template|noscript)\b.{0,8192}?(?:</\1\s{0,9}>?|\Z)|<!--.{0,8192}?(?:-->|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_tag = re.compile(r"<[^<>]{0,2000}(?:>|\Z)")
_assigned = re.compile(
    r"\b([\w-]{0,24}(?:token|secret|passw(?:or)?d|pwd|api[-_]?key|authorization|cookie|session|csrf|xsrf|nonce|signature"
    r"|assertion|credential)[\w-]{0,12}[\"']?\s{0,2}[:=]\s{0,2}[\"']?)(?:(?:bearer|basic)\s)?[^\s\"'&<>,;]{1,4096}",
    re.IGNORECASE,
)
_scheme = re.compile(r"\b(bearer|basic|digest|negotiate)\s+[\w.~+/=-]{8,4096}", re.IGNORECASE)
_query = re.compile(r"(\bhttps?://[^\s?#\"'<>]{1,2000})[?#][^\s\"'<>]{1,4096}")
_userinfo = re.compile(r"(\b[a-z][a-z0-9+.-]{1,20}://)[^\s/@\"'<>]{1,500}@")
_random = re.compile(r"(?=[^\s]{0,64}[0-9])(?=[^\s]{0,64}[A-Za-z])[A-Za-z0-9+/_=-]{24,}(?:\.[A-Za-z0-9+/_=-]{4,}){0,4}")


def excerpt(body: bytes, content_type: str | None = None, *, longest: int = 200) -> str:
    """Return the beginning of *body* as one line fit for a log or an error message.

    Of markup only the visible words are taken: no attribute, script, style or comment. Values that stand beside names
    such as ``token``, queries, and long runs of letters and digits become ``[hidden]``.

    Args:
        body: The body, or its beginning; 8,192 bytes are read.
        content_type: Its ``Content-Type``, or None.
        longest: Most characters to return.
    """
    text = decoded(body[:_READ], (content_type or "")[:256].lower(), cut=True)
    if text.lstrip()[:1] == "<":
        text = unescape(_tag.sub(" ", _unseen.sub(" ", text)))
    return one_line(" ".join(hidden(text).split()), longest)


def hidden(text: str, secrets: Iterable[str] = ()) -> str:
    """Return *text* with *secrets*, and with what looks like one, replaced."""
    for secret in secrets:
        text = text.replace(secret, _HIDDEN)
    text = _userinfo.sub(rf"\1{_HIDDEN}@", _query.sub(rf"\1?{_HIDDEN}", text))
    text = _scheme.sub(rf"\1 {_HIDDEN}", _assigned.sub(rf"\1{_HIDDEN}", text))
    return _random.sub(_HIDDEN, text)


def without(body: bytes, secrets: Iterable[str]) -> bytes:
    """Return *body* with each of *secrets* replaced, as it is and as JSON and URLs write it."""
    for secret in secrets:
        raw = secret.encode(errors="replace")
        for form in {raw, raw.replace(b"/", b"\\/"), quote(raw, safe="").encode(), quote(raw).encode()}:
            body = body.replace(form, _HIDDEN.encode())
    return body


def secrets_of(headers: Mapping[str, str], *others: str | None) -> tuple[str, ...]:
    """Return the values that an answer must not be quoted with, the longest first.

    Those of every header of the request that is not known to be harmless, the word after a scheme likewise, and
    *others*. Very short ones are left out: they would only make the text unreadable.
    """
    values: set[str] = {value for value in others if value}
    for name, value in headers.items():
        if name.lower() not in _PLAIN:
            values.add(value)
            values.update(value.split(maxsplit=1)[1:])
    return tuple(sorted((value for value in values if len(value) >= _SHORTEST), key=len, reverse=True))
