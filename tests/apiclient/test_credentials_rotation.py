"""Refresh tokens that are used once: no second use, by no caller and no process."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from apiclient.credentials import RefreshToken
from apiclient.middleware.errors import CredentialsRejected, TokenUnavailable
from apiclient.stores import MemoryTokenStore, SqliteTokenStore
from tests.authority import Authority, answer

PROCESS = """
import asyncio, json, sys
import aiohttp
from apiclient.credentials import RefreshToken
from apiclient.middleware.auth_refresh import AuthRefresh
from apiclient.middleware.authorize import Authorize
from apiclient.stores import SqliteTokenStore

async def main(url, path):
    credential = RefreshToken(
        token_url=url + "/token", client_id="app", refresh_token="refresh-0", store=SqliteTokenStore(path)
    )
    statuses = []
    async with aiohttp.ClientSession(
        url, middlewares=(AuthRefresh(credential), Authorize(credential, origin=url))
    ) as session:
        async def one():
            async with session.get("/a") as response:
                return response.status
        for line in sys.stdin:
            statuses += await asyncio.gather(*(one() for _ in range(10)))
            print("ready", flush=True)
    print(json.dumps(statuses), flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


def credential(authority: Authority, **options: Any) -> RefreshToken:
    return RefreshToken(token_url=f"{authority.url}/token", client_id="app", refresh_token="refresh-0", **options)


async def test_fifty_callers_use_each_refresh_token_once() -> None:
    """Ten rounds of 50 concurrent callers: ten token requests, each with the token that the last one brought."""
    async with Authority() as authority:
        authority.rotating = True
        grant = credential(authority)
        for _ in range(10):
            tokens = await asyncio.gather(*(grant.token() for _ in range(50)))
            assert len({token.value for token in tokens}) == 1
            grant.invalidate(tokens[0])
        used = [form["refresh_token"] for form in authority.forms]
        assert len(used) == len(set(used)) == 10
        assert not authority.revoked


async def test_two_credentials_with_one_store_share_the_grant() -> None:
    """Who comes second takes the token that is there, without a request."""
    async with Authority() as authority:
        authority.rotating = True
        store = MemoryTokenStore()
        first, second = credential(authority, store=store), credential(authority, store=store)
        tokens = await asyncio.gather(first.token(), second.token(), first.token(), second.token())
        assert {token.value for token in tokens} == {"token-2"}
        assert authority.token_requests == 1
        second.invalidate(await second.token())
        assert (await second.token()).value == "token-4"
        first.invalidate(await first.token())
        assert (await first.token()).value == "token-4"
        assert authority.token_requests == 2


@pytest.mark.looptime
async def test_siblings_that_refresh_ahead_at_once_make_one_request() -> None:
    """When a shared token is due in two processes, one replaces it, the other finds the new one in the store."""
    async with Authority() as authority:
        authority.rotating, authority.lifetime, authority.delay = True, 600, 1.0
        time = asyncio.get_running_loop().time
        store = MemoryTokenStore(now=time)
        both = [credential(authority, store=store, now=time, random=lambda: 0.5) for _ in range(2)]
        assert {(await each.token()).value for each in both} == {"token-2"}
        await asyncio.sleep(570)
        assert {(await each.token()).value for each in both} == {"token-2"}
        await asyncio.sleep(5)
        assert {(await each.token()).value for each in both} == {"token-4"}
        assert authority.token_requests == 2


async def test_siblings_with_more_scope_use_the_same_chain_of_refresh_tokens() -> None:
    """Tokens for different scopes come from one grant: its refresh token is used once for each, in turn."""
    async with Authority() as authority:
        authority.rotating = True
        grant = credential(authority, scope="read", allowed_scopes=["pay"])
        wider = grant.for_scope("pay")
        assert wider is not None
        await asyncio.gather(*(each.token() for each in (grant, wider) * 5))
        assert sorted(form["scope"] for form in authority.forms) == ["read", "read pay"]
        assert not authority.revoked


@pytest.mark.parametrize("rounds", [3])
async def test_four_processes_use_each_refresh_token_once(tmp_path: Path, rounds: int) -> None:
    """Law 8 across processes: each time the token is revoked, four processes make one token request between them."""
    async with Authority() as authority:
        authority.rotating = True
        processes = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-c", PROCESS, authority.url, str(tmp_path / "tokens.db"),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            )
            for _ in range(4)
        ]  # fmt: skip
        try:
            for number in range(1, rounds + 1):
                authority.revoke()
                for process in processes:
                    assert process.stdin is not None
                    process.stdin.write(b"go\n")
                for process in processes:
                    assert process.stdout is not None
                    assert await process.stdout.readline() == b"ready\n"
                assert authority.token_requests == number
            for process in processes:
                output, _ = await process.communicate(b"")
                assert json.loads(output) == [200] * 10 * rounds
        finally:
            for process in processes:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        assert not authority.revoked
        assert len({form["refresh_token"] for form in authority.forms}) == rounds


