"""The sandbox's own faults: seeded, off by default, and each request in the ledger all the same."""

import asyncio
from collections import Counter
from typing import Any

import aiohttp
import pytest

from apiclient import ApiClient, errors
from apiclient.credentials import ClientCredentials
from apiclient.sandbox import Sandbox
from apiclient.testing import Chaos, MockTransport

pytestmark = pytest.mark.looptime
FREE: dict[str, Any] = {"limits": {"GET /v1/employees/{id}": None, "POST /v1/timesheets": None}}


async def seen(sandbox: Sandbox, number: int, method: str = "POST", path: str = "/v1/timesheets") -> list[str]:
    """Return how each of *number* requests ended, on connections that aiohttp does not try twice."""
    token, outcomes = sandbox.issue_token(), list[str]()
    async with aiohttp.ClientSession(sandbox.url, headers={"Authorization": f"Bearer {token}"}) as session:
        for _ in range(number):
            try:
                async with session.request(method, path, json={"hours": 1}) as response:
                    await response.read()
                    outcomes.append(str(response.status))
            except aiohttp.ClientError as error:
                outcomes.append(type(error).__name__)
    return outcomes


async def test_nothing_happens_unless_it_is_asked_for() -> None:
    """The default is no fault at all."""
    async with Sandbox(**FREE) as sandbox:
        assert await seen(sandbox, 30) == ["201"] * 30
        assert sandbox.injected == Counter()


@pytest.mark.parametrize(
    ("fault", "outcome", "status", "created"),
    [
        ("error", "ServerDisconnectedError", None, 0),
        ("status", "50", 50, 0),
        ("reset", "ClientOSError", None, 5),
        ("truncation", "ClientPayloadError", 201, 5),
        ("slow_body", "201", 201, 5),
        ("latency", "201", 201, 5),
    ],
)
async def test_what_a_fault_looks_like(fault: str, outcome: str, status: int | None, created: int) -> None:
    """Error and status come before the work, the others after it; the ledger has each request, and what was sent."""
    async with Sandbox(chaos={fault: 1.0}, **FREE) as sandbox:
        began = asyncio.get_running_loop().time()
        assert all(each.startswith(outcome) for each in await seen(sandbox, 5))
        took = asyncio.get_running_loop().time() - began
        assert len(sandbox.ledger) == sandbox.injected[fault] == 5
        assert sandbox.created == created
        for entry in sandbox.ledger:
            assert entry.status == status or str(entry.status).startswith(str(status))
        assert (took > 5 * 0.05) is (fault in {"slow_body", "latency"})


async def test_a_share_is_that_share_and_a_seed_that_series() -> None:
    """0.2 is a fault for a fifth of the requests; equal seeds give equal series, and others another."""
    series: list[list[str]] = []
    for seed in (1, 1, 2):
        async with Sandbox(seed=seed, chaos=0.2, **FREE) as sandbox:
            series.append(await seen(sandbox, 300))
            met = 300 - series[-1].count("201")
            assert len(sandbox.ledger) == 300
        # Of the six kinds, latency and slow bodies come through as 201.
        assert 20 < met < 70
        assert 40 < sum(sandbox.injected.values()) < 80
    assert series[0] == series[1] != series[2]


async def test_the_dice_are_those_of_chaos() -> None:
    """With one seed and one set of rates, Chaos before the wire and the sandbox behind it draw the same faults."""
    rates = {"error": 0.2, "status": 0.2, "truncation": 0.2}
    async with Sandbox(seed=3, chaos=rates, **FREE) as sandbox:
        behind = await seen(sandbox, 60)
    chaos, transport = Chaos(seed="3/chaos", enabled=True, **rates), MockTransport()  # type: ignore[arg-type]
    transport.any().respond(status=201, body=b"0123456789")
    before: list[str] = []
    async with aiohttp.ClientSession(middlewares=(chaos, transport)) as session:
        for _ in range(60):
            try:
                async with session.post("http://a.test/") as response:
                    await response.read()
                    before.append(str(response.status))
            except aiohttp.ClientError as error:
                before.append(type(error).__name__)
    same = {"ClientConnectorError": "ServerDisconnectedError"}
    assert [same.get(each, each) for each in before] == behind
    assert chaos.injected == sandbox.injected


async def test_a_client_gets_through_it_and_counts_as_the_ledger_does() -> None:
    """Forty calls through the default chain at a fifth: all answered, none created twice, wire requests as counted."""
    async with Sandbox(seed=5, chaos=0.2, token_lifetime=600, **FREE) as sandbox:
        now = asyncio.get_running_loop().time
        credentials = ClientCredentials(
            token_url=sandbox.token_url, client_id="demo", client_secret="demo-secret", now=now
        )
        attempts = 0
        async with ApiClient(sandbox.api_url, credentials=credentials) as client:
            for number in range(40):
                try:
                    pending = client.post("/timesheets", json={"hours": 8}, idempotency_key=f"week-{number}")
                    await pending
                    attempts += pending.call.attempts if pending.call is not None else 0
                except errors.ApiError as error:  # pragma: no cover - with another seed
                    attempts += error.attempts
        assert sandbox.created == 40
        assert attempts == sandbox.count("POST /v1/timesheets") > 40


@pytest.mark.parametrize(
    ("chaos", "message"),
    [
        (1.5, "chaos must be from 0 to 1, got 1.5"),
        ({"reset": -1}, "reset must be from 0 to 1, got -1"),
        ({"flood": 0.1}, "a fault must be one of latency, error, .*, got 'flood'"),
    ],
)
def test_options_are_checked(chaos: Any, message: str) -> None:
    """The message names option and value."""
    with pytest.raises(ValueError, match=message):
        Sandbox(chaos=chaos)
