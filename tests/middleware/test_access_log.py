import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
import structlog
from structlog.testing import LogCapture

from apiclient import ApiClient, errors
from apiclient.middleware import AccessLog, Retry
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

    async def handler(_: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        nonlocal count
        count += 1
        return aiohttp.web.Response(status=302 if count == 1 else 200, headers={"Location": "/end"})

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
    assert repr(EventLog()) == "EventLog()"
