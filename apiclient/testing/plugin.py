"""The pytest plugin: fixtures for applications that use this client. Installed, pytest finds it by itself."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from apiclient.sandbox import Sandbox
from apiclient.testing._chaos import Chaos
from apiclient.testing._mock_transport import MockTransport
from apiclient.testing._mode import set_testing

_VIRTUAL = "virtual_time"
_RATES = {"error": 0.1, "status": 0.1, "reset": 0.05}


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers that give the fixtures their options."""
    config.addinivalue_line("markers", "api_sandbox(**options): options of the sandbox that api_sandbox runs")
    config.addinivalue_line("markers", "chaos(**options): options of the Chaos that the fixture chaos enables")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Run tests that ask for ``virtual_time`` on virtual time, and so their other fixtures as well."""
    if _VIRTUAL in getattr(item, "fixturenames", ()) and _has_looptime(item.config):
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
    options: dict[str, Any] = {"seed": 0, "enabled": True, **(_options(request, "chaos") or _RATES)}
    disturbing = Chaos(**options)
    with _installed(request, disturbing):
        yield disturbing


async def _sandbox(request: pytest.FixtureRequest) -> AsyncIterator[Sandbox]:
    """Run a local API with a ledger; ``@pytest.mark.api_sandbox(limit=50)`` sets its options."""
    async with Sandbox(**_options(request, "api_sandbox")) as sandbox:
        yield sandbox


def _has_looptime(config: pytest.Config) -> bool:
    return any(name.startswith("looptime") for name, _ in config.pluginmanager.list_name_plugin())


def _options(request: pytest.FixtureRequest, marker: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for mark in reversed(list(request.node.iter_markers(marker))):
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
