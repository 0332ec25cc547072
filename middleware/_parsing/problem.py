"""What the body of an error response says, whichever shape an API gave it.

Pure and silent: reads RFC 9457 problem details, the common JSON shapes, OAuth errors, form bodies, XML, HTML and plain
text. All of it is untrusted: at most 65,536 bytes are read, depth and number of members are bounded, every text that is
given out has its control and formatting characters escaped and its length capped, and nothing raises.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import unescape
from itertools import islice
from typing import Final, cast
from urllib.parse import parse_qsl

from apiclient.middleware._parsing.document import (
    LONGEST_LINE,
    LONGEST_NAME,
    MEMBERS,
    MESSAGES,
    code_of,
    error_lines,
    extensions,
    first_text,
    members_of,
    safe_line,
    sources_of,
    status_of,
    trace_id,
)
from apiclient.middleware._parsing.text import decoded, one_line

_LONGEST_BODY: Final = 65_536
_LONGEST_TEXT: Final = 2000
_LONGEST_SUMMARY: Final = 240

_element = re.compile(
    r"<(?:\w{1,16}:)?(?P<name>title|h1|code|errorcode|message|errormessage|faultstring|faultcode|text|requestid|traceid)"
    r"(?:\s[^<>]{0,200})?>\s*+(?:<!\[CDATA\[)?(?P<text>[^<]{1,1000})",
    re.IGNORECASE,
)
_tag = re.compile(r"<[^<>]{1,500}>")
_id_in_text = re.compile(
    r"\b(?:trace|correlation|request|ray)[ _-]?id[\"']?\s{0,3}[:=]\s{0,3}(?:<[^<>]{1,99}>)?[\"']?([\w\-.:|/=+]{6,128})",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Problem:
    r"""What an error body says; None, or empty, where it does not say.

    Every text in it is one line of printable characters: others are escaped as in ``\n`` or ``\x1b``. It may still
    be anything that the server, or whoever stood between, wanted to be read: never use it to format or to decide.
    """

    type: str | None = None
    """The problem type (RFC 9457 3.1.1), a URI reference."""
    title: str | None = None
    """The problem's short name, or the title of an HTML page."""
    status: int | None = None
    """The status that the body states, from 100 to 599."""
    detail: str | None = None
    """What is wrong with this request (RFC 9457 3.1.4)."""
    instance: str | None = None
    """The URI reference of this occurrence (RFC 9457 3.1.5)."""
    code: str | None = None
    """The API's own error code, such as ``invalid_client``."""
    message: str | None = None
    """The API's own message, where it is not the detail; of plain text the text."""
    trace_id: str | None = None
    """The trace, correlation or request id, wherever in the body it is."""
    errors: tuple[str, ...] = ()
    """The single errors as lines such as ``name: must not be blank``, at most 20."""
    extensions: Mapping[str, object] = field(default_factory=dict[str, object], hash=False)
    """Every other top-level member, cut to a depth of 5 and to 64 members each."""
    text: str = ""
    """The beginning of the body, at most 2,000 characters."""

    @property
    def summary(self) -> str:
        """One line of at most 240 characters for a log or an error message; empty if the body says nothing."""
        said = self.detail or self.message
        if self.errors and (said is None or self.errors[0].endswith(said)):
            said = "; ".join(self.errors[:3])  # They name the place too.
        parts = [part for part in (self.title, said) if part is not None]
        if len(parts) == 2 and parts[0].rstrip(".") in parts[1]:
            del parts[0]
        line = ": ".join(part.rstrip(":") for part in parts)
        if self.code is not None and self.code not in line:
            line = f"{line} ({self.code})" if line else self.code
        return one_line(line or self.text, _LONGEST_SUMMARY)


