import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
from aiohttp import web
from structlog.testing import LogCapture

from apiclient import ApiClient, Pipeline, errors
from apiclient.middleware import AccessLog, Idempotency, Retry
from apiclient.middleware._events import EventLog
from tests.conftest import Peer


@pytest.fixture
def captured() -> Iterator[LogCapture]:
    """Structlog configured as an application would, with its events kept."""
    capture = LogCapture()
    structlog.configure(processors=[capture])
    yield capture
    structlog.reset_defaults()


def fields(record: logging.LogRecord) -> dict[str, Any]:
    plain = logging.LogRecord("", 0, "", 0, "", (), None).__dict__
    return {key: value for key, value in record.__dict__.items() if key not in plain and key != "message"}


async def test_one_event_per_call_with_its_fields(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    """A call that needed two attempts is one event, with the template instead of the URL."""
    peer.answers(503, 200)
    with caplog.at_level(logging.INFO, "apiclient"):
        async with ApiClient(peer.url) as client:
            await client.get("/things/{id}", path_params={"id": "canary"}, params={"q": "canary"})
    (record,) = [each for each in caplog.records if each.message == "http.call"]
    assert record.levelno == logging.INFO
    told = fields(record)
    assert set(told) == {"call_id", "endpoint", "status", "attempts", "duration_s", "network_s", "backoff_s"}
    assert (told["endpoint"], told["status"], told["attempts"]) == ("GET /things/{id}", 200, 2)
    assert "canary" not in str(told)


async def test_a_failure_is_a_warning_with_its_kind(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    """A failed call tells the error's class and the server's trace id."""
    peer.answers(404, body=b'{"title": "gone", "traceId": "t-1"}', headers={"Content-Type": "application/problem+json"})
    with caplog.at_level(logging.INFO, "apiclient"):
        async with ApiClient(peer.url) as client:
            with pytest.raises(errors.NotFound):
                await client.get("/x")
    (record,) = [each for each in caplog.records if each.message == "http.call"]
    assert record.levelno == logging.WARNING
    assert fields(record)["error_type"] == "NotFound"
    assert fields(record)["trace_id"] == "t-1"
    assert fields(record)["status"] == 404


async def test_a_cancelled_call_is_recorded_too(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    """A call that was given up does not vanish."""
    with caplog.at_level(logging.INFO, "apiclient"):
        async with ApiClient(peer.url) as client:
            task = asyncio.ensure_future(_get(client))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    assert [fields(each)["error_type"] for each in caplog.records if each.message == "http.call"] == ["CancelledError"]


async def _get(client: ApiClient) -> int:
    return (await client.get("/x")).status


async def test_a_followed_redirect_is_part_of_its_call(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    """Two hops are one http.call."""
    count = 0

    async def handler(_: web.Request) -> web.StreamResponse:
        nonlocal count
        count += 1
        return web.Response(status=302 if count == 1 else 200, headers={"Location": "/end"})

    peer.handler = handler
    with caplog.at_level(logging.DEBUG, "apiclient"):
        async with ApiClient(peer.url) as client:
            await client.get("/start")
    messages = [each.message for each in caplog.records if each.message in {"http.call", "http.redirect"}]
    assert messages == ["http.redirect", "http.call"]


async def test_it_works_alone_on_a_bare_session(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    """Alone it still counts the attempts that our policies made."""
    peer.answers(500, 200)
    with caplog.at_level(logging.INFO, "apiclient"):
        async with aiohttp.ClientSession(middlewares=(AccessLog(), Retry())) as session:
            (await session.get(peer.url + "/a/7")).release()
    (record,) = [each for each in caplog.records if each.message == "http.call"]
    assert (fields(record)["endpoint"], fields(record)["attempts"]) == ("GET /a/{}", 2)


async def test_structlog_gets_the_events_where_it_is_configured(peer: Peer, captured: LogCapture) -> None:
    """An application of structlog sees structured events without telling us anything."""
    async with ApiClient(peer.url) as client:
        await client.get("/x")
    (event,) = [each for each in captured.entries if each["event"] == "http.call"]
    assert event["endpoint"] == "GET /x"
    assert event["log_level"] == "info"


async def test_a_logger_that_is_given_wins(peer: Peer, captured: LogCapture) -> None:
    """logger= decides, whatever is configured."""
    records: list[logging.LogRecord] = []
    own = logging.Logger("own", logging.INFO)  # noqa: LOG001 - one that nobody else can see
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign,assignment]
    own.addHandler(handler)
    async with ApiClient(peer.url, logger=own) as client:
        await client.get("/x")
    assert [record.getMessage() for record in records] == ["http.call"]
    assert captured.entries == []


def test_nothing_is_printed_and_nothing_configured(capsys: pytest.CaptureFixture[str]) -> None:
    """A library never configures logging: without an application's say it is silent below warning."""
    log = EventLog()
    log.emit(logging.INFO, "http.call")
    assert not structlog.is_configured()
    assert capsys.readouterr() == ("", "")


def test_reprs() -> None:
    """The repr names the levels."""
    assert repr(AccessLog()) == "AccessLog(level=INFO, failure_level=WARNING)"
    assert repr(AccessLog(sample=0.1, body=9)) == "AccessLog(level=INFO, failure_level=WARNING, sample=0.1, body=9)"
    assert repr(EventLog()) == "EventLog()"


class Kept:
    """A logger that keeps what it is given, at any level."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def log(self, level: int, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    def of(self, name: str) -> list[dict[str, Any]]:
        return [told for event, told in self.events if event == name]


def client_of(peer: Peer, log: Kept, **options: Any) -> ApiClient:
    pipeline = ApiClient(peer.url).pipeline.replace(AccessLog, AccessLog(**options))
    return ApiClient(peer.url, pipeline=pipeline, logger=log)


async def test_each_wire_request_is_an_attempt(peer: Peer) -> None:
    """What the server counted is what is recorded, with status, time and what broke it off."""

    async def drop(request: web.Request) -> web.StreamResponse:
        if peer.count == 1:
            return web.Response(status=503)
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    peer.handler = drop
    log = Kept()
    async with client_of(peer, log) as client:
        with pytest.raises(errors.TransportError):
            await client.get("/a")
    attempts = log.of("http.attempt")
    assert len(attempts) == peer.count == 5
    assert [each["attempt"] for each in attempts] == [1, 2, 3, 4, 5]
    assert (attempts[0]["status"], attempts[0]["error_type"]) == (503, None)
    assert (attempts[1]["status"], attempts[1]["error_type"]) == (None, "KeptConnectionLost")
    assert (attempts[2]["status"], attempts[2]["error_type"]) == (None, "ServerDisconnectedError")
    assert all(each["duration_s"] > 0 for each in attempts)
    assert len({each["call_id"] for each in (*attempts, *log.of("http.call"))}) == 1


async def test_a_body_that_breaks_off_is_the_attempts_error(peer: Peer) -> None:
    """The status had come, the body had not: both are told."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "10"})
        await response.prepare(request)
        await response.write(b"12345")
        assert request.transport is not None
        request.transport.close()
        return response

    peer.handler = handler
    log = Kept()
    async with client_of(peer, log) as client:
        with pytest.raises(errors.ApiError):
            await client.post("/a")
    (attempt,) = log.of("http.attempt")
    assert (attempt["status"], attempt["error_type"]) == (200, "ClientPayloadError")


async def test_successes_are_sampled_and_nothing_else_is(peer: Peer) -> None:
    """One in ten of what went well at once; what was resent or failed is always there."""
    draws = iter([0.05, 0.1, 0.5, 0.09])
    log = Kept()
    async with client_of(peer, log, sample=0.1, random=lambda: next(draws)) as client:
        for _ in range(4):
            await client.get("/a")
        peer.answers(503, 200)
        await client.get("/resent")
        peer.answers(404)
        with pytest.raises(errors.NotFound):
            await client.get("/gone")
    told = log.of("http.call")
    assert [each["endpoint"] for each in told] == ["GET /a", "GET /a", "GET /resent", "GET /gone"]
    assert told[0]["sample"] == 0.1


async def test_a_failure_that_is_a_response_is_never_left_out(peer: Peer) -> None:
    """Without StatusErrors a 404 is no exception, and is recorded all the same."""
    peer.answers(404)
    log = Kept()
    async with ApiClient(peer.url, pipeline=Pipeline([AccessLog(sample=0.0)]), logger=log) as client:
        await client.get("/a")
    assert [each["status"] for each in log.of("http.call")] == [404]


async def test_bodies_are_recorded_only_where_asked_and_without_secrets(peer: Peer) -> None:
    """Off by default; then one cut line each, with the values of secrets hidden."""

    async def handler(_: web.Request) -> web.StreamResponse:
        return web.json_response({"access_token": "canary-token", "name": "Ann", "shoe": "canary-shoe"})

    peer.handler = handler
    document = {"password": "canary-password", "user": "ann", "shoe": "canary-shoe"}
    log = Kept()
    async with client_of(peer, log) as client:
        await client.put("/a", json=document)
    assert not {"request_body", "response_body"} & set(log.of("http.call")[0])
    log = Kept()
    async with client_of(peer, log, body=200, redact=["shoe"]) as client:
        await client.put("/a", json=document)
        async with client.get("/a") as response:
            await response.read()
    first, streamed = log.of("http.call")
    assert first["request_body"] == '{"password":"[hidden]","user":"ann","shoe":"[hidden]"}'
    assert first["response_body"] == '{"access_token":"[hidden]","name":"Ann","shoe":"[hidden]"}'
    assert not {"request_body", "response_body"} & set(streamed)
    assert "canary" not in str(log.events)


async def test_a_body_that_is_a_file_shows_as_its_size(peer: Peer, tmp_path: Path) -> None:
    """It is never read for the log."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"x" * 1000)
    log = Kept()
    with path.open("rb") as file:
        async with client_of(peer, log, body=50) as client:
            await client.put("/a", data=file)
    assert log.of("http.call")[0]["request_body"] == "<1000 bytes of application/octet-stream>"
    assert peer.seen[0][2] == b"x" * 1000


async def test_the_body_of_a_failure_is_its_excerpt(peer: Peer) -> None:
    """What the server said of the failure, as the error tells it."""
    peer.answers(
        400, body=b'{"title": "bad", "detail": "no name"}', headers={"Content-Type": "application/problem+json"}
    )
    log = Kept()
    async with client_of(peer, log, body=200) as client:
        with pytest.raises(errors.BadRequest):
            await client.post("/a", data=b"\xff\xfe", headers={"Content-Type": "image/png"})
    told = log.of("http.call")[0]
    assert told["request_body"] == "<2 bytes of image/png>"
    assert "no name" in told["response_body"]


async def test_what_stopped_the_retries_is_told(peer: Peer) -> None:
    """A POST that may not be sent again says so."""
    peer.answers(500)
    log = Kept()
    pipeline = ApiClient(peer.url).pipeline.without(Idempotency)
    async with ApiClient(peer.url, pipeline=pipeline, logger=log) as client:
        with pytest.raises(errors.ServerOutcomeUnknown):
            await client.post("/a")
    assert log.of("http.call")[0]["stopped"] == "not_repeatable"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample": 1.5}, "sample must be between 0 and 1, got 1.5"),
        ({"body": 0}, "body must be between 1 and 65536 characters, got 0"),
        ({"redact": "name"}, "redact must be a collection of names, got the string 'name'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    """The message names option and value."""
    with pytest.raises((ValueError, TypeError), match=message):
        AccessLog(**options)


@pytest.mark.parametrize(
    ("logger", "enabled"),
    [
        (
            structlog.wrap_logger(structlog.PrintLogger(), wrapper_class=structlog.make_filtering_bound_logger(30)),
            False,
        ),
        (structlog.wrap_logger(logging.getLogger("quiet"), wrapper_class=structlog.stdlib.BoundLogger), False),
        (structlog.wrap_logger(structlog.PrintLogger(), wrapper_class=structlog.BoundLogger), True),
        (Kept(), True),
    ],
)
def test_a_loggers_level_is_asked_for_before_anything_is_made(
    logger: Any, *, enabled: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever kind it is, asking writes nothing; a logger without levels gets everything."""
    logging.getLogger("quiet").setLevel(logging.WARNING)
    assert EventLog(logger).enabled(logging.DEBUG) is enabled
    assert capsys.readouterr() == ("", "")
