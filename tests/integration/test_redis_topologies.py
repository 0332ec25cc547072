"""The same stores on a cluster, behind a sentinel, and for a user who may do little: real servers of each kind."""

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from apiclient.middleware._parsing.rate import Rate
from apiclient.shared import Redis
from apiclient.stores import Draft
from tests.apiclient.stores.outbox import ORIGIN, intent
from tests.valkey import Server, binary, connections, free_port, has_waitaof, listening

__all__ = ["connections"]

pytestmark = pytest.mark.usefixtures("connections")
RATES = (Rate(10, per=3600.0), Rate(5, per=1800.0))


async def asked(server: Server | str, *command: Any) -> Any:
    client: Any = redis.asyncio.Redis.from_url(server if isinstance(server, str) else server.url)
    try:
        return await client.execute_command(*command)
    finally:
        await client.aclose()


async def works(shared: Redis) -> None:
    """Use everything once."""
    assert (await shared.quotas.lease("https://api.test GET /x/{id}", RATES, 7)).units == 5
    await shared.quotas.pause("https://api.test GET /x/{id}", 1.0)
    assert shared.quotas.failures == 0
    lease = await shared.tokens.acquire("key", 5.0)
    assert lease is not None
    assert await shared.tokens.renew("key", lease, 5.0)
    assert await shared.tokens.save("key", "text", lease)
    await shared.tokens.release("key", lease)
    assert await shared.tokens.load("key") == "text"
    outbox = shared.outbox("orders")
    await outbox.put(Draft("a", intent()))
    (entry,) = await outbox.claim(ORIGIN, limit=5, seconds=60)
    assert await outbox.ack("a", str(entry.lease), status=200)
    assert (await outbox.stats()).delivered == 1


async def test_on_a_cluster() -> None:
    """All keys of one quota, token or outbox have one hash tag, so that their scripts run on one node."""
    server = Server(**{"cluster-enabled": "yes"})
    try:
        await asked(server, "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        for _ in range(200):
            if b"cluster_state:ok" in await asked(server, "CLUSTER", "INFO"):
                break
            await asyncio.sleep(0.02)
        await works(Redis(f"redis+cluster://127.0.0.1:{server.port}", timeout=5.0))
    finally:
        server.stop()


@contextmanager
def sentinel(watched: Server, folder: Path, *settings: str) -> Iterator[int]:
    port = free_port()
    config = folder / "sentinel.conf"
    monitor = f"monitor orders 127.0.0.1 {watched.port} 1"
    lines = [f"port {port}", "bind 127.0.0.1", f"dir {folder}", *(f"sentinel {each}" for each in (monitor, *settings))]
    config.write_text("\n".join(lines) + "\n")
    process = subprocess.Popen([binary(), str(config), "--sentinel"], stdout=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(5)


async def test_behind_a_sentinel(tmp_path: Path) -> None:
    """It is asked which server is the primary."""
    server = Server()
    try:
        with sentinel(server, tmp_path) as port:
            await listening(port)
            await works(Redis(f"redis+sentinel://127.0.0.1:{port}/orders/0", timeout=5.0))
    finally:
        server.stop()


async def test_for_a_user_with_few_rights() -> None:
    """What the page says that an ACL must allow is enough."""
    server = Server()
    rights = "+eval +evalsha +time +get +set +del +exists +pexpire +pttl +@hash +@sortedset +@set +waitaof -keys"
    try:
        if not await has_waitaof(server):
            rights = rights.replace("+waitaof ", "")
        await asked(server, "ACL", "SETUSER", "worker", "on", ">pass:w/rd", "~apiclient:*", "-@all", *rights.split())
        await works(Redis(f"redis://worker:pass%3Aw%2Frd@127.0.0.1:{server.port}", timeout=5.0))
        assert not (await Redis(server.url, timeout=5.0, namespace="other").tokens.load("key"))
    finally:
        server.stop()
