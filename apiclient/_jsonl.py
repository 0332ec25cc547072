"""JSONL in, JSONL out: one request a line, one result a line."""

import hashlib
import json
import re
from collections.abc import Mapping
from json.encoder import encode_basestring_ascii
from typing import Any, NamedTuple, cast

from yarl import URL

from apiclient._batch_model import BatchResult, Request
from apiclient.middleware.errors import ApiError, StatusError

LONGEST_LINE = 32 * 2**20

_KEYS = frozenset(
    {"id", "custom_id", "method", "path", "url", "path_params", "params", "headers", "json", "body", "idempotency_key"}
)
# A dead letter is the line as it was and what became of it, and can be fed in again as it is.
_IGNORED = frozenset({"error"})
# A line must not choose which credential goes out, nor where to.
_REFUSED_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "host"})
_JSON_TYPES = ("application/json", "+json")
# Where the first key is the id, and nothing else is called so: most lines, and read ten times faster.
_ID_FIRST = re.compile(rb'\s*\{\s*"(?:custom_)?id"\s*:\s*("[^"\\\x00-\x1f\x7f-\xff]*")\s*[,}]')


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_decode = json.JSONDecoder().decode
_decode_strictly = json.JSONDecoder(parse_constant=_no_constant).decode


class BadLine(NamedTuple):
    """A line that is no request.

    Attributes:
        number: Of the line, from 1.
        reason: What is wrong with it.
    """

    number: int
    reason: str


class Line(NamedTuple):
    """A line of the input.

    Attributes:
        number: From 1.
        raw: As it was read.
        key: Its id as JSON; one derived from number and content where it has none.
        request: What it asks for; None where ``bad``.
        bad: What is wrong with it, or None.
    """

    number: int
    raw: bytes
    key: str
    request: Request | None
    bad: BadLine | None


def parse_line(raw: bytes, number: int, base: URL | None = None) -> Line:
    """Return what line *number* asks for.

    Args:
        raw: The line.
        number: From 1.
        base: The client's base URL, so that an absolute ``url`` below it can be told from any other.
    """
    try:
        given = _object(raw)
        key = _key(given)
        return Line(number, raw, _derived(raw, number) if key is None else key, _request(given, base), None)
    except ValueError as error:
        return Line(number, raw, key_in(raw, number), None, BadLine(number, str(error)))


def key_in(raw: bytes, number: int) -> str:
    """Return only the key of the line that ``parse_line`` would return, without a closer look at the rest."""
    found = _ID_FIRST.match(raw)
    if found is not None and raw.count(b'id"', 0, LONGEST_LINE) == 1:
        return found[1].decode("ascii")
    return _key_of_bad(raw, number)


def key_of(identity: Any) -> str | None:
    """Return *identity* as the JSON that ids are compared by, or None where it is no id."""
    if isinstance(identity, str):
        return encode_basestring_ascii(identity)
    return str(identity) if isinstance(identity, int) and not isinstance(identity, bool) else None


def identity_in(given: Mapping[str, Any]) -> tuple[str, Any]:
    """Return which key of *given*, a request or a dead letter, says what it is called, and what that says, or None."""
    name = "id" if given.get("id") is not None else "custom_id"
    return name, given.get(name)


def _object(raw: bytes) -> dict[str, Any]:
    if len(raw) > LONGEST_LINE:
        raise ValueError(f"the line is over {LONGEST_LINE} bytes")
    try:
        given: Any = _decode(raw.decode())
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(given, dict):
        raise ValueError(f"a request is a JSON object, this is of type {type(given).__name__}")  # noqa: TRY004 - caught as one
    return cast("dict[str, Any]", given)


def _key(given: dict[str, Any]) -> str | None:
    name, identity = identity_in(given)
    key = key_of(identity)
    if key is None and identity is not None:
        raise ValueError(f"{name} must be text or a whole number, got {identity!r:.40}")
    return key


def _key_of_bad(raw: bytes, number: int) -> str:
    try:
        key = _key(_object(raw))
    except ValueError:
        key = None
    return _derived(raw, number) if key is None else key


def _derived(raw: bytes, number: int) -> str:
    return f'"line:{number}:{hashlib.sha256(raw.strip()).hexdigest()[:12]}"'


