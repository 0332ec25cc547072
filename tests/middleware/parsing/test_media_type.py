import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiclient.middleware._parsing.media_type import (
    FORM,
    JSON,
    OCTETS,
    Action,
    Shape,
    accepted_types,
    better_type,
    demands_json,
    essence,
    is_json,
    is_media_type,
    looks_like_json,
    may_be_json,
    prepared,
)

PATCH = "application/merge-patch+json"
GUESS = "text/plain; charset=utf-8"
CSV = "text/csv"


@pytest.mark.parametrize(
    ("body", "object_or_array", "any_value"),
    [
        (b'{"a": 1}', True, True),
        (b" \n{ }\n", True, True),
        (b"[]", True, True),
        (b'[ "a"]', True, True),
        (b"[-1]", True, True),
        (b"[true]", True, True),
        (b"[[1]]", True, True),
        (b'{"a": 1', False, True),
        (b"{a: 1}", False, True),
        (b"[x]", False, True),
        (b"[1} ", False, True),
        (b"12", False, True),
        (b'"x"', False, True),
        (b"null", False, True),
        (b"", False, True),
        (b"   ", False, True),
        (b"nil", False, False),
        (b"<a/>", False, False),
        (b"a=b", False, False),
        (b"\xef\xbb\xbf{}", False, False),
        (b"\x00{}", False, False),
    ],
)
def test_the_first_and_last_bytes_tell(body: bytes, *, object_or_array: bool, any_value: bool) -> None:
    """Sniffing takes what can only be a JSON object or array; a declared JSON type is doubted on firmer grounds."""
    assert looks_like_json(body) is object_or_array
    assert may_be_json(body) is any_value


def test_sniffing_reads_the_ends_only() -> None:
    """However long the body: 10 MB of blanks, or of anything between the ends, cost nothing."""
    assert looks_like_json(b"[" + b"x," * 5_000_000 + b"]") is False
    assert looks_like_json(b"[1" + b"x," * 5_000_000 + b"]") is True
    assert looks_like_json(b" " * 10_000_000) is False
    assert looks_like_json(b"{" + b" " * 10_000_000 + b"}") is True


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    )
)
@settings(max_examples=60, deadline=None)
def test_all_json_is_taken_for_it(value: object) -> None:
    """No JSON value is ever refused, and every object and array is recognised."""
    for indent in (None, 2):
        body = json.dumps(value, indent=indent).encode()
        assert may_be_json(body)
        assert looks_like_json(body) is isinstance(value, dict | list)


@pytest.mark.parametrize(
    ("value", "bare", "as_json"),
    [
        (None, "", False),
        ("Application/JSON; charset=utf-8", JSON, True),
        ("application/vnd.api+JSON", "application/vnd.api+json", True),
        ("text/json", "text/json", True),
        ("application/jsonp", "application/jsonp", False),
        ("application/json-seq", "application/json-seq", False),
        ("text/plain; x=application/json", "text/plain", False),
        (" ; ", "", False),
    ],
)
def test_a_type_is_compared_without_case_and_parameters(value: str | None, bare: str, *, as_json: bool) -> None:
    """RFC 9110 section 8.3.1, and the +json suffix of RFC 6839."""
    assert essence(value) == bare
    assert is_json(value or "") is as_json


@pytest.mark.parametrize(
    ("value", "fit"),
    [
        (JSON, True),
        ("application/json;charset=utf-8", True),
        ('text/plain; charset="utf-8"', True),
        ("application/vnd.a-b.c+json; version=1", True),
        ("json", False),
        ("a/b/c", False),
        ("*/*", False),
        ("a/b\r\nX: y", False),
        ("a/b; x", False),
        ("", False),
        ("\u00e4/b", False),
    ],
)
def test_what_is_fit_for_a_header(value: str, *, fit: bool) -> None:
    """A type of a server's or a caller's is one only if its grammar is."""
    assert is_media_type(value) is fit


@pytest.mark.parametrize(
    ("accept", "only_json"),
    [
        (None, False),
        ("", False),
        ("*/*", False),
        ("application/json", True),
        ("application/json;q=0.5 , application/problem+json", True),
        ("application/json, text/html", False),
        ("application/json;q=1, text/html", False),
        ("application/*", False),
        (",,", False),
    ],
)
def test_what_demands_json(accept: str | None, *, only_json: bool) -> None:
    """Every range admits JSON only."""
    assert demands_json(accept) is only_json


