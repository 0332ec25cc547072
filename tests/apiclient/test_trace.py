import asyncio
import re
import threading

import pytest
from yarl import URL

from apiclient import ApiClient, errors
from apiclient._trace import Trace
from apiclient._watch import Gauges
from apiclient.middleware import RateLimit
from apiclient.middleware._call import Call
from apiclient.middleware._readings import Reading
from apiclient.testing import FakeClock
from tests.conftest import Peer


def call_at(clock: FakeClock) -> Call:
    call = Call("GET", "GET /a/{id}", key=("http://a", "GET /a/{id}"), url=URL("http://a/a/1"), time=clock)
    call._id = "0123456789ab"
    return call


def test_the_waterfall_of_a_call() -> None:
    """Waits and attempts stand where they began, as long as they took; events where they happened."""
    clock = FakeClock()
    call = call_at(clock)
    trace = Trace(call)
    clock.advance(0.2)
    call.waited("token", 0.2)
    clock.advance(0.3)
    call.wire = 1
    call.emit(10, "http.attempt", attempt=1, status=503, error_type=None, duration_s=0.3)
    call.emit(20, "http.retry", attempt=1, status=503, wait_s=0.5, why="a 503 is temporary")
    clock.advance(0.2)
    call.emit(20, "breaker.half_open", origin="http://a", retry_after_s=None, reason=None)
    clock.advance(0.3)
    call.waited("backoff", 0.5)
    call.wire = 2
    clock.advance(0.5)
    call.emit(10, "http.attempt", attempt=2, status=None, error_type="ServerDisconnectedError", duration_s=0.5)
    call.emit(30, "breaker.opened", origin="http://a", retry_after_s=5.0, reason=None)
    failure = errors.ConnectionLost("gone", hint="Look\nhere")
    assert trace.text(None, failure).splitlines() == [
        "GET /a/{id}  failed: ConnectionLost  in 1.500 s, 2 wire requests, call 0123456789ab",
        "     0.000 s    0.200 s  token                  |....                          |",
        "     0.200 s    0.300 s  attempt 1              |    ======                    |  503",
        "     0.500 s             http.retry             |          *                   |  a 503 is temporary",
        "     0.500 s    0.500 s  backoff                |          ..........          |",
        "     0.700 s             breaker.half_open      |             *                |  origin=http://a",
        "     1.000 s    0.500 s  attempt 2              |                    ==========|  ServerDisconnectedError",
        "     1.500 s             breaker.opened         |                             *|  origin=http://a, retry_after_s=5",
        "  Look\\nhere",
    ]


def test_a_call_of_no_time_and_one_of_many_steps() -> None:
    """Nothing is divided by zero, and a trace does not grow without end."""
    clock = FakeClock()
    trace = Trace(call_at(clock))
    trace("http.attempt", {"attempt": 1, "status": 200, "error_type": "ClientPayloadError", "duration_s": 0.0})
    assert trace.text(200).splitlines() == [
        "GET /a/{id}  ok: 200  in 0.000 s, 0 wire requests, call 0123456789ab",
        f"     0.000 s    0.000 s  attempt 1              |{' ' * 30}|  200 ClientPayloadError",
    ]
    for _ in range(300):
        trace("http.retry", {"why": "x"})
    assert len(trace.steps) == 200
    assert trace.text(200).splitlines()[-1] == "  and 101 more"


def test_time_that_nobody_booked_is_told() -> None:
    """A slow middleware of the user's own shows as a gap."""
    clock = FakeClock()
    call = call_at(clock)
    trace = Trace(call)
    clock.advance(1)
    call.emit(10, "http.attempt", attempt=1, status=200, error_type=None, duration_s=0.5)
    assert "  0.500 s of it in the client itself, or in waits that nobody booked" in trace.text(200)


@pytest.mark.looptime
async def test_debug_prints_the_life_of_each_call_that_fails(peer: Peer, capsys: pytest.CaptureFixture[str]) -> None:
    """A failing call is drawn on standard error, one that succeeds is not, and nothing changes for the caller."""
    peer.answers(200, 503)
    async with ApiClient(peer.url, debug=True) as client:
        await client.get("/a", params={"key": "canary"})
        assert capsys.readouterr().err == ""
        with pytest.raises(errors.ServerError):
            await client.get("/things/{id}", path_params={"id": "canary"}, params={"key": "canary"})
    printed = capsys.readouterr().err
    lines = printed.splitlines()
    assert re.match(
        r"GET /things/\{id\}  failed: 503 ServerError  in [\d.]+ s, 4 wire requests, call \w{12}$", lines[0]
    )
    assert [len(re.findall(word, printed)) for word in ("attempt", "backoff", "http.retry")] == [4, 3, 3]
    assert "canary" not in printed


async def test_without_debug_nothing_is_printed(peer: Peer, capsys: pytest.CaptureFixture[str]) -> None:
    """The default is silence."""
    peer.answers(404)
    async with ApiClient(peer.url) as client:
        with pytest.raises(errors.NotFound):
            await client.get("/a")
    assert capsys.readouterr() == ("", "")


@pytest.mark.looptime
async def test_a_cancelled_call_is_drawn_too(peer: Peer, capsys: pytest.CaptureFixture[str]) -> None:
    """Where did it hang? The wait that was broken off is in it."""
    pipeline = ApiClient(peer.url).pipeline.replace(RateLimit, RateLimit(default="1/30s"))
    async with ApiClient(peer.url, pipeline=pipeline, debug=True) as client:
        await client.get("/a")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await client.get("/a")
    printed = capsys.readouterr().err
    assert "cancelled: CancelledError" in printed
    assert re.search(r"3\.000 s  limiter +\|\.{30}\|", printed)


async def test_a_stream_that_is_closed_is_no_trouble(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of the call arrives, whatever happens to the waterfall."""

    class Closed:
        def write(self, _: str) -> None:
            raise ValueError("I/O operation on closed file")

    monkeypatch.setattr("sys.stderr", Closed())
    peer.answers(404)
    async with ApiClient(peer.url, debug=True) as client:
        with pytest.raises(errors.NotFound):
            await client.get("/a")


async def test_gauges_are_read_in_the_loops_thread() -> None:
    """An exporter asks in a thread of its own, and what it reads must not change under it."""
    values: list[list[Reading]] = [[Reading("a", 1, {})], [Reading("a", 2, {})]]
    threads: set[int] = set()

    def read() -> list[Reading]:
        threads.add(threading.get_ident())
        return values.pop(0)

    gauges = Gauges(read)
    assert gauges.read() == []
    gauges.attach()
    assert gauges.read() == [Reading("a", 1, {})]
    gauges._taken = -10.0
    assert await asyncio.to_thread(gauges.read) == [Reading("a", 2, {})]
    assert threads == {threading.get_ident()}
    gauges.detach()
    assert gauges.read() == []


def test_gauges_of_a_loop_that_is_gone_tell_nothing() -> None:
    """A client of an earlier asyncio.run has nothing to tell."""
    gauges = Gauges(lambda: [Reading("a", 1, {})])

    async def main() -> None:
        gauges.attach()

    asyncio.run(main())
    assert gauges.read() == []
