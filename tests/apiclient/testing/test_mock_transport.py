"""MockTransport in a chain: what is sent, recorded and answered."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
from yarl import URL

from apiclient.testing import Answer, MockTransport, UnmatchedRequest

from .conftest import BareRetry, OpenSession

URL_7 = "https://api.example.com/employees/7"


async def test_json_arrives_as_from_a_server(open_session: OpenSession) -> None:
    """A route's answer is a whole ClientResponse: status, headers, body, request info, released connection."""
    transport = MockTransport()
    transport.get("/employees/{id}").respond(status=201, json={"id": 7}, headers={"X-Trace": "t"})
    async with open_session(transport).get(URL_7, params={"full": "1"}) as response:
        assert isinstance(response, ClientResponse)
        assert (response.status, response.reason, response.ok) == (201, "Created", True)
        assert response.headers["X-Trace"] == "t"
        assert response.content_type == "application/json"
        assert response.content_length == 9
        assert (b"X-Trace", b"t") in response.raw_headers
        assert response.url == URL(f"{URL_7}?full=1")
        assert response.request_info.method == "GET"
        assert response.version == aiohttp.HttpVersion11
        assert await response.json() == {"id": 7}
    assert response.closed


async def test_each_attempt_is_recorded_with_its_own_headers(open_session: OpenSession) -> None:
    """Sessions' middlewares run, and every attempt they make is seen as it was at that moment."""
    transport, retry = MockTransport(), BareRetry()
    transport.get("/employees/{id}").respond(status=503).times(2).respond(json={"id": 7})
    response = await open_session(retry, transport).get(URL_7)
    assert response.status == 200
    assert retry.seen == [503, 503, 200]
    assert [received.headers["X-Attempt"] for received in transport.requests] == ["1", "2", "3"]
    assert [received.outcome for received in transport.requests] == ["503", "503", "200"]
    assert transport.requests[0].route == "GET /employees/{id}"
    assert transport.requests[0].path_params == {"id": "7"}


async def test_middlewares_of_the_call_replace_those_of_the_session(open_session: OpenSession) -> None:
    """The transport is an ordinary middleware: a call's own list decides."""
    elsewhere, here = MockTransport(), MockTransport()
    here.any().respond(text="here")
    response = await open_session(elsewhere).get(URL_7, middlewares=(here,))
    assert await response.text() == "here"
    elsewhere.assert_not_called()


async def test_the_last_answer_of_a_sequence_repeats(open_session: OpenSession) -> None:
    """Answers are given in order, and the last one for ever."""
    transport = MockTransport()
    transport.get("/x").respond(status=401).respond(status=202)
    transport.get("/x").respond(status=200)
    session = open_session(transport)
    assert [(await session.get("http://a.test/x")).status for _ in range(5)] == [401, 202, 200, 200, 200]


async def test_reset_begins_again(open_session: OpenSession) -> None:
    """After reset() nothing was received and each sequence starts anew."""
    transport = MockTransport()
    transport.get("/x").respond(status=503).respond()
    session = open_session(transport)
    await session.get("http://a.test/x")
    transport.reset()
    transport.assert_not_called()
    assert (await session.get("http://a.test/x")).status == 503


async def test_a_callable_decides_by_the_request(open_session: OpenSession) -> None:
    """A callable is given the ClientRequest and may return, await, raise, or return an exception."""
    transport = MockTransport()

    def plain(request: ClientRequest) -> Answer:
        return Answer(text=request.headers["X-Who"])

    async def later(request: ClientRequest) -> Answer:
        await asyncio.sleep(0)
        return Answer(status=418, text=request.method)

    transport.post("/x").respond(plain).respond(later).respond(lambda _: KeyError("no such thing"))
    session = open_session(transport)
    assert await (await session.post("http://a.test/x", headers={"X-Who": "me"})).text() == "me"
    assert (await session.post("http://a.test/x")).status == 418
    with pytest.raises(KeyError, match="no such thing"):
        await session.post("http://a.test/x")


