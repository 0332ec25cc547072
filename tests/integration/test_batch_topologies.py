"""A batch whose queue is on a cluster, or behind a sentinel: real servers, one of which dies."""

import asyncio
import functools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from apiclient.job import Job, Queue
from apiclient.job._merge import merge_results
from apiclient.shared import Redis
from apiclient.stores._redis_server import StoreUnavailable
from apiclient.stores.redis_queue_store import RedisQueueStore
from tests.apiclient.job.runs import loaded, runner, things, write
from tests.conftest import Peer
from tests.integration.test_redis_failover import Pair, facts, pair, until
from tests.integration.test_redis_topologies import asked, sentinel
from tests.valkey import Server, connections

__all__ = ["connections", "pair"]

pytestmark = pytest.mark.usefixtures("connections")
LINES = 400
SETTINGS = ("down-after-milliseconds orders 300", "failover-timeout orders 3000")


def opened(url: str, *, name: str = "orders") -> RedisQueueStore:
    return Redis(url, timeout=1.0, cooldown=0.05).queue(name)


def runners(address: str, queue: Queue, url: str, folder: Path) -> list[Job]:
    """Return two, each with connections of its own, as on two machines."""
    queues = [Queue(opened(address, name=queue.store.name), queue.facts) for _ in range(2)]
    return [runner(each, url, folder / f"{number}.jsonl", concurrency=8) for number, each in enumerate(queues)]


def merged(folder: Path) -> int:
    """Check that every line has a result; return how many were run again."""
    outputs = sorted(folder.glob("?.jsonl"))
    found = merge_results(outputs, folder / "all.jsonl", source=str(folder / "in.jsonl"))
    assert (found.ok, found.failed, found.missing) == (LINES, 0, 0)
    return found.repeated


async def answers(store: RedisQueueStore) -> bool:
    """Return whether the sentinel has started, and knows a primary that answers."""
    try:
        await store.facts()
    except StoreUnavailable:
        return False
    return True


async def known(port: int) -> None:
    """Wait until the sentinel, which asks every ten seconds only, knows a replica that it may promote."""

    async def ask() -> bool:
        replicas: list[dict[bytes, bytes]] = await asked(f"redis://127.0.0.1:{port}", "SENTINEL", "REPLICAS", "orders")
        return any(each[b"flags"] == b"slave" and each[b"master-link-status"] == b"ok" for each in replicas)

    await until(ask, bool)


@pytest.fixture
async def cluster() -> AsyncIterator[list[Server]]:
    """Two nodes, each with half of the slots."""
    nodes = [Server(**{"cluster-enabled": "yes"}) for _ in range(2)]
    try:
        await asked(nodes[0], "CLUSTER", "ADDSLOTSRANGE", "0", "8191")
        await asked(nodes[1], "CLUSTER", "ADDSLOTSRANGE", "8192", "16383")
        await asked(nodes[1], "CLUSTER", "SET-CONFIG-EPOCH", "2")
        await asked(nodes[0], "CLUSTER", "MEET", "127.0.0.1", nodes[1].port)
        for node in nodes:
            await until(functools.partial(asked, node, "CLUSTER", "INFO"), lambda found: b"cluster_state:ok" in found)
        yield nodes
    finally:
        for node in nodes:
            node.stop()


@pytest.mark.parametrize("node", [1, pytest.param(0, marks=pytest.mark.long)])
async def test_runners_share_a_queue_on_a_cluster(peer: Peer, tmp_path: Path, cluster: list[Server], node: int) -> None:
    """All keys of a queue lie on one node, whichever it is, and the address of any leads there."""
    address = f"redis+cluster://127.0.0.1:{cluster[0].port}"
    store = opened(address, name="lines" if node else "orders")
    queue = await loaded(store, write(tmp_path / "in.jsonl", things(LINES)))
    assert await asked(cluster[node], "DBSIZE") == 2
    assert await asked(cluster[1 - node], "DBSIZE") == 0
    assert await asyncio.gather(*(job.run() for job in runners(address, queue, peer.url, tmp_path))) == [0, 0]
    assert merged(tmp_path) == 0
    assert peer.count == LINES
    await store.forget()
    assert await asked(cluster[node], "DBSIZE") == 0


async def test_a_cluster_that_is_not_there_is_unavailable() -> None:
    """As a single server is: the limiter goes by its share, a batch says what to look at."""
    server = Server()
    server.stop()
    store = opened(f"redis+cluster://127.0.0.1:{server.port}")
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await store.facts()


async def test_a_queue_outlives_its_primary(peer: Peer, tmp_path: Path, pair: Pair) -> None:
    """Killed midway, and its replica promoted: runners go on there, every line has a result, and under one key."""
    await pair.linked()
    halfway, promoted = asyncio.Event(), asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        if peer.count >= LINES // 4:
            halfway.set()
            await promoted.wait()
        return web.Response()

    peer.handler = handler
    with sentinel(pair.primary, tmp_path, *SETTINGS) as port:
        address = f"redis+sentinel://127.0.0.1:{port}/orders/0"
        store = opened(address)
        await until(functools.partial(answers, store), bool)
        source = write(tmp_path / "in.jsonl", things(LINES, method="POST", body={}))
        queue = await loaded(store, source)
        await known(port)
        await pair.level()
        jobs = [asyncio.create_task(job.run()) for job in runners(address, queue, peer.url, tmp_path)]
        await halfway.wait()
        pair.primary.halt()
        promoted.set()
        assert await asyncio.gather(*jobs) == [0, 0]
        assert (await facts(pair.replica))["role"] == "master"
        await until(functools.partial(answers, store), bool)
        found = await store.facts()
        assert found is not None
        assert found.done == LINES
    repeated = merged(tmp_path)
    assert peer.count == LINES + repeated
    keys = {headers["Idempotency-Key"] for headers in peer.headers}
    assert len(keys) == LINES
