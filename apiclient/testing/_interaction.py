"""One wire request and how it ended, as a cassette keeps it; and how two requests differ. Pure."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qsl

from apiclient.middleware._body_shown import HIDDEN
from apiclient.testing._redaction import FORM, Stored, boundary_of, restored, unpacked

Pairs = list[tuple[str, str]]
_SHOWN = 80
_MOST = 8
_ABSENT: Any = object()
# Each request draws a boundary of its own.
_BOUNDARY = b"--cassette-boundary"


@dataclass(slots=True)
class Interaction:
    """A request and its answer or failure; texts in it hold ``[hidden]`` in place of secrets.

    Attributes:
        method: Upper case.
        origin: Scheme, host and port.
        path: As sent, percent-encoded, without the query.
        query: Names and values, decoded.
        headers: Of the request.
        body: Of the request.
        status: Of the answer, or None where none came.
        reason: Its reason phrase.
        received: Its headers.
        answer: Its body, or as much of it as arrived.
        failure: Name of the exception that ended it, or None.
        errno: Of that exception, where it is an ``OSError``.
    """

    method: str
    origin: str
    path: str
    query: Pairs
    headers: Pairs
    body: Stored
    status: int | None = None
    reason: str | None = None
    received: Pairs = field(default_factory=Pairs)
    answer: Stored = None
    failure: str | None = None
    errno: int | None = None
    _value: Any = field(default=_ABSENT, repr=False, compare=False)

    @property
    def line(self) -> str:
        """The request in one line."""
        query = "&".join(f"{name}={value}" for name, value in self.query)
        return f"{self.method} {self.origin}{self.path}{'?' if query else ''}{query}"

    @property
    def outcome(self) -> str:
        """The end in one word."""
        return f"{self.failure or self.status}"

    @property
    def ended(self) -> bool:
        """Whether it is known how it ended."""
        return self.status is not None or self.failure is not None

    def to_json(self) -> dict[str, Any]:
        """Return it as a value for JSON."""
        said: dict[str, Any] = {
            "request": {
                "method": self.method,
                "url": self.origin + self.path,
                "query": _folded(self.query),
                "headers": _folded(self.headers),
                "body": self.body,
            }
        }
        if self.status is not None:
            said["response"] = {
                "status": self.status,
                "reason": self.reason,
                "headers": _folded(self.received),
                "body": self.answer,
            }
        if self.failure is not None:
            said["failure"] = {"type": self.failure, "errno": self.errno}
        return said

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Return what ``to_json`` made *value* of.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: It made no such value.
        """
        sent, response, failure = value["request"], value.get("response"), value.get("failure")
        found = re.fullmatch(r"([a-z]+://[^/]+)(/.*)?", sent["url"])
        if found is None or (response is None and failure is None):
            raise ValueError("a url is absolute, and a request has a response or a failure")
        made = cls(
            method=_text(sent["method"]),
            origin=found[1],
            path=found[2] or "/",
            query=_unfolded(sent["query"]),
            headers=_unfolded(sent["headers"]),
            body=sent["body"],
        )
        restored(made.body)
        if response is not None:
            made.status, made.reason = int(response["status"]), response["reason"]
            made.received, made.answer = _unfolded(response["headers"]), response["body"]
            restored(made.answer)
        if failure is not None:
            made.failure, made.errno = _text(failure["type"]), failure["errno"]
        return made

    def differences(self, live: "Interaction") -> Iterator[str]:
        """Yield in which ways the request *live* is another than this recorded one: nothing where it is the same.

        The origin does not count, nor do headers, nor the order of the query, nor how JSON is written; what is hidden
        here may be anything.
        """
        if live.method != self.method:
            yield f"method is {live.method}, recorded {self.method}"
        if not _fits(self.path, live.path):
            yield f"path is {live.path}, recorded {self.path}"
        yield from _query_differences(self.query, live.query)
        mine, other = self.value, live.value
        if isinstance(mine, _Form) and isinstance(other, _Form):
            yield from _query_differences(mine, other, "body field")
        else:
            yield from _value_differences(mine, other, "body")

    @property
    def value(self) -> Any:
        """What the request's body says: a JSON value, the fields of a form, or text."""
        if self._value is _ABSENT:
            self._value = _comparable(self.body, content_type(self.headers) or "")
        return self._value