@pytest.mark.parametrize("error", [aiohttp.ServerTimeoutError, aiohttp.ServerTimeoutError("late")])
async def test_raises(open_session: OpenSession, error: Exception | type[Exception]) -> None:
    """An exception is raised out of the handler, and noted."""
    transport = MockTransport()
    transport.get("/x").raises(error)
    with pytest.raises(aiohttp.ServerTimeoutError):
        await open_session(transport).get("http://a.test/x")
    assert transport.requests[0].outcome == "ServerTimeoutError"


async def test_aiohttp_runs_the_chain_twice_here_as_on_the_wire(open_session: OpenSession) -> None:
    """FACTS 1.1 is visible: an idempotent call that ends in ServerDisconnectedError is sent twice by aiohttp."""
    transport = MockTransport()
    transport.any().raises(aiohttp.ServerDisconnectedError())
    session = open_session(transport)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await session.get("http://a.test/x")
    transport.assert_call_count(2)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await session.post("http://a.test/x")
    transport.assert_call_count(3)


@pytest.mark.looptime
async def test_delay_is_time_of_the_loop(open_session: OpenSession) -> None:
    """A delay passes on the loop's clock, and the session's time limit ends it."""
    transport = MockTransport()
    transport.get("/x").respond(text="late").delay(3600.0)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await open_session(transport, timeout=aiohttp.ClientTimeout(total=None)).get("http://a.test/x")
    assert loop.time() - began == pytest.approx(3600.0)
    with pytest.raises(TimeoutError):
        await open_session(transport, timeout=aiohttp.ClientTimeout(total=10)).get("http://a.test/x")
    assert transport.requests[-1].outcome == "CancelledError"


async def chunks() -> AsyncIterator[bytes]:
    yield b"one"
    yield b"two"


@pytest.mark.parametrize(
    ("options", "body", "content_type"),
    [
        ({"json": {"a": 1}}, b'{"a": 1}', "application/json"),
        ({"data": b"bytes"}, b"bytes", "application/octet-stream"),
        ({"data": "text"}, b"text", "text/plain; charset=utf-8"),
        ({"data": {"a": "1"}}, b"a=1", "application/x-www-form-urlencoded"),
        ({"data": io.BytesIO(b"file")}, b"file", "application/octet-stream"),
        ({"data": chunks()}, b"onetwo", "application/octet-stream"),
        ({"data": b"squeezed", "compress": "deflate"}, b"squeezed", "application/octet-stream"),
        ({}, b"", "application/octet-stream"),
    ],
    ids=["json", "bytes", "text", "form", "file", "stream", "compressed", "empty"],
)
async def test_bodies_are_recorded_as_sent(
    open_session: OpenSession, options: dict[str, Any], body: bytes, content_type: str
) -> None:
    """What is recorded is what a server would have read, with the Content-Type that aiohttp sends."""
    transport = MockTransport()
    transport.post("/x").respond()
    await open_session(transport).post("http://a.test/x", **options)
    assert transport.requests[0].body == body
    assert transport.requests[0].headers["Content-Type"] == content_type


