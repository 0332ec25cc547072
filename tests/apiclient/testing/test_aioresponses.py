"""aioresponses as a drop-in: what suites written for the original rely on."""

import asyncio
import copy
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aioresponses import CallbackResult
from aioresponses import aioresponses as original
from yarl import URL

from apiclient.testing import aioresponses

from .conftest import OpenSession

API = "http://api.test/items?b=2&a=1#top"
KEY = ("GET", URL("http://api.test/items?a=1&b=2#top"))


def test_it_is_a_subclass() -> None:
    """Whatever is typed or checked against the original accepts it."""
    assert issubclass(aioresponses, original)


@pytest.mark.parametrize("method", ["head", "get", "post", "put", "patch", "delete", "options"])
async def test_every_method(open_session: OpenSession, method: str) -> None:
    """Each shortcut answers its own method, and no other."""
    session = open_session()
    with aioresponses() as mock:
        getattr(mock, method)(API, status=202)
        async with session.request(method, API) as response:
            assert isinstance(response, aiohttp.ClientResponse)
            assert response.status == 202
        mock.get(API)
        with pytest.raises(aiohttp.ClientConnectionError, match="Connection refused: TRACE "):
            await session.request("TRACE", API)


async def test_the_answer(open_session: OpenSession) -> None:
    """Payload, headers, content type, reason and raw headers arrive as declared, and nothing else."""
    with aioresponses() as mock:
        mock.get(API, payload={"a": 1}, headers={"X-Y": "z"}, reason="Fine")
        mock.get(API, body="text", content_type="text/html")
        mock.get(API, body=b"\x95\x00", status=404)
        session = open_session()
        response = await session.get(API)
        assert await response.json() == {"a": 1}
        assert response.reason == "Fine"
        assert response.raw_headers == ((b"Content-Type", b"application/json"), (b"X-Y", b"z"))
        response = await session.get(API)
        assert (await response.text(), response.content_type) == ("text", "text/html")
        response = await session.get(API)
        assert (await response.read(), response.reason) == (b"\x95\x00", "Not Found")


async def test_the_order_of_parameters_does_not_matter(open_session: OpenSession) -> None:
    """Parameters in the URL, in params=, and in another order are one URL."""
    with aioresponses() as mock:
        mock.get("http://api.test/items?a=1&b=2")
        await open_session().get("http://api.test/items?b=2", params={"a": 1})
        mock.assert_called_once_with("http://api.test/items?b=2", params={"a": 1})


async def test_relative_to_the_base_url(open_session: OpenSession) -> None:
    """A session with a base URL is mocked by whole URLs."""
    with aioresponses() as mock:
        mock.get("http://api.test/v1/items")
        response = await open_session(base_url="http://api.test/v1/").get("items")
        assert response.status == 200


async def test_patterns(open_session: OpenSession) -> None:
    """A compiled pattern is matched against the whole URL."""
    with aioresponses() as mock:
        mock.get(re.compile(r"^http://api\.test/items\?.*$"), status=201)
        assert (await open_session().get(API)).status == 201


async def test_repeat(open_session: OpenSession) -> None:
    """Once by default, so often, or for ever; in the order of their making."""
    session = open_session()
    with aioresponses() as mock:
        mock.get(API, status=201)
        mock.get(API, status=202, repeat=2)
        mock.get(API, status=203, repeat=True)
        assert [(await session.get(API)).status for _ in range(5)] == [201, 202, 202, 203, 203]
        mock.clear()
        mock.get(API, repeat=1)
        await session.get(API)
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(API)


@pytest.mark.parametrize(
    "error",
    [ValueError, ValueError("no"), BaseException("all"), asyncio.CancelledError, TimeoutError, aiohttp.ClientOSError()],
    ids=repr,
)
async def test_exceptions(open_session: OpenSession, error: Any) -> None:
    """An exception, or a class of one, is raised to the caller once and recorded; the next answer stays in place."""
    session = open_session()
    with aioresponses() as mock:
        mock.get(API, exception=error)
        mock.get(API, status=201)
        with pytest.raises(error if isinstance(error, type) else type(error)):
            await session.get(API)
        assert len(mock.requests[KEY]) == 1
        assert (await session.get(API)).status == 201


async def test_timeout(open_session: OpenSession) -> None:
    """timeout=True is a TimeoutError, not wrapped."""
    with aioresponses() as mock:
        mock.get(API, timeout=True)
        with pytest.raises(TimeoutError, match="Connection timeout test"):
            await open_session().get(API)