def read_problem(body: bytes, content_type: str | None = None) -> Problem:
    """Return what the error *body* says; the first 65,536 bytes are read.

    The content type is a hint only: what looks like JSON, XML or HTML is read as such under any type. The charset is
    UTF-8 or by byte order mark where that fits, else the declared one, else Latin-1. JSON may have NaN (read as null),
    duplicate members (the last holds), and text after it; too deep or broken JSON is plain text.

    Args:
        body: The body, or its beginning.
        content_type: The ``Content-Type`` field, if there is one.
    """
    hint = (content_type or "")[:256].lower()
    whole = decoded(body[:_LONGEST_BODY], hint, cut=len(body) >= _LONGEST_BODY)
    text = whole.strip().removeprefix(")]}'").lstrip(", \r\n")
    excerpt = one_line(whole.strip(), _LONGEST_TEXT)
    if not text:
        return Problem()
    if text[0] in '{["':
        document = _json(text)
        if isinstance(document, str):
            document = _json(document.lstrip()) if document.lstrip()[:1] in ("{", "[") else document
        if isinstance(document, str):
            return _of_text(document.strip(), excerpt)
        if isinstance(document, dict | list):
            return _of_json(cast("dict[str, object] | list[object]", document), excerpt)
    if "x-www-form-urlencoded" in hint and (pairs := _form(text)):
        return _of_json(pairs, excerpt)
    if text[0] == "<":
        return _of_markup(text, excerpt)
    return _of_text(text, excerpt)


def _json(text: str) -> object:
    """Return the JSON value that *text* is, or the object that it begins with; None for anything else."""
    try:
        value, end = _decoder.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return cast("object", value) if isinstance(value, dict) or not text[end:].strip() else None


def _integer(digits: str) -> int | None:
    return int(digits) if len(digits) <= 20 else None


_decoder = json.JSONDecoder(parse_int=_integer)


def _form(text: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(text[:8192], max_num_fields=MEMBERS))
    except ValueError:
        return {}


def _of_json(document: dict[str, object] | dict[str, str] | list[object], excerpt: str) -> Problem:
    """Read a JSON object, or an array of errors as if it stood in one."""
    bare = isinstance(document, list)
    doc = cast("dict[str, object]", {"errors": document} if bare else document)
    outer = members_of(doc)
    sources = sources_of(doc)
    errors = error_lines(sources, outer)
    title, detail = first_text(sources, ("title",)), first_text(sources, ("detail", "details"))
    message = first_text(sources, MESSAGES)
    code = code_of(doc, sources)
    for source in sources:
        said = source.get("error")
        if message is None and isinstance(said, str) and one_line(said, LONGEST_LINE) != code:
            message = safe_line(said)
    if message is None and title is None and detail is None and errors:
        message = errors[0]
    about = title is not None or detail is not None
    return Problem(
        type=safe_line(outer.get("type")) if about else None,
        title=title,
        status=status_of(sources),
        detail=detail,
        instance=safe_line(outer.get("instance")) if about else None,
        code=code,
        message=message if message != detail else None,
        trace_id=trace_id(doc),
        errors=errors,
        extensions={} if bare else extensions(doc, problem=about),
        text=excerpt,
    )


def _of_markup(text: str, excerpt: str) -> Problem:
    """Read the telling elements of HTML or XML."""
    found: dict[str, str] = {}
    for match in islice(_element.finditer(text), MEMBERS):
        line = one_line(" ".join(unescape(match["text"]).split()), LONGEST_LINE)
        if line:
            found.setdefault(match["name"].lower(), line)
    message = next((found[n] for n in ("message", "errormessage", "faultstring", "text", "h1") if n in found), None)
    code = next((found[n] for n in ("code", "errorcode", "faultcode") if n in found), None)
    title = found.get("title")
    if not found:
        message = one_line(" ".join(unescape(_tag.sub(" ", text)[:LONGEST_LINE]).split()), LONGEST_LINE) or None
    trace = found.get("traceid", found.get("requestid"))
    return Problem(
        title=title,
        code=None if code is None else one_line(code, LONGEST_NAME),
        message=None if message == title else message,
        trace_id=one_line(trace, LONGEST_NAME) if trace is not None else _id_of(text),
        text=excerpt,
    )


def _of_text(text: str, excerpt: str) -> Problem:
    """Read plain text, unless it is no text at all."""
    head = text[:LONGEST_LINE]
    strange = sum(not (c.isprintable() or c.isspace()) for c in head)
    message = one_line(" ".join(head.split()), LONGEST_LINE) if strange * 4 <= len(head) else None
    return Problem(message=message or None, trace_id=_id_of(text), text=excerpt)


def _id_of(text: str) -> str | None:
    match = _id_in_text.search(text)
    return match[1] if match is not None else None
