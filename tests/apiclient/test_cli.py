"""The command line: what it says, and its exit codes."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from apiclient import cli, errors
from apiclient._refused import Refused
from apiclient.cli._clients import client_of, credentials_of, named_client
from apiclient.cli._doctor import collisions, diagnose
from apiclient.cli._explain import explanation
from apiclient.middleware import Authorize
from apiclient.sandbox import Sandbox
from tests.apiclient.conftest import Said
from tests.conftest import Peer


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nope",), "No such command 'nope'"),
        (("sandbox", "--port", "99999"), "--port"),
        (("sandbox", "--period", "0"), "sandbox: period must be above 0, got 0"),
        (("explain",), "Missing argument 'STATUS|ERROR'"),
        (("explain", "999"), "explain: a status is from 100 to 599, got 999"),
        (("explain", "CircuitOpn"), "'CircuitOpn' is neither a status from 100 to 599 nor an error"),
        (("pipeline", "--client", "x"), "--client must be module:attribute, such as myapp.api:client, got 'x'"),
        (("pipeline", "--client", "nowhere.at.all:client"), "there is no module 'nowhere' here or on the path"),
        (("batch", "in.jsonl"), "Missing option '--output'"),
        (("batch", "in.jsonl", "-o", "o.jsonl"), "say which API: --base-url URL"),
        (("batch", "in.jsonl", "-o", "o.jsonl", "--base-url", "x"), "base_url must be an absolute http or https URL"),
        (("batch", "in.jsonl", "-o", "o.jsonl", "--base-url", "http://h"), "in.jsonl: cannot be read: no such file"),
        (("batch", "i", "-o", "o", "--base-url", "http://h", "--shard", "3/2"), "--shard must be I/N"),
        (("batch", "i", "-o", "o", "--base-url", "http://h", "--fail-rate", "2"), "--fail-rate must be from 0 to 1"),
        (("batch", "i", "-o", "o", "--base-url", "http://h", "--client", "a:b"), "exclude each other"),
        (("batch", "i", "-o", "o", "--base-url", "http://h", "--report", "no/r.html"), "there is no such folder"),
        (("batch", "i", "-o", "o", "--base-url", "http://h", "--concurrency", "0"), "--concurrency"),
        (("report", "none.json"), "none.json: cannot be read: no such file or directory"),
    ],
)
def test_bad_input_is_one_clear_line(said: Said, arguments: tuple[str, ...], message: str) -> None:
    """Whatever is wrong is one line on stderr that says what and where, and the exit code is 2."""
    code, out, err = said(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("apiclient: ")
    assert err.count("\n") == 1
    assert message in err


def test_a_port_in_use_is_one_clear_line(said: Said) -> None:
    """The sandbox on a port that somebody has says host and port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = said("sandbox", "--port", str(port))
    assert (code, out) == (2, "")
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in err


def test_a_summary_that_is_none_is_one_clear_line(said: Said, tmp_path: Path) -> None:
    """``report`` on another file says which file is no summary."""
    (tmp_path / "x.json").write_text("[1]")
    code, _, err = said("report", "x.json")
    assert code == 2
    assert "x.json: is no summary of apiclient batch" in err


def test_without_the_extra_one_line_says_what_to_install() -> None:
    """Where typer is missing, the command says how to install it, without a traceback."""
    code = "import sys; sys.modules['typer'] = None; from apiclient.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "apiclient: typer is not installed, which the command line needs: pip install 'apiclient-middleware[cli]'\n"
    )


def test_the_entry_point_is_this() -> None:
    """The installed command runs ``apiclient.cli:main``."""
    (command,) = [each for each in metadata.entry_points(group="console_scripts") if each.name == "apiclient"]
    assert command.load() is cli.main


@pytest.mark.parametrize("command", ["demo", "sandbox", "batch", "report", "pipeline", "doctor", "explain"])
def test_every_command_has_a_help_page(said: Said, command: str) -> None:
    """``--help`` of each command works and exits with 0."""
    code, out, _ = said(command, "--help")
    assert code == 0
    assert "Usage" in out


def test_the_pipeline_is_printed_as_a_list(said: Said, tmp_path: Path) -> None:
    """The default chain, and that of a client of one's own, given as object or as function."""
    assert said("pipeline")[1].startswith("Pipeline")
    (tmp_path / "my_own_api.py").write_text(
        "from apiclient import ApiClient, Pipeline\n"
        "from apiclient.middleware import Retry\n"
        "client = ApiClient('http://h', pipeline=Pipeline([Retry()]))\n"
        "def make(): return client\n"
        "def broken(): raise RuntimeError('no settings')\n"
        "number = 7\n"
    )
    for name in ("client", "make"):
        code, out, _ = said("pipeline", "--client", f"my_own_api:{name}")
        assert (code, "Retry" in out, "AccessLog" in out) == (0, True, False)
    assert "has no attribute 'nothing'" in said("pipeline", "--client", "my_own_api:nothing")[2]
    assert (
        "must be an ApiClient or a function that returns one, got 7"
        in said("pipeline", "--client", "my_own_api:number")[2]
    )
    assert "calling it failed: RuntimeError: no settings" in said("pipeline", "--client", "my_own_api:broken")[2]


