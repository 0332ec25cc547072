"""What a parsed JSON document of an error says, wherever in it, and under whichever of the usual names.

Pure; the document is untrusted: a bounded number of its members is looked at, to a bounded depth, and every text that
is given out is one safe line. Names are compared without case, underscores and hyphens.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, cast

from apiclient.middleware._parsing.text import one_line

LONGEST_LINE: Final = 500
LONGEST_NAME: Final = 128
MEMBERS: Final = 64
_NODES: Final = 512
_DEPTH: Final = 5
_LINES: Final = 20

_RFC: Final = ("type", "title", "status", "detail", "instance")
_BEFORE: Final = ("error", "err", "fault", "exception", "problem")
_AFTER: Final = ("errors", "error", "response", "result", "meta", "detail", "extensions", "status")
MESSAGES: Final = (
    "errordescription",
    "message",
    "errormessage",
    "exceptionmessage",
    "msg",
    "errormsg",
    "faultstring",
    "description",
    "usermessage",
    "developermessage",
    "info",
    "reason",
)
_CODES: Final = ("code", "errorcode", "errorkey", "faultcode", "reason")
_LISTS: Final = (
    "errors",
    "invalidparams",
    "violations",
    "fielderrors",
    "validationerrors",
    "issues",
    "details",
    "detail",
    "causes",
    "error",
    "message",
    "messages",
)
_MAPS: Final = frozenset({"errors", "fielderrors", "validationerrors", "messages"})
_PLACES: Final = ("field", "pointer", "path", "loc", "name", "param", "parameter", "property", "propertypath", "target")
_SAYINGS: Final = ("message", "detail", "msg", "reason", "description", "defaultmessage", "title", "error", "code")
_STATUSES: Final = ("status", "statuscode", "httpstatus", "httpstatuscode", "httpcode", "code")
_TRACES: Final = {
    **dict.fromkeys(("traceid", "traceidentifier", "xtraceid", "fbtraceid"), 0),
    **dict.fromkeys(("correlationid", "xcorrelationid"), 1),
    **dict.fromkeys(("requestid", "xrequestid", "reqid", "xamznrequestid", "clientrequestid"), 2),
    **dict.fromkeys(("operationid", "transactionid", "activityid", "errorid", "incidentid", "eventid", "rayid"), 3),
}
_VAGUE: Final = frozenset(
    {"error", "errors", "fail", "failed", "failure", "false", "true", "ko", "nok", "null", "none"}
)

_code_like = re.compile(r"(?=.{0,128}[A-Za-z])[\w.\-:/#]{1,128}", re.ASCII)


def members_of(value: Mapping[str, object]) -> dict[str, object]:
    """Return the first members by names without case, underscores and hyphens."""
    found: dict[str, object] = {}
    for name in islice(value, MEMBERS):
        found.setdefault(name[:LONGEST_NAME].lower().replace("_", "").replace("-", ""), value[name])
    return found


def sources_of(doc: Mapping[str, object]) -> list[dict[str, object]]:
    """Return the at most 12 objects that may say something, from the surest to the least sure."""
    return list(islice(_sources(doc, 0), 12))


def _sources(value: Mapping[str, object], depth: int) -> Iterator[dict[str, object]]:
    members = members_of(value)
    if depth < 3:
        for name in _BEFORE:
            if isinstance(inner := members.get(name), dict):
                yield from _sources(cast("dict[str, object]", inner), depth + 1)
    yield members
    if depth < 3:
        for name in _AFTER:
            inner = members.get(name)
            first = cast("list[object]", inner)[:1] if isinstance(inner, list) else [inner]
            if first and isinstance(first[0], dict) and (first[0] is not inner or name not in _BEFORE):
                yield from _sources(cast("dict[str, object]", first[0]), depth + 1)


def first_text(sources: Iterable[Mapping[str, object]], names: Iterable[str]) -> str | None:
    """Return the first text under any of *names*, source by source."""
    lines = (safe_line(source.get(name)) for source in sources for name in names)
    return next((line for line in lines if line is not None), None)


def safe_line(value: object, longest: int = LONGEST_LINE) -> str | None:
    """Return a text as one safe line; None if it is blank or no text."""
    if not isinstance(value, str) or not (value := value[: 2 * longest].strip()):
        return None
    return one_line(value, longest)


def code_of(doc: Mapping[str, object], sources: Iterable[Mapping[str, object]]) -> str | None:
    """Return the API's own code: a word, else a number that is no HTTP status, else a type, else any number."""
    typed = doc.get("__type")
    if isinstance(typed, str):
        return safe_line(typed[:1000].rpartition("#")[2], LONGEST_NAME)
    last = None
    for source in sources:
        numbers = [str(value) for value in map(source.get, _CODES) if type(value) is int or _is_digits(value)]
        others = [source.get(name) for name in ("status", "type", "error") if name != "type" or "title" not in source]
        if word := next(filter(_is_code, map(source.get, _CODES)), None):
            return cast("str", word)
        if numbers and not 100 <= int(numbers[0]) <= 599:
            return numbers[0]
        if word := next(filter(_is_code, others), None):
            return cast("str", word)
        last = numbers[0] if numbers and last is None else last
    return last


