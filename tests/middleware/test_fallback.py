"""Fallback on a bare session against a real server on loopback."""

from typing import Any

import aiohttp
import pytest
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from apiclient.middleware import errors
from apiclient.middleware._alarm import Phase
from apiclient.middleware._call import Call
from apiclient.middleware._substitute import Substitute
from apiclient.middleware.alert import Alert
from apiclient.middleware.fallback import Fallback
from apiclient.middleware.retry import Retry
from apiclient.middleware.status_errors import StatusErrors
from tests.conftest import Peer

pytestmark = pytest.mark.looptime
RATES = Substitute(json={"EUR": 1}, headers={"Age": "60"})


def session(*middlewares: Any, **options: Any) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(middlewares=middlewares, **options)


async def test_a_stale_answer_stands_in_for_a_failure(peer: Peer) -> None:
    """A response like any other, marked as what it is."""
    peer.answers(503)
    subject = Fallback({"GET /rates": RATES})
    async with session(subject, StatusErrors(), Retry()) as client, client.get(f"{peer.url}/rates") as response:
        assert (response.status, response.reason) == (200, "OK")
        assert await response.json() == {"EUR": 1}
        assert (response.headers["X-Fallback"], response.headers["Age"]) == ("ServerError", "60")
        assert response.url.path == "/rates"
    assert peer.count == 4


async def test_a_working_server_is_not_replaced(peer: Peer) -> None:
    """The answer is for failures only."""
    async with session(Fallback({"GET /rates": RATES})) as client, client.get(f"{peer.url}/rates") as response:
        assert "X-Fallback" not in response.headers


async def test_other_endpoints_fail_as_before(peer: Peer) -> None:
    """Only where the caller said that a stale answer will do."""
    peer.answers(503)
    async with session(Fallback({"GET /rates": RATES}), StatusErrors()) as client:
        with pytest.raises(errors.ServerError):
            await client.get(f"{peer.url}/orders")


@pytest.mark.parametrize(
    ("error", "replaced"),
    [
        (errors.ServerError(status=503), True),
        (errors.ConnectFailed(), True),
        (errors.CircuitOpen(), True),
        (errors.DeadlineExceeded(), True),
        (errors.RateLimited(), True),
        (errors.TokenUnavailable(), True),
        (errors.NotFound(status=404), False),
        (errors.CredentialsRejected(), False),
        (errors.TransportOutcomeUnknown(), False),
        (errors.Deferred(), False),
        (ZeroDivisionError(), False),
    ],
)
async def test_only_a_recoverable_failure_is_replaced(peer: Peer, error: Exception, *, replaced: bool) -> None:
    """A 404 or a dead credential is an answer of its own; an unknown outcome must be seen; a bug too."""

    async def fail(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        raise error

    async with session(Fallback({"GET /rates": RATES}), fail) as client:
        if replaced:
            async with client.get(f"{peer.url}/rates") as response:
                assert response.headers["X-Fallback"] == type(error).__name__
        else:
            with pytest.raises(type(error)):
                await client.get(f"{peer.url}/rates")


async def test_a_plain_5xx_is_replaced_and_released(peer: Peer) -> None:
    """Without StatusErrors too; with one connection nothing deadlocks."""
    peer.answers(503, body=b"x" * 2_000_000)
    connector = aiohttp.TCPConnector(limit=1)
    async with session(Fallback({"GET /rates": RATES}), connector=connector) as client:
        for _ in range(3):
            async with client.get(f"{peer.url}/rates") as response:
                assert response.headers["X-Fallback"] == "503"
    assert peer.count == 3


async def test_a_callable_is_asked_with_the_call_and_the_error(peer: Peer) -> None:
    """Sync or async; None lets the call fail after all."""
    peer.answers(503)
    asked: list[tuple[str, str | None]] = []

    async def source(call: Call, error: errors.ApiError | None) -> Substitute | None:
        asked.append((call.endpoint, type(error).__name__))
        return RATES if len(asked) == 1 else None

    def nothing(call: Call, error: errors.ApiError | None) -> Substitute | None:
        return None

    subject = Fallback({"GET /rates": source, "GET /none": nothing})
    async with session(subject, StatusErrors()) as client:
        async with client.get(f"{peer.url}/rates") as response:
            assert response.status == 200
        for path in ("/rates", "/none"):
            with pytest.raises(errors.ServerError):
                await client.get(peer.url + path)
    assert asked == [("GET /rates", "ServerError")] * 2
    async with session(subject) as client, client.get(f"{peer.url}/none") as response:
        assert response.status == 503


async def test_a_source_that_raises_leaks_no_connection(peer: Peer) -> None:
    """Its error reaches the caller."""
    peer.answers(503, body=b"x" * 2_000_000)

    def broken(call: Call, error: errors.ApiError | None) -> Substitute | None:
        raise ZeroDivisionError

    async with session(Fallback({"GET /rates": broken}), connector=aiohttp.TCPConnector(limit=1)) as client:
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await client.get(f"{peer.url}/rates")
    assert peer.count == 3


async def test_outside_alert_the_failure_is_still_seen(peer: Peer) -> None:
    """A fallback does not hide an outage from whoever has to know."""
    peer.answers(503)
    alert = Alert(consecutive=3)
    async with session(Fallback({"GET /rates": RATES}), alert) as client:
        for _ in range(3):
            async with client.get(f"{peer.url}/rates") as response:
                assert response.status == 200
    assert alert.phase() is Phase.ALERTING


def test_wrong_options_are_named() -> None:
    """What cannot answer is refused in the constructor."""
    with pytest.raises(TypeError, match=r"answers\['GET /a'\] must be a Substitute or a callable, got 7"):
        Fallback({"GET /a": 7})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="json and body must not both be given"):
        Substitute(json=None, body=b"")
    with pytest.raises(ValueError, match="status must be between 200 and 599, got 99"):
        Substitute(status=99)


def test_the_repr_tells_the_options() -> None:
    """A person sees which endpoints have one."""
    assert repr(Fallback({"GET /rates": RATES})) == "Fallback(['GET /rates'])"
    assert repr(RATES) == "Substitute(status=200, 10 bytes)"
