"""Authentication under cancellation: whoever leaves harms nobody who stays."""

import asyncio

import pytest
from aiohttp import ClientSession

from apiclient.credentials import ClientCredentials
from apiclient.middleware.auth_refresh import AuthRefresh
from apiclient.middleware.authorize import Authorize
from tests.authority import Authority


async def get(authority: Authority, credential: ClientCredentials, limit: int = 0) -> list[int]:
    async with (
        authority.session(AuthRefresh(credential), Authorize(credential, origin=authority.url), limit=limit) as session,
        session.get("/a") as response,
    ):
        return [response.status]


async def steps(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.mark.parametrize("victim", ["leader", "follower", "all but one"])
async def test_cancelled_at_any_await_the_others_still_get_the_one_token(victim: str) -> None:
    """Law 9: after any number of loop steps: CancelledError passes unwrapped, the rest succeed, one token request."""
    async with Authority() as authority:
        credential = authority.client()
        outlived = 0
        for number in range(0, 240, 3):
            await credential.token()
            authority.revoke()
            before = authority.token_requests
            tasks = [asyncio.create_task(get(authority, credential)) for _ in range(4)]
            victims = {"leader": tasks[:1], "follower": tasks[2:3], "all but one": tasks[:3]}[victim]
            await steps(number)
            for task in victims:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            for task, outcome in zip(tasks, outcomes, strict=True):
                if task in victims and task.cancelled():
                    assert type(outcome) is asyncio.CancelledError
                else:
                    assert outcome == [200]
            assert authority.token_requests - before == 1
            outlived += all(not task.cancelled() for task in tasks)
        # The last steps come after the end of the calls, so all awaits before it were tried.
        assert outlived > 0


async def test_everybody_cancelled_the_refresh_still_ends_and_serves_the_next() -> None:
    """With nobody left the token request is not thrown away: the next call uses its token."""
    async with Authority() as authority:
        credential = authority.client()
        authority.delay = 0.05
        tasks = [asyncio.create_task(credential.token()) for _ in range(10)]
        while not authority.token_requests:
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(task.cancelled() for task in tasks)
        assert (await credential.token()).value == "token-1"
        assert authority.token_requests == 1


async def test_a_callers_timeout_is_its_own() -> None:
    """A caller that gives up takes nothing from the others."""
    async with Authority() as authority:
        credential = authority.client()
        authority.delay = 0.1

        async def hasty() -> None:
            async with asyncio.timeout(0.01):
                await credential.token()

        hurried = asyncio.create_task(hasty())
        patient = asyncio.create_task(credential.token())
        with pytest.raises(TimeoutError):
            await hurried
        assert (await patient).value == "token-1"
        assert authority.token_requests == 1


async def test_a_cancelled_replay_leaks_no_connection() -> None:
    """Law 9: cancelled anywhere with one connection in the pool, the next call gets it."""
    async with Authority() as authority:
        credential = authority.client()
        async with authority.session(
            AuthRefresh(credential), Authorize(credential, origin=authority.url), limit=1
        ) as session:
            for number in range(0, 200, 4):
                await credential.token()
                authority.revoke()
                task = asyncio.create_task(_read(session))
                await steps(number)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                assert await _read(session) == 200


async def _read(session: ClientSession) -> int:
    async with session.get("/a") as response:
        return response.status
