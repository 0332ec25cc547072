"""Hosts that do not exist, do not listen, or do not answer: nothing was sent, and the caller hears of it in time."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from apiclient import ApiClient, errors
from tests.integration.scripted import Scripted

pytestmark = pytest.mark.looptime


class Names(AbstractResolver):
    """Answers the first *failures* questions with *error*, or never, and the others with 127.0.0.1."""

    def __init__(self, error: OSError | None, failures: int = 10**9) -> None:
        self.error = error
        self.failures = failures
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked += 1
        if self.asked <= self.failures:
            if self.error is None:
                await asyncio.sleep(1e6)
            else:
                raise self.error
        return [
            ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0),
        ]

    async def close(self) -> None:
        pass


@asynccontextmanager
async def looking_up(names: Names, url: str) -> AsyncIterator[ApiClient]:
    connector = aiohttp.TCPConnector(limit=1, resolver=names, use_dns_cache=False)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        ApiClient(url, session=session) as client,
    ):
        yield client
        assert not connector._acquired


@contextmanager
def bound(*, backlog: int | None = None) -> Iterator[int]:
    """A port that is taken; with a backlog, one that listens and never accepts."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        if backlog is not None:
            taken.listen(backlog)
        yield taken.getsockname()[1]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_name_that_does_not_exist(method: str) -> None:
    """Asked for at each attempt, also for a POST, since nothing was sent."""
    names = Names(socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    async with looking_up(names, "http://api.invalid") as client:
        with pytest.raises(errors.ConnectFailed) as caught:
            await client.request(method, "/x")
    assert caught.value.attempts == names.asked == 4
    assert not isinstance(caught.value, errors.OutcomeUnknown)


async def test_a_name_server_that_recovers() -> None:
    """Two failures, then an address: the call succeeds, and the server sees one request."""
    async with Scripted() as server:
        names = Names(socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), failures=2)
        async with looking_up(names, f"http://api.invalid:{server.url.rpartition(':')[2]}") as client:
            pending = client.post("/x", json={})
            assert await (await pending).text() == "fine"
        assert pending.call is not None
        assert pending.call.attempts == 3
        assert len(server.requests) == 1


async def test_a_name_server_that_is_silent() -> None:
    """Each attempt is given up after the 20 s for connecting, and the call at its deadline."""
    loop = asyncio.get_running_loop()
    names = Names(None)
    async with looking_up(names, "http://api.invalid") as client:
        began = loop.time()
        with pytest.raises(errors.DeadlineExceeded) as caught:
            await client.get("/x", timeout=50.0)
        assert loop.time() - began <= 50.2
    assert caught.value.attempts == names.asked == 3
    assert [attempt.error for attempt in caught.value.trail] == ["ConnectionTimeoutError"] * 2


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_closed_port(method: str) -> None:
    """Refused at once, four times, and recoverable."""
    loop = asyncio.get_running_loop()
    with bound() as port:
        async with ApiClient(f"http://127.0.0.1:{port}", connections=1) as client:
            began = loop.time()
            with pytest.raises(errors.ConnectFailed, match="No connection could be made") as caught:
                await client.request(method, "/x")
            assert loop.time() - began <= 1.0
    assert caught.value.attempts == len(caught.value.trail) == 4
    assert caught.value.recoverable


async def test_a_port_that_opens_in_time() -> None:
    """A restart of the server between two attempts costs the caller nothing but the wait."""
    with bound() as port:
        pass
    async with ApiClient(f"http://127.0.0.1:{port}", connections=1) as client:
        call = asyncio.ensure_future(fetched(client))
        await asyncio.sleep(0)
        async with Scripted() as server:
            server._server.close()
            await server._server.wait_closed()
            server._server = await asyncio.start_server(server._serve, "127.0.0.1", port)
            assert await call == "fine"


async def fetched(client: ApiClient) -> str:
    return await (await client.get("/x")).text()


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_host_that_drops_what_it_gets(method: str) -> None:
    """A full backlog drops the SYN: given up after 10 s each time, and nothing was sent."""
    loop = asyncio.get_running_loop()
    with bound(backlog=0) as port:
        fillers: list[Any] = []
        try:
            for _ in range(3):
                filler = socket.socket()
                fillers.append(filler)
                filler.settimeout(0)
                filler.connect_ex(("127.0.0.1", port))
            if not dropped(port):
                pytest.skip("the platform answers though the backlog is full")
            async with ApiClient(f"http://127.0.0.1:{port}", connections=1) as client:
                began = loop.time()
                with pytest.raises(errors.ConnectFailed) as caught:
                    await client.request(method, "/x")
                assert 40.0 <= loop.time() - began <= 44.2
        finally:
            for filler in fillers:
                filler.close()
    assert caught.value.attempts == 4


def dropped(port: int) -> bool:
    """Whether a connection stays under way for 50 ms of real time, which loopback never takes."""
    with socket.socket() as probe:
        probe.settimeout(0.05)
        return probe.connect_ex(("127.0.0.1", port)) in {errno.EAGAIN, errno.EINPROGRESS, errno.ETIMEDOUT}
