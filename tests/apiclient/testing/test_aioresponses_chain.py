"""What aioresponses does here that the original does not: the chain runs, and aiohttp's own rules hold."""

from typing import Any

import aiohttp
import pytest
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, web
from aiohttp.test_utils import TestServer
from yarl import URL

from apiclient.testing import aioresponses

from .conftest import BareRetry, OpenSession

API = "http://api.test/items"
KEY = ("GET", URL(API))


async def test_the_middlewares_of_the_session_see_each_attempt(open_session: OpenSession) -> None:
    """A retry of the session's runs: three attempts, each recorded with its own headers."""
    retry = BareRetry()
    with aioresponses() as mock:
        mock.get(API, status=503, repeat=2)
        mock.get(API, payload={"ok": True})
        response = await open_session(retry).get(API, headers={"X": "y"})
        assert await response.json() == {"ok": True}
        assert retry.seen == [503, 503, 200]
        assert [attempt.headers["X-Attempt"] for attempt in mock.attempts] == ["1", "2", "3"]
        assert [attempt.outcome for attempt in mock.attempts] == ["503", "503", "200"]
        assert [call.kwargs["headers"] for call in mock.requests[KEY]] == [{"X": "y"}] * 3


async def test_the_middlewares_of_the_call_replace_the_sessions(open_session: OpenSession) -> None:
    """middlewares= of a call is honoured, the empty one too, and is no part of what is recorded."""
    of_session, of_call = BareRetry(), BareRetry()
    session = open_session(of_session)
    with aioresponses() as mock:
        mock.get(API, repeat=True)
        await session.get(API, middlewares=(of_call,))
        await session.get(API, middlewares=())
        assert (of_session.seen, of_call.seen) == ([], [200])
        assert "X-Attempt" not in mock.attempts[1].headers
        mock.assert_called_with(API)