def test_a_module_that_does_not_load_says_why(said: Said, tmp_path: Path) -> None:
    """An error in the user's module is told with its type; a module that it needs is not taken for it."""
    (tmp_path / "breaks_apart.py").write_text("1 / 0\n")
    (tmp_path / "needs_more.py").write_text("import not_installed_anywhere\n")
    assert "importing it failed: ZeroDivisionError" in said("pipeline", "--client", "breaks_apart:c")[2]
    assert "it needs the module 'not_installed_anywhere'" in said("pipeline", "--client", "needs_more:c")[2]
    with pytest.raises(Refused):
        named_client("breaks_apart:c")


def test_explain_says_what_to_do() -> None:
    """A status is explained by its error's own hint, a 403 by those of all it may be, and what the client does."""
    text = "\n".join(explanation("415"))
    assert "UnsupportedMediaType" in text
    assert errors.UnsupportedMediaType.hint in text
    text = "\n".join(explanation("403"))
    for name in ("ScopeMissing", "PermissionMissing", "WrongEndpoint", "Banned"):
        assert name in text
    assert "The same call may work later" in "\n".join(explanation("circuitopen"))
    assert explanation("204") == ["204 is no failure: the response is returned to the caller."]


class _Distribution(metadata.Distribution):
    """A distribution that is not there."""

    def __init__(self, name: str, files: dict[str, str]) -> None:
        self._given = {"METADATA": f"Name: {name}\nVersion: 1.0\n", **files}

    def read_text(self, filename: str) -> str | None:
        return self._given.get(filename)

    def locate_file(self, path: Any) -> Any:
        return Path(path)


def test_doctor_finds_who_else_brings_a_package_of_the_name() -> None:
    """Another distribution with a top-level ``apiclient`` is named, with what to do; ours and others are not."""
    google = _Distribution("google-api-python-client", {"top_level.txt": "apiclient\ngoogleapiclient\n"})
    other = _Distribution("api-client", {"RECORD": "apiclient/__init__.py,,\napi_client-2.dist-info/RECORD,,\n"})
    ours = _Distribution("apiclient_middleware", {"RECORD": "apiclient/__init__.py,,\n"})
    harmless = _Distribution("requests", {"top_level.txt": "requests\n"})
    first, second = collisions([google, other, ours, harmless])
    assert not first.ok
    assert "google-api-python-client 1.0 installs a package called apiclient too" in first.text
    assert "import googleapiclient instead" in first.remedy
    assert "pip uninstall api-client" in second.remedy


def test_doctor_lists_versions(said: Said) -> None:
    """Python, aiohttp and the others are listed; this installation is sound."""
    assert all(finding.ok for finding in diagnose())
    code, out, _ = said("doctor")
    assert code == 0
    for name in ("Python 3", "aiohttp 3", "structlog", "typer", "apiclient-middleware"):
        assert name in out


def test_credentials_come_from_the_environment() -> None:
    """Each way of giving credentials makes its credential; incomplete or double ones are refused."""
    assert credentials_of({}) is None
    assert "StaticToken" in repr(credentials_of({"APICLIENT_TOKEN": "t"}))
    assert "X-Key" in repr(credentials_of({"APICLIENT_API_KEY": "k", "APICLIENT_API_KEY_HEADER": "X-Key"}))
    oauth = {"APICLIENT_TOKEN_URL": "https://h/t", "APICLIENT_CLIENT_ID": "i", "APICLIENT_CLIENT_SECRET": "s"}
    assert "ClientCredentials" in repr(credentials_of(oauth))
    with pytest.raises(Refused, match="APICLIENT_TOKEN_URL is set, but APICLIENT_CLIENT_ID is not"):
        credentials_of({"APICLIENT_TOKEN_URL": "https://h/t"})
    with pytest.raises(Refused, match="APICLIENT_TOKEN and APICLIENT_TOKEN_URL are both set"):
        credentials_of({"APICLIENT_TOKEN": "t", **oauth})
    client = client_of(None, None, {"APICLIENT_BASE_URL": "https://h", "APICLIENT_TOKEN": "t"})
    assert client.pipeline.find(Authorize) is not None


def _environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("APICLIENT_")}
    return {**kept, "PYTHONUNBUFFERED": "1", **more}