async def test_a_stream_is_consumed_as_by_sending_it(open_session: OpenSession) -> None:
    """Law 2 stays testable: a body that can be sent once is gone after one attempt here too."""
    transport = MockTransport()
    transport.post("/x").respond(status=503).respond()
    consumed: list[bool] = []

    async def watching(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        response = await handler(request)
        body = request.body
        assert not isinstance(body, bytes)
        consumed.append(body.consumed)
        return response

    await open_session(BareRetry(2), watching, transport).post("http://a.test/x", data=chunks())
    assert consumed == [True, True]
    assert [received.body for received in transport.requests] == [b"onetwo", b""]


async def test_a_body_that_cannot_be_produced_fails_as_in_aiohttp(open_session: OpenSession) -> None:
    """An error of the body's own is a ClientConnectionError, an OSError a ClientOSError; the attempt is recorded."""

    async def failing(error: Exception) -> AsyncIterator[bytes]:
        yield b"begin"
        raise error

    transport = MockTransport()
    transport.post("/x").respond()
    session = open_session(transport)
    with pytest.raises(aiohttp.ClientConnectionError, match="oops"):
        await session.post("http://a.test/x", data=failing(ValueError("oops")))
    with pytest.raises(aiohttp.ClientOSError, match="Can not write request body"):
        await session.post("http://a.test/x", data=failing(OSError(5, "disk")))
    with pytest.raises(TimeoutError):
        await session.post("http://a.test/x", data=failing(TimeoutError()))
    outcomes = [received.outcome for received in transport.requests]
    assert outcomes == ["ClientConnectionError", "ClientOSError", "TimeoutError"]


async def test_an_unmatched_request_is_no_client_error(open_session: OpenSession) -> None:
    """A request without a route fails the test at once, naming itself and the routes; no policy can swallow it."""
    transport, retry = MockTransport(base_url="https://api.example.com/v1"), BareRetry()
    transport.get("/employees/{id}").respond()
    transport.post(URL_7)
    session = open_session(retry, transport)
    with pytest.raises(UnmatchedRequest) as caught:
        await session.get("https://api.example.com/employees")
    assert not isinstance(caught.value, aiohttp.ClientError | OSError)
    assert isinstance(caught.value, AssertionError)
    assert str(caught.value) == (
        "No route is for GET https://api.example.com/employees.\n"
        "Routes:\n  GET /employees/{id}\n  POST https://api.example.com/employees/7"
    )
    with pytest.raises(UnmatchedRequest, match=r"POST .*/7 has no answer: give it one with \.respond"):
        await session.post(URL_7)
    assert [received.outcome for received in transport.requests] == ["unmatched", "no answer"]


async def test_redirects_are_followed_through_the_chain(open_session: OpenSession) -> None:
    """Aiohttp follows a mocked redirect: each hop is an attempt, history is filled."""
    transport = MockTransport()
    transport.get("/old").respond(status=302, headers={"Location": "/new"})
    transport.get("/new").respond(text="moved")
    response = await open_session(transport).get("http://a.test/old")
    assert await response.text() == "moved"
    assert [each.status for each in response.history] == [302]
    assert [received.url.path for received in transport.requests] == ["/old", "/new"]


async def test_cookies_reach_the_jar(open_session: OpenSession) -> None:
    """Set-Cookie of a mocked answer is sent back with the next request, each of two."""
    transport = MockTransport()
    transport.get("/x").respond(headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
    session = open_session(transport)
    response = await session.get("http://a.test/x")
    assert {name: morsel.value for name, morsel in response.cookies.items()} == {"a": "1", "b": "2"}
    await session.get("http://a.test/x")
    assert transport.requests[1].headers["Cookie"] in {"a=1; b=2", "b=2; a=1"}


async def test_raise_for_status_works(open_session: OpenSession) -> None:
    """raise_for_status of the session sees a mocked 404 as any other."""
    transport = MockTransport()
    transport.get("/x").respond(status=404)
    with pytest.raises(aiohttp.ClientResponseError, match="Not Found"):
        await open_session(transport, raise_for_status=True).get("http://a.test/x")


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_what_has_no_body_gets_none(open_session: OpenSession, method: str, status: int) -> None:
    """Neither HEAD nor 204 nor 304 has a body, whatever the route says (RFC 9110 6.4.1)."""
    transport = MockTransport()
    transport.route(None, "/x").respond(status=status, text="body")
    response = await open_session(transport).request(method, "http://a.test/x")
    assert await response.read() == b""
    assert ("Content-Length" in response.headers) is (method == "HEAD")


async def test_json_of_a_request_is_at_hand(open_session: OpenSession) -> None:
    """A recorded body is readable as bytes, text and JSON."""
    transport = MockTransport()
    transport.put("/x").respond()
    await open_session(transport).put("http://a.test/x", json={"a": 1})
    received = transport.requests[0]
    assert json.loads(received.text) == received.json() == {"a": 1}
    assert repr(received) == "<Received PUT http://a.test/x -> 200>"
