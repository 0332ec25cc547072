import copy
import json
import pickle
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiclient.middleware._parsing.problem import Problem, read_problem
from tests.middleware.error_bodies import JSON, PROBLEM, SAMPLES, TEXT, Sample

HUGE = 10_000_000


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_what_a_real_looking_body_says(sample: Sample) -> None:
    """Each shape in the table gives code, message, trace id and the rest as written beside it."""
    problem = read_problem(encoded(sample), sample.content_type)
    assert {name: getattr(problem, name) for name in sample.says} == sample.says


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_every_body_gives_a_short_safe_summary_and_survives_copying(sample: Sample) -> None:
    """One printable line whatever the body; frozen, and the same after pickle and copy."""
    problem = read_problem(encoded(sample), sample.content_type)
    check(problem)
    assert pickle.loads(pickle.dumps(problem)) == problem  # noqa: S301
    assert copy.deepcopy(problem) == problem
    assert hash(problem) == hash(copy.copy(problem))


def test_the_table_is_as_large_as_promised_and_names_are_unique() -> None:
    """At least 60 bodies."""
    assert len({sample.name for sample in SAMPLES}) == len(SAMPLES) >= 60


@pytest.mark.parametrize(
    "content_type", [None, "", ";", "application/json; charset=", "x" * HUGE, "text/plain; charset=punycode"]
)
def test_the_content_type_is_only_a_hint(content_type: str | None) -> None:
    """A missing, broken or lying content type does not hide what the body is."""
    assert read_problem(b'{"error": "invalid_client"}', content_type).code == "invalid_client"


@pytest.mark.parametrize(
    ("problem", "summary"),
    [
        (Problem(), ""),
        (Problem(title="T"), "T"),
        (Problem(title="T", detail="D", message="M"), "T: D"),
        (Problem(title="T", message="M", code="c1"), "T: M (c1)"),
        (Problem(title="Not found.", detail="Not found: item 7"), "Not found: item 7"),
        (Problem(code="c1", message="about c1"), "about c1"),
        (Problem(code="c1"), "c1"),
        (Problem(errors=("a", "b", "c", "d")), "a; b; c"),
        (Problem(message="bad", errors=("name: bad", "age: bad")), "name: bad; age: bad"),
        (Problem(message="Invalid", errors=("name: bad",)), "Invalid"),
        (Problem(text="raw"), "raw"),
        (Problem(message="x" * 500), "x" * 237 + "..."),
    ],
)
def test_the_summary_says_the_most_telling_thing(problem: Problem, summary: str) -> None:
    """Title, then detail, message or errors, then the code where it is not in there yet."""
    assert problem.summary == summary


@pytest.mark.parametrize(
    ("markup", "says"),
    [
        ("<message>m</message><ErrorMessage>e</ErrorMessage>", {"message": "m"}),
        ("<faultstring>f</faultstring><s:errorMessage>e</s:errorMessage>", {"message": "e"}),
        ("<Text>t</Text><h1>h</h1>", {"message": "t"}),
        ("<h1>h</h1><title>h</title>", {"message": None, "title": "h"}),
        ("<faultcode>f</faultcode><errorCode>e</errorCode>", {"code": "e"}),
        ("<errorcode>e</errorcode><code>c</code>", {"code": "c"}),
        ("<code>" + "c" * 200 + "</code>", {"code": "c" * 125 + "..."}),
        ("<RequestId>r-12345</RequestId><TraceId>t-12345</TraceId>", {"trace_id": "t-12345"}),
        ("<title>first</title><title>second</title>", {"title": "first"}),
        ("<title> </title><title>second</title>", {"title": "second"}),
        ("<h1>h</h1>" * 64 + "<title>too late</title>", {"title": None}),
        ("<p>a &lt; b\n c</p>", {"message": "a < b c"}),
        ("<p> </p>", {"message": None, "text": "<p> </p>"}),
        ("<h1>h</h1><p>Request ID: <b>abc-123</b></p>", {"message": "h", "trace_id": "abc-123"}),
    ],
)
def test_the_telling_elements_of_markup(markup: str, says: dict[str, str | None]) -> None:
    """Of several elements the one that says most, of equal ones the first; without any the visible words."""
    problem = read_problem(markup.encode(), "text/html")
    assert {name: getattr(problem, name) for name in says} == says
    assert problem.text.startswith(markup[:9])


