import re
import sys
from pathlib import Path

import pytest
from aiohttp import web

from apiclient import ApiClient
from apiclient.cli._app import run
from apiclient.cli._trace import traced
from apiclient.credentials import ApiKey, StaticToken
from tests.conftest import Peer


async def test_one_call_and_its_whole_life(peer: Peer) -> None:
    """The waterfall, then the headers of each exchange, secrets hidden on both sides."""

    async def handler(_: web.Request) -> web.StreamResponse:
        headers = {"Set-Cookie": "session=canary", "X-Echo": "Bearer canary-token", "X-Plain": "shown"}
        return web.Response(status=503 if peer.count == 1 else 200, headers=headers)

    peer.handler = handler
    client = ApiClient(peer.url, credentials=StaticToken("canary-token"), headers={"X-Private": "canary"})
    ok, lines = await traced(
        client, "get", "/things/{id}", show_headers=True, path_params={"id": 7}, params={"key": "canary"}
    )
    assert ok
    text = "\n".join(lines)
    assert "canary" not in text
    assert re.match(r"GET /things/\{id\}  ok: 200  in [\d.]+ s, 2 wire requests", text)
    assert "attempt 2              |" in text
    for line in (
        f"  > GET {peer.url}/things/7?key",
        "  > Authorization: [hidden]",
        "  > X-Private: [hidden]",
        "  < 503",
        "  < X-Plain: shown",
        "  < X-Echo: [hidden]",
        "  < Set-Cookie: [hidden]",
    ):
        assert line in text.splitlines()


async def test_a_failure_says_what_to_do(peer: Peer) -> None:
    """Exit code 1, the error in full, and no header where none are wanted."""
    peer.answers(404)
    ok, lines = await traced(ApiClient(peer.url, credentials=ApiKey("canary-key")), "GET", "/x", show_headers=False)
    assert not ok
    text = "\n".join(lines)
    assert "NotFound" in text
    assert "  do " in text
    assert "canary" not in text
    assert "> GET" not in text


async def test_an_attempt_without_an_answer_says_so(unused_tcp_port: int) -> None:
    """Nobody listens: four attempts, no answer to any."""
    client = ApiClient(f"http://127.0.0.1:{unused_tcp_port}")
    ok, lines = await traced(client, "GET", "/x", show_headers=True)
    assert not ok
    assert "\n".join(lines).count("  < no answer") == 4


MODULE = """
from apiclient import ApiClient, Pipeline
from apiclient.middleware import Deadline
from apiclient.testing import MockTransport

transport = MockTransport()
transport.any().respond(json={})
client = ApiClient("http://api.example", pipeline=Pipeline([Deadline(7), transport], check=False))
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module with a client in it, in the current directory."""
    (tmp_path / "traced_app.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "traced_app", raising=False)
    return "traced_app:client"


def test_the_tree_of_a_client_of_ones_own(own: str, capsys: pytest.CaptureFixture[str]) -> None:
    """``apiclient pipeline --client m:a`` draws its chain."""
    assert run(["pipeline", "--client", own]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == [
        "Pipeline",
        "|-- Deadline",
        "|       seconds = 7   (default 60.0)",
    ]


def test_a_body_that_is_no_json_is_refused(own: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is sent, with exit code 2."""
    assert run(["trace", "POST", "/x", "--client", own, "--json", "{"]) == 2
    assert "--json is no JSON" in capsys.readouterr().err


def test_without_an_api_it_says_what_to_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback."""
    monkeypatch.delenv("APICLIENT_BASE_URL", raising=False)
    assert run(["trace", "GET", "/x"]) == 2
    assert "--base-url" in capsys.readouterr().err


def test_doctor_looks_at_an_api_where_one_is_named(unused_tcp_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    """After the installation comes the way to it; trouble there is exit code 1."""
    assert run(["doctor", "--base-url", f"http://127.0.0.1:{unused_tcp_port}"]) == 1
    printed = capsys.readouterr().out
    assert "ok       Python" in printed
    assert "PROBLEM  no connection to 127.0.0.1" in printed