@pytest.mark.parametrize(
    ("headers", "method", "said", "expected"),
    [
        ({"Accept-Post": "a/b, c/d;q=0.1"}, "POST", "", ("a/b", "c/d")),
        ({"Accept-Post": "a/b", "Accept": "c/d", "Accept-Patch": "e/f"}, "POST", "", ("a/b",)),
        ({"Accept-Post": "a/b", "Accept-Patch": "e/f"}, "PUT", "", ("a/b",)),
        ({"Accept-Patch": "a/b", "Accept": "c/d"}, "PATCH", "", ("a/b",)),
        ({"Accept-Patch": "a/b", "Accept": "c/d"}, "POST", "", ("c/d",)),
        ({"Accept-Patch": "a/b"}, "PUT", "", ("a/b",)),
        ({"Accept": "a/b;q=0, c/d; q=0.0, e/f;q=1"}, "PUT", "", ("e/f",)),
        ({"Accept": "a/b;charset=utf-8;q=0.5"}, "PUT", "", ("a/b;charset=utf-8",)),
        ({"Accept": "junk, a/b\x01, c/d"}, "PUT", "", ("c/d",)),
        ({"Accept": ", ,"}, "PUT", "Use application/json or text/csv.", (JSON, "text/csv")),
        ({}, "POST", "Content type 'text/plain;charset=UTF-8' not supported", ("text/plain",)),
        ({}, "POST", "and/or something, n/a", ()),
    ],
)
def test_the_types_that_a_server_names(
    headers: dict[str, str], method: str, said: str, expected: tuple[str, ...]
) -> None:
    """The field for the method, then Accept, then the words of the error; junk and quality 0 left out."""
    assert accepted_types(headers, method, said) == expected


@given(st.dictionaries(st.sampled_from(["Accept", "Accept-Post"]), st.text()), st.text())
@settings(max_examples=200, deadline=None)
def test_whatever_a_server_names_is_fit_for_a_header(headers: dict[str, str], said: str) -> None:
    """A type taken from an answer holds no control character, and there are never many."""
    found = accepted_types(headers, "POST", said)
    assert len(found) <= 20
    assert all(each.isascii() and each.isprintable() for each in found)


@pytest.mark.parametrize(
    "text", ["application/json," * 700_000, ";q=" * 3_000_000, "a/" * 5_000_000, "text/" * 2_000_000]
)
def test_ten_megabytes_are_read_in_no_time(text: str) -> None:
    """Linear, and cut: nothing that a server sends keeps the loop busy."""
    accepted_types({"Accept": text}, "POST", text)
    demands_json(text)
    essence(text)


@pytest.mark.parametrize(
    ("shape", "sent", "accepted", "array", "expected"),
    [
        (Shape.JSON, JSON, ["application/vnd.a+json"], False, "application/vnd.a+json"),
        (Shape.JSON, "application/x+json", ["application/y+json", JSON], False, JSON),
        (Shape.JSON, JSON, [JSON], False, None),
        (Shape.JSON, "application/json; charset=utf-8", [JSON], False, JSON),
        (Shape.JSON, "application/json; charset=UTF-8", ["application/json;charset=utf-8"], False, None),
        (Shape.JSON, JSON, ["application/*+json"], False, None),
        (Shape.JSON, JSON, ["application/json-patch+json"], False, None),
        (Shape.JSON, JSON, ["application/json-patch+json"], True, "application/json-patch+json"),
        (Shape.JSON, JSON, ["application/merge-patch+json"], True, None),
        (Shape.JSON, JSON, [], False, None),
        (Shape.JSON, JSON, ["*/*"], False, None),
        (Shape.JSON_LIKE, "text/plain", ["application/*"], False, JSON),
        (Shape.JSON_LIKE, "text/plain", [], False, JSON),
        (Shape.JSON_LIKE, "text/plain", ["*/*"], False, JSON),
        (Shape.JSON, JSON, ["application/problem+json"], False, None),
        (Shape.JSON_LIKE, None, ["text/csv"], False, None),
        (Shape.EMPTY, None, [], False, JSON),
        (Shape.EMPTY, None, ["application/x+json"], False, "application/x+json"),
        (Shape.TEXT, "text/plain", [JSON], False, None),
        (Shape.FORM, "application/x-www-form-urlencoded", [JSON], False, None),
        (Shape.OPAQUE, "application/octet-stream", [JSON], False, None),
    ],
)
def test_what_the_same_bytes_may_go_out_as(
    shape: Shape, sent: str | None, accepted: list[str], *, array: bool, expected: str | None
) -> None:
    """JSON as any JSON type that fits its structure; what is no JSON never."""
    assert better_type(shape, sent, accepted, array=array) == expected