def _request(given: dict[str, Any], base: URL | None) -> Request:
    if not given.keys() <= _KEYS:
        unknown = sorted(given.keys() - _KEYS - _IGNORED)
        if unknown:
            raise ValueError(f"unknown key {unknown[0]!r}; known are {', '.join(sorted(_KEYS))}")
    get = given.get
    for name in ("path_params", "params", "headers"):
        value = get(name)
        if value is not None and not isinstance(value, dict):
            raise ValueError(f"{name} must be an object, got {value!r:.40}")
    if headers := get("headers"):
        _check(headers)
    key = get("idempotency_key")
    if key is not None and not isinstance(key, str):
        raise ValueError(f"idempotency_key must be text, got {key!r:.40}")
    value, data = get("json"), get("body")
    if data is not None:
        if value is not None:
            raise ValueError("has both json and body; give one of them")
        if not isinstance(data, str):
            value, data = data, None
    return Request(
        method=_method(get("method", "GET")),
        path=_path(get("path"), get("url"), base),
        path_params=get("path_params"),
        params=get("params"),
        headers=headers,
        json=value,
        data=data,
        idempotency_key=key,
    )


def _method(method: Any) -> str:
    if not isinstance(method, str) or not method.isalpha() or not method.isascii():
        raise ValueError(f"method must be a word such as GET, got {method!r:.40}")
    return method.upper()


def _path(path: Any, url: Any, base: URL | None) -> str:
    if path is None:
        path = _below(url, base) if isinstance(url, str) and "://" in url else url
    if not isinstance(path, str) or not path:
        raise ValueError("needs a path (or url) that is text")
    return path


def _check(headers: dict[str, Any]) -> None:
    for name, value in headers.items():
        if name.lower() in _REFUSED_HEADERS:
            raise ValueError(f"header {name!r} is not allowed in a line; credentials come from the client")
        if not isinstance(value, str):
            raise ValueError(f"header {name!r} must be text, got {type(value).__name__}")  # noqa: TRY004


def _below(url: str, base: URL | None) -> str:
    prefix = "" if base is None else str(base).rstrip("/")
    if not prefix or not url.startswith(prefix + "/"):
        raise ValueError(f"url must be a path, or begin with the base URL{f' {prefix}/' if prefix else ''}")
    return url[len(prefix) :]


def result_line(result: BatchResult, key: str, started_at: float) -> bytes:
    """Return the output line for *result*.

    Args:
        result: What became of the request.
        key: Its id as JSON.
        started_at: When it began, in Unix seconds.
    """
    status = "null" if result.status is None else result.status
    head = (
        f'{{"id": {key}, "ok": {"true" if result.ok else "false"}, "status": {status}, '
        f'"attempts": {result.attempts}, "started_at": {started_at:.3f}, "duration_ms": {result.duration * 1000:.1f}, '
    )
    if result.error is None:
        return b'%b"body": %b}\n' % (head.encode(), _body(result))
    return f'{head}"error": {json.dumps(error_of(result.error))}}}\n'.encode()


def dead_letter(line: Line, error: Exception) -> bytes:
    """Return *line* with its id and *error* added, to be looked at, put right, and fed in again."""
    if line.bad is not None:
        raw = line.raw.rstrip(b"\r\n").decode("utf-8", "replace")[:10_000]
        return f'{{"id": {line.key}, "line": {json.dumps(raw)}, "error": {json.dumps(error_of(error))}}}\n'.encode()
    return json.dumps(_identified(line) | {"error": error_of(error)}).encode() + b"\n"


def with_id(line: Line) -> bytes:
    """Return *line* with its id, to be fed in again from another file; one that is no request as it is."""
    if line.bad is not None:
        return line.raw.rstrip(b"\r\n") + b"\n"
    return json.dumps(_identified(line)).encode() + b"\n"


def _identified(line: Line) -> dict[str, Any]:
    given = cast("dict[str, Any]", json.loads(line.raw))
    return given if identity_in(given)[1] is not None else {**given, "id": json.loads(line.key)}


def error_of(error: Exception) -> dict[str, Any]:
    """Return *error* as plain data, with nothing secret in it."""
    told: dict[str, Any] = {"type": type(error).__name__, "message": getattr(error, "message", None) or str(error)}
    if isinstance(error, ApiError):
        told |= {"hint": error.hint, "recoverable": error.recoverable}
    if isinstance(error, StatusError) and error.trace_id is not None:
        told["trace_id"] = error.trace_id
    return told


def _body(result: BatchResult) -> bytes:
    body = result.body
    if not body:
        return b"null"
    kind = result.content_type
    # What is JSON goes out as it came, so that no number loses digits; a line break in it would tear the line.
    if kind is not None and kind.endswith(_JSON_TYPES):
        try:
            value = _decode_strictly(body.decode())
        except (ValueError, RecursionError):
            pass
        else:
            if b"\n" not in body and b"\r" not in body:
                return body
            return json.dumps(value).encode()
    return json.dumps(body.decode("utf-8", "replace")).encode()