@pytest.mark.parametrize("inner", ['{"error": "invalid_client"}', ' [{"code": "invalid_client"}]'])
def test_json_within_a_json_text_is_read(inner: str) -> None:
    """Some servers encode their answer twice."""
    assert read_problem(json.dumps(inner).encode()).code == "invalid_client"


def test_type_and_instance_mean_something_in_a_problem_only() -> None:
    """RFC 9457 3.1: where neither title nor detail stands beside them they are members like any other."""
    plain = read_problem(b'{"code": "c", "type": "t", "instance": "/i"}')
    assert (plain.type, plain.instance, plain.extensions["instance"]) == (None, None, "/i")
    problem = read_problem(b'{"title": "x", "type": "t", "instance": "/i"}')
    assert (problem.type, problem.instance, problem.extensions) == ("t", "/i", {})


def test_a_plain_text_is_the_message_to_the_letter() -> None:
    """Its first one too."""
    assert read_problem(b"X-Api-Key is missing", TEXT).message == "X-Api-Key is missing"


def test_details_that_are_a_text_are_the_detail() -> None:
    """Some servers write it so."""
    problem = read_problem(b'{"message": "Not allowed", "details": "The plan has no exports"}')
    assert (problem.message, problem.detail) == ("Not allowed", "The plan has no exports")


def test_a_form_has_at_most_64_fields() -> None:
    """What has more is a text."""
    form = "application/x-www-form-urlencoded"
    assert read_problem(b"a=1&" * 63 + b"error=invalid_client", form).code == "invalid_client"
    assert read_problem(b"a=1&" * 64 + b"error=invalid_client", form).code is None


def test_lengths_are_capped() -> None:
    """No text is longer than its cap, however long the body's is."""
    long = "x" * 60_000
    problem = read_problem(f'{{"title":"{long}"}}'.encode(), PROBLEM)
    assert problem.title is not None
    assert (len(problem.title), len(problem.text), len(problem.summary)) == (500, 2000, 240)
    assert problem.title.endswith("x...")
    assert read_problem(f'{{"a":{{"b":"{long}"}}}}'.encode()).extensions == {"a": {"b": "x" * 497 + "..."}}
    assert len(read_problem(('{"errors":[' + '"e",' * 1000 + '"e"]}').encode()).errors) == 20


def test_only_the_head_of_the_body_is_read() -> None:
    """What lies beyond 65,536 bytes is not looked at, and a character cut there is dropped."""
    assert read_problem(b" " * 65_536 + b'{"error": "x"}') == Problem()
    body = b"a" + "\u00e9".encode() * 40_000
    assert "\u00c3" not in read_problem(body, TEXT).text
    assert read_problem(body, TEXT) == read_problem(body[:65_536], TEXT)


def test_extensions_are_cut_to_a_depth_and_a_number() -> None:
    """Five levels of 64 members each are kept; what is below is null."""
    body = b'{"a":{"b":{"c":{"d":{"e":{"f":1}}}}}}'
    assert read_problem(body).extensions == {"a": {"b": {"c": {"d": {"e": None}}}}}
    wide = "{" + ",".join(f'"k{i}":{i}' for i in range(1000)) + "}"
    assert len(read_problem(wide.encode()).extensions) == 64
    assert read_problem(b'{"a\\u001b":1}').extensions == {"a\\x1b": 1}


@pytest.mark.parametrize("depth", [100, 900, 10_000])
@pytest.mark.parametrize(
    "shape", ["[{0}]", '{{"error":{0}}}', '{{"a":{0}}}', '{{"errors":[{0}]}}', '{{"extensions":{0}}}']
)
def test_depth_does_no_harm(depth: int, shape: str) -> None:
    """Nesting up to the size cap ends in a problem, not in a crash."""
    opening, closing = shape.split("{0}")
    opening, closing = opening.replace("{{", "{"), closing.replace("}}", "}")
    check(read_problem((opening * depth + "1" + closing * depth).encode(), JSON))
    check(read_problem((opening * depth).encode(), JSON))


