"""``--replay FILE``: what was recorded is given again, and no network is there."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from apiclient.cli._app import run
from apiclient.outbox import Outbox
from tests.apiclient.stores.outbox import intent

HOST = "https://api.test"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, credentials, and a network that fails the test."""

    async def connect(*_: Any, **__: Any) -> Any:
        raise AssertionError("a replay opened a connection")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("APICLIENT_BASE_URL", HOST)
    monkeypatch.setenv("APICLIENT_TOKEN", "another-token")
    monkeypatch.setattr(aiohttp.TCPConnector, "connect", connect)
    monkeypatch.setattr(asyncio, "open_connection", connect)
    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", connect)
    return tmp_path


def taped(name: str, *requests: tuple[str, str, int]) -> None:
    """Write a cassette: method, path, and status of each request."""
    interactions = [
        {
            "request": {
                "method": method,
                "url": HOST + path,
                "query": {},
                "headers": {},
                "body": {"json": {"n": int(path[1:])}} if method == "POST" else None,
            },
            "response": {
                "status": status,
                "reason": "",
                "headers": {"Content-Type": "application/json", "Date": "Thu, 01 Jan 2015 00:00:00 GMT"},
                "body": {"json": {"path": path}},
            },
        }
        for method, path, status in requests
    ]
    Path(name).write_text(json.dumps({"format": "apiclient cassette", "version": 1, "interactions": interactions}))


def test_a_batch_is_answered_from_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    """Each line gets what its request got then; one that is not there fails, and its row says what was asked and what is there."""
    taped("a.json", ("GET", "/1", 200), ("GET", "/2", 200))
    Path("in.jsonl").write_text("".join(json.dumps({"path": f"/{n}"}) + "\n" for n in (2, 1, 3)))
    assert run(["batch", "in.jsonl", "-o", "out.jsonl", "-q", "--replay", "a.json"]) == 2
    assert f"Nothing in a.json answers GET {HOST}/3" in capsys.readouterr().err.splitlines()[-1]
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert {row["body"]["path"] for row in rows if row["ok"]} == {"/1", "/2"}
    (error,) = [row["error"] for row in rows if not row["ok"]]
    assert error["type"] == "UnmatchedRequest"
    for said in (f"Nothing in a.json answers GET {HOST}/3", f"Nearest is 1. GET {HOST}/1 -> 200", "--record FILE"):
        assert said in error["message"]


def test_a_trace_shows_what_was_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    """Each attempt of the one call; another call is refused, in one line and without a traceback."""
    taped("a.json", ("GET", "/x", 503), ("GET", "/x", 200))
    assert run(["trace", "GET", "/x", "--replay", "a.json"]) == 0
    said = capsys.readouterr().out
    assert "< 503" in said
    assert "< 200" in said
    assert run(["trace", "GET", "/y", "--replay", "a.json"]) == 2
    assert capsys.readouterr().err == (
        f"apiclient: --replay: Nothing in a.json answers GET {HOST}/y. Nearest is 1. GET {HOST}/x -> 503, but path is /y, "
        'recorded /x Where the new request is right, record again: Cassette(path, mode="record"), '
        "pytest --apiclient-cassette=record for the fixture, or --record FILE on the command line\n"
    )


def test_doctor_leaves_the_network_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Token and call are examined; name, connection and the clock of then are not."""
    taped("a.json", ("GET", "/health", 200))
    assert run(["doctor", "--path", "/health", "--replay", "a.json"]) == 0
    said = capsys.readouterr().out
    assert "GET /health answers 200" in said
    assert "has a token" in said
    assert "connected" not in said
    assert "clock" not in said


def test_drain_delivers_from_a_copy(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing was sent, so that the outbox has all of it as before."""

    async def fill() -> None:
        outbox = Outbox("outbox.db")
        for number in (1, 2):
            await outbox.put(intent(number, endpoint=f"POST /{number}", origin=HOST, path=f"/{number}"))
        await outbox.aclose()

    asyncio.run(fill())
    before = Path("outbox.db").read_bytes()
    taped("a.json", ("POST", "/1", 201), ("POST", "/2", 400))
    command = ["outbox", "drain", "--file", "outbox.db", "--json"]
    assert run([*command, "--replay", "a.json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"delivered": 1, "dead": 1, "left": 0}
    assert run(["outbox", "stats", "--file", "outbox.db", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pending"] == 2
    assert Path("outbox.db").read_bytes() == before
    taped("a.json", ("POST", "/1", 201))
    assert run([*command, "--replay", "a.json"]) == 2
    assert f"Nothing in a.json answers POST {HOST}/2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trace", "GET", "/x", "--replay", "none.json"], "--replay none.json: There is no cassette at none.json. Record it: "),
        (["trace", "GET", "/x", "--replay", "."], "--replay .: is a directory"),
        (["doctor", "--replay", "bad.json"], "--replay bad.json: bad.json is no cassette"),
        (["doctor", "--replay", "a.json", "--record", "b.json"], "--record and --replay exclude each other"),
        (["batch", "-o", "o", "--queue", "redis://x", "--replay", "a.json"], "leave one of them out"),
        (["outbox", "drain", "--client", "m:a", "--replay", "a.json"], "leave out --client"),
        (["outbox", "drain", "--file", "none.db", "--replay", "a.json"], "there is no such file"),
        (["outbox", "drain", "--file", "bad.json", "--replay", "a.json"], "cannot be copied"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)  # fmt: skip
def test_what_cannot_be_is_one_clear_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is done."""
    taped("a.json", ("GET", "/x", 200))
    Path("bad.json").write_text("{" * 1000)
    assert run(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
