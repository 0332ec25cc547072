"""``--record FILE``: what a command sent and got can be replayed by a test."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from apiclient import ApiClient
from apiclient.cli._app import run
from apiclient.credentials import ClientCredentials, StaticToken
from apiclient.sandbox import Sandbox
from apiclient.testing import Cassette
from tests.conftest import Peer


async def test_a_batch_is_recorded_and_replayed(tmp_path: Path) -> None:
    """All calls of the batch, the token request included; no secret is in the file, and no server needed after."""
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"path": f"/employees/{n}"}) + "\n" for n in (1, 2, 3)))
    async with Sandbox(client_secret="c4n4ry-secret") as sandbox:
        base_url, token_url = sandbox.api_url, sandbox.token_url
        environment = {
            "APICLIENT_BASE_URL": base_url,
            "APICLIENT_TOKEN_URL": token_url,
            "APICLIENT_CLIENT_ID": "demo",
            "APICLIENT_CLIENT_SECRET": "c4n4ry-secret",
        }
        process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-m",
                "apiclient.cli",
                "batch",
                "in.jsonl",
                "-o",
                "out.jsonl",
                "-q",
                "--record",
                "a.json",
            ),
            cwd=tmp_path,
            env={**os.environ, **environment},
        )
        assert await process.wait() == 0
        assert len(sandbox.ledger) == 4
    text = (tmp_path / "a.json").read_text()
    assert "c4n4ry" not in text
    assert "sandbox-" not in text
    with Cassette(tmp_path / "a.json") as cassette:
        credentials = ClientCredentials(token_url=token_url, client_id="demo", client_secret="another-one")
        async with ApiClient(base_url, credentials=credentials) as client:
            names = [(await (await client.get(f"/employees/{n}")).json())["name"] for n in (3, 2, 1)]
    assert names == ["Employee 3", "Employee 2", "Employee 1"]
    cassette.assert_all_used()


async def test_a_trace_is_recorded(peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attempt of the one call, also where it fails in the end."""
    peer.answers(503, 404)
    monkeypatch.setenv("APICLIENT_TOKEN", "c4n4ry-token")
    path = tmp_path / "a.json"
    assert await asyncio.to_thread(run, ["trace", "GET", "/x", "--base-url", peer.url, "--record", str(path)]) == 1
    kept = json.loads(path.read_text())["interactions"]
    assert [each["response"]["status"] for each in kept] == [503, 404]
    assert "c4n4ry" not in path.read_text()
    with Cassette(path):
        async with ApiClient(peer.url, credentials=StaticToken("another")) as client:
            with pytest.raises(Exception, match="404"):
                await client.get("/x")
    assert peer.count == 2


async def test_what_is_recorded_can_be_replayed(peer: Peer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the same command: it says as much, sends nothing, and leaves the file as it is."""
    peer.answers(503, 200)
    path = tmp_path / "a.json"
    command = ["trace", "GET", "/x", "--base-url", peer.url]
    assert await asyncio.to_thread(run, [*command, "--record", str(path)]) == 0
    recorded, before = capsys.readouterr().out.splitlines(), path.read_bytes()
    assert await asyncio.to_thread(run, [*command, "--replay", str(path)]) == 0
    replayed = capsys.readouterr().out.splitlines()
    marks = ("  >", "  <")
    assert [line for line in replayed if line.startswith(marks)] == [
        line for line in recorded if line.startswith(marks)
    ]
    assert path.read_bytes() == before
    assert peer.count == 2


def test_a_file_that_cannot_be_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said before anything is sent."""
    path = tmp_path / "nowhere" / "a.json"
    assert run(["trace", "GET", "/x", "--base-url", "http://127.0.0.1:1", "--record", str(path)]) == 2
    assert capsys.readouterr().err == f"apiclient: --record {path}: there is no folder {path.parent}\n"
