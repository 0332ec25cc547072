import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from apiclient._target import Target, Targets, base_of, checked_headers
from apiclient.middleware._endpoint import Templates
from apiclient.middleware.errors import InvalidRequest

BASE = URL("https://api.example.com/v1")
NO_TEMPLATES = Templates()


def target(template: str, base: URL = BASE) -> Target:
    return Target(base, "GET", template, NO_TEMPLATES)


def test_a_template_is_expanded_below_the_base_url() -> None:
    """The base URL's path is a prefix of every call."""
    made = target("/employees/{id}")
    assert str(made.url({"id": 7})) == "https://api.example.com/v1/employees/7"
    assert made.endpoint == "GET /employees/{id}"
    assert made.key == ("https://api.example.com", "GET /employees/{id}")
    assert repr(made) == "Target('GET /employees/{id}')"


@pytest.mark.parametrize(
    "base",
    ["https://api.example.com", "https://api.example.com/", "https://api.example.com/v1/", "https://api.example.com/X"],
)
@pytest.mark.parametrize("path", ["employees", "/employees"])
def test_slashes_at_the_seam_do_not_matter(base: str, path: str) -> None:
    """With or without a slash, it is the same resource."""
    assert str(target(path, URL(base)).url(None)) == base.rstrip("/") + "/employees"


def test_a_concrete_path_is_folded_to_its_endpoint() -> None:
    """Paths given without a template share one endpoint."""
    assert target("/employees/7").endpoint == "GET /employees/{}"


def test_a_literal_query_is_kept() -> None:
    """What a server gave as the next page can be asked for as it is."""
    assert str(target("/employees?page=2&q=a%20b").url(None)) == "https://api.example.com/v1/employees?page=2&q=a%20b"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "needs the parameter 'id'"),
        (None, "needs the parameter 'id'"),
        ({"id": 1, "x": 2}, "no parameter 'x'; it has: id[.]"),
        ({"id": ""}, "'id' is empty"),
        ({"id": None}, "'id' is empty"),
        ({"id": "."}, "dot segment"),
        ({"id": ".."}, "dot segment"),
        ({"id": "%2e%2E"}, "dot segment"),
        ({"id": "a\r\nb"}, "control character"),
        ({"id": "a\0b"}, "control character"),
        ({"id": "a\x7fb"}, "control character"),
        ({"id": "\ud800"}, "not valid text"),
    ],
)
def test_a_bad_path_parameter_is_refused(parameters: dict[str, object] | None, message: str) -> None:
    """A parameter that is missing, unknown, empty or would change the path never becomes a URL."""
    with pytest.raises(InvalidRequest, match=message):
        target("/employees/{id}").url(parameters)


def test_a_query_belongs_to_no_endpoint() -> None:
    """With a concrete path it is kept and not counted; with a template it is given apart."""
    assert target("/employees/7?page=2").endpoint == "GET /employees/{}"
    with pytest.raises(InvalidRequest, match="has a query; give it as params="):
        target("/employees/{id}?page=2")


def test_the_way_to_another_origin_is_told() -> None:
    """A path is no URL; another client is."""
    with pytest.raises(InvalidRequest, match="names an origin of its own") as caught:
        target("https://evil.example/x")
    assert caught.value.hint == "Give a path, or make another ApiClient for the other origin"


def test_the_parameters_that_there_are_are_named() -> None:
    """A slip in a name is seen from the message."""
    with pytest.raises(InvalidRequest, match=r"no parameter 'x'; it has: none[.]"):
        target("/employees").url({"x": 1})
    with pytest.raises(InvalidRequest, match=r"no parameter 'x'; it has: id, day[.]"):
        target("/employees/{id}/{day}").url({"x": 1})


@pytest.mark.parametrize(("value", "segment"), [("a b", "a%20b"), ("a/X", "a%2FX"), ("a%2Fb", "a%252Fb"), (7, "7")])
def test_a_path_parameter_is_quoted(value: object, segment: str) -> None:
    """Blanks, slashes and percent signs are the value's own."""
    assert str(target("/employees/{id}").url({"id": value})) == f"https://api.example.com/v1/employees/{segment}"


@pytest.mark.parametrize(
    "path",
    [
        "http://evil.example/x", "https:evil", "//evil.example/x", "\\\\evil.example\\x", "/\\evil.example", "\t//evil.example",
        " //evil.example", " /x", "/a/../../admin", "/a/%2e%2e/b", "/.", "javascript:alert(1)", "/x#fragment", "/x\r\nHost: evil",
    ],
)  # fmt: skip
def test_no_path_leaves_the_base_url(path: str) -> None:
    """The base URL is a boundary: a path cannot name another origin or climb out."""
    with pytest.raises(InvalidRequest, match="path"):
        target(path).url(None)