def test_json_is_taken_for_an_object_unless_told_otherwise() -> None:
    """A merge patch is an object, a JSON Patch an array."""
    assert better_type(Shape.JSON, JSON, ["application/json-patch+json", PATCH]) == PATCH


@pytest.mark.parametrize(
    ("shape", "declared", "wanted", "action", "value"),
    [
        (Shape.EMPTY, None, None, Action.SET, JSON),
        (Shape.EMPTY, OCTETS, PATCH, Action.SET, PATCH),
        (Shape.EMPTY, CSV, None, Action.KEEP, ""),
        (Shape.MULTIPART, "multipart/form-data", None, Action.KEEP, ""),
        (Shape.MULTIPART, "multipart/form-data", CSV, Action.KEEP, ""),
        (Shape.MULTIPART, JSON, None, Action.REFUSE, "is a multipart form"),
        (Shape.MULTIPART, "multipart/form-data", JSON, Action.REFUSE, "is a multipart form"),
        (Shape.FORM, FORM, None, Action.KEEP, ""),
        (Shape.FORM, FORM, CSV, Action.KEEP, ""),
        (Shape.FORM, JSON, None, Action.REFUSE, "is a form"),
        (Shape.FORM, FORM, JSON, Action.REFUSE, "is a form"),
        (Shape.JSON, JSON, None, Action.KEEP, ""),
        (Shape.JSON, JSON, PATCH, Action.SET, PATCH),
        (Shape.JSON, PATCH, JSON, Action.KEEP, ""),
        (Shape.JSON, CSV, None, Action.SET, JSON),
        (Shape.JSON, CSV, PATCH, Action.SET, PATCH),
        (Shape.JSON, JSON, f"{JSON}; v=1", Action.KEEP, ""),
        (Shape.JSON_LIKE, GUESS, None, Action.SET, JSON),
        (Shape.JSON_LIKE, None, PATCH, Action.SET, PATCH),
        (Shape.JSON_LIKE, CSV, None, Action.KEEP, ""),
        (Shape.JSON_LIKE, CSV, JSON, Action.KEEP, ""),
        (Shape.TEXT, GUESS, None, Action.KEEP, ""),
        (Shape.TEXT, GUESS, CSV, Action.SET, CSV),
        (Shape.TEXT, GUESS, GUESS, Action.KEEP, ""),
        (Shape.TEXT, JSON, None, Action.REFUSE, "begins with nothing that JSON can begin with"),
        (Shape.BYTES, OCTETS, JSON, Action.REFUSE, "begins with nothing that JSON can begin with"),
        (Shape.OPAQUE, JSON, None, Action.KEEP, ""),
        (Shape.OPAQUE, OCTETS, JSON, Action.SET, JSON),
    ],
)
def test_what_is_right_for_a_body(
    shape: Shape, declared: str | None, wanted: str | None, action: Action, value: str
) -> None:
    """What the caller said stays, a guess gives way, and what contradicts the body is refused with the reason."""
    head = b'{"a": 1}' if shape in {Shape.JSON, Shape.JSON_LIKE} else b"a=b"
    assert prepared(shape, declared, head, encoding=None, default=JSON, wanted=wanted) == (action, value)


@pytest.mark.parametrize(
    ("declared", "wanted", "value"),
    [
        (FORM, JSON, JSON),
        (FORM, PATCH, PATCH),
        (JSON, None, JSON),
        ("Application/X+JSON; v=1", None, "application/x+json"),
    ],
)
def test_a_form_becomes_the_json_type_that_is_asked_for(declared: str, wanted: str | None, value: str) -> None:
    """Where that is allowed: the endpoint's type, or the one declared, without parameters."""
    verdict = prepared(Shape.FORM, declared, b"a=b", encoding=None, default=CSV, wanted=wanted, convert=True)
    assert verdict == (Action.CONVERT, value)


@pytest.mark.parametrize(
    ("shape", "declared", "wanted", "reason"),
    [
        (Shape.EMPTY, None, None, None),
        (Shape.TEXT, GUESS, None, "was given no type by the caller"),
        (Shape.TEXT, GUESS, GUESS, None),
        (Shape.OPAQUE, None, None, "was given no type by the caller"),
        (Shape.OPAQUE, OCTETS, OCTETS, None),
        (Shape.TEXT, CSV, None, None),
        (Shape.TEXT, CSV, "Text/CSV; header=present", None),
        (Shape.TEXT, CSV, "text/html", "should be text/html here"),
        (Shape.JSON, CSV, None, f"should go out as {JSON}"),
        (Shape.JSON, JSON, None, None),
        (Shape.TEXT, JSON, None, "begins with nothing that JSON can begin with"),
    ],
)
def test_strictly_what_would_be_corrected_is_refused(
    shape: Shape, declared: str | None, wanted: str | None, reason: str | None
) -> None:
    """A guess, another type than the endpoint's and a correction are errors of the caller, each told apart."""
    verdict = prepared(shape, declared, b"a=b", encoding=None, default=JSON, wanted=wanted, strict=True)
    assert (verdict.value if verdict.action is Action.REFUSE else None) == reason


