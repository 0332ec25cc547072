import re
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from aiohttp import web

from apiclient import ApiClient
from apiclient.cli._checks import examine, skew
from apiclient.cli._finding import Finding
from apiclient.credentials import ClientCredentials, StaticToken
from apiclient.sandbox import Sandbox
from tests.conftest import Peer


async def found(client: ApiClient, path: str = "/ping", **options: object) -> list[Finding]:
    return [finding async for finding in examine(client, path, **options)]  # type: ignore[arg-type]


async def test_all_is_well() -> None:
    """Name, connection, token, call and clock, each with its time; the client is closed after it."""
    async with Sandbox(token_lifetime=60.0) as sandbox:
        credentials = ClientCredentials(token_url=sandbox.token_url, client_id="demo", client_secret="demo-secret")
        client = ApiClient(sandbox.api_url, credentials=credentials)
        findings = await found(client)
    texts = [re.sub(r"\d+ ms", "N ms", finding.text) for finding in findings]
    assert all(finding.ok and not finding.remedy for finding in findings), findings
    assert texts[0] == "127.0.0.1 is 127.0.0.1 (N ms)"
    assert re.fullmatch(r"connected to 127\.0\.0\.1:\d+ \(N ms\)", texts[1])
    assert re.search(r"has a token, good for (59|60) s \(N ms\)", texts[2])
    assert texts[3:] == ["GET /ping answers 200 (N ms)", "this clock and the server's agree to within 1 s"]
    assert "demo-secret" not in str(findings)
    with pytest.raises(RuntimeError, match="closed"):
        await client.get("/ping")


async def test_where_nobody_listens_it_ends_there(unused_tcp_port: int) -> None:
    """No call is made, and the advice is about the network."""
    findings = await found(ApiClient(f"http://127.0.0.1:{unused_tcp_port}"))
    assert [finding.ok for finding in findings] == [True, False]
    assert findings[1].text.startswith(f"no connection to 127.0.0.1:{unused_tcp_port} (")
    assert "firewall" in findings[1].remedy


async def test_a_name_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """The advice is about the name."""

    async def fail(*_: object) -> None:
        raise OSError("Name or service not known")

    client = ApiClient("http://nowhere.invalid")
    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", fail)
    (finding,) = await found(client)
    assert finding.text == "nowhere.invalid has no address (Name or service not known)"
    assert "spelling" in finding.remedy


async def test_a_name_that_cannot_be() -> None:
    """What no name server would be asked is said as plainly."""
    (finding,) = await found(ApiClient("http://a..b"))
    assert finding.text.startswith("a..b has no address (")
    assert "spelling" in finding.remedy


async def test_a_server_without_tls(peer: Peer) -> None:
    """Https to a plain server says so, and stops."""
    findings = await found(ApiClient(peer.url.replace("http:", "https:")))
    assert [finding.ok for finding in findings] == [True, True, False]
    assert findings[2].text.startswith("no secure connection to 127.0.0.1 (")
    assert peer.count == 0


async def test_a_refused_credential(peer: Peer) -> None:
    """The token endpoint's answer, with what to do about it, and no secret."""
    async with Sandbox() as sandbox:
        credentials = ClientCredentials(token_url=sandbox.token_url, client_id="demo", client_secret="canary")
        findings = await found(ApiClient(sandbox.api_url, credentials=credentials))
    refused = [finding for finding in findings if not finding.ok]
    assert "invalid_client" in refused[0].text
    assert refused[0].remedy == "Check client id and key, and the way of client authentication"
    assert "canary" not in str(findings)


@pytest.mark.parametrize(
    ("status", "ok", "said"),
    [
        (404, True, "so the server is there; try --path"),
        (401, False, "answers 401"),
        (403, False, "answers 403"),
    ],
)
async def test_what_a_status_means_for_the_way(peer: Peer, status: int, *, ok: bool, said: str) -> None:
    """A 404 shows that the way works; a 401 and a 403 that the credential does not."""
    peer.answers(status)
    findings = await found(ApiClient(peer.url, credentials=StaticToken("x")), "")
    (call,) = [finding for finding in findings if finding.text.startswith("GET /")]
    assert call.ok is ok
    assert said in call.text
    assert bool(call.remedy) is not ok


async def test_a_clock_that_is_wrong(peer: Peer) -> None:
    """Minutes ahead of the server: tokens and signatures will be refused."""
    findings = await found(ApiClient(peer.url), now=lambda: datetime.now(UTC).timestamp() + 600)
    assert not findings[-1].ok
    assert re.match(r"this clock is (598|599|600) s ahead of the server's \(20", findings[-1].text)
    assert "NTP" in findings[-1].remedy


async def test_an_answer_without_a_date(peer: Peer) -> None:
    """Nothing is said about the clock."""

    async def handler(_: web.Request) -> web.StreamResponse:
        response = web.Response()
        response.headers["Date"] = "yesterday"
        return response

    peer.handler = handler
    findings = await found(ApiClient(peer.url))
    assert findings[-1] == Finding(ok=True, text="the server's Date makes no sense, so the clocks were not compared")


NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("stamp", "took", "ok"),
    [
        (NOW, 0.1, True),
        (NOW - 1, 0.0, True),
        (NOW + 5, 0.1, True),
        (NOW + 6, 0.1, False),
        (NOW - 6, 0.0, True),
        (NOW - 7, 0.0, False),
        (NOW - 30, 25.0, True),
    ],
)
def test_the_clocks_differ_by_what_cannot_be_explained(stamp: float, took: float, *, ok: bool) -> None:
    """A Date has whole seconds and was written at some time of the exchange: only the rest counts."""
    finding = skew(format_datetime(datetime.fromtimestamp(stamp, UTC), usegmt=True), NOW, took)
    assert finding.ok is ok