async def test_callbacks(open_session: OpenSession) -> None:
    """A callback, plain or coroutine, gets the URL and the caller's arguments, and may answer or leave it."""
    seen: list[Any] = []

    def plain(url: URL, **kwargs: Any) -> CallbackResult:
        seen.append((url, kwargs))
        return CallbackResult(status=418, body=b"\x80")

    async def later(url: URL, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        seen.append((url, kwargs))

    session = open_session()
    with aioresponses() as mock:
        mock.get(API, callback=plain)
        mock.post(API, callback=later, status=201)
        response = await session.get(API)
        assert (response.status, await response.read()) == (418, b"\x80")
        assert (await session.post(API, json={"a": 1}, headers={"X": "y"})).status == 201
    assert seen == [
        (KEY[1], {"allow_redirects": True}),
        (KEY[1], {"allow_redirects": True, "data": None, "json": {"a": 1}, "headers": {"X": "y"}}),
    ]


async def test_a_callback_comes_before_the_exception(open_session: OpenSession) -> None:
    """With both, the callback is called and the exception raised."""
    called: list[URL] = []

    def note(url: URL, **_: Any) -> None:
        called.append(url)

    with aioresponses() as mock:
        mock.get(API, callback=note, exception=ValueError("no"))
        with pytest.raises(ValueError, match="no"):
            await open_session().get(API)
    assert called == [KEY[1]]


async def test_one_match_is_not_taken_twice_at_once(open_session: OpenSession) -> None:
    """While a callback is awaited its match is used up already: the next call gets the next one."""
    go = asyncio.Event()

    async def waiting(url: URL, **_: Any) -> None:
        await go.wait()

    session = open_session()
    with aioresponses() as mock:
        mock.get(API, callback=waiting, status=201)
        mock.get(API, status=202)
        first = asyncio.ensure_future(session.get(API))
        await asyncio.sleep(0)
        assert (await session.get(API)).status == 202
        go.set()
        assert (await first).status == 201


async def test_recorded_as_the_caller_gave_it(open_session: OpenSession) -> None:
    """Requests holds deep copies of the caller's arguments, with the session's headers where it has any."""
    session = open_session(headers={"Authorization": "Bearer x"})
    given = [1]
    with aioresponses() as mock:
        mock.post(API, repeat=True)
        await session.post(API, json=given, headers={"X": "y"})
        given[:] = [2]
        await session.post(API, json=given)
        first, second = mock.requests["POST", KEY[1]]
        assert first.args == ()
        assert first.kwargs == {
            "allow_redirects": True,
            "json": [1],
            "data": None,
            "headers": {"Authorization": "Bearer x", "X": "y"},
        }
        assert second.kwargs["json"] == [2]


async def test_what_cannot_be_copied_is_recorded_as_it_is(open_session: OpenSession) -> None:
    """An argument without deep copy does not fail the request; a stream is recorded as the bytes it gave."""

    async def stream() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    class Stubborn:
        def __deepcopy__(self, memo: object) -> None:
            raise TypeError

    context = Stubborn()
    with pytest.raises(TypeError):
        copy.deepcopy(context)
    with aioresponses() as mock:
        mock.post(API)
        await open_session().post(API, data=stream(), trace_request_ctx=context)
        kwargs = mock.requests["POST", KEY[1]][0].kwargs
        assert kwargs["trace_request_ctx"] is context
        assert kwargs["data"] == b"onetwo"


async def test_assertions(open_session: OpenSession) -> None:
    """The original's assertions work on what was recorded."""
    session = open_session()
    with aioresponses() as mock:
        mock.post(API, repeat=True)
        mock.assert_not_called()
        with pytest.raises(AssertionError):
            mock.assert_called()
        await session.post(API, json={"a": 1}, headers={"X": "y"})
        mock.assert_called_once_with(API, method="POST", json={"a": 1}, headers={"X": "y"})
        mock.assert_any_call(API, method="POST")
        unlike: list[dict[str, Any]] = [{"json": {}}, {"json": {"a": 1}}, {"json": {"a": 1}, "headers": {"X": "z"}}]
        for wrong in unlike:
            with pytest.raises(AssertionError):
                mock.assert_called_with(API, method="POST", **wrong)
        with pytest.raises(AssertionError):
            mock.assert_any_call("http://elsewhere.test/", method="POST")
        await session.post(API)
        with pytest.raises(AssertionError):
            mock.assert_called_once()


async def test_as_a_decorator(open_session: OpenSession) -> None:
    """As a decorator it is passed last, or by the name it is given."""

    @aioresponses()
    async def last(mock: aioresponses) -> int:
        mock.get(API, status=201)
        return (await open_session().get(API)).status

    @aioresponses(param="mocked")
    async def named(*, mocked: aioresponses) -> int:
        mocked.get(API, status=202)
        return (await open_session().get(API)).status

    decorated: list[Any] = [last, named]
    assert [await each() for each in decorated] == [201, 202]


async def test_a_closed_session_is_refused(open_session: OpenSession) -> None:
    """A mock does not hide that the session was closed."""
    session = open_session()
    await session.close()
    with aioresponses() as mock:
        mock.get(API)
        with pytest.raises(RuntimeError, match="Session is closed"):
            await session.get(API)


async def test_raise_for_status(open_session: OpenSession) -> None:
    """The session's and the call's raise_for_status act as ever, callables included; an empty reason does no harm."""

    async def check(response: aiohttp.ClientResponse) -> None:
        raise KeyError(response.status)

    with aioresponses() as mock:
        mock.get(API, status=400, repeat=True)
        mock.get("http://api.test/odd", status=599)
        with pytest.raises(aiohttp.ClientResponseError, match="Bad Request"):
            await open_session(raise_for_status=True).get(API)
        assert (await open_session(raise_for_status=True).get(API, raise_for_status=False)).status == 400
        with pytest.raises(KeyError, match="400"):
            await open_session().get(API, raise_for_status=check)
        with pytest.raises(aiohttp.ClientResponseError):
            await open_session().get("http://api.test/odd", raise_for_status=True)


async def test_a_response_class_of_ones_own(open_session: OpenSession) -> None:
    """The class given with the match is used, else the session's."""

    class Mine(aiohttp.ClientResponse):
        pass

    with aioresponses() as mock:
        mock.get(API, response_class=Mine)
        mock.get(API)
        assert isinstance(await open_session().get(API), Mine)
        assert isinstance(await open_session(response_class=Mine).get(API), Mine)


@pytest.mark.parametrize("size", [0, 1, 65_536, 131_073, 300_000])
async def test_bodies_of_any_size(open_session: OpenSession, size: int) -> None:
    """Bodies over 128 KiB, where the original fails, arrive whole, read at once or in pieces."""
    body = b"a" * size
    session = open_session()
    with aioresponses() as mock:
        mock.get(API, body=body, repeat=True)
        assert await (await session.get(API)).read() == body
        assert b"".join([piece async for piece in (await session.get(API)).content.iter_chunked(1000)]) == body
