"""Lines in, lines out."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from apiclient import BatchResult, Request, errors
from apiclient._jsonl import LONGEST_LINE, dead_letter, key_in, parse_line, result_line, with_id
from apiclient.job._checkpoint import letter_in

BASE = URL("https://api.example.com/v1")


def _parsed(value: Any, number: int = 1) -> Request:
    line = parse_line(json.dumps(value).encode(), number, BASE)
    assert line.bad is None, line.bad
    assert line.request is not None
    return line.request


def _reason(raw: bytes | Any) -> str:
    line = parse_line(raw if isinstance(raw, bytes) else json.dumps(raw).encode(), 7, BASE)
    assert line.bad is not None
    assert line.bad.number == 7
    return line.bad.reason


def test_all_keys_of_a_line_arrive() -> None:
    """Each key of a line ends up in the request."""
    request = _parsed(
        {
            "id": "a",
            "method": "post",
            "path": "/employees/{id}",
            "path_params": {"id": 1},
            "params": {"page": "2"},
            "headers": {"X-Team": "blue"},
            "json": {"name": "Ada"},
            "idempotency_key": "k",
        }
    )
    assert (request.method, request.path, request.path_params) == ("POST", "/employees/{id}", {"id": 1})
    assert (request.params, request.headers, request.json) == ({"page": "2"}, {"X-Team": "blue"}, {"name": "Ada"})
    assert request.idempotency_key == "k"


def test_the_lines_of_openai_are_understood() -> None:
    """``custom_id``, ``method``, ``url`` and ``body`` mean what they mean there."""
    raw = json.dumps({"custom_id": "r-1", "method": "POST", "url": "/chat/completions", "body": {"model": "m"}})
    line = parse_line(raw.encode(), 1, BASE)
    assert line.key == '"r-1"'
    assert line.request is not None
    assert (line.request.method, line.request.path, line.request.json) == ("POST", "/chat/completions", {"model": "m"})


def test_an_absolute_url_below_the_base_is_a_path() -> None:
    """An absolute ``url`` is taken where it begins with the base URL, and refused anywhere else."""
    assert _parsed({"url": "https://api.example.com/v1/ping"}).path == "/ping"
    assert "begin with the base URL https://api.example.com/v1/" in _reason({"url": "https://evil.example/v1/ping"})
    assert "begin with the base URL" in _reason({"url": "https://api.example.com/v10/ping"})


def test_a_body_that_is_text_goes_out_as_it_is() -> None:
    """``body`` as text is no JSON string; as anything else it is JSON."""
    assert _parsed({"path": "/a", "body": "a;b"}).data == "a;b"
    assert _parsed({"path": "/a", "body": [1]}).json == [1]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"nonsense", "not JSON: "),
        (b'{"path": "/a"', "not JSON: "),
        (b"\xff\xfe", "not UTF-8"),
        (b"[1]", "a request is a JSON object, this is of type list"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"path": 7}', "needs a path"),
        (b"{}", "needs a path"),
        (b'{"path": "/a", "pth_params": {}}', "unknown key 'pth_params'; known are"),
        (b'{"path": "/a", "method": "GE T"}', "method must be a word such as GET, got 'GE T'"),
        (b'{"path": "/a", "params": []}', "params must be an object, got []"),
        (b'{"path": "/a", "headers": {"authorization": "x"}}', "header 'authorization' is not allowed in a line"),
        (b'{"path": "/a", "headers": {"Cookie": "x"}}', "header 'Cookie' is not allowed in a line"),
        (b'{"path": "/a", "headers": {"X": 1}}', "header 'X' must be text, got int"),
        (b'{"path": "/a", "json": 1, "body": 2}', "has both json and body"),
        (b'{"path": "/a", "idempotency_key": 1}', "idempotency_key must be text, got 1"),
        (b'{"path": "/a", "id": [1]}', "id must be text or a whole number, got [1]"),
        (b'{"path": "/a", "id": true}', "id must be text or a whole number, got True"),
        (b'{"path": "/a", "id": 1.5}', "id must be text or a whole number, got 1.5"),
        (b" " * (LONGEST_LINE + 1), f"the line is over {LONGEST_LINE} bytes"),
    ],
)
def test_a_line_that_is_no_request_says_why(raw: bytes, reason: str) -> None:
    """The reason says what is wrong, and no secret header value is in it."""
    assert _reason(raw).startswith(reason)


def test_a_line_without_an_id_gets_one_from_number_and_content() -> None:
    """The derived id is the same each time, and another for another number or content."""
    keys = {parse_line(raw, number).key for raw in (b'{"path": "/a"}', b'{"path": "/b"}') for number in (1, 2)}
    assert len(keys) == 4
    assert parse_line(b'{"path": "/a"}', 1).key == parse_line(b'{"path": "/a"}\r\n', 1).key
    assert parse_line(b'{"path": "/a"}', 1).key.startswith('"line:1:')


def test_a_number_and_its_text_are_different_ids() -> None:
    """``1`` and ``"1"`` are two requests."""
    assert parse_line(b'{"id": 1, "path": "/a"}', 1).key != parse_line(b'{"id": "1", "path": "/a"}', 1).key


@given(
    st.dictionaries(
        st.sampled_from(["id", "custom_id", "path", "params", "x"]),
        st.one_of(st.text(max_size=8), st.integers(), st.none(), st.dictionaries(st.just("id"), st.text(max_size=3))),
    ),
    st.booleans(),
)
@settings(max_examples=150, derandomize=True)
def test_the_quick_look_finds_the_same_id_as_the_thorough_one(value: dict[str, Any], ascii_only: bool) -> None:  # noqa: FBT001
    """Whatever the line holds, ``key_in`` and ``parse_line`` agree on its id."""
    raw = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert key_in(raw, 3) == parse_line(raw, 3).key


@pytest.mark.parametrize(
    "raw",
    [
        b'{"id": "a", "id": "b", "path": "/x"}',
        b'{"id": "a", "path": "/x", "params": {"id": "b"}}',
        b'{"custom_id": "a", "id": "b", "path": "/x"}',
        b'{"id": "a" "path": "/x"}',
        b'{"id": "a", broken',
        b'{"id":"\\u0061","path":"/x"}',
        '{"id":"\u00e9","path":"/x"}'.encode(),
    ],
)
def test_the_quick_look_is_not_fooled(raw: bytes) -> None:
    """Repeated, nested, escaped and broken ids are found as a JSON parser finds them."""
    assert key_in(raw, 3) == parse_line(raw, 3).key


def _result(**changes: Any) -> BatchResult:
    given: dict[str, Any] = {"request": Request(path="/a"), "ok": True, "status": 200, "attempts": 1, "duration": 0.25}
    return BatchResult(**{**given, "content_type": "application/json", **changes})


@pytest.mark.parametrize(
    ("body", "kind", "shown"),
    [
        (b'{"a": 1.10000000000000000000001}', "application/json", '{"a": 1.10000000000000000000001}'),
        (b'{"a":\n 1}', "application/json", '{"a": 1}'),
        (b'{"a": 1}\r\n', "application/problem+json", '{"a": 1}'),
        (b"broken", "application/json", '"broken"'),
        (b"NaN", "application/json", '"NaN"'),
        (b"two\nlines", "text/plain", '"two\\nlines"'),
        (b"\xff", "application/octet-stream", '"\\ufffd"'),
        (b"", "application/json", "null"),
        (b"[" * 100_000, "application/json", None),
    ],
)
def test_a_body_stays_one_line_of_json(body: bytes, kind: str, shown: str | None) -> None:
    """JSON goes out as it came wherever that is one line; everything else as a JSON string."""
    line = result_line(_result(body=body, content_type=kind), '"a"', 1.0)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    value = json.loads(line)
    if shown is not None:
        assert f'"body": {shown}}}' in line.decode()
    assert value["id"] == "a"


def test_a_result_line_tells_outcome_attempts_and_times() -> None:
    """The line has id, ok, status, attempts, beginning and duration."""
    value = json.loads(result_line(_result(attempts=3), "7", 12.5))
    assert value == {
        "id": 7,
        "ok": True,
        "status": 200,
        "attempts": 3,
        "started_at": 12.5,
        "duration_ms": 250.0,
        "body": None,
    }


def test_an_error_line_tells_type_message_and_hint() -> None:
    """A failure has no body but an error, with what to do about it."""
    error = errors.NotFound("404 Not Found", status=404)
    value = json.loads(result_line(_result(ok=False, status=404, error=error), '"a"', 1.0))
    assert value["error"]["type"] == "NotFound"
    assert value["error"]["hint"] == errors.NotFound.hint
    assert "body" not in value


@pytest.mark.parametrize("ids", [{}, {"id": None}, {"custom_id": None}, {"id": None, "custom_id": "c"}, {"id": 7}])
def test_a_dead_letter_can_be_fed_in_again_as_it_is(ids: dict[str, Any]) -> None:
    """The line as it was, with its id and the error added, is a good line for the same request and id."""
    line = parse_line(json.dumps({**ids, "path": "/a", "params": {"q": "1"}}).encode() + b"\n", 4)
    letter = dead_letter(line, ValueError("nothing there"))
    again = parse_line(letter, 1)
    assert again.bad is None
    assert again.key == line.key == letter_in(letter)
    assert parse_line(with_id(line), 1).key == line.key
    assert again.request == line.request
    assert json.loads(letter)["error"] == {"type": "ValueError", "message": "nothing there"}


def test_the_dead_letter_of_a_bad_line_holds_the_line() -> None:
    """What cannot be parsed is kept as text, under its derived id."""
    line = parse_line(b"nonsense\n", 4)
    letter = json.loads(dead_letter(line, ValueError("not JSON")))
    assert letter["line"] == "nonsense"
    assert json.dumps(letter["id"]) == line.key
