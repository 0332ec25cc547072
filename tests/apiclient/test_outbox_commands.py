"""``apiclient outbox``: what an operator does, through the command line's own entrance."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from apiclient import ApiClient
from apiclient._jsonl import parse_line
from apiclient.cli._app import run
from apiclient.outbox import Outbox
from apiclient.stores import Draft, Entry, SqliteOutboxStore
from tests.apiclient.stores.outbox import ORIGIN, intent

ROOT = Path(__file__).parents[2]
MODULE = """
from apiclient import ApiClient, Pipeline
from apiclient.middleware import StatusErrors
from apiclient.outbox import Outbox
from apiclient.testing import MockTransport

answers = MockTransport()
answers.put("/fine/{id}").respond(status=200, json={"fine": True})
answers.put("/wrong/{id}").respond(status=422)
answers.put("/down/{id}").respond(status=503)
pipeline = Pipeline([StatusErrors(), answers])


def client():
    return ApiClient("http://api.test", pipeline=pipeline, outbox=Outbox("outbox.db"))


bare = ApiClient("http://api.test")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("APICLIENT_OUTBOX", "outbox.db")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "ours.py").write_text(MODULE)
    monkeypatch.delitem(sys.modules, "ours", raising=False)
    return tmp_path


def fill(*paths: str, dead: int = 0) -> None:
    async def work() -> None:
        store = SqliteOutboxStore("outbox.db")
        for number, path in enumerate(paths):
            await store.put(
                Draft(f"item-{number}", intent(number, endpoint=f"PUT {path}", path=path), error="ServerError: 503")
            )
        for entry in await store.claim(ORIGIN, limit=dead, seconds=60) if dead else []:
            await store.bury(entry.id, str(entry.lease), error="UnprocessableContent: 422", status=422, body=b"no")
        await store.aclose()

    asyncio.run(work())


def states() -> dict[str, str]:
    async def work() -> list[Entry]:
        store = SqliteOutboxStore("outbox.db")
        entries = await store.page()
        await store.aclose()
        return entries

    return {entry.id: entry.state for entry in asyncio.run(work())}


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert run(["outbox", *arguments]) == code
    captured = capsys.readouterr()
    return captured.out if code == 0 or captured.out else captured.err


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_list_and_stats_for_people_and_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """A table with what matters, or one JSON object a line."""
    fill("/fine/1", "/fine/2", "/wrong/3", dead=1)
    table = said(capsys, "list")
    assert [line.split()[:4] for line in table.splitlines()] == [
        ["id", "state", "endpoint", "attempts"],
        ["item-0", "dead", "PUT", "/fine/1"],
        ["item-1", "pending", "PUT", "/fine/2"],
        ["item-2", "pending", "PUT", "/wrong/3"],
    ]
    assert "UnprocessableContent: 422" in table
    listed = objects(said(capsys, "list", "--json", "--state", "pending", "--limit", "1"))
    assert [(each["id"], each["endpoint"], each["error"]) for each in listed] == [
        ("item-1", "PUT /fine/2", "ServerError: 503")
    ]
    assert "pending" in said(capsys, "stats")
    (counts,) = objects(said(capsys, "stats", "--json"))
    assert {name: counts[name] for name in ("pending", "leased", "delivered", "dead")} == {
        "pending": 2, "leased": 0, "delivered": 0, "dead": 1
    }  # fmt: skip
    assert {"origin": ORIGIN, "endpoint": "PUT /fine/2", "pending": 1} in counts["endpoints"]


def test_show_has_the_request_and_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    """All that is known of one item."""
    fill("/fine/1", dead=1)
    shown = json.loads(said(capsys, "show", "item-0"))
    assert (shown["state"], shown["status"], shown["answer"]) == ("dead", 422, "no")
    assert shown["request"]["body"] == '{"n": 0}'
    assert "there is no item 'nobody'" in said(capsys, "show", "nobody", code=1)


def test_retry_and_drop_by_name_or_all_that_is_dead(capsys: pytest.CaptureFixture[str]) -> None:
    """What is not there, or not in a state for it, is named, and the code says so."""
    fill(*(f"/fine/{number}" for number in range(5)), dead=4)
    assert said(capsys, "retry", "item-0") == "1 done\n"
    assert said(capsys, "drop", "item-1") == "1 done\n"
    assert states() == {"item-0": "pending", "item-2": "dead", "item-3": "dead", "item-4": "pending"}
    assert said(capsys, "retry", "item-1", code=1) == "0 done\n"
    assert said(capsys, "drop", "--all") == "2 done\n"
    assert states() == {"item-0": "pending", "item-4": "pending"}
    assert "name items, or say --all" in said(capsys, "retry", code=2)
    assert "name items, or say --all" in said(capsys, "drop", "item-0", "--all", code=2)


