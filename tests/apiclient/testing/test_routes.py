"""Which requests a route is for, and what its options refuse."""

import re

import pytest

from apiclient.testing import Answer, MockTransport, UnmatchedRequest

from .conftest import OpenSession


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("/employees/{id}", "http://a.test/employees/7"),
        ("/employees/{id}", "https://b.test:8443/employees/a%2Fb?x=1"),
        ("/a b/é/{x}", "http://a.test/a%20b/%C3%A9/1"),
        ("/a%20b/", "http://a.test/a b/"),
        ("/files/{name}.json", "http://a.test/files/x.json"),
        ("http://a.test/x", "http://a.test:80/x"),
        ("http://a.test", "http://a.test/"),
        ("/x?page=2", "http://a.test/x?size=1&page=2"),
        ("/x?page=2", "http://a.test/x?page=1&page=2"),
        ("/a.b", "http://a.test/a.b"),
        (re.compile(r"/x/\d+"), "http://a.test/x/12"),
    ],
)
async def test_a_route_is_for(open_session: OpenSession, path: str | re.Pattern[str], url: str) -> None:
    """The whole path counts; an origin and parameters only where the route names them."""
    transport = MockTransport()
    transport.get(path).respond(status=202)
    assert (await open_session(transport).get(url)).status == 202


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("/employees/{id}", "http://a.test/employees/"),
        ("/employees/{id}", "http://a.test/employees/7/photo"),
        ("/employees/{id}", "http://a.test/v1/employees/7"),
        ("http://a.test/x", "https://a.test/x"),
        ("http://a.test/x", "http://a.test:8080/x"),
        ("/x?page=2", "http://a.test/x?page=20"),
        ("/x?page=2", "http://a.test/x"),
        ("/a.b", "http://a.test/acb"),
        ("/x", "http://a.test/X"),
        (re.compile(r"/x/\d+"), "http://a.test/x/12/y"),
    ],
)
async def test_a_route_is_not_for(open_session: OpenSession, path: str | re.Pattern[str], url: str) -> None:
    """A placeholder is one segment, not empty; nothing is matched in part."""
    transport = MockTransport()
    transport.get(path).respond()
    with pytest.raises(UnmatchedRequest):
        await open_session(transport).get(url)


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "head", "options"])
async def test_a_method_for_each_method(open_session: OpenSession, method: str) -> None:
    """Each shortcut makes a route for its own method and no other."""
    transport = MockTransport()
    route = getattr(transport, method)("/x").respond()
    session = open_session(transport)
    await session.request(method, "http://a.test/x")
    assert route.call_count == 1
    with pytest.raises(UnmatchedRequest):
        await session.request("get" if method != "get" else "post", "http://a.test/x")


async def test_base_url_stands_before_each_path(open_session: OpenSession) -> None:
    """With a base URL the routes read as the client's own paths, and its origin is the only one."""
    transport = MockTransport(base_url="https://api.example.com/v1/")
    transport.get("/employees/{id}").respond()
    session = open_session(transport)
    await session.get("https://api.example.com/v1/employees/7")
    for wrong in ("https://api.example.com/employees/7", "https://other.example.com/v1/employees/7"):
        with pytest.raises(UnmatchedRequest):
            await session.get(wrong)
    transport.assert_called("GET", "/employees/{id}", times=1)


async def test_routes_are_tried_in_order_and_any_last(open_session: OpenSession) -> None:
    """The first route that is for a request answers; any() is for the rest, whenever it was made."""
    transport = MockTransport()
    transport.any().respond(status=299)
    transport.get("/x/me").respond(status=201)
    transport.get("/x/{id}").respond(status=202)
    transport.get("/x/never").respond(status=203)
    session = open_session(transport)
    seen = [(await session.get(f"http://a.test/x/{name}")).status for name in ("me", "7", "never", "a/b")]
    assert seen == [201, 202, 202, 299]


def test_asking_again_gives_the_same_route() -> None:
    """A route is named by method and path, so that a test can look at it without keeping it."""
    transport = MockTransport()
    assert transport.get("/x") is transport.route("get", "/x")
    assert transport.get("/x") is not transport.post("/x")
    assert transport.any() is transport.any()


async def test_placeholders_are_unquoted(open_session: OpenSession) -> None:
    """What a placeholder stood for is given as the caller had it before quoting."""
    transport = MockTransport()
    transport.get("/{kind}/{id}").respond()
    await open_session(transport).get("http://a.test/a%20b/c%2Fd")
    assert transport.requests[0].path_params == {"kind": "a b", "id": "c/d"}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("employees", "path must begin with '/' or an origin, got 'employees'"),
        ("/{}", "placeholders with names of their own"),
        ("/{a}/{a}", "placeholders with names of their own"),
        ("/{a", "brace without its partner"),
    ],
)
def test_a_bad_path_is_refused(path: str, message: str) -> None:
    """A path that can match nothing sensible is refused when the route is made."""
    with pytest.raises(ValueError, match=message):
        MockTransport().get(path)


def test_bad_options_are_refused() -> None:
    """Options are checked where they are given, and the message names option and value."""
    route = MockTransport().get("/x")
    with pytest.raises(ValueError, match=r"truncate\(\) changes the answer before it, and GET /x has none yet"):
        route.truncate(after=1)
    route.respond(body=b"123")
    for act, message in (
        (lambda: MockTransport(base_url="/v1"), "base_url must be absolute, got '/v1'"),
        (lambda: Answer(status=100), "status must be from 200 to 999, got 100"),
        (lambda: Answer(status=101), "status must be from 200 to 999, got 101"),
        (lambda: route.truncate(after=-1), "after must not be negative, got -1"),
        (lambda: route.truncate(after=3), "after must be less than the 3 bytes of the body, got 3"),
        (lambda: route.delay(-1), "seconds must not be negative, got -1"),
        (lambda: route.delay(float("nan")), "seconds must not be negative, got nan"),
        (lambda: route.drip(size=0, every=1), "size must be at least 1, got 0"),
        (lambda: route.drip(size=1, every=-1), "every must not be negative, got -1"),
        (lambda: route.times(0), "count must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            act()
    with pytest.raises(TypeError, match="only one of json, text and body"):
        Answer(json=None, text="")
    with pytest.raises(TypeError, match="either an answer or options"):
        route.respond(Answer(), status=200)
    with pytest.raises(TypeError, match="answer must be an Answer or callable, got 200"):
        route.respond(200)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="error must be an exception, got 'no'"):
        route.raises("no")  # type: ignore[arg-type]


def test_reprs() -> None:
    """A repr says what there is, and holds no header or body."""
    transport = MockTransport()
    transport.get("/x").respond(text="secret").respond(status=500)
    transport.any()
    assert repr(transport) == "MockTransport(2 routes, 0 requests so far)"
    assert repr(transport.get("/x")) == "Route(GET /x, 2 answers, 0 requests so far)"
    assert repr(Answer(status=201, json=None)) == "Answer(201, 4 bytes)"
