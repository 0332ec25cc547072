"""Connections that are kept alive and die, answers that come too early, and requests that nobody reads."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from apiclient import ApiClient, default_pipeline, errors
from apiclient.middleware import RateLimit
from tests.hostile.rows import ASK, OK, TIMEOUT, says, sized
from tests.integration.scripted import Close, HalfClose, Head, Pause, Reset, Scripted, Send, Serve, Some, Stall, Step

pytestmark = pytest.mark.looptime
ONCE: tuple[Step, ...] = (*ASK, Send(sized(b"fine")))
UPLOAD = b"x" * 3_000_000
# What happens to a kept connection once it has served one request.
ENDS: dict[str, tuple[Step, ...]] = {
    "closed": (Close(),),
    "reset": (Reset(),),
    "half-closed": (HalfClose(),),
    "closed by the next request": (Some(1), Close()),
    "reset by the next request": (Some(1), Reset()),
    "408 and closed": (Pause(0.01), Send(says(b"408 Idle")), Close()),
}


def paths(server: Scripted) -> list[bytes]:
    return [head.split(b" ", 2)[1] for head in server.requests]


@pytest.mark.parametrize("idle", [0.0, 1.0])
@pytest.mark.parametrize("end", ENDS)
async def test_a_get_on_a_dying_connection_is_made_again(end: str, idle: float) -> None:
    """It arrives exactly once whole, and no policy hears of the dead connection: that says nothing of the server."""
    async with Scripted((*ONCE, *ENDS[end])) as server, ApiClient(server.url, connections=1) as client:
        await client.get("/first")
        await asyncio.sleep(idle)
        pending = client.get("/second")
        assert await (await pending).text() == "fine"
        assert paths(server) == [b"/first", b"/second"]
        assert pending.call is not None
        # A 408 that comes after the request is an answer to it.
        answered = end == "408 and closed" and not idle
        assert pending.call.attempts <= 2
        assert len(pending.call.trail) == answered


@pytest.mark.parametrize("idle", [0.0, 1.0])
@pytest.mark.parametrize("end", ENDS)
async def test_a_post_on_a_dying_connection_is_sent_once_at_most(end: str, idle: float) -> None:
    """Where the death was noticed it goes out on another; else nobody knows, and the caller is told so."""
    async with Scripted((*ONCE, *ENDS[end])) as server, ApiClient(server.url, connections=1) as client:
        await client.get("/first")
        await asyncio.sleep(idle)
        (ended,) = await asyncio.gather(post(client), return_exceptions=True)
        if isinstance(ended, BaseException):
            assert isinstance(ended, errors.OutcomeUnknown)
            assert ended.attempts == 1
            assert paths(server) == [b"/first"]
        else:
            assert paths(server) == [b"/first", b"/second"]
        assert (await client.get("/after")).status == 200


async def post(client: ApiClient) -> int:
    return (await client.post("/second", json={})).status


# What happens to a kept connection when the next request comes.
DEATHS: dict[str, tuple[Step, ...]] = {
    "closed": (Some(1), Close()),
    "reset": (Some(1), Reset()),
    "closed once read": (Head(), Close()),
}


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("kept", [1, 5, 40])
async def test_kept_connections_that_are_all_dead(kept: int, death: str) -> None:
    """As after a deployment: the call goes through at once, however many dead connections the pool holds."""
    async with kept_alive(kept, *DEATHS[death]) as (server, client):
        pending = client.get("/x")
        assert await (await pending).text() == "fine"
        assert server.connections == kept + 1
        assert pending.call is not None
        assert pending.call.attempts == kept + 1
        assert pending.call.trail == ()


async def test_dead_connections_open_no_circuit_and_cost_no_retries() -> None:
    """Forty would open a circuit that counts them, and take what retries the origin has left."""
    async with kept_alive(40, Some(1), Close()) as (_, client):
        (before,) = client.stats().origins
        await fetch(client)
        (after,) = client.stats().origins
        assert after.breaker == "closed"
        assert after.retries_left is not None
        assert before.retries_left is not None
        assert after.retries_left >= before.retries_left


async def test_a_put_with_its_body_in_memory_goes_out_again() -> None:
    """It may be carried out twice, and its body is there."""
    async with kept_alive(5, Head(), Close()) as (server, client):
        pending = client.put("/x", json={"a": 1})
        assert await (await pending).text() == "fine"
        assert server.connections == 6
        assert pending.call is not None
        assert pending.call.trail == ()


async def test_a_put_that_reads_a_file_is_left_to_retry() -> None:
    """A read of it may still be under way in a thread: it is sent again after a pause."""
    async with kept_alive(1, Head(), Close()) as (_, client):
        pending = client.put("/x", data=io.BytesIO(b"abc"))
        assert (await pending).status == 200
        assert pending.call is not None
        assert len(pending.call.trail) == 1


async def test_a_pool_of_very_many_dead_connections_is_an_attempt_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a bound, beyond which policies hear of them."""
    monkeypatch.setattr("apiclient.pipeline._MOST_DEAD", 2)
    async with kept_alive(5, Some(1), Close()) as (server, client):
        pending = client.get("/x")
        assert await (await pending).text() == "fine"
        assert server.connections == 6
        assert pending.call is not None
        assert len(pending.call.trail) == 1