async def test_a_middleware_may_answer_itself(open_session: OpenSession) -> None:
    """An attempt that a middleware never makes is not recorded, nor is a match used up."""

    async def refusing(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        raise KeyError("not today")

    with aioresponses() as mock:
        mock.get(API)
        with pytest.raises(KeyError):
            await open_session(refusing).get(API)
        mock.assert_not_called()
        assert mock.attempts == []


async def test_a_middleware_may_change_the_request(open_session: OpenSession) -> None:
    """The table is asked for what the last middleware left: URL, headers and body."""

    async def rewriting(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        request.url = request.url.update_query(key="k")
        await request.update_body(b"changed")
        return await handler(request)

    with aioresponses() as mock:
        mock.post(f"{API}?key=k", status=201)
        assert (await open_session(rewriting).post(API, data=b"given")).status == 201
        assert mock.attempts[0].body == b"changed"
        assert list(mock.requests) == [("POST", URL(f"{API}?key=k"))]


async def test_callbacks_see_the_headers_of_the_attempt(open_session: OpenSession) -> None:
    """Where middlewares run, a callback gets the headers that they have set."""
    seen: list[str] = []

    def note(url: URL, **kwargs: Any) -> None:
        seen.append(kwargs["headers"]["X-Attempt"])

    with aioresponses() as mock:
        mock.get(API, status=500, callback=note)
        mock.get(API, callback=note)
        await open_session(BareRetry()).get(API)
    assert seen == ["1", "2"]


@pytest.mark.parametrize("error", [aiohttp.ClientOSError(104, "reset"), aiohttp.ServerDisconnectedError()], ids=repr)
async def test_a_mocked_fault_happens_once(open_session: OpenSession, error: Exception) -> None:
    """Aiohttp's own second run of the chain is held off: one mocked fault is one fault, for streams' sake and suites'."""
    retry = BareRetry()
    with aioresponses() as mock:
        mock.get(API, exception=error)
        mock.get(API, status=201)
        with pytest.raises(type(error)) as caught:
            await open_session(retry).get(API)
        assert caught.value is error
        assert len(mock.attempts) == 1


async def test_redirects_follow_aiohttp(open_session: OpenSession) -> None:
    """A hop is an attempt; requests keeps to the URL asked for; 307 keeps method and body, 303 does not."""
    with aioresponses() as mock:
        mock.post(API, status=307, headers={"Location": "../moved#part"})
        mock.post("http://api.test/moved#part", status=303, headers={"Location": "http://other.test"})
        mock.get("http://other.test", body="there")
        response = await open_session(BareRetry()).post(API, data=b"body")
        assert await response.text() == "there"
        assert [str(each.url) for each in response.history] == [API, "http://api.test/moved"]
        assert [(each.method, each.body) for each in mock.attempts] == [
            ("POST", b"body"),
            ("POST", b"body"),
            ("GET", b""),
        ]
        mock.assert_called_once()


async def test_a_redirect_to_the_same_url_is_one_request(open_session: OpenSession) -> None:
    """A redirect that sets a cookie and comes back counts as one call, as with the original."""
    with aioresponses() as mock:
        mock.get(API, status=302, headers={"Location": API, "Set-Cookie": "seen=1"})
        mock.get(API)
        await open_session().get(API)
        mock.assert_called_once()
        assert mock.attempts[1].headers["Cookie"] == "seen=1"


async def test_redirects_that_are_not_followed(open_session: OpenSession) -> None:
    """allow_redirects=False, and a redirect without Location, end the call with that response."""
    session = open_session()
    with aioresponses() as mock:
        mock.get(API, status=302, headers={"Location": "/x"})
        mock.get(API, status=307)
        assert (await session.get(API, allow_redirects=False)).status == 302
        assert (await session.get(API)).status == 307


async def test_a_redirect_without_a_match_names_its_target(open_session: OpenSession) -> None:
    """The error is about the URL that nothing answers."""
    with aioresponses() as mock:
        mock.get(API, status=307, headers={"Location": "http://other.test/x"})
        with pytest.raises(aiohttp.ClientConnectionError, match=r"refused: GET http://other\.test/x$"):
            await open_session().get(API)


async def test_endless_redirects_end(open_session: OpenSession) -> None:
    """max_redirects holds."""
    with aioresponses() as mock:
        mock.get(API, status=302, headers={"Location": API}, repeat=True)
        with pytest.raises(aiohttp.TooManyRedirects):
            await open_session().get(API, max_redirects=3)
        assert len(mock.attempts) == 3


async def test_cookies_reach_the_jar(open_session: OpenSession) -> None:
    """Cookies of a mocked response are in response.cookies and go out with the next request."""
    session = open_session()
    with aioresponses() as mock:
        mock.get(API, headers={"Set-Cookie": "a=1; Path=/"}, repeat=True)
        response = await session.get(API)
        assert response.cookies["a"].value == "1"
        await session.get(API)
        assert mock.attempts[1].headers["Cookie"] == "a=1"


async def test_the_real_request_info(open_session: OpenSession) -> None:
    """The response knows the request that was made."""
    with aioresponses() as mock:
        mock.get("http://api.test/items?a=1")
        response = await open_session(headers={"X": "y"}).get(API, params={"a": 1})
        assert response.request_info.headers["X"] == "y"
        assert response.request_info.headers["Host"] == "api.test"
        assert str(response.url) == "http://api.test/items?a=1"


async def test_credentials_in_the_url(open_session: OpenSession) -> None:
    """A URL with user and password is looked up as it was given, and sent as an Authorization header."""
    with aioresponses() as mock:
        mock.get("http://user:pass@api.test/items", status=201)
        assert (await open_session().get("http://user:pass@api.test/items")).status == 201
        assert mock.attempts[0].headers["Authorization"] == "Basic dXNlcjpwYXNz"


async def test_a_url_without_host_is_refused(open_session: OpenSession) -> None:
    """Arguments are checked as without a mock: a relative URL needs a base URL."""
    with aioresponses() as mock:
        mock.get("/items")
        with pytest.raises(aiohttp.InvalidURL):
            await open_session().get("/items")


class TestPassthrough:
    """Real requests beside mocked ones."""

    @staticmethod
    def app() -> web.Application:
        async def handle(request: web.Request) -> web.Response:
            if request.path == "/away":
                raise web.HTTPFound(API)
            return web.Response(text=f"real {request.query_string} {await request.text()}")

        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", handle)
        return app

    async def test_by_prefix(self, open_session: OpenSession) -> None:
        """A URL that begins with a prefix is requested through the chain, and not recorded."""
        retry = BareRetry()
        async with TestServer(self.app()) as server:
            with aioresponses(passthrough=[str(server.make_url("/"))]) as mock:
                response = await open_session(retry).get(server.make_url("/x"), params={"a": "1"})
                assert await response.text() == "real a=1 "
                assert retry.seen == [200]
                mock.assert_not_called()
                assert mock.attempts == []

    async def test_unmatched(self, open_session: OpenSession) -> None:
        """What has no match is requested with its body whole, and recorded as a request, not as an attempt."""
        session = open_session()
        async with TestServer(self.app()) as server:
            with aioresponses(passthrough_unmatched=True) as mock:
                mock.get(API, body="mocked")
                assert await (await session.get(API)).text() == "mocked"
                response = await session.post(server.make_url("/x"), data=b"body")
                assert await response.text() == "real  body"
                mock.assert_any_call(str(server.make_url("/x")), method="POST")
                assert len(mock.attempts) == 1

    async def test_a_real_redirect_to_a_mock(self, open_session: OpenSession) -> None:
        """Passthrough is decided for each hop."""
        async with TestServer(self.app()) as server:
            with aioresponses(passthrough=[str(server.make_url("/"))]) as mock:
                mock.get(API, body="mocked")
                assert await (await open_session().get(server.make_url("/away"))).text() == "mocked"


async def test_the_network_is_back_afterwards(open_session: OpenSession) -> None:
    """After the block nothing is patched any more."""
    before = vars(aiohttp.ClientSession)["_request"]
    with aioresponses():
        assert vars(aiohttp.ClientSession)["_request"] is not before
    assert vars(aiohttp.ClientSession)["_request"] is before
