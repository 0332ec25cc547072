"""Alert on a bare session against a real server on loopback."""

import asyncio
import threading
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, web

from apiclient.middleware import errors
from apiclient.middleware._alarm import Phase
from apiclient.middleware._call import joined
from apiclient.middleware._outlet import Notice
from apiclient.middleware.alert import Alert
from apiclient.middleware.idempotency import Idempotency
from apiclient.middleware.retry import Retry
from apiclient.middleware.status_errors import StatusErrors
from apiclient.middleware.webhook import Webhook
from tests.conftest import Peer


def alert(*sinks: Any, **options: Any) -> Alert:
    return Alert(sinks=sinks, **({"consecutive": 3, "recovery": 1, "short": 1.0, "long": 10.0} | options))


class Sink:
    def __init__(self) -> None:
        self.notices: list[Notice] = []

    async def __call__(self, notice: Notice) -> None:
        self.notices.append(notice)

    @property
    def kinds(self) -> list[tuple[str, str]]:
        return [(notice.kind, notice.scope) for notice in self.notices]


async def calls(client: aiohttp.ClientSession, url: str, count: int) -> None:
    for _ in range(count):
        try:
            async with client.get(url) as response:
                await response.read()
        except errors.ApiError:
            pass


@pytest.mark.looptime
async def test_it_is_told_once_and_once_when_over(peer: Peer) -> None:
    """Per endpoint and for the client; with cause, count, last error and trace id."""
    sink = Sink()
    subject = alert(sink, now=lambda: 1_000_000.0)
    peer.answers(
        500,
        body=b'{"error": "internal_server_error", "traceId": "abc-1"}',
        headers={"Content-Type": "application/json"},
    )
    async with aiohttp.ClientSession(middlewares=(subject, StatusErrors())) as client:
        await calls(client, f"{peer.url}/a/7", 9)
        assert subject.phase() is Phase.ALERTING
        peer.answers(200)
        await asyncio.sleep(2)
        await calls(client, f"{peer.url}/a/7", 9)
    await subject.aclose()
    assert sink.kinds == [
        ("alerting", "GET /a/{}"),
        ("alerting", "client"),
        ("resolved", "GET /a/{}"),
        ("resolved", "client"),
    ]
    notice = sink.notices[0]
    assert (notice.cause, notice.failed, notice.calls, notice.trace_id) == ("consecutive", 3, 3, "abc-1")
    assert "internal_server_error" in notice.last_error
    assert notice.origin == peer.url
    assert 999_999.0 < notice.since <= notice.at == 1_000_000.0