async def test_a_post_with_a_key_goes_out_again() -> None:
    """The same key each time."""
    async with kept_alive(3, Head(), Close()) as (server, client):
        await client.post("/x", json={}, idempotency_key="k-1")
        sent = [head for head in server.requests if head.startswith(b"POST")]
        assert len(sent) == 4
        assert all(b"Idempotency-Key: k-1" in head for head in sent)


async def test_a_post_without_a_key_does_not_go_out_again() -> None:
    """Nobody knows whether the connection died before it was carried out."""
    async with kept_alive(3, Head(), Close()) as (server, client):
        with pytest.raises(errors.OutcomeUnknown):
            await client.post("/x", json={})
        assert len([head for head in server.requests if head.startswith(b"POST")]) == 1


async def test_a_server_that_reads_and_closes_is_asked_as_often_as_ever_on_new_connections() -> None:
    """Each kept connection takes one request more; then attempts are counted, and there are four."""
    async with kept_alive(3, Head(), Close()) as (server, client):
        server.otherwise = (Head(), Close())
        with pytest.raises(errors.ConnectionLost) as caught:
            await fetch(client)
        assert len(caught.value.trail) == 4
        assert caught.value.attempts == server.connections == 3 + 4


async def test_the_beginning_of_an_answer_makes_it_an_attempt() -> None:
    """The server was there: what broke off on a kept connection is a failure like any other."""
    async with kept_alive(1, Head(), Send(b"HTTP/1.1 20"), Close()) as (_, client):
        pending = client.get("/x")
        assert (await pending).status == 200
        assert pending.call is not None
        assert len(pending.call.trail) == 1


@asynccontextmanager
async def kept_alive(number: int, *death: Step) -> AsyncIterator[tuple[Scripted, ApiClient]]:
    """A client with *number* connections that have served once, and end so with the next request."""
    script = (*ASK, Pause(0.1), *ONCE[2:], *death)
    # A quota yet to be learned would let only some of them go at once.
    unlimited = default_pipeline().without(RateLimit)
    async with (
        Scripted(*[script] * number) as server,
        ApiClient(server.url, connections=number, pipeline=unlimited) as client,
    ):
        await asyncio.gather(*(fetch(client) for _ in range(number)))
        assert server.connections == len(server.requests) == number
        yield server, client


async def fetch(client: ApiClient) -> str:
    return await (await client.get("/x")).text()


@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize("end", [Close(), Stall(), Pause(1)])
async def test_an_answer_while_the_body_is_still_being_sent(method: str, end: Step) -> None:
    """413 in the middle of an upload is the answer, whatever becomes of the rest; it is not sent again."""
    script = (Head(), Send(says(b"413 Too Big")), end)
    async with Scripted(script) as server, ApiClient(server.url, connections=1) as client:
        with pytest.raises(errors.StatusError) as caught:
            await client.request(method, "/x", data=io.BytesIO(UPLOAD))
        assert caught.value.status == 413
        assert caught.value.attempts == server.wire == 1
        assert (await client.get("/after")).status == 200


