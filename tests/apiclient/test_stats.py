import asyncio
import dataclasses
import re
from pathlib import Path

import pytest

from apiclient import ApiClient, Rate, Request, errors
from apiclient.credentials import ClientCredentials, StaticToken
from apiclient.middleware import Alert, CircuitBreaker, RateLimit, Retry
from apiclient.middleware._readings import GAUGES, Gauge, Reading, merged
from apiclient.middleware._standing import named
from apiclient.sandbox import Sandbox
from apiclient.stats import BatchStats, ClientStats, EndpointStats, OriginStats, OutboxStats, TokenStats, readings_of
from tests.conftest import Peer

pytestmark = pytest.mark.looptime
PAGE = Path(__file__).parents[2] / "docs" / "observability.md"


def attributes_documented() -> dict[str, set[str]]:
    rows = re.findall(
        r"^\| `(apiclient[\w.]+)` \| \w+ \| \S+ \|([^|]*)\|", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    return {name: set(re.findall(r"`([\w.]+)`", labels)) for name, labels in rows}


async def test_a_client_that_did_nothing_has_nothing_to_tell(peer: Peer) -> None:
    """A snapshot can be taken at any time, in and out of a loop."""
    client = ApiClient(peer.url, credentials=StaticToken("canary"))
    stats = client.stats()
    assert (stats.base_url, stats.alarm, stats.endpoints, stats.origins) == (peer.url, "ok", (), ())
    assert [token.age for token in stats.tokens] == [None]
    assert "canary" not in f"{stats}{stats!r}"
    assert (await asyncio.to_thread(client.stats)) == stats


async def test_it_is_frozen(peer: Peer) -> None:
    """Nobody can change it, and it does not change."""
    stats = ApiClient(peer.url).stats()
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.alarm = "x"  # type: ignore[misc]


async def test_limits_pauses_and_queues_of_each_endpoint(peer: Peer) -> None:
    """A 429 pauses one endpoint, and its siblings wait; the other endpoint is free."""
    peer.answers(429, headers={"Retry-After": "30"})
    pipeline = ApiClient(peer.url).pipeline.replace(RateLimit, RateLimit(limits={"GET /a/{id}": "5/1s"}))
    async with ApiClient(peer.url, pipeline=pipeline) as client:
        calls = [asyncio.ensure_future(get(client, number)) for number in range(3)]
        await asyncio.sleep(5)
        with pytest.raises(errors.RateLimited):
            await client.get("/b", timeout=5)
        held, free = client.stats().endpoints
        assert (held.endpoint, held.rates, held.waiting, held.flying) == ("GET /a/{id}", (Rate(5),), 3, 0)
        assert 20 < held.paused < 30.5
        assert free.endpoint == "GET /b"
        assert "GET /a/{id}: 5/1s, paused for " in str(client.stats())
        assert "3 waiting" in str(client.stats())
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


async def get(client: ApiClient, number: int) -> None:
    await client.get("/a/{id}", path_params={"id": number})


async def test_circuits_budgets_and_alarms(peer: Peer) -> None:
    """An outage shows in the origin's circuit, in what is left of its budget, and in the alarm."""
    peer.answers(500)
    pipeline = (
        ApiClient(peer.url)
        .pipeline.replace(CircuitBreaker, CircuitBreaker(minimum=4))
        .replace(Alert, Alert(consecutive=2))
        .replace(Retry, Retry(attempts=2))
    )
    async with ApiClient(peer.url, pipeline=pipeline) as client:
        for _ in range(4):
            with pytest.raises(errors.ApiError):
                await client.get("/a")
        stats = client.stats()
        told = {reading.name: reading.value for reading in readings_of(client.watch._parts())}
    (origin,) = stats.origins
    assert (origin.origin, origin.breaker) == (peer.url, "open")
    assert told["apiclient.breaker.state"] == 2
    assert origin.retries_left is not None
    assert origin.retries_left < 100.8
    assert stats.alarm == "alerting"
    assert [each.alarm for each in stats.endpoints] == ["alerting"]
    assert f"{peer.url}: circuit open, " in str(stats)


async def test_a_circuit_per_endpoint_is_told_with_it(peer: Peer) -> None:
    """With per="endpoint" the origin has none."""
    peer.answers(200)
    pipeline = ApiClient(peer.url).pipeline.replace(CircuitBreaker, CircuitBreaker(per="endpoint"))
    async with ApiClient(peer.url, pipeline=pipeline) as client:
        await client.get("/a")
        stats = client.stats()
    assert [(each.endpoint, each.breaker) for each in stats.endpoints] == [("GET /a", "closed")]
    assert [each.breaker for each in stats.origins] == [None]


async def test_the_age_of_tokens_and_how_often_they_were_asked_for() -> None:
    """Age and time left by the wall clock, results by kind; further scopes are credentials of their own."""
    async with Sandbox(token_lifetime=3600.0) as sandbox:
        wall = [1_000_000.0]
        credentials = ClientCredentials(
            token_url=sandbox.token_url, client_id="demo", client_secret="demo-secret", now=lambda: wall[0]
        )
        async with ApiClient(sandbox.api_url, credentials=credentials) as client:
            await client.get("/ping")
            wall[0] += 100
            (token,) = client.stats().tokens
    assert (token.age, token.refreshes) == (100.0, {"issued": 1, "refused": 0, "unavailable": 0})
    assert token.expires_in == pytest.approx(3500.0)
    assert "demo-secret" not in repr(client.stats())


async def test_a_batch_tells_how_far_it_is(peer: Peer) -> None:
    """While it runs it is among the batches; afterwards it is not."""
    seen: list[BatchStats] = []
    async with ApiClient(peer.url) as client:
        requests = [Request(path=f"/a/{number}") for number in range(10)]
        async for _ in client.batch(requests, concurrency=2):
            seen += client.stats().batches
        assert client.stats().batches == ()
    assert seen
    assert max(each.done for each in seen) >= 9
    assert all(each.running <= 2 and each.failed == 0 for each in seen)


async def test_the_gauges_have_the_attributes_of_the_page(peer: Peer) -> None:
    """Each reading has a gauge, and no attribute that the page does not name."""
    pipeline = ApiClient(peer.url, credentials=StaticToken("x")).pipeline
    documented = attributes_documented()
    told: dict[str, set[str]] = {}
    for per in ("origin", "endpoint"):
        chain = pipeline.replace(CircuitBreaker, CircuitBreaker(per=per)).replace(RateLimit, RateLimit(default="5/1s"))
        async with ApiClient(peer.url, pipeline=chain) as client:
            await client.get("/a")
            for reading in readings_of(client.watch._parts()):
                told.setdefault(reading.name, set()).update(reading.attributes)
    assert {"apiclient.ratelimit.learned", "apiclient.breaker.state", "apiclient.batch.done"} <= set(told)
    assert {name: labels for name, labels in told.items() if labels != documented[name]} == {}
    assert {gauge.name for gauge in GAUGES} - set(told) == {
        "apiclient.auth.refresh", "apiclient.outbox.depth", "apiclient.outbox.oldest", "apiclient.outbox.dead"
    }  # fmt: skip


def test_a_page_for_a_person() -> None:
    """The text names all that there is."""
    stats = ClientStats(
        base_url="https://api.example.com/v1",
        alarm="degraded",
        endpoints=(EndpointStats(origin="https://api.example.com", endpoint="GET /a", flying=2, alarm="degraded"),),
        origins=(OriginStats(origin="https://api.example.com", breaker="half_open", retries_left=3.0),),
        tokens=(
            TokenStats(
                credential="ClientCredentials('x')", age=12.0, expires_in=48.0, refreshes={"issued": 2, "refused": 0}
            ),
            TokenStats(credential="StaticToken()"),
        ),
        outbox=OutboxStats(depth=3, oldest=61.0, dead=1),
        batches=(BatchStats(running=4, held=5, done=6, failed=1),),
    )
    assert str(stats).splitlines() == [
        "https://api.example.com/v1: degraded",
        "  https://api.example.com: circuit half_open, 3 retries left",
        "  GET /a: no limit known, 2 under way, degraded",
        "  ClientCredentials('x'): token 12 s old, 48 s left, 2 issued",
        "  StaticToken(): fixed",
        "  outbox: 3 to deliver, the oldest 61 s old, 1 dead",
        "  batch: 6 done, 1 failed, 4 running, 5 held back",
    ]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (("http://a", "GET /x"), ("http://a", "GET /x")),
        ((("http://a", "GET /x"), "credential"), ("http://a", "GET /x")),
        (("http://a", "group", None), ("http://a", "group")),
        ("mine", ("", "mine")),
        ((1,), ("", "(1,)")),
    ],
)
def test_the_name_of_a_key(key: object, expected: tuple[str, str]) -> None:
    """Keys of endpoints, of endpoints with a credential, of groups, and of a key function."""
    assert named(key) == expected


def test_what_two_clients_share_is_told_once() -> None:
    """One circuit read through two clients is one, and two are merged as the gauge says."""
    worst, total = Gauge("a", "1", "", max), Gauge("b", "1", "")
    readings = [
        Reading("a", 0, {"x": "1"}, 7), Reading("a", 2, {"x": "1"}, 8), Reading("b", 5, {}, 9), Reading("b", 5, {}, 9),
        Reading("b", 3, {}, 0), Reading("b", 3, {}, 0), Reading("b", 1, {"apiclient.endpoint": "GET /many"}),
    ]  # fmt: skip
    assert merged(worst, readings, str) == {(("x", "1"),): 2}
    assert merged(total, readings, lambda _: "_OTHER") == {(): 11}