@pytest.mark.parametrize("path", ["@evil.example/x", "/@evil.example", ":80/x", ".evil.example/"])
def test_odd_paths_stay_on_the_origin(path: str) -> None:
    """What could be glued to the host is a path segment."""
    assert target(path, URL("https://api.example.com")).url(None).origin() == URL("https://api.example.com")


@given(st.text(min_size=1))
@settings(max_examples=200, deadline=None)
def test_a_path_parameter_stays_one_segment(text: str) -> None:
    """Whatever a parameter holds, the server's decoded segment is it, or the call is refused."""
    try:
        url = target("/employees/{id}/notes").url({"id": text})
    except InvalidRequest:
        return
    assert url.origin() == BASE.origin()
    assert url.raw_path.count("/") == 4
    assert URL(str(url)).parts == ("/", "v1", "employees", text, "notes")


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("api.example.com", "absolute http or https URL, got 'api.example.com'$"),
        ("/v1", "absolute"),
        ("ftp://example.com", "http or https"),
        ("https://user:secret@example.com", "user or password"),
        ("https://:secret@example.com", "user or password"),
        ("https://user@example.com", r"^base_url must not .* credentials=Basic\("),
        ("https://example.com/?a=b", r"neither query nor fragment, got 'https://example.com/\?a=b'$"),
        ("https://example.com/#x", "fragment"),
        (7, "URL"),
    ],
)
def test_a_bad_base_url_is_refused(base: str, message: str) -> None:
    """The base URL is checked once, and the message does not repeat a password."""
    with pytest.raises(ValueError, match=message) as caught:
        base_of(base)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("base", "plain"),
    [
        ("https://example.com:443/v1", "https://example.com/v1"),
        ("http://example.com:80", "http://example.com"),
        ("https://example.com:80", "https://example.com:80"),
        ("https://example.com/v1", "https://example.com/v1"),
    ],
)
def test_the_port_that_the_scheme_means_is_no_other_origin(base: str, plain: str) -> None:
    """Written out or not it is one origin, with one state and one credential."""
    assert base_of(base).origin() == URL(plain).origin()
    assert base_of(base).explicit_port == URL(plain).explicit_port


@pytest.mark.parametrize("method", ["", "GE T", "GET\r\n", "G\0", "G\u00c9T", "GET/", "A" * 201])
def test_a_method_is_a_token(method: str) -> None:
    """RFC 9110 section 9.1; what it was is not repeated."""
    with pytest.raises(InvalidRequest, match=r"^the method must be a token such as GET \(value not shown\)") as caught:
        Target(BASE, method, "/x", NO_TEMPLATES)
    assert not method or method not in str(caught.value)


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=20)))
@settings(max_examples=200, deadline=None)
def test_headers_that_pass_are_fit_for_the_wire(headers: dict[str, str]) -> None:
    """A name is a token and a value has no control character, or the call is refused."""
    try:
        passed = checked_headers(headers)
    except InvalidRequest:
        return
    for name, value in passed.items():
        assert name.isascii()
        assert not any(
            (ord(character) < 0x20 and character != "\t") or character == "\x7f" for character in name + value
        )


def test_a_header_value_is_text() -> None:
    """A number is refused with the header's name, before aiohttp fails on it."""
    with pytest.raises(InvalidRequest, match="'X-A' must be text"):
        checked_headers({"X-A": 7})


def test_the_targets_of_a_client_are_made_once_and_the_oldest_forgotten() -> None:
    """Each is what it would be alone; paths with ids in them fill no memory."""
    targets = Targets(BASE, Templates(["/things/{name}"]))
    first = targets.get("PUT", "/things/7")
    assert (str(first.url(None)), first.endpoint) == (f"{BASE}/things/7", "PUT /things/{name}")
    assert targets.endpoint("GET", "/things/x") == "GET /things/{name}"
    assert targets.get("PUT", "/things/7") is first
    for number in range(2000):
        targets.get("GET", f"/things/{number}")
    assert targets.get("PUT", "/things/7") is not first


def test_a_parameter_may_stand_twice() -> None:
    """Given once, it goes to both places."""
    assert str(target("/a/{id}/b/{id}/c").url({"id": 7})) == f"{BASE}/a/7/b/7/c"
