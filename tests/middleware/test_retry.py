"""Retry on a bare session against a real server on loopback, on virtual time."""

import asyncio
import gc
import io
import logging
import ssl
import weakref
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import backoff
import pytest
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, web

from apiclient.middleware import errors
from apiclient.middleware._budget import RetryBudget
from apiclient.middleware._call import current_call, joined, opened
from apiclient.middleware.retry import Retry
from tests.conftest import Peer

pytestmark = pytest.mark.looptime


def retry(**options: Any) -> Retry:
    given: dict[str, Any] = {"jitter": None} | options
    return Retry(**given)


def session(*middlewares: Any, **options: Any) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(middlewares=middlewares, **options)


def now() -> float:
    return asyncio.get_running_loop().time()


class Watch:
    """Outermost: keeps the call of the chain, so that a test can look at it."""

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        self.call = current_call()
        return await handler(request)


class WithDeadline:
    """Gives the call a deadline, as ``Deadline`` does, and enforces nothing."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        call = joined()
        if call is None:
            return await opened(self, request, handler)
        call.deadline = call.time() + self.seconds
        return await handler(request)


@pytest.mark.parametrize("status", [408, 421, 425, 500, 502, 503, 504])
async def test_a_temporary_failure_disappears_for_the_caller(peer: Peer, status: int) -> None:
    """The caller sees the answer of the second attempt."""
    peer.answers(status, 200)
    async with session(retry()) as client, client.get(peer.url) as response:
        assert response.status == 200
        assert await response.text() == "fine"
    assert peer.count == 2


@pytest.mark.parametrize("status", [400, 404, 409, 422, 429, 501, 505])
async def test_what_is_no_temporary_failure_is_returned_at_once(peer: Peer, status: int) -> None:
    """One request, and the response with its body."""
    peer.answers(status, body=b"why")
    async with session(retry()) as client, client.get(peer.url) as response:
        assert (response.status, await response.read()) == (status, b"why")
    assert peer.count == 1


async def test_a_lasting_failure_is_returned_after_the_last_attempt(peer: Peer) -> None:
    """Four attempts by default, waits of 0.1, 0.2 and 0.4 s before jitter, and the last response as it is."""
    peer.answers(503, body=b"down")
    watch, began = Watch(), now()
    async with session(retry(), watch) as client, client.get(peer.url) as response:
        assert (response.status, await response.read()) == (503, b"down")
    assert peer.count == 4
    assert now() - began == pytest.approx(0.7, abs=0.05)
    assert watch.call.stopped == "attempts"
    assert watch.call.attempts == peer.count
    assert [(attempt.status, attempt.wait) for attempt in watch.call.trail] == [
        (503, pytest.approx(0.1)),
        (503, pytest.approx(0.2)),
        (503, pytest.approx(0.4)),
        (503, 0.0),
    ]


async def test_jitter_is_drawn_for_each_wait(peer: Peer) -> None:
    """Full jitter multiplies each wait by its own draw."""
    peer.answers(503)
    draws = iter([0.5, 0.25, 1.0, 0.0])
    watch = Watch()
    async with session(Retry(random=draws.__next__), watch) as client, client.get(peer.url):
        pass
    assert [attempt.wait for attempt in watch.call.trail] == pytest.approx([0.05, 0.05, 0.4, 0.0])


async def test_any_generator_of_backoff_plugs_in(peer: Peer) -> None:
    """``wait=`` takes what ``backoff`` offers, without bounds of its own."""
    peer.answers(503)
    watch = Watch()
    options = {"wait": partial(backoff.constant, [3, 5]), "attempts": 4, "max_wait": 4.0}
    async with session(retry(**options), watch) as client, client.get(peer.url):
        pass
    assert [attempt.wait for attempt in watch.call.trail] == [3.0, 4.0, 4.0, 0.0]


@pytest.mark.parametrize("headers", [{"Retry-After": "7"}, {"retry-after-ms": "7000"}])
async def test_retry_after_is_never_undercut(peer: Peer, headers: dict[str, str]) -> None:
    """Law 6: the server sees nothing before it said; jitter comes on top."""
    times: list[float] = []

    async def handler(_: web.Request) -> web.Response:
        times.append(now())
        return web.Response(status=503 if len(times) == 1 else 200, headers=headers)

    peer.handler = handler
    async with session(Retry(random=lambda: 0.5)) as client, client.get(peer.url) as response:
        assert response.status == 200
    assert times[1] - times[0] == pytest.approx(7.05, abs=0.02)
    assert times[1] - times[0] >= 7.0


async def test_a_retry_after_that_is_too_long_ends_the_call(peer: Peer) -> None:
    """Longer than allowed means give up, now, and not a clamped wait."""
    peer.answers(503, headers={"Retry-After": "61"})
    watch, began = Watch(), now()
    async with session(retry(), watch) as client, client.get(peer.url) as response:
        assert response.status == 503
    assert (peer.count, watch.call.stopped) == (1, "retry_after")
    assert now() - began < 0.1


async def test_a_wait_beyond_the_deadline_is_not_begun(peer: Peer) -> None:
    """Law 5: with 5 s left a Retry-After of 30 ends the call at once."""
    peer.answers(503, headers={"Retry-After": "30"})
    watch, began = Watch(), now()
    async with session(WithDeadline(5.0), retry(), watch) as client, client.get(peer.url) as response:
        assert response.status == 503
    assert (peer.count, watch.call.stopped) == (1, "deadline")
    assert now() - began < 0.1


async def test_a_connection_failure_past_the_deadline_says_how_long_it_would_have_waited(unused_tcp_port: int) -> None:
    """The error is the failure itself, and names the wait that was not begun."""
    async with session(WithDeadline(0.15), retry(wait=partial(backoff.constant, 3))) as client:
        with pytest.raises(errors.ConnectFailed, match="a wait of 3 s does not fit") as caught:
            await client.get(f"http://127.0.0.1:{unused_tcp_port}")
    assert caught.value.stopped == "deadline"
    assert isinstance(caught.value.__cause__, aiohttp.ClientConnectorError)


async def test_a_discarded_response_is_released_at_once(peer: Peer) -> None:
    """Law 1: with one connection and bodies of 2 MB nothing deadlocks."""
    peer.answers(503, 503, 503, 200, body=b"x" * 2_000_000)
    connector = aiohttp.TCPConnector(limit=1)
    async with session(retry(), connector=connector) as client:
        for _ in range(3):
            async with client.get(peer.url) as response:
                await response.read()
    assert peer.count == 6


async def test_cookies_of_a_discarded_response_are_kept(peer: Peer) -> None:
    """What the failed answer set goes out with the next attempt, and stays in the jar."""
    peer.answers(503, 200, headers={"Set-Cookie": "seat=12"})
    jar = aiohttp.CookieJar(unsafe=True)
    async with session(retry(), cookie_jar=jar) as client, client.get(peer.url):
        pass
    assert "Cookie" not in peer.headers[0]
    assert peer.headers[1]["Cookie"] == "seat=12"
    assert [cookie.value for cookie in jar] == ["12"]


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_without_a_key_a_post_is_not_sent_twice(peer: Peer, method: str) -> None:
    """Law 3: the 5xx is returned, marked so."""
    peer.answers(503)
    watch = Watch()
    async with session(retry(), watch) as client, client.request(method, peer.url, json={}) as response:
        assert response.status == 503
    assert (peer.count, watch.call.stopped) == (1, "not_repeatable")


async def test_with_a_key_a_post_is_sent_again_with_the_same_key(peer: Peer) -> None:
    """Law 3: same key, same body, same Content-Type on each attempt."""
    peer.answers(503, 503, 200)
    headers = {"Idempotency-Key": "k-1"}
    async with session(retry()) as client, client.post(peer.url, json={"a": 1}, headers=headers) as response:
        assert response.status == 200
    assert set(peer.seen) == {("POST", "/", b'{"a": 1}')}
    assert [sent["Idempotency-Key"] for sent in peer.headers] == ["k-1"] * 3
    assert len({sent["Content-Type"] for sent in peer.headers}) == 1


async def test_a_409_in_progress_is_retried_and_a_422_is_not(peer: Peer) -> None:
    """The draft's 409 passes; the draft's 422 (key reused) is final; a plain conflict is final, its body readable."""
    headers = {"Idempotency-Key": "k-1"}
    async with session(retry()) as client:
        peer.answers(409, 200, body=b'{"title": "request is outstanding"}')
        async with client.post(peer.url, headers=headers) as response:
            assert response.status == 200
        peer.answers(422, body=b"key reused")
        async with client.post(peer.url, headers=headers) as response:
            assert response.status == 422
        peer.answers(409, body=b"Email taken")
        async with client.post(peer.url, headers=headers) as response:
            assert (response.status, await response.read()) == (409, b"Email taken")
    assert peer.count == 4


async def chunks() -> AsyncIterator[bytes]:
    yield b"one"
    yield b"two"


async def test_a_stream_is_not_sent_twice(peer: Peer) -> None:
    """Law 2: never resent empty; the error says the way out, and the failure is its cause."""
    peer.answers(503, 200, body=b"why")
    async with session(retry()) as client:
        with pytest.raises(errors.BodyNotReplayable, match="buffer_body=True") as caught:
            await client.put(peer.url, data=chunks())
    assert [body for _, _, body in peer.seen] == [b"onetwo"]
    assert isinstance(caught.value.__cause__, errors.ServerError)
    assert caught.value.__cause__.status == 503
    assert len(caught.value.trail) == 1


async def test_a_stream_that_never_began_is_sent_again(unused_tcp_port: int, peer: Peer) -> None:
    """Where no connection was made nothing of the body was read."""
    tried: list[int] = []

    class FirstRefused:
        async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
            tried.append(1)
            if len(tried) == 1:
                raise aiohttp.ClientConnectorError(request.connection_key, OSError(111, "refused"))
            return await handler(request)

    async with session(retry(), FirstRefused()) as client, client.put(peer.url, data=chunks()) as response:
        assert response.status == 200
    assert [body for _, _, body in peer.seen] == [b"onetwo"]


@pytest.mark.parametrize("kind", ["bytes", "text", "json", "form", "bytesio", "file", "multipart"])
async def test_a_body_that_can_be_replayed_is_the_same_each_time(peer: Peer, kind: str, tmp_path: Path) -> None:
    """Bytes, JSON, forms, files and multipart arrive identical on each attempt; a file from where it stood."""
    peer.answers(503, 503, 200)
    path = tmp_path / "upload"
    path.write_bytes(b"skipped" + b"y" * 300_000)
    with path.open("rb") as file:
        file.seek(7)
        form = aiohttp.FormData({"a": "1"})
        form.add_field("file", b"content", filename="f")
        bodies_of: dict[str, dict[str, Any]] = {
            "bytes": {"data": b"abc"},
            "text": {"data": "abc"},
            "json": {"json": {"a": 1}},
            "form": {"data": {"a": "1"}},
            "bytesio": {"data": io.BytesIO(b"abc")},
            "file": {"data": file},
            "multipart": {"data": form},
        }
        async with session(retry()) as client, client.put(peer.url, **bodies_of[kind]) as response:
            assert response.status == 200
    bodies = [seen for _, _, seen in peer.seen]
    assert len(bodies) == 3
    assert bodies[0]
    assert len(set(bodies)) == 1
    if kind == "file":
        assert bodies[0] == b"y" * 300_000
    assert len({(sent["Content-Type"], sent.get("Content-Length")) for sent in peer.headers}) == 1


async def test_a_file_is_sent_again_after_a_pause_even_where_chance_says_none(tmp_path: Path) -> None:
    """FACTS 1.2: a read of the broken-off upload still under way would take a chunk from a resend at once."""
    path = tmp_path / "upload"
    path.write_bytes(b"content")
    watch = Watch()

    async def lost(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        raise aiohttp.ServerDisconnectedError

    async with session(Retry(attempts=2, random=lambda: 0.0), watch, lost) as client:
        waits: list[float] = []
        for data in (path.open("rb"), b"content"):
            with pytest.raises(errors.ConnectionLost):
                await client.put("http://127.0.0.1", data=data)
            waits.append(watch.call.trail[0].wait)
    assert waits == [0.1, 0.0]


async def test_the_budget_bounds_the_retries_of_all_calls(peer: Peer) -> None:
    """Law 10: a hundred failing calls are worth at most a fifth of retries and the floor; the rest is marked."""
    peer.answers(503)
    watch = Watch()
    stopped: list[str | None] = []
    async with session(retry(budget=RetryBudget(floor=1.0)), watch) as client:
        for _ in range(100):
            async with client.get(peer.url) as response:
                assert response.status == 503
            stopped.append(watch.call.stopped)
    assert peer.count <= 100 * 1.2 + 10 + 20  # The loop takes longer than one window.
    assert stopped.count("budget") > 60


async def test_a_throttling_answer_costs_less_of_the_budget(peer: Peer) -> None:
    """A retry after 429, where Retry is told to do that, costs 5/14 of one after 503."""
    counts: list[int] = []
    for status in (503, 429):
        peer.answers(status)
        before = peer.count
        subject = Retry(attempts=100, statuses={503, 429}, budget=RetryBudget(floor=1.0, ratio=0.0), random=lambda: 0.0)
        async with session(subject) as client, client.get(peer.url):
            pass
        counts.append(peer.count - before - 1)
    assert counts == [10, 28]


async def test_a_server_can_forbid_or_ask_for_a_retry(peer: Peer) -> None:
    """Its verdict header wins over the table of statuses."""
    peer.answers(503, headers={"x-should-retry": "false"})
    async with session(retry()) as client:
        async with client.get(peer.url):
            pass
        assert peer.count == 1
        peer.answers(400, 200, headers={"x-should-retry": "true"})
        async with client.get(peer.url) as response:
            assert response.status == 200
    assert peer.count == 3


async def test_a_predicate_decides_before_the_rules_but_not_over_the_laws(peer: Peer) -> None:
    """``when`` turns a 404 into something to retry and a 503 into something final; a POST stays unsent."""

    def when(call: Any, result: ClientResponse | Exception) -> bool | None:
        return {404: True, 503: False}.get(getattr(result, "status", 0))

    async with session(retry(when=when)) as client:
        peer.answers(404, 200)
        async with client.get(peer.url) as response:
            assert response.status == 200
        peer.answers(503)
        async with client.get(peer.url):
            pass
        assert peer.count == 3
        peer.answers(404)
        async with client.post(peer.url):
            pass
    assert peer.count == 4


async def test_a_predicate_that_raises_leaks_no_connection(peer: Peer) -> None:
    """The user's mistake reaches the user, and the connection the pool."""
    peer.answers(503, body=b"x" * 2_000_000)

    def when(*_: Any) -> bool | None:
        raise ZeroDivisionError

    async with session(retry(when=when), connector=aiohttp.TCPConnector(limit=1)) as client:
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await client.get(peer.url)
    assert peer.count == 3