def test_what_is_exported_is_what_batch_takes(capsys: pytest.CaptureFixture[str]) -> None:
    """Each line is read as the same request, with the same key and, byte by byte, the same body."""
    bodies = [b'{"n": 1}', b'{"n":1}', b"plain", b"", b"null", "\u00e9".encode(), b'"text"']

    async def work() -> None:
        store = SqliteOutboxStore("outbox.db")
        for number, body in enumerate(bodies):
            await store.put(Draft(f"item-{number}", intent(number, body=body)))
        await store.put(Draft("binary", intent(99, body=b"\xff\x00")))
        await store.aclose()

    asyncio.run(work())
    lines = said(capsys, "export", "--state", "pending").splitlines()
    for number, line in enumerate(lines[:-1]):
        parsed = parse_line(line.encode(), 1, URL(f"{ORIGIN}/v1"))
        assert parsed.bad is None
        request = parsed.request
        assert request is not None
        assert (request.method, request.path, request.idempotency_key) == (
            "POST",
            f"/orders?n={number}",
            f"key-{number}",
        )
        sent = json.dumps(request.json) if request.json is not None else (request.data or "")
        assert sent.encode() == bodies[number]
    assert "body_base64" in str(parse_line(lines[-1].encode(), 1).bad)


def test_drain_delivers_and_its_code_tells_of_the_dead(capsys: pytest.CaptureFixture[str]) -> None:
    """Through a client of one's own; --once leaves what has to wait."""
    fill("/fine/1", "/wrong/2", "/down/3")
    assert said(capsys, "drain", "--client", "ours:client", "--once", "--json", code=1) == (
        '{"delivered": 1, "dead": 1, "left": 1}\n'
    )
    assert states() == {"item-0": "delivered", "item-1": "dead", "item-2": "pending"}
    assert said(capsys, "drain", "--client", "ours:client", "--timeout", "0.01") == "0 delivered, 0 dead, 1 left\n"
    assert len(said(capsys, "list", "--client", "ours:client").splitlines()) == 4


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_drainer_ends_in_good_order_on_sigterm(folder: Path) -> None:
    """As a process of its own: it delivers, is told to stop, finishes and says what it did."""
    fill("/fine/1", "/fine/2")
    command = [sys.executable, "-m", "apiclient.cli", "outbox", "drain", "--follow", "--client", "ours:client"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
        while set(states().values()) != {"delivered"}:
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
    assert out == "2 delivered, 0 dead, 0 left\n"
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "--file", "missing.db"], "there is no such file"),
        (["list", "--file", "."], "is a folder"),
        (["list", "--state", "lost"], "--state must be pending, delivered or dead, got 'lost'"),
        (["list", "--file", "outbox.db", "--client", "ours:client"], "exclude each other"),
        (["stats", "--client", "ours:bare"], "has no outbox"),
        (["drain", "--client", "ours:bare"], "has no outbox"),
        (["drain", "--client", "ours:client", "--file", "outbox.db"], "leave out --file"),
        (["drain", "--client", "ours:client", "--follow", "--once"], "--follow excludes"),
        (["drain"], "say which API"),
    ],
)
def test_what_the_operator_has_to_put_right(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    """One line, code 2, and no file made by looking."""
    monkeypatch.delenv("APICLIENT_BASE_URL", raising=False)
    assert message in said(capsys, *arguments, code=2)
    assert not Path("missing.db").exists()


def test_no_file_named_at_all(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an option nor the environment."""
    monkeypatch.delenv("APICLIENT_OUTBOX")
    assert "say which outbox: --file PATH" in said(capsys, "list", code=2)


def test_a_damaged_file_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback for what is wrong outside the program."""
    Path("outbox.db").write_bytes(b"not a database, and long enough for a header" * 10)
    assert "the file is damaged or no outbox. Move it aside" in said(capsys, "list", code=1)


def test_the_file_of_a_running_client_can_be_looked_into(capsys: pytest.CaptureFixture[str]) -> None:
    """The service keeps it open meanwhile."""

    async def work() -> None:
        async with ApiClient("http://api.test", outbox=Outbox("outbox.db")) as client:
            await client.defer("PUT", "/fine/{id}", path_params={"id": 7})
            listed = objects(await asyncio.to_thread(said, capsys, "list", "--json"))
            assert [each["endpoint"] for each in listed] == ["PUT /fine/{id}"]

    asyncio.run(work())
