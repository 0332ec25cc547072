"""``apiclient batch --queue`` and ``apiclient merge``: what they say, and their exit codes."""

import json
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from apiclient.cli._batch import _resuming
from apiclient.cli._queue import named_queue
from apiclient.stores._redis_server import StoreUnavailable
from apiclient.stores.redis_queue_store import QueueFacts, RedisQueueStore
from tests.apiclient.conftest import Said
from tests.apiclient.job.runs import read, things, write
from tests.valkey import Server, common

API = ("--base-url", "http://127.0.0.1:9")


@pytest.fixture
def url() -> str:
    return f"{common().url}/0?name=orders&namespace={secrets.token_hex(6)}"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("localhost:6379", "--queue: url must begin with one of redis, rediss,"),
        ("redis://localhost:port", "Port could not be cast to integer value as 'port'"),
        ("redis://localhost/orders", "the database must be a number, got 'orders'"),
        ("redis://localhost?name=", "name must be a name without braces, got ''"),
        ("redis://localhost?lease=soon", "could not convert string to float: 'soon'"),
        ("redis://localhost?lease=0", "lease must be from 1 to 3600 seconds, got 0.0"),
        ("redis+sentinel://localhost/svc/orders", "the database must be a number, got 'orders'"),
        ("redis+sentinel://localhost:port/svc", "Port could not be cast to integer value as 'port'"),
        ("redis+cluster://localhost:port", "Port could not be cast to integer value as 'port'"),
        ("redis://localhost?nmae=orders", "unknown option 'nmae'"),
        ("redis+cluster://localhost?nmae=orders", "unknown option 'nmae'"),
        ("redis://localhost?namespace=", "namespace must be a name without braces, got ''"),
    ],
)
def test_a_wrong_url_is_one_clear_line(said: Said, address: str, message: str) -> None:
    """It says what is wrong, and what a right one looks like."""
    code, out, err = said("batch", "--queue", address, "-o", "out.jsonl", *API)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert "a queue is named as in redis://host:6379/0?name=orders" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--load", "in.jsonl"), "--load needs --queue URL"),
        (("--forget",), "--forget needs --queue URL"),
        ((), "Missing option '--output' / '-o'"),
        (("-o", "out.jsonl"), "Missing argument 'IN.JSONL'"),
        (("--queue", "redis://localhost", "--load"), "Missing argument 'IN.JSONL'"),
        (("--queue", "redis://localhost"), "Missing option '--output' / '-o'"),
        (("--queue", "redis://localhost", "--load", "-"), "--queue needs an input that can be read twice"),
        (("--queue", "redis://localhost", "--load", "none.jsonl"), "none.jsonl: cannot be read: no such file"),
    ],
)
def test_what_is_left_out_is_one_clear_line(said: Said, arguments: tuple[str, ...], message: str) -> None:
    """Each mode says what it needs."""
    code, out, err = said("batch", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_a_queue_is_loaded_once_and_forgotten_on_purpose(said: Said, tmp_path: Path, url: str) -> None:
    """Empty, loaded, loaded again, another input, forgotten: each step says what is and what to do."""
    write(tmp_path / "in.jsonl", things(3))
    write(tmp_path / "other.jsonl", things(4))
    code, _, err = said("batch", "--queue", url, "-o", "out.jsonl", *API)
    assert code == 2
    assert "nothing was loaded into 'orders' there; do it with: apiclient batch IN.JSONL --queue URL --load" in err
    for _ in range(2):
        code, out, err = said("batch", "in.jsonl", "--queue", url, "--load")
        assert (code, out) == (0, "")
        assert "queue orders: 3 lines loaded, 0 of them done" in err
        assert "a restart of it loses the queue (appendonly yes)" in err
    code, _, err = said("batch", "other.jsonl", "--queue", url, "--load", "-q")
    assert code == 2
    assert "'orders' has another input (3 of its 3 lines are still to be done); give this one a name of its own" in err
    assert err.count("\n") == 1
    code, _, err = said("batch", "--queue", url, "--forget")
    assert code == 2
    assert "3 of 3 lines have no result; --force forgets them as well" in err
    assert said("batch", "--queue", url, "--forget", "--force")[2] == "queue orders: forgotten\n"
    assert said("batch", "--queue", url, "--forget")[2] == "queue orders: nothing was loaded\n"
    assert said("batch", "other.jsonl", "--queue", url, "--load", "-q")[::2] == (0, "")


def test_an_input_with_repeated_ids_is_not_loaded(said: Said, tmp_path: Path, url: str) -> None:
    """The lines are named, and the queue stays empty."""
    write(tmp_path / "in.jsonl", [*things(3), {"id": 1, "path": "/other"}])
    code, _, err = said("batch", "in.jsonl", "--queue", url, "--load")
    assert code == 2
    assert "ids must be unique: 1 in lines 2 and 4" in err
    assert "nothing was loaded" in said("batch", "--queue", url, "--forget")[2]


def test_a_server_that_is_not_there_is_one_clear_line(
    said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address is named, a password is not."""
    monkeypatch.setattr("apiclient.cli._queue._PATIENCE", 0.0)
    server = Server()
    server.stop()
    write(tmp_path / "in.jsonl", things(1))
    address = f"redis://me:hidden@127.0.0.1:{server.port}"
    for arguments in (("in.jsonl", "--load"), ("-o", "out.jsonl", *API), ("--forget",)):
        code, out, err = said("batch", "--queue", address, *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert f"redis://127.0.0.1:{server.port} does not answer" in err
        assert "look whether the server runs there, and at user and password (APICLIENT_QUEUE_PASSWORD)" in err
        assert "hidden" not in err
    assert not (tmp_path / "out.jsonl").exists()


def test_a_server_that_is_just_starting_is_waited_for(said: Said, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """The first contact may fail for a moment, as when server and runners are started together."""
    real, failures = RedisQueueStore.facts, [1, 2]

    async def facts(self: RedisQueueStore) -> QueueFacts | None:
        if failures:
            failures.pop()
            raise StoreUnavailable("not yet")
        return await real(self)

    monkeypatch.setattr(RedisQueueStore, "facts", facts)
    monkeypatch.setattr("apiclient.cli._queue._AGAIN", 0.0)
    assert said("batch", "--queue", url, "--forget") == (0, "", "queue orders: nothing was loaded\n")
    assert not failures


def test_without_the_extra_one_line_says_what_to_install() -> None:
    """Where redis-py is missing, ``--queue`` says how to install it, without a traceback."""
    code = (
        "import sys; sys.modules['redis'] = sys.modules['redis.asyncio'] = None\nfrom apiclient.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "batch", "--queue", "redis://localhost", "--forget"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert done.stderr == "apiclient: --queue: Redis needs redis-py: install apiclient-middleware[redis]\n"


def test_how_to_go_on_is_said_without_passwords() -> None:
    """Neither one before the host nor one among the options is shown again."""
    for address in ("redis://me:hidden@host:1/0?name=a", "redis://host/0?password=hidden&name=a"):
        said = " ".join(_resuming(["batch", "--queue", address]))
        assert "hidden" not in said
        assert "name=a --resume" in said


def test_a_password_comes_from_the_environment_and_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the queue's repr, nor in the command that goes on."""
    store = named_queue("redis://me@localhost?name=a&ssl=x", {"APICLIENT_QUEUE_PASSWORD": "hidden"})
    assert store._server._options["password"] == "hidden"
    assert "hidden" not in repr(store)
    assert _resuming(["batch", "--queue", "redis://me:hidden@localhost:1/0?name=a"]) == [
        "batch",
        "--queue",
        "redis://me:***@localhost:1/0?name=a",
        "--resume",
    ]


def test_results_are_merged(said: Said, tmp_path: Path) -> None:
    """One file, a summary on stdout, and a code that says whether anything is left to do."""
    for name, number in (("a", 1), ("b", 2)):
        write(tmp_path / f"{name}.jsonl", [{"id": number, "ok": True}, {"id": 0, "ok": True, "started_at": number}])
    assert said("merge", "a.jsonl", "b.jsonl", "-o", "all.jsonl", "--input", "none.jsonl")[0] == 2
    write(tmp_path / "in.jsonl", things(3))
    code, out, _ = said("merge", "a.jsonl", "b.jsonl", "-o", "all.jsonl", "--input", "in.jsonl")
    assert code == 0
    assert out == "3 results, 3 ok, 0 failed\n1 left out: their lines were run more than once\n"
    assert json.dumps(read(tmp_path / "all.jsonl")[1]) == json.dumps({"id": 0, "ok": True, "started_at": 1})