@pytest.mark.looptime
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 415, 422, 429])
async def test_what_is_no_failure_of_the_server_raises_nothing(peer: Peer, status: int) -> None:
    """4xx are the caller's business, as errors and as responses."""
    peer.answers(status)
    subject = alert()
    async with aiohttp.ClientSession(middlewares=(subject,)) as client:
        await calls(client, peer.url, 20)
    async with aiohttp.ClientSession(middlewares=(subject, StatusErrors())) as client:
        await calls(client, peer.url, 20)
    assert subject.phase() is Phase.OK


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("error", "phase"),
    [
        (errors.RateLimited(), Phase.OK),
        (errors.InvalidRequest(), Phase.OK),
        (errors.ContentTypeMismatch(), Phase.OK),
        (errors.CircuitOpen(), Phase.ALERTING),
        (errors.ConnectionLost(), Phase.ALERTING),
        (errors.TransportOutcomeUnknown(), Phase.ALERTING),
        (errors.CredentialsRejected(), Phase.ALERTING),
        (errors.DeadlineExceeded(), Phase.ALERTING),
        (errors.ServerError(status=503), Phase.ALERTING),
    ],
)
async def test_which_errors_count(peer: Peer, error: errors.ApiError, phase: Phase) -> None:
    """What the server or the way to it caused counts; what was refused here does not."""

    async def fail(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        raise error

    subject = alert()
    async with aiohttp.ClientSession(middlewares=(subject, fail)) as client:
        await calls(client, peer.url, 5)
    assert subject.phase() is phase


@pytest.mark.looptime
async def test_a_deferred_call_counts_by_why_it_was_deferred(peer: Peer) -> None:
    """The outbox saves the request, and the server is down all the same."""

    async def defer(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        raise errors.Deferred("Kept in the outbox") from errors.ServerError("503 out of order", status=503)

    sink = Sink()
    subject = alert(sink)
    async with aiohttp.ClientSession(middlewares=(subject, defer)) as client:
        await calls(client, peer.url, 3)
    await subject.aclose()
    assert [notice.last_error for notice in sink.notices] == ["ServerError: 503 out of order"] * 2


@pytest.mark.looptime
async def test_calls_are_counted_and_not_attempts(peer: Peer) -> None:
    """Outside Retry, two calls of four attempts each are two failures."""
    peer.answers(503)
    subject = alert(consecutive=3)
    async with aiohttp.ClientSession(middlewares=(subject, Retry())) as client:
        await calls(client, peer.url, 2)
        assert subject.phase() is Phase.DEGRADED
        await calls(client, peer.url, 1)
    assert peer.count == 12
    assert subject.phase() is Phase.ALERTING


@pytest.mark.looptime
async def test_a_cancelled_call_counts_nothing(peer: Peer) -> None:
    """Law 9: CancelledError passes, and is no failure."""

    async def hang(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        await asyncio.sleep(60)
        return await handler(request)

    subject = alert()
    async with aiohttp.ClientSession(middlewares=(subject, hang)) as client:
        for _ in range(10):
            task = asyncio.ensure_future(client.get(peer.url))
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    assert subject.phase() is Phase.OK


@pytest.mark.looptime
async def test_a_raising_slow_or_hanging_sink_touches_no_call(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    """The queue is bounded, what is lost is counted, and a good sink beside the bad ones gets everything."""
    good = Sink()

    async def raising(notice: Notice) -> None:
        raise ZeroDivisionError

    async def hanging(notice: Notice) -> None:
        await asyncio.Event().wait()

    subject = alert(raising, hanging, good, queue=2, consecutive=1)
    began = asyncio.get_running_loop().time()
    async with aiohttp.ClientSession(middlewares=(subject,)) as client:
        for _ in range(10):
            peer.answers(503)
            await calls(client, peer.url, 1)
            peer.answers(200)
            await asyncio.sleep(1.5)
            await calls(client, peer.url, 1)
    assert asyncio.get_running_loop().time() - began < 20
    await subject.aclose(timeout=60)
    assert len(good.notices) == 40
    assert subject.dropped > 20
    failed = {vars(record)["reason"] for record in caplog.records if record.message == "alert.sink_failed"}
    assert failed == {"ZeroDivisionError", "timed out"}


async def test_a_sink_that_blocks_runs_in_a_thread_and_holds_nobody(peer: Peer) -> None:
    """A plain function may block for ever: calls go on, and the loop can be closed."""
    release, entered = threading.Event(), threading.Event()
    threads: list[bool] = []

    def blocking(notice: Notice) -> None:
        threads.append(threading.current_thread().daemon)
        entered.set()
        release.wait(20)

    subject = alert(blocking, queue=1, consecutive=1, sink_timeout=0.05)
    peer.answers(503)
    async with aiohttp.ClientSession(middlewares=(subject,)) as client:
        await calls(client, peer.url, 1)
        while not entered.is_set():
            await asyncio.sleep(0.001)
        await calls(client, peer.url, 20)
        await subject.aclose()
    release.set()
    assert threads == [True]
    assert peer.count == 21


async def test_a_plain_function_is_a_sink(peer: Peer) -> None:
    """``sinks=[notices.append]`` works."""
    notices: list[Notice] = []
    subject = alert(notices.append)
    peer.answers(503)
    async with aiohttp.ClientSession(middlewares=(subject,)) as client:
        await calls(client, peer.url, 3)
    await subject.aclose()
    assert [notice.kind for notice in notices] == ["alerting", "alerting"]
    assert str(notices[1]).startswith("client: alerting (consecutive), 3 failed in 0 s; last: 503")


@pytest.mark.looptime
async def test_what_a_sink_sends_is_no_part_of_the_call(peer: Peer) -> None:
    """A request made in a sink has no call around it, so it inherits no deadline and no key."""
    seen: list[object] = []

    async def sink(notice: Notice) -> None:
        seen.append(joined())

    subject = alert(sink)
    peer.answers(503)
    async with aiohttp.ClientSession(middlewares=(subject,)) as client:
        await calls(client, peer.url, 3)
    await subject.aclose()
    assert seen == [None, None]


@pytest.mark.looptime
async def test_a_webhook_posts_each_notice_once(peer: Peer) -> None:
    """As JSON with a text and a key of its own, retried by its own chain."""
    statuses = [503, 503, 503]
    posted: list[Any] = []

    async def handler(request: Any) -> Any:
        if request.method == "POST":
            posted.append((request.headers["Idempotency-Key"], await request.json()))
            return web.Response(status=503 if len(posted) == 1 else 200)
        return web.Response(status=statuses[0])

    peer.handler = handler
    async with aiohttp.ClientSession(middlewares=(Retry(),)) as hook:
        subject = alert(Webhook(hook.post, f"{peer.url}/hook?key=secret"))
        async with aiohttp.ClientSession(middlewares=(subject,)) as client:
            await calls(client, peer.url, 3)
        await subject.aclose()
    assert len(posted) == 3
    assert posted[0] == posted[1]
    assert posted[0][0] != posted[2][0]
    assert posted[0][1]["scope"] == "GET /"
    assert "alerting" in posted[0][1]["text"]
    assert "secret" not in repr(subject._outlets[0]._sink)


@pytest.mark.looptime
async def test_a_webhook_tells_of_an_endpoint_with_letters_beyond_ascii(peer: Peer) -> None:
    """Its key is fit for a header, also where a chain in between refuses any other."""
    notice = Notice(
        kind="alerting", scope="GET /größen", origin=peer.url, cause="ratio", failed=1, calls=1, since=0.0, at=1.0,
        last_error="", trace_id=None,
    )  # fmt: skip
    async with aiohttp.ClientSession(middlewares=(Idempotency(),)) as hook:
        await Webhook(hook.post, f"{peer.url}/hook")(notice)
    assert peer.headers[0]["Idempotency-Key"] == "alerting-GET-/gr\\xf6\\xdfen-1.000000"


@pytest.mark.looptime
async def test_the_outbox_can_raise_it(peer: Peer) -> None:
    """Whoever keeps an outbox reports its age and its dead letters."""
    sink = Sink()
    subject = alert(sink)
    subject.outbox(oldest=10.0)
    subject.outbox(oldest=10.0, dead=2)
    subject.outbox()
    await subject.aclose()
    assert [(notice.kind, notice.cause) for notice in sink.notices] == [
        ("alerting", "dead_letter"),
        ("resolved", "dead_letter"),
    ]


@pytest.mark.looptime
async def test_each_change_is_an_event(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    """Degraded goes to the log only; alerting is an error there."""
    subject = alert()
    peer.answers(503)
    async with aiohttp.ClientSession(middlewares=(subject,)) as client:
        await calls(client, peer.url, 3)
    events = [(record.message, record.levelname) for record in caplog.records if record.message.startswith("alert.")]
    assert events == [("alert.degraded", "WARNING")] * 2 + [("alert.alerting", "ERROR")] * 2


@pytest.mark.looptime
async def test_memory_is_bounded_in_the_number_of_endpoints(peer: Peer) -> None:
    """Law 14: endpoints that are well are forgotten."""
    subject = alert()
    async with aiohttp.ClientSession(middlewares=(subject, _answer_nothing)) as client:
        for number in range(1500):
            with pytest.raises(errors.InvalidRequest):
                await client.get(f"{peer.url}/e{number}x")
    assert len(subject._alarms) <= 1024


async def _answer_nothing(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    raise errors.InvalidRequest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 0}, "ratio must be above 0 and at most 1, got 0"),
        ({"long": 1}, r"long must be from 1 to 100 times short \(30.0 seconds\), got 1"),
        ({"minimum": 0}, "minimum must be at least 1, got 0"),
        ({"queue": 0}, "queue must be at least 1, got 0"),
        ({"cooldown": 0}, "cooldown must be above 0 seconds, got 0"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], message: str) -> None:
    """Options out of range fail in the constructor with their name and value."""
    with pytest.raises(ValueError, match=message):
        Alert(**options)


def test_the_repr_tells_the_options() -> None:
    """A person sees when it is raised."""
    assert repr(Alert()) == "Alert(ratio=0.5, consecutive=10, sinks=0)"