async def _started(*arguments: str, folder: Path, **environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "apiclient.cli",
        *arguments,
        cwd=folder,
        env=_environment(**environment),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_a_batch_against_the_sandbox(tmp_path: Path) -> None:
    """A real process with credentials from the environment: results, dead letters, summary, page and code."""
    lines = [{"id": n, "path": "/employees/{id}", "path_params": {"id": n + 1}} for n in range(4)]
    lines += [{"id": 4, "path": "/audit"}, {"id": 5, "method": "POST", "path": "/timesheets", "body": {"hours": 1}}]
    text = "".join(json.dumps(line) + "\n" for line in lines) + "nonsense\n"
    (tmp_path / "in.jsonl").write_text(text)
    async with Sandbox() as sandbox:
        environment = {
            "APICLIENT_BASE_URL": sandbox.api_url,
            "APICLIENT_TOKEN_URL": sandbox.token_url,
            "APICLIENT_CLIENT_ID": "demo",
            "APICLIENT_CLIENT_SECRET": "demo-secret",
        }
        options = ("--json-summary", "s.json", "--report", "r.html")
        process = await _started("batch", "in.jsonl", "-o", "out.jsonl", *options, folder=tmp_path, **environment)
        out, err = await process.communicate()
        created = sandbox.created
    assert process.returncode == 1
    assert out == b""
    results = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert sum(line["ok"] for line in results) == 5
    assert created == 1
    assert b"apiclient: line 7: not JSON" in err
    assert b"apiclient: 2 failed; see out.dead.jsonl" in err
    assert b"Traceback" not in err
    assert b"demo-secret" not in err
    assert json.loads((tmp_path / "s.json").read_text())["calls"] == 7
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")


async def test_standard_input_to_standard_output(peer: Peer, tmp_path: Path) -> None:
    """With ``-`` for both, lines go through as they come, and a repeated id is left out with a notice."""
    process = await _started("batch", "-", "-o", "-", "--base-url", peer.url, "-q", folder=tmp_path)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b'{"id": 1, "path": "/a"}\n')
    await process.stdin.drain()
    first = json.loads(await asyncio.wait_for(process.stdout.readline(), 15))
    out, err = await process.communicate(b'{"id": 1, "path": "/a"}\n{"id": 2, "path": "/b"}')
    assert process.returncode == 0
    assert (first["id"], json.loads(out)["id"]) == (1, 2)
    assert b"the id 1 was there before" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_signal_ends_it_resumably(peer: Peer, tmp_path: Path, number: int, code: int) -> None:
    """The first Ctrl-C or SIGTERM finishes what is under way, says how to go on, and tells by its code."""

    async def handler(_: Any) -> web.Response:
        await asyncio.sleep(0.02)
        return web.Response()

    peer.handler = handler
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"id": n, "path": "/a"}) + "\n" for n in range(5000)))
    command = ("batch", "in.jsonl", "-o", "out.jsonl", "--base-url", peer.url, "--concurrency", "4")
    process = await _started(*command, folder=tmp_path)
    while peer.count < 20:
        await asyncio.sleep(0.01)
    process.send_signal(number)
    _, err = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == code
    assert f"go on with: apiclient {' '.join(command)} --resume" in err.decode()
    assert (tmp_path / "out.jsonl").read_bytes().count(b"\n") == peer.count


async def test_a_signal_while_standard_input_is_silent_ends_it(peer: Peer, tmp_path: Path) -> None:
    """Waiting for a line that does not come is no reason not to end."""
    process = await _started("batch", "-", "-o", "out.jsonl", "--base-url", peer.url, "-q", folder=tmp_path)
    assert process.stdin is not None
    process.stdin.write(b'{"id": 1, "path": "/a"}\n{"id": 2, "path": "/a"}\n')
    await process.stdin.drain()
    while peer.count < 2:
        await asyncio.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), 10) == 130
    assert process.stderr is not None
    assert b"rror" not in await process.stderr.read()
    assert (tmp_path / "out.jsonl").read_bytes().count(b"\n") == 2


async def test_a_reader_that_goes_away_is_no_error(peer: Peer, tmp_path: Path) -> None:
    """Output into a pipe that is closed ends the batch without a traceback."""
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"id": n, "path": "/a"}) + "\n" for n in range(3000)))
    command = f"{sys.executable} -m apiclient.cli batch in.jsonl -o - -q --base-url {peer.url} | head -1"
    process = await asyncio.create_subprocess_shell(
        command, cwd=tmp_path, env=_environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 20)
    assert out.count(b"\n") == 1
    assert b"Traceback" not in err
    assert peer.count < 3000


async def test_the_sandbox_runs_until_it_is_told_to_stop(tmp_path: Path) -> None:
    """``apiclient sandbox`` says where it listens, serves, and ends with 0 on Ctrl-C."""
    process = await _started("sandbox", "--port", "0", folder=tmp_path)
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), 15)).decode()
    url = line.partition("(")[2].partition(")")[0]
    async with aiohttp.ClientSession() as session, session.get(f"{url}/v1/ping") as response:
        assert response.status == 401
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode == 0
    assert b"1 requests served" in out
    assert err == b""


@pytest.mark.long
async def test_the_demonstration_as_a_newcomer_sees_it(tmp_path: Path) -> None:
    """The command ends with 0 within 20 seconds, with plain lines on the way, into a pipe."""
    process = await _started("demo", folder=tmp_path)
    out, err = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0, out
    assert err == b""
    assert b"Everything ended as it should." in out
    assert out.count(b" calls, ") >= 5