def content_type(headers: Pairs) -> str | None:
    """Return the ``Content-Type`` among *headers*, or None."""
    return next((value for name, value in headers if name.lower() == "content-type"), None)


class _Form(Pairs):
    """The fields of a form."""


def nearest(recorded: Sequence[Interaction], live: Interaction) -> tuple[int, list[str]] | None:
    """Return the number of the interaction that *live* is most like, and the differences; None where there is none."""
    if not recorded:
        return None
    found = [(number, list(each.differences(live))) for number, each in enumerate(recorded)]
    return min(
        found,
        key=lambda each: (
            not _fits(recorded[each[0]].path, live.path),
            recorded[each[0]].method != live.method,
            len(each[1]),
        ),
    )


def listed(differences: list[str]) -> str:
    """Return *differences* one a line, the first few of them."""
    more = len(differences) - _MOST
    lines = [*differences[:_MOST], *([f"and {more} more"] if more > 0 else [])]
    return "\n".join(f"  {line}" for line in lines)


def _query_differences(recorded: Pairs, live: Pairs, what: str = "parameter") -> Iterator[str]:
    if recorded == live:
        return
    for name in dict.fromkeys(name for name, _ in (*recorded, *live)):
        mine = [value for each, value in recorded if each == name]
        other = [value for each, value in live if each == name]
        if len(mine) == len(other) and _paired(mine, list(other)):
            continue
        yield f"{what} {name} is {_shown(other)}, recorded {_shown(mine)}"


def _paired(recorded: list[str], live: list[str]) -> bool:
    # What is hidden fits anything: the others choose first.
    for value in sorted(recorded, key=lambda each: HIDDEN in each):
        found = next((each for each in live if _fits(value, each)), None)
        if found is None:
            return False
        live.remove(found)
    return True


def _comparable(body: Stored, kind: str) -> Any:
    text = unpacked(restored(body))
    media_type = kind.partition(";")[0].strip().lower()
    if media_type == FORM:
        return _Form(parse_qsl(text.decode("utf-8", "replace"), keep_blank_values=True))
    if text[:1] in {b"{", b"["}:
        try:
            return json.loads(text.decode(errors="surrogatepass"))
        except (ValueError, RecursionError):
            pass
    if media_type.startswith("multipart/") and (boundary := boundary_of(kind)) is not None:
        text = text.replace(boundary, _BOUNDARY)
    return text.decode("utf-8" if body is None or "base64" not in body else "latin-1", "replace")


def _value_differences(recorded: Any, live: Any, place: str) -> Iterator[str]:
    mine: Any = recorded
    other: Any = live
    if isinstance(recorded, dict) and isinstance(live, dict):
        for name in dict.fromkeys((*mine, *other)):
            yield from _value_differences(mine.get(name, _ABSENT), other.get(name, _ABSENT), f"{place}.{name}")
    elif isinstance(recorded, list) and isinstance(live, list) and len(mine) == len(other):
        for index, (one, another) in enumerate(zip(mine, other, strict=True)):
            yield from _value_differences(one, another, f"{place}[{index}]")
    elif not _fits(mine, other):
        yield f"{place} is {_shown(other)}, recorded {_shown(mine)}"


def _fits(recorded: Any, live: Any) -> bool:
    if live is not _ABSENT and isinstance(recorded, str) and HIDDEN in recorded:
        if recorded == HIDDEN:
            return True
        expression = ".*".join(re.escape(part) for part in recorded.split(HIDDEN))
        return isinstance(live, str) and re.fullmatch(expression, live, re.DOTALL) is not None
    # To Python 1 is True.
    return isinstance(recorded, bool) is isinstance(live, bool) and bool(recorded == live)


def _shown(value: Any) -> str:
    if value is _ABSENT or value == []:
        return "absent"
    shape: Any = value
    text = repr(shape[0] if isinstance(value, list) and len(shape) == 1 else shape)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"


def _folded(pairs: Iterable[tuple[str, str]]) -> dict[str, str | list[str]]:
    folded: dict[str, list[str]] = {}
    for name, value in pairs:
        folded.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in folded.items()}


def _unfolded(folded: Any) -> Pairs:
    values: dict[str, Any] = folded
    return [
        (name, _text(each))
        for name, value in values.items()
        for each in ([value] if isinstance(value, str) else list(value))
    ]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text is expected, got {value!r}")
    return value