def test_depth_does_no_harm_near_the_end_of_the_stack_either() -> None:
    """A deep caller gets an answer too: the parser's own recursion is bounded."""
    found: list[Problem] = []

    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)
        else:
            found.append(read_problem(b'{"a":' * 800 + b"1" + b"}" * 800, JSON))

    thread = threading.Thread(target=deep, args=(600,))
    thread.start()
    thread.join()
    check(found[0])


UNITS = [
    b"[",
    b"{",
    b'{"a":',
    b'"',
    b'\\"',
    b"9",
    b"1,",
    b"[1],",
    b'{"a":1},',
    b"<",
    b"<title",
    b"<title>",
    b"<h1 ",
    b"<h1> ",
    b"&",
    b"&#9;",
    b"a=b&",
    b"%41",
    b"request id ",
    b"trace id:  ",
    b"\x00",
    b"\xff",
    b"\xc3\xa9",
    b"\xf0\x9f",
    b" ",
    b"\n",
    b"-",
    b"\xe2\x80\xae",
]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("head", [b"", b'{"error":', b"["])
def test_ten_megabytes_are_bounded(unit: bytes, head: bytes) -> None:
    """No repetition makes the reading explode (the time limit would end the test)."""
    body = head + unit * (HUGE // len(unit))
    for content_type in (JSON, "text/html", "application/x-www-form-urlencoded"):
        check(read_problem(body, content_type))


NAMES = st.sampled_from(
    [
        "error",
        "errors",
        "message",
        "detail",
        "title",
        "type",
        "status",
        "code",
        "traceId",
        "request_id",
        "instance",
        "fault",
        "details",
        "source",
        "loc",
        "field",
        "__type",
        "x",
    ]
)
DOCUMENTS: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["401", "a_code", "two words", "\x1b[0m", "\u202e"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(DOCUMENTS)
def test_any_document_gives_a_safe_problem(document: Any) -> None:
    """Whatever stands under whichever name: nothing raises, and every text is one printable line in its cap."""
    check(read_problem(json.dumps(document).encode("utf-8", "surrogatepass"), JSON))


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    st.binary(max_size=200) | st.text('{}[]",:\\<>/titleh1&#x;=% \n', max_size=100).map(str.encode),
    st.none()
    | st.text(max_size=30)
    | st.sampled_from(["utf-7", "utf-16", "idna", "zlib", "cp037", "utf-32-be", "cp9999"]).map(
        "text/plain; charset={}".format
    ),
)
def test_any_bytes_give_a_safe_problem(body: bytes, content_type: str | None) -> None:
    """The same for bytes that are no document, under any content type."""
    check(read_problem(body, content_type))


def encoded(sample: Sample) -> bytes:
    return sample.body if isinstance(sample.body, bytes) else sample.body.encode()


def check(problem: Problem) -> None:
    caps = {
        "type": 500,
        "title": 500,
        "detail": 500,
        "instance": 500,
        "code": 128,
        "message": 500,
        "trace_id": 128,
        "text": 2000,
        "summary": 240,
    }
    for name, cap in caps.items():
        text = getattr(problem, name)
        assert text is None or (text.isprintable() and len(text) <= cap), name
        assert text != "" or name in ("text", "summary")
    assert problem.status is None or 100 <= problem.status <= 599
    assert len(problem.errors) <= 20
    assert all(line.isprintable() and 0 < len(line) <= 500 for line in problem.errors)
    check_value(problem.extensions, 0)


def check_value(value: Any, depth: int) -> None:
    assert depth <= 5
    if isinstance(value, str):
        assert value.isprintable()
        assert len(value) <= 500
    elif isinstance(value, float):
        assert value - value == 0.0
    elif isinstance(value, list | dict):
        members: list[Any] = [*value, *value.values()] if isinstance(value, dict) else [*value]
        assert len(members) <= 128
        for each in members:
            check_value(each, depth + 1)