@pytest.mark.parametrize(
    ("method", "kind", "wire"), [("PUT", errors.DeadlineExceeded, 2), ("POST", errors.OutcomeUnknown, 1)]
)
async def test_an_upload_that_nobody_reads(method: str, kind: type[errors.ApiError], wire: int) -> None:
    """The buffers fill up, and the attempt's time ends it."""
    loop = asyncio.get_running_loop()
    async with (
        Scripted(otherwise=(Head(), Pause(1000))) as server,
        ApiClient(server.url, connections=1, timeout=TIMEOUT) as client,
    ):
        began = loop.time()
        with pytest.raises(kind) as caught:
            await client.request(method, "/x", data=io.BytesIO(UPLOAD * 3))
        assert loop.time() - began <= TIMEOUT + 0.2
        assert caught.value.attempts == server.connections == wire
        server.otherwise = None
        assert (await client.get("/after")).status == 200


async def test_a_body_in_answer_to_head() -> None:
    """It belongs to no answer: the connection is not used again."""
    async with (
        Scripted((Head(), Send(sized(b"fine")), Serve())) as server,
        ApiClient(server.url, connections=1) as client,
    ):
        with pytest.raises(errors.ResponseBroken):
            await client.head("/x")
        assert await (await client.get("/after")).text() == "fine"
        assert server.connections == 2


async def test_a_hundred_continue_that_never_comes() -> None:
    """The attempt's time ends it, and it is not sent again, as the body may be half out."""
    async with Scripted((Head(), Stall())) as server, ApiClient(server.url, connections=1) as client:
        with pytest.raises(errors.BodyNotReplayable) as caught:
            await client.put("/x", data=b"abc", expect100=True)
        assert caught.value.attempts == server.wire == 1
        assert (await client.get("/after")).status == 200


async def test_redirects_without_end() -> None:
    """Ten hops are followed, each counted as the request that it is."""
    scripts = [(*ASK, Send(says(b"302 Go", b"Location: /%d" % number)), Close()) for number in range(30)]
    async with Scripted(*scripts) as server, ApiClient(server.url, connections=1) as client:
        with pytest.raises(errors.RedirectRefused, match="more than 10 times") as caught:
            await client.get("/x")
        assert caught.value.attempts == server.wire == 11
        server.scripts = []
        assert (await client.get("/after")).status == 200


@pytest.mark.parametrize("extra", [sized(b"poison"), b"garbage", OK])
async def test_what_arrives_between_two_requests_answers_none(extra: bytes) -> None:
    """A kept connection on which bytes arrived unasked is not used again."""
    async with (
        Scripted((*ONCE, Pause(0.01), Send(extra), Serve())) as server,
        ApiClient(server.url, connections=1) as client,
    ):
        await client.get("/first")
        await asyncio.sleep(1)
        async with asyncio.timeout(5):
            assert await (await client.get("/second")).text() == "fine"


async def test_a_post_on_a_connection_that_is_out_of_step_takes_no_answer() -> None:
    """What came unasked is not its own, and it is not sent again: it may be carried out all the same."""
    async with (
        Scripted((*ONCE, Pause(0.01), Send(sized(b"poison")), Serve())) as server,
        ApiClient(server.url, connections=1) as client,
    ):
        await client.get("/first")
        await asyncio.sleep(1)
        with pytest.raises(errors.OutcomeUnknown):
            await post(client)
        assert await fetch(client) == "fine"


@pytest.mark.parametrize("head", [OK + b"Content-Length: 4\r\n\r\n", OK + b"Transfer-Encoding: chunked\r\n\r\n"])
async def test_a_kept_connection_keeps_nothing_of_its_requests(head: bytes) -> None:
    """What watches for its end is taken off with each whole body, and its end later on is reported to nobody."""
    body = b"fine" if b"Length" in head else b"4\r\nfine\r\n0\r\n\r\n"
    script: tuple[Step, ...] = (*ASK, Send(head), Pause(0.001), Send(body)) * 20
    async with Scripted((*script, Stall())) as server, ApiClient(server.url, connections=1) as client:
        assert [await fetch(client) for _ in range(20)] == ["fine"] * 20
        assert server.connections == 1
        assert client._session is not None
        connector: Any = client._session.connector
        ((kept, _),) = next(iter(connector._conns.values()))
        assert len(kept.closed._callbacks) == 1