async def test_an_endpoint_may_have_a_retry_of_its_own(peer: Peer) -> None:
    """``endpoints`` hands a call to another ``Retry``."""
    peer.answers(503)
    async with session(retry(endpoints={"GET /slow/{}": retry(attempts=2)})) as client:
        async with client.get(f"{peer.url}/slow/7"):
            pass
        assert peer.count == 2
        async with client.get(f"{peer.url}/fast/7"):
            pass
    assert peer.count == 6


async def test_further_exceptions_can_be_retried(peer: Peer) -> None:
    """An exception type of the user's is a passing failure where told so, and leaves as it is."""

    class Odd(Exception):
        pass

    class Raises:
        count = 0

        async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
            self.count += 1
            raise Odd

    raises = Raises()
    async with session(retry(exceptions=(Odd,)), raises) as client:
        with pytest.raises(Odd):
            await client.get(peer.url)
        assert raises.count == 4
        with pytest.raises(Odd):
            await client.post(peer.url)
    assert raises.count == 5


@pytest.mark.parametrize(
    "error",
    [
        errors.CircuitOpen(),
        errors.RateLimited(),
        errors.DeadlineExceeded(),
        errors.CredentialsRejected(),
        errors.TokenUnavailable(),
    ],
)
async def test_a_decision_of_another_policy_is_not_retried(peer: Peer, error: errors.ApiError) -> None:
    """An open circuit or a dead credential ends the call at once."""
    tried: list[int] = []

    async def refuse(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        tried.append(1)
        raise error

    async with session(retry(), refuse) as client:
        with pytest.raises(type(error)):
            await client.get(peer.url)
    assert tried == [1]


async def test_a_refused_connection_is_tried_again_even_for_a_post(unused_tcp_port: int) -> None:
    """Nothing was sent, so anything may be sent again; at the end one error of ours, from aiohttp's last."""
    async with session(retry()) as client:
        with pytest.raises(errors.ConnectFailed) as caught:
            await client.post(f"http://127.0.0.1:{unused_tcp_port}", json={})
    error = caught.value
    assert (error.attempts, len(error.trail), error.stopped) == (4, 4, "attempts")
    assert not isinstance(error, aiohttp.ClientOSError | aiohttp.ServerDisconnectedError)
    assert isinstance(error.__cause__, aiohttp.ClientConnectorError)
    assert {attempt.error for attempt in error.trail} == {"ClientConnectorError"}


async def test_a_certificate_that_is_not_trusted_is_not_tried_again(peer: Peer) -> None:
    """It does not go away by itself."""
    tried: list[int] = []

    async def untrusted(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        tried.append(1)
        raise aiohttp.ClientConnectorCertificateError(request.connection_key, ssl.CertificateError("no"))

    async with session(retry(), untrusted) as client:
        with pytest.raises(errors.ConnectFailed) as caught:
            await client.get(peer.url)
    assert tried == [1]
    assert not caught.value.recoverable


async def test_aiohttps_own_total_is_not_outlived(peer: Peer) -> None:
    """FACTS 1.4: ``ClientTimeout.total`` fires once; after it nothing is sent."""
    stall = asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        await stall.wait()
        return web.Response()

    peer.handler = handler
    began = now()
    async with session(retry(), timeout=aiohttp.ClientTimeout(total=0.3)) as client:
        with pytest.raises(errors.DeadlineExceeded):
            await client.get(peer.url)
        assert now() - began == pytest.approx(0.3, abs=0.05)
        with pytest.raises(errors.TransportOutcomeUnknown):
            await client.post(peer.url)
        await asyncio.sleep(5)
    assert peer.count == 2
    stall.set()


@pytest.mark.parametrize("after", [0.05, 0.15, 0.25, 0.5])
async def test_a_cancelled_call_leaves_nothing_behind(peer: Peer, after: float) -> None:
    """Law 9: cancelled in a request or in a wait, the CancelledError passes and the one connection is free."""

    async def handler(_: web.Request) -> web.Response:
        await asyncio.sleep(0.1)
        return web.Response(status=503, body=b"x" * 500_000)

    peer.handler = handler
    async with session(retry(), connector=aiohttp.TCPConnector(limit=1)) as client:
        task = asyncio.create_task(client.request("GET", peer.url).__aenter__())
        await asyncio.sleep(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        peer.answers(200)
        async with asyncio.timeout(1), client.get(peer.url) as response:
            assert response.status == 200


async def test_a_failure_leaves_no_cycle_behind(unused_tcp_port: int) -> None:
    """The error is gone as soon as nobody holds it, without a garbage collection."""

    async def lost(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        raise aiohttp.ServerDisconnectedError

    gc.collect()
    gc.disable()
    try:
        async with session(retry(attempts=2), lost) as client:
            kept: list[weakref.ref[BaseException | None]] = []
            try:
                await client.get(f"http://127.0.0.1:{unused_tcp_port}")
            except errors.ConnectionLost as error:
                kept += [weakref.ref(error), weakref.ref(error.__cause__)]
            assert [one() for one in kept] == [None, None]
    finally:
        gc.enable()


async def test_each_retry_is_an_event(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    """``http.retry`` says which attempt failed, how, and how long is waited."""
    peer.answers(503, 200)
    with caplog.at_level(logging.INFO, "apiclient"):
        async with session(retry()) as client, client.get(f"{peer.url}/a?key=secret"):
            pass
    [record] = [record for record in caplog.records if record.message == "http.retry"]
    fields = vars(record)
    assert (fields["attempt"], fields["status"], fields["wait_s"], fields["endpoint"]) == (1, 503, 0.1, "GET /a")
    assert "secret" not in str(fields)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attempts": 0}, "attempts must be at least 1, got 0"),
        ({"max_wait": -1}, "max_wait must be at least 0 seconds and finite, got -1"),
        ({"max_retry_after": -1}, "max_retry_after must be at least 0 seconds, got -1"),
        ({"statuses": {200}}, "statuses must be between 400 and 599, got 200"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], message: str) -> None:
    """Options out of range fail in the constructor with their name and value."""
    with pytest.raises(ValueError, match=message):
        Retry(**options)


def test_the_repr_tells_the_options() -> None:
    """A person sees what is retried."""
    assert repr(Retry()) == "Retry(attempts=4, statuses=[408, 421, 425, 500, 502, 503, 504])"
    assert (
        repr(Retry(attempts=2, statuses={503}, once=(), budget=False))
        == "Retry(attempts=2, statuses=[503], budget=False)"
    )


@pytest.mark.parametrize(
    ("method", "outcome", "has_key", "said"),
    [
        ("GET", 503, False, "is retried after 503"),
        ("POST", 503, False, "not retried after 503: POST may have been carried out and has no idempotency key"),
        ("POST", 503, True, "is retried after 503"),
        ("GET", 404, False, "404 is not among the statuses"),
        ("GET", 429, False, "RateLimit pauses the endpoint"),
        ("GET", 200, False, "it succeeded"),
        ("GET", aiohttp.ServerDisconnectedError(), False, "is a passing failure of the network"),
        ("POST", aiohttp.ConnectionTimeoutError(), False, "is retried after ConnectionTimeoutError"),
        ("GET", errors.CircuitOpen(), False, "it is no failure of the server"),
        ("GET", errors.ServerError(status=503, retry_after=7.0), False, "at least 7 s later"),
        ("GET", errors.ServerError(status=503, retry_after=70.0), False, "the server asks for 70 s; at most 60 s"),
    ],
)
def test_a_decision_is_explained_in_words(
    method: str, outcome: int | BaseException, said: str, *, has_key: bool
) -> None:
    """``explain`` says what the machine would decide, and why."""
    text = Retry().explain(method, f"{method} /x", outcome, has_key=has_key)
    assert text.startswith(f"{method} /x is ")
    assert said in text