async def test_a_restart_goes_on_with_the_rotated_token(tmp_path: Path) -> None:
    """What was stored is used after a restart: the access token while it is good, then the last refresh token."""
    async with Authority() as authority:
        authority.rotating = True
        store = SqliteTokenStore(tmp_path / "tokens.db")
        token = await credential(authority, store=store).token()
        again = credential(authority, store=SqliteTokenStore(tmp_path / "tokens.db"))
        assert (await again.token()).value == token.value
        assert authority.token_requests == 1
        again.invalidate(token)
        assert (await again.token()).value == "token-4"
        assert [form["refresh_token"] for form in authority.forms] == ["refresh-0", "refresh-1"]


async def test_a_new_sign_in_is_not_hidden_by_the_old_grant(tmp_path: Path) -> None:
    """A new first refresh token starts a chain of its own, whatever the store has of the old one."""
    async with Authority() as authority:
        store = SqliteTokenStore(tmp_path / "tokens.db")
        await credential(authority, store=store).token()
        authority.refresh_token = "signed-in-again"
        renewed = RefreshToken(
            token_url=f"{authority.url}/token", client_id="app", refresh_token="signed-in-again", store=store
        )
        assert (await renewed.token()).value == "token-2"


async def test_nobody_gets_a_token_before_the_rotated_one_is_stored() -> None:
    """The store is written first; if that fails nobody is let on, and the next caller stores it without a request."""

    class Failing(MemoryTokenStore):
        broken = True

        async def save(self, key: str, text: str, lease: str) -> bool:
            if self.broken:
                raise OSError("disk full")
            return await super().save(key, text, lease)

    async with Authority() as authority:
        authority.rotating = True
        store = Failing()
        grant = credential(authority, store=store)
        with pytest.raises(TokenUnavailable, match=r"the token store .* failed \(OSError\)"):
            await grant.token()
        store.broken = False
        assert (await grant.token()).value == "token-2"
        assert authority.token_requests == 1
        other = credential(authority, store=store)
        assert (await other.token()).value == "token-2"


async def test_a_grant_that_is_gone_is_final() -> None:
    """invalid_grant says to sign in again."""
    async with Authority() as authority:
        authority.revoked = True
        with pytest.raises(CredentialsRejected, match="Sign in again") as caught:
            await credential(authority).token()
        assert caught.value.code == "invalid_grant"
        assert "refresh-0" not in f"{caught.value!r}"


@pytest.mark.looptime
async def test_a_holder_that_died_stops_nobody_for_ever() -> None:
    """A lease that is never given back ends by itself."""
    async with Authority() as authority:
        time = asyncio.get_running_loop().time
        store = MemoryTokenStore(now=time)
        grant = credential(authority, store=store, timeout=1.0, attempts=1)
        await store.acquire(grant._key(), 5.0)
        assert (await grant.token()).value == "token-1"
        assert time() >= 5.0


@pytest.mark.looptime
async def test_a_holder_that_never_ends_is_reported() -> None:
    """Waiting for another process is bounded, and says what it waited for."""
    async with Authority() as authority:
        store = MemoryTokenStore(now=asyncio.get_running_loop().time)
        grant = credential(authority, store=store, timeout=1.0, attempts=1)
        await store.acquire(grant._key(), 1e9)
        with pytest.raises(TokenUnavailable, match="another process has been refreshing this token for too long"):
            await grant.token()
        assert authority.token_requests == 0


async def test_a_refresh_token_that_another_process_replaced_meanwhile_is_read_again() -> None:
    """If the lease was lost and the token used elsewhere, the newer one in the store is tried before giving up."""

    class Late(MemoryTokenStore):
        loads = 0

        async def load(self, key: str) -> str | None:
            self.loads += 1
            if self.loads == 3:
                return json.dumps({"version": 1, "refresh_token": "newer", "tokens": {}})
            return await super().load(key)

    async with Authority() as authority:
        authority.refresh_token = "newer"
        grant = credential(authority, store=Late())
        assert (await grant.token()).value == "token-1"
        assert [form["refresh_token"] for form in authority.forms] == ["refresh-0", "newer"]


async def test_closing_waits_for_a_refresh_under_way() -> None:
    """aclose() lets a rotated refresh token reach the store before the process ends."""
    async with Authority() as authority:
        authority.rotating = True
        authority.delay = 0.05
        store = MemoryTokenStore()
        grant = credential(authority, store=store)
        caller = asyncio.create_task(grant.token())
        while not authority.token_requests:
            await asyncio.sleep(0)
        caller.cancel()
        await grant.aclose()
        assert "refresh-1" in str(await store.load(grant._key()))


async def test_a_lease_lost_on_the_way_is_no_loss_of_the_token() -> None:
    """If somebody else holds the lease by the time of saving, theirs stays in the store and ours is used once."""

    class Taken(MemoryTokenStore):
        async def save(self, key: str, text: str, lease: str) -> bool:
            return False

    async with Authority() as authority:
        authority.script = [answer(503)]
        grant = credential(authority, store=Taken())
        assert (await grant.token()).value == "token-1"
