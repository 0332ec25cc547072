"""Accounts do not get into each other's way, and do share what they should."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from accounts import Accounts

from apiclient import errors
from apiclient.sandbox import Sandbox


@pytest.fixture
async def accounts(api_sandbox: Sandbox, virtual_time: Callable[[], float]) -> AsyncIterator[Accounts]:
    tokens = {name: api_sandbox.issue_token(client=name, lifetime=600) for name in ("north", "south")}
    async with Accounts(api_sandbox.api_url, tokens) as accounts:
        yield accounts


async def test_each_has_its_own_quota(
    accounts: Accounts, api_sandbox: Sandbox, virtual_time: Callable[[], float]
) -> None:
    await accounts["north"].get("/employees/{id}", path_params={"id": 1})
    names = ["north"] * 12 + ["south"]
    began = virtual_time()

    async def ask(name: str) -> tuple[str, float]:
        await accounts[name].get("/employees/{id}", path_params={"id": 1})
        return name, virtual_time() - began

    ended = dict(await asyncio.gather(*map(ask, names)))
    assert ended["south"] < 1 < ended["north"], "north waits for its quota, south does not wait for north"


async def test_a_refused_account_stands_alone(api_sandbox: Sandbox, virtual_time: Callable[[], float]) -> None:
    tokens = {"north": api_sandbox.issue_token(client="north"), "south": "revoked"}
    async with Accounts(api_sandbox.api_url, tokens) as accounts:
        with pytest.raises(errors.Unauthorized):
            await accounts["south"].get("/ping")
        assert (await accounts["north"].get("/ping")).status == 200


async def test_the_server_is_down_for_all(accounts: Accounts, api_sandbox: Sandbox) -> None:
    api_sandbox.outage()
    for _ in range(12):
        with pytest.raises(errors.ApiError):
            await accounts["north"].get("/ping")
    with pytest.raises(errors.CircuitOpen):
        await accounts["south"].get("/ping")