def test_strictly_the_type_of_the_endpoint_may_be_set() -> None:
    """A JSON body at an endpoint with a JSON type of its own goes out as that."""
    verdict = prepared(Shape.JSON, JSON, b"{}", encoding=None, default=JSON, wanted=PATCH, strict=True)
    assert verdict == (Action.SET, PATCH)


@pytest.mark.parametrize(
    ("declared", "head", "encoding", "action", "value"),
    [
        ("text/csv; charset=utf-8", b"caf\xc3\xa9", None, Action.KEEP, ""),
        ("text/csv; charset=latin-1", b"caf\xe9", None, Action.KEEP, ""),
        (
            "text/csv; CHARSET=utf-8",
            "caf\u00e9".encode("latin-1") + b" x",
            "latin-1",
            Action.SET,
            "text/csv; charset=latin-1",
        ),
        (
            "text/csv; charset=ascii; header=present",
            b"caf\xc3\xa9",
            None,
            Action.SET,
            "text/csv; header=present; charset=utf-8",
        ),
        ("text/csv; charset=ascii", b"caf\xe9 x", None, Action.REFUSE, "is not in that charset, and not UTF-8 either"),
        ("text/csv; charset=no-such", b"plain", None, Action.SET, "text/csv; charset=utf-8"),
        ("text/csv; charset=utf-16", b"plain!", None, Action.SET, "text/csv; charset=utf-8"),
        ("text/csv; charset=utf-32", b"plain!!!", None, Action.SET, "text/csv; charset=utf-8"),
        ("text/csv; charset=utf-16le", b"plain!", None, Action.SET, "text/csv; charset=utf-8"),
        ("text/csv; charset=utf-32le", b"ab", None, Action.SET, "text/csv; charset=utf-8"),
        ("text/csv; charset=utf-16", "plain!".encode("utf-16"), None, Action.KEEP, ""),
        ("text/csv; charset=utf-16", b"8 bytes.\0", None, Action.SET, "text/csv; charset=utf-8"),
        ("text/csv; charset=utf-8", b"a", "UTF8", Action.KEEP, ""),
        ('application/json; charset="latin-1"', b'"x"', "utf-8", Action.SET, JSON),
        ("text/csv; x=charset", b"caf\xe9 x", None, Action.KEEP, ""),
        ("text/csv", b"caf\xe9 x", None, Action.KEEP, ""),
    ],
)
def test_a_false_charset_is_corrected(
    declared: str, head: bytes, encoding: str | None, action: Action, value: str
) -> None:
    """What the bytes are decides; JSON has none (RFC 8259 8.1), and what nothing fits is refused."""
    assert prepared(Shape.BYTES, declared, head, encoding=encoding, default=JSON, wanted=None) == (action, value)


def test_the_charset_of_what_cannot_be_read_stays() -> None:
    """Nothing is known of a file or a form."""
    for shape in (Shape.OPAQUE, Shape.FORM, Shape.EMPTY):
        verdict = prepared(shape, "text/csv; charset=ascii", b"\xe9", encoding=None, default=JSON, wanted=None)
        assert verdict.action is Action.KEEP


@given(
    shape=st.sampled_from(Shape),
    declared=st.none() | st.text(max_size=40),
    head=st.binary(max_size=80),
    encoding=st.none() | st.sampled_from(["utf-8", "latin-1"]),
    convert=st.booleans(),
    strict=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_a_verdict_is_always_one_of_four(
    shape: Shape, declared: str | None, head: bytes, encoding: str | None, *, convert: bool, strict: bool
) -> None:
    """Whatever is declared and whatever the bytes are, nothing raises, and a type is set only where one is named."""
    verdict = prepared(
        shape, declared, head, encoding=encoding, default=JSON, wanted=None, convert=convert, strict=strict
    )
    assert (verdict.action is Action.KEEP) is (verdict.value == "")
    if strict and shape is not Shape.EMPTY:
        assert verdict.action in {Action.KEEP, Action.REFUSE}