def _is_code(value: object) -> bool:
    return isinstance(value, str) and _code_like.fullmatch(value) is not None and value.lower() not in _VAGUE


def _is_digits(value: object) -> bool:
    return isinstance(value, str) and len(value) < 20 and value.isascii() and value.isdigit()


def status_of(sources: Iterable[Mapping[str, object]]) -> int | None:
    """Return the first HTTP status, from 100 to 599; a mere code counts only from 400 on."""
    for source in sources:
        for name in _STATUSES:
            value = source.get(name)
            number = int(cast("str", value)) if _is_digits(value) else value
            if isinstance(number, int) and (400 if name == "code" else 100) <= number <= 599:
                return number
    return None


def error_lines(sources: Iterable[Mapping[str, object]], outer: Mapping[str, object]) -> tuple[str, ...]:
    """Return the single errors of the first source that lists some, or of an object that is nothing but lists."""
    for source in sources:
        for name in _LISTS:
            if name in _MAPS or isinstance(source.get(name), list):
                lines = tuple(islice(_lines(source.get(name), ""), _LINES))
                if lines:
                    return lines
    fields = bool(outer) and all(isinstance(value, list) for value in outer.values())
    return tuple(islice(_lines(dict(outer), ""), _LINES)) if fields else ()


def _lines(value: object, place: str) -> Iterator[str]:
    """Yield *value* as lines: a text, a list of texts or of objects, or an object whose names are places."""
    if isinstance(value, str):
        if (said := safe_line(value)) is not None:
            yield one_line(f"{place}: {said}" if place else said, LONGEST_LINE)
    elif isinstance(value, list):
        for each in islice(cast("list[object]", value), _LINES):
            if isinstance(each, dict):
                members = members_of(cast("dict[str, object]", each))
                yield from _lines(first_text((members,), _SAYINGS), _place(members) or place)
            elif isinstance(each, str):
                yield from _lines(each, place)
    elif isinstance(value, dict):
        for name, each in islice(cast("dict[str, object]", value).items(), _LINES):
            if isinstance(each, list | str):
                yield from _lines(cast("object", each), one_line(name, LONGEST_NAME))


def _place(members: Mapping[str, object]) -> str | None:
    """Return where in the request an error is said to be."""
    source = members.get("source")
    inner = members_of(cast("dict[str, object]", source)) if isinstance(source, dict) else {}
    for value in [*map(members.get, _PLACES), *map(inner.get, _PLACES)]:
        path = cast("list[object]", value)[:8] if isinstance(value, list) else [value]
        steps = [str(step) for step in path if isinstance(step, str | int) and not isinstance(step, bool)]
        if steps and (place := safe_line(".".join(step[:LONGEST_NAME] for step in steps), LONGEST_NAME)) is not None:
            return place
    return None


def trace_id(doc: object) -> str | None:
    """Return the trace id of *doc*, else its correlation id, and so on; of equals the one that stands least deep."""
    best: tuple[int, str] | None = None
    level: list[object] = [doc]
    for _ in range(_DEPTH):
        below: list[object] = []
        for each in level:
            if isinstance(each, dict):
                members = members_of(cast("dict[str, object]", each))
                for name, rank in _TRACES.items():
                    value = members.get(name)
                    text = safe_line(str(value) if type(value) is int else value, LONGEST_NAME)
                    if text is not None and (best is None or rank < best[0]):
                        best = (rank, text)
                below.extend(members.values())
            elif isinstance(each, list):
                below.extend(cast("list[object]", each)[:MEMBERS])
        level = below[:_NODES]
    return None if best is None else best[1]


def extensions(doc: Mapping[str, object], *, problem: bool) -> dict[str, object]:
    """Return a safe copy of the members, without those that RFC 9457 defines if *doc* is a *problem* of that kind."""
    left = iter(range(_NODES))

    def copy(value: object, depth: int) -> object:
        if isinstance(value, str):
            return one_line(value, LONGEST_LINE)
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if not isinstance(value, dict | list):
            return value
        if depth == _DEPTH or next(left, None) is None:
            return None
        if isinstance(value, list):
            return [copy(each, depth + 1) for each in cast("list[object]", value)[:MEMBERS]]
        members = islice(cast("dict[str, object]", value).items(), MEMBERS)
        return {one_line(name, LONGEST_NAME): copy(each, depth + 1) for name, each in members}

    others = {name: value for name, value in doc.items() if not problem or name not in _RFC}
    return cast("dict[str, object]", copy(others, 0))
