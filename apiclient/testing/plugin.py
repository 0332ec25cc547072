"""The pytest plugin: fixtures for applications that use this client. Installed, pytest finds it by itself."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from apiclient.sandbox import Sandbox
from apiclient.testing._cassette import Cassette, Mode, records
from apiclient.testing._chaos import Chaos
from apiclient.testing._mock_transport import MockTransport
from apiclient.testing._mode import set_testing

_VIRTUAL = "virtual_time"
_OPTION = "--apiclient-cassette"
_RATES = {"error": 0.1, "status": 0.1, "reset": 0.05}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the command line say whether cassettes are recorded."""
    parser.getgroup("apiclient").addoption(
        _OPTION,
        choices=("replay", "once", "record"),
        default="replay",
        help="What the fixture cassette does: replay, record what is not there yet (once), or record everything anew.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers that give the fixtures their options."""
    config.addinivalue_line("markers", "api_sandbox(**options): options of the sandbox that api_sandbox runs")
    config.addinivalue_line("markers", "cassette(path=..., **options): file and options of the fixture cassette")
    config.addinivalue_line("markers", "chaos(**options): options of the Chaos that the fixture chaos enables")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Run tests that ask for ``virtual_time`` on virtual time, and so their other fixtures as well."""
    names = getattr(item, "fixturenames", ())
    # Another machine's answers take real time.
    real = "cassette" in names and "api_sandbox" not in names and records(_mode(item), _place(item)[0])
    if _VIRTUAL in names and not real and _has_looptime(item.config):
        item.add_marker("looptime")


@pytest.fixture
def virtual_time(request: pytest.FixtureRequest) -> Callable[[], float]:
    """Let the loop's clock jump over every wait; returns that clock. Waits and quotas are then what they are."""
    if not _has_looptime(request.config):
        raise pytest.UsageError("virtual_time needs looptime: pip install 'apiclient-middleware[test]'")

    def now() -> float:
        return asyncio.get_running_loop().time()

    return now


@pytest.fixture
def mock_api(request: pytest.FixtureRequest) -> Iterator[MockTransport]:
    """Answer every request of every client from routes: nothing waits, unless the test has ``virtual_time``."""
    transport = MockTransport()
    with _installed(request, transport):
        yield transport


@pytest.fixture
def chaos(request: pytest.FixtureRequest) -> Iterator[Chaos]:
    """Disturb a share of the attempts of every client; ``@pytest.mark.chaos(seed=7, status=0.5)`` says otherwise."""
    options: dict[str, Any] = {"seed": 0, "enabled": True, **(_options(request.node, "chaos") or _RATES)}
    disturbing = Chaos(**options)
    with _installed(request, disturbing):
        yield disturbing


@pytest.fixture
def cassette(request: pytest.FixtureRequest) -> Iterator[Cassette]:
    """Answer every request of every client from a file; ``pytest --apiclient-cassette=once`` records it.

    The file is ``cassettes/MODULE/TEST.json`` beside the test; ``@pytest.mark.cassette(path="x.json")`` says otherwise.
    """
    path, options = _place(request.node)
    kept = Cassette(path, mode=_mode(request.node), **options)
    waits = kept.recording or _VIRTUAL in request.fixturenames
    with set_testing(attempts=None, waits=waits, innermost=[kept], tokens=[kept]):
        yield kept
    kept.save()


async def _sandbox(request: pytest.FixtureRequest) -> AsyncIterator[Sandbox]:
    """Run a local API with a ledger; ``@pytest.mark.api_sandbox(limit=50)`` sets its options."""
    async with Sandbox(**_options(request.node, "api_sandbox")) as sandbox:
        yield sandbox


def _has_looptime(config: pytest.Config) -> bool:
    return any(name.startswith("looptime") for name, _ in config.pluginmanager.list_name_plugin())


def _mode(item: pytest.Item) -> Mode:
    mode: Mode = item.config.getoption(_OPTION)  # pyright: ignore[reportAssignmentType]
    return mode


def _place(item: pytest.Item) -> tuple[Path, dict[str, Any]]:
    options = _options(item, "cassette")
    name = re.sub(r"[^\w.-]+", "-", item.name).strip("-")
    path = options.pop("path", Path("cassettes", item.path.stem, f"{name}.json"))
    return item.path.parent / path, options


def _options(item: pytest.Item, marker: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for mark in reversed(list(item.iter_markers(marker))):
        options |= mark.kwargs
    return options


def _installed(request: pytest.FixtureRequest, middleware: Any) -> Any:
    real = _VIRTUAL in request.fixturenames
    return set_testing(attempts=None if real else 2, waits=real, innermost=[middleware])


def _without_asyncio() -> None:
    """Say what is missing."""
    raise pytest.UsageError("api_sandbox needs pytest-asyncio: pip install 'apiclient-middleware[test]'")


api_sandbox: Any
try:
    import pytest_asyncio
except ImportError:
    api_sandbox = pytest.fixture(_without_asyncio, name="api_sandbox")
else:
    api_sandbox = pytest_asyncio.fixture(_sandbox, name="api_sandbox")
