"""A client with ``shared=``: one place that configures it."""

import asyncio
import secrets

import pytest

from apiclient import ApiClient, default_pipeline
from apiclient.credentials import ClientCredentials
from apiclient.middleware._parsing.rate import Rate
from apiclient.sandbox import Sandbox
from apiclient.shared import Redis
from apiclient.stores import MemoryTokenStore
from tests.valkey import common


async def test_a_client_shares_quota_and_token() -> None:
    """Two clients with a server in common ask for one token, and each slot of the quota is leased there."""
    name = secrets.token_hex(6)
    async with Sandbox() as sandbox:
        clients = [
            ApiClient(
                sandbox.api_url,
                credentials=ClientCredentials(
                    token_url=sandbox.token_url, client_id="demo", client_secret="demo-secret"
                ),
                shared=Redis(common().url, namespace=name, timeout=5.0),
            )
            for _ in range(2)
        ]
        for client in clients:
            async with client:
                for _ in range(3):
                    assert (await client.get("/employees/{id}", path_params={"id": 1})).status == 200
        assert sandbox.count("POST /oauth/token") == 1
    raw = Redis(common().url, namespace=name)
    keys = await raw._quick.run(lambda client: client.keys(f"{name}:*"))
    assert any(b":{quota:" in key for key in keys)
    assert any(b":{token:" in key for key in keys)
    await raw.aclose()


async def test_the_last_client_closes_the_connections() -> None:
    """Clients may share the object; what one closes, the other still has."""
    shared = Redis(common().url, namespace=secrets.token_hex(6), timeout=5.0)
    async with Sandbox() as sandbox:
        one, two = (ApiClient(sandbox.api_url, shared=shared) for _ in range(2))
        await shared.tokens.load("x")
        await one.aclose()
        assert len(shared._slow._clients) == 1
        await two.aclose()
        assert len(shared._slow._clients) == 0


async def test_closing_tells_what_was_used_and_opens_nothing_anew() -> None:
    """Others wait for units that are given back: they are told of at once, and not on a connection opened later."""
    name, rates = secrets.token_hex(6), (Rate(50, per=3600.0),)
    one, two = (Redis(common().url, namespace=name, timeout=5.0) for _ in range(2))
    assert (await one.quotas.lease("k", rates, 50)).units == 50
    one.quotas.landed("k", 20, None)
    ((_, quota),) = one.quotas._quotas.items()
    await one.aclose()
    assert quota.timer is None
    assert not one.quotas._telling
    assert len(one._quick._clients) == 0
    assert (await two.quotas.lease("k", rates, 50)).units == 20
    await two.aclose()


async def test_a_store_of_the_credentials_own_wins() -> None:
    """Who gave one meant it."""
    own = MemoryTokenStore()
    credentials = ClientCredentials(token_url="https://login.test/token", client_id="id", client_secret="s", store=own)
    shared = Redis(common().url)
    client = ApiClient("https://api.test", credentials=credentials, shared=shared)
    assert credentials._store is own
    await client.aclose()


def test_with_a_pipeline_of_ones_own_it_says_what_to_write() -> None:
    """Replacing a limiter that somebody configured would lose what they configured."""
    with pytest.raises(ValueError, match=r"write RateLimit\(store=shared.quotas\)"):
        ApiClient("https://api.test", pipeline=default_pipeline(), shared=Redis("redis://127.0.0.1"))


@pytest.mark.parametrize("scheme", ["redis", "redis+sentinel", "redis+cluster"])
async def test_user_and_password_are_read_alike_from_every_url(scheme: str) -> None:
    """Quoted as in any URL, options of redis-py with their types, and an IPv6 address in brackets."""
    url = f"{scheme}://me:p%3Aw%40@[::1]:6390?max_connections=7"
    shared = Redis(url)
    client = shared._slow._connected(asyncio.get_running_loop())
    if scheme == "redis+cluster":
        (node,) = client.nodes_manager.startup_nodes.values()
        given, place = client.nodes_manager.connection_kwargs | {"max_connections": node.max_connections}, node
        assert (place.host, place.port) == ("::1", 6390)
    else:
        pool = client.connection_pool
        given = pool.connection_kwargs | {"max_connections": pool.max_connections}
    if scheme == "redis+sentinel":
        (sentinel,) = shared._slow._sentinels[asyncio.get_running_loop()]
        place = sentinel.connection_pool.connection_kwargs
        assert (place["host"], place["port"]) == ("::1", 6390)
    assert (given["username"], given["password"], given["max_connections"]) == ("me", "p:w@", 7)
