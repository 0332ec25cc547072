"""The plugin as a team meets it: in the tests of a project of its own, in a process of its own."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.wheel import ROOT, run

CLIENT = """
from apiclient import ApiClient, errors


async def employee(number):
    async with ApiClient("https://api.example.com/v1") as client:
        return await (await client.get("/employees/{id}", path_params={"id": number})).json()
"""
TESTS = """
import asyncio
import pytest
from apiclient import ApiClient, errors
from apiclient.credentials import ClientCredentials
from shop import employee


async def test_an_answer(mock_api):
    mock_api.get("/v1/employees/{id}").respond(json={"name": "Ada"})
    assert await employee(7) == {"name": "Ada"}
    assert mock_api.requests[0].url.path == "/v1/employees/7"


async def test_failures_cost_no_time(mock_api):
    mock_api.get("/v1/employees/{id}").respond(status=503, headers={"Retry-After": "30"}).respond(json=1)
    assert await employee(7) == 1
    mock_api.get("/v1/employees/{id}").respond(status=429, headers={"Retry-After": "30"}).respond(json=2)
    mock_api.reset()


async def test_attempts_are_capped(mock_api):
    mock_api.get("/v1/employees/{id}").respond(status=500)
    with pytest.raises(errors.ServerError):
        await employee(7)
    assert len(mock_api.requests) == 2


async def test_with_virtual_time_the_policies_are_the_real_ones(mock_api, virtual_time):
    mock_api.get("/v1/employees/{id}").respond(status=503, headers={"Retry-After": "30"}).respond(json=1)
    began = virtual_time()
    assert await employee(7) == 1
    assert 30 <= virtual_time() - began <= 31
    mock_api.get("/v1/broken").respond(status=500)
    async with ApiClient("https://api.example.com/v1") as client:
        with pytest.raises(errors.ServerError):
            await client.get("/broken")
    assert len(mock_api.requests) == 2 + 4


@pytest.mark.api_sandbox(limit=3, period=1.0)
async def test_a_local_api(api_sandbox, virtual_time):
    async with ApiClient(api_sandbox.api_url, credentials=None) as client:
        for _ in range(4):
            with pytest.raises(errors.Unauthorized):
                await client.get("/ping")
    assert len(api_sandbox.ledger) >= 4


@pytest.mark.chaos(seed=3, status=1.0, statuses=[502])
async def test_chaos_stands_before_the_mock(mock_api, chaos):
    mock_api.any().respond(json=1)
    with pytest.raises(errors.ServerError):
        await employee(7)
    assert chaos.injected["status"] == 2
    assert not mock_api.requests


async def test_from_a_cassette(cassette, api_sandbox):
    credentials = ClientCredentials(token_url=api_sandbox.token_url, client_id="demo", client_secret="demo-secret")
    async with ApiClient(api_sandbox.api_url, credentials=credentials) as client:
        for number in range(1, 8):
            response = await client.get("/employees/{id}", path_params={"id": number})
            assert (await response.json())["name"] == f"Employee {number}"
    assert len(api_sandbox.ledger) >= 8 if cassette.recording else not api_sandbox.ledger
    cassette.assert_all_used()


async def test_with_a_cassette_time_is_real_while_it_records(cassette, virtual_time):
    virtual = getattr(asyncio.get_running_loop(), "looptime_on", False)
    assert virtual is not cassette.recording
    await asyncio.sleep(500 if virtual else 0)


async def test_nothing_is_left_behind():
    import apiclient.pipeline
    assert apiclient.pipeline.stand_in is None
"""


def pytest_of(folder: Path, *options: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    given = {**os.environ, **(env or {})}
    return subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(CLIENT)
    (tmp_path / "test_shop.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\naddopts = --strict-markers\n"
        "filterwarnings = error\n"
    )
    # Installed in its present form, whenever this checkout was: pytest finds the plugin by its entry point.
    installed = tmp_path / "plugin-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1\n")
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    lines = [f"{name} = {module}\n" for name, module in declared.items()]
    (installed / "entry_points.txt").write_text("".join(["[pytest11]\n", *lines]))
    return tmp_path


@pytest.mark.timeout(180)
def test_a_toy_project_uses_every_fixture(project: Path, python: Path) -> None:
    """In an environment with the wheel its tests pass, strict and with warnings as errors; each asserts what it is for.

    The cassette is recorded once, and needs no server after that.
    """
    shutil.rmtree(project / "plugin-1.dist-info")
    where = run(python, "-c", "import apiclient.testing.plugin as plugin; print(plugin.__file__)", cwd=project)
    assert Path(where).is_relative_to(python.parents[1])
    command = python, "-m", "pytest", "-q", "-p", "no:cacheprovider"
    printed = run(*command, "--apiclient-cassette=once", cwd=project)
    assert re.search(r"^9 passed", printed, re.MULTILINE), printed
    assert sorted(path.relative_to(project).as_posix() for path in project.rglob("*.json")) == [
        "cassettes/test_shop/test_from_a_cassette.json",
        "cassettes/test_shop/test_with_a_cassette_time_is_real_while_it_records.json",
    ]
    printed = run(*command, "-k", "cassette", cwd=project)
    assert re.search(r"^2 passed", printed, re.MULTILINE), printed


def test_without_a_cassette_it_says_how_to_record_one(project: Path) -> None:
    """By default nothing goes to the network."""
    done = pytest_of(project, "-k", "cassette")
    assert "There is no cassette at" in done.stdout
    assert "pytest --apiclient-cassette=record" in done.stdout
    assert "2 errors" in done.stdout


@pytest.mark.long
@pytest.mark.timeout(600)
def test_it_works_in_an_empty_environment(project: Path, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A new environment, the wheel with its extra ``test`` from the package index, and nothing else."""
    shutil.rmtree(project / "plugin-1.dist-info")
    home = tmp_path_factory.mktemp("empty")
    run(sys.executable, "-m", "venv", home, cwd=home)
    run(home / "bin" / "python", "-m", "pip", "install", "-q", f"{wheel}[test]", cwd=home)
    for options in (["--apiclient-cassette=once"], []):
        printed = run(home / "bin" / "pytest", "-q", *options, cwd=project)
        assert re.search(r"^9 passed", printed, re.MULTILINE), printed


def test_it_introduces_itself(project: Path) -> None:
    """``pytest --fixtures`` tells what there is, each with a sentence."""
    shown = pytest_of(project, "--fixtures").stdout
    for name in ("api_sandbox", "cassette", "mock_api", "virtual_time", "chaos"):
        assert re.search(rf"^{name} -- .*\n    [A-Z].*\.", shown, re.MULTILINE), name


def test_without_what_it_needs_it_says_so(project: Path) -> None:
    """No looptime, no pytest-asyncio: one line that names what to install, and the rest works."""
    (project / "test_shop.py").write_text(
        "def test_time(virtual_time): ...\ndef test_sandbox(api_sandbox): ...\ndef test_mock(mock_api): ...\n"
    )
    (project / "pytest.ini").write_text("[pytest]\n")
    (project / "bare.py").write_text("import sys\nsys.modules['pytest_asyncio'] = None\n")
    done = pytest_of(
        project, "-p", "bare", "-p", "apiclient.testing.plugin", env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    )
    assert "1 passed, 2 errors" in done.stdout, done.stdout + done.stderr
    for what in ("virtual_time needs looptime", "api_sandbox needs pytest-asyncio"):
        assert what in done.stdout
