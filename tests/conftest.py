"""What the tests share: a real server on loopback that does as it is told and counts what arrives."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import HealthCheck, settings

from tests.wheel import python, wheel

__all__ = ["python", "wheel"]  # fixtures

# How slow a machine is says nothing about a property; what is drawn is the same each time.
settings.register_profile("here", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("here")


def pytest_configure() -> None:
    """Start without an implicit event loop: 3.11 would make one, and nobody would close it."""
    asyncio.set_event_loop(None)


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Peer:
    """A server that answers each request by ``handler`` and remembers what arrived."""

    url: str
    handler: Handler
    seen: list[tuple[str, str, bytes]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Wire requests, as the server counts them."""
        return len(self.seen)

    def answers(self, *statuses: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """Answer with *statuses* in turn, the last for ever after."""
        left = list(statuses)

        async def handler(_: web.Request) -> web.StreamResponse:
            status = left.pop(0) if len(left) > 1 else left[0]
            return web.Response(status=status, body=body if status >= 400 else b"fine", headers=headers)

        self.handler = handler


async def _fine(_: web.Request) -> web.StreamResponse:
    return web.json_response({"fine": True})


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    """A running Peer that answers 200 until told otherwise."""
    app = web.Application(client_max_size=2**26)
    holder = Peer("", _fine)

    async def route(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        holder.seen.append((request.method, request.path_qs, body))
        holder.headers.append(dict(request.headers))
        return await holder.handler(request)

    app.router.add_route("*", "/{tail:.*}", route)
    async with TestServer(app) as server:
        holder.url = str(server.make_url("/")).rstrip("/")
        yield holder
