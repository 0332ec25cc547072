"""JSONL in, JSONL out: one request a line, one result a line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from apiclient.batch import BatchResult, Request
from apiclient.middleware.errors import ApiError, StatusError

_KEYS = frozenset(
    {"id", "custom_id", "method", "path", "url", "path_params", "params", "headers", "json", "body", "idempotency_key"}
)
# A line must not choose which credential goes out.
_REFUSED_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "host"})
_LONGEST_LINE = 32 * 2**20


class BadLine(NamedTuple):
    """A line that is no request.

    Attributes:
        number: Of the line, from 1.
        reason: What is wrong with it.
    """

    number: int
    reason: str

    def as_line(self) -> dict[str, Any]:
        """Return the result line that stands for it."""
        return {
            "id": None,
            "line": self.number,
            "ok": False,
            "error": {"type": "BadLine", "message": self.reason, "hint": "Correct the line and run it again"},
        }


def read_requests(path: Path) -> Iterator[Request | BadLine]:
    """Yield a request, or a ``BadLine``, for each line of the file that is not blank.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield parse_line(line, number)


def parse_line(line: bytes, number: int) -> Request | BadLine:
    """Return the request that *line* describes; its id is the line's number where it has none."""
    if len(line) > _LONGEST_LINE:
        return BadLine(number, f"the line is over {_LONGEST_LINE} bytes")
    try:
        given = json.loads(line)
    except UnicodeDecodeError:
        return BadLine(number, "not UTF-8")
    except ValueError as error:
        return BadLine(number, f"not JSON: {error}")
    except RecursionError:
        return BadLine(number, "nested too deeply")
    if not isinstance(given, dict):
        return BadLine(number, f"a request is a JSON object, this is a {type(given).__name__}")
    reason = _fault(given)
    if reason is not None:
        return BadLine(number, reason)
    identity = given.get("id", given.get("custom_id", f"line:{number}"))
    return Request(
        id=identity,
        method=given.get("method", "GET").upper(),
        path=given["path"] if "path" in given else given["url"],
        path_params=given.get("path_params"),
        params=given.get("params"),
        headers=given.get("headers"),
        json=given.get("json", given.get("body")),
        idempotency_key=given.get("idempotency_key"),
    )


def _fault(given: dict[str, Any]) -> str | None:
    unknown = sorted(given.keys() - _KEYS)
    if unknown:
        return f"unknown key {unknown[0]!r}; known are {', '.join(sorted(_KEYS))}"
    path = given.get("path", given.get("url"))
    if not isinstance(path, str) or not path:
        return "needs a path (or url) that is text"
    method = given.get("method", "GET")
    if not isinstance(method, str) or not method.isalpha():
        return f"method must be a word such as GET, got {method!r}"
    for key in ("path_params", "params", "headers"):
        if given.get(key) is not None and not isinstance(given[key], dict):
            return f"{key} must be an object, got {type(given[key]).__name__}"
    for name, value in (given.get("headers") or {}).items():
        if name.lower() in _REFUSED_HEADERS:
            return f"header {name!r} is not allowed in a line; credentials come from the client"
        if not isinstance(value, str):
            return f"header {name!r} must be text, got {type(value).__name__}"
    if "json" in given and "body" in given:
        return "has both json and body; give one"
    key = given.get("idempotency_key")
    if key is not None and not isinstance(key, str):
        return f"idempotency_key must be text, got {type(key).__name__}"
    return None


def result_line(result: BatchResult) -> dict[str, Any]:
    """Return the output line for *result*."""
    line: dict[str, Any] = {
        "id": result.id,
        "ok": result.ok,
        "status": result.status,
        "attempts": result.attempts,
        "duration_ms": round(result.duration * 1000, 1),
    }
    if result.error is None:
        return line | {"body": _body(result)}
    error = result.error
    told: dict[str, Any] = {"type": type(error).__name__, "message": getattr(error, "message", str(error))}
    if isinstance(error, ApiError):
        told |= {"hint": error.hint, "recoverable": error.recoverable}
    if isinstance(error, StatusError) and error.trace_id is not None:
        told["trace_id"] = error.trace_id
    return line | {"error": told}


def _body(result: BatchResult) -> Any:
    if not result.body:
        return None
    if result.content_type is not None and result.content_type.endswith("json"):
        try:
            return json.loads(result.body)
        except (ValueError, RecursionError):
            pass
    return result.body.decode("utf-8", "replace")


def write_line(file: TextIO, line: dict[str, Any]) -> None:
    """Write *line* and hand it to the operating system, so that the end of this process does not lose it."""
    file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
    file.flush()
