"""A token store that fails must not stop a process that can ask for a token of its own."""

import asyncio
from typing import Any

import pytest

from apiclient.credentials import ClientCredentials, RefreshToken
from apiclient.middleware.errors import TokenUnavailable
from apiclient.shared import Redis
from apiclient.stores import MemoryTokenStore
from tests.authority import Authority


class Failing(MemoryTokenStore):
    """A store in memory of which one operation fails, from its *after*-th time on."""

    def __init__(self, operation: str, after: int = 0) -> None:
        super().__init__()
        self.operation: str | None = operation
        self._left = after

    def _fail(self, operation: str) -> None:
        if operation == self.operation:
            self._left -= 1
            if self._left < 0:
                raise ConnectionError("no store here")

    async def load(self, key: str) -> str | None:
        self._fail("load")
        return await super().load(key)

    async def acquire(self, key: str, seconds: float) -> str | None:
        self._fail("acquire")
        return await super().acquire(key, seconds)

    async def save(self, key: str, text: str, lease: str) -> bool:
        self._fail("save")
        return await super().save(key, text, lease)

    async def release(self, key: str, lease: str) -> None:
        self._fail("release")
        await super().release(key, lease)


def own(authority: Authority, **options: Any) -> ClientCredentials:
    return ClientCredentials(token_url=f"{authority.url}/token", client_id="app", client_secret="s", **options)


def rotating(authority: Authority, **options: Any) -> RefreshToken:
    authority.rotating = True
    return RefreshToken(token_url=f"{authority.url}/token", client_id="app", refresh_token="refresh-0", **options)


@pytest.mark.parametrize(("operation", "after"), [("load", 0), ("load", 1), ("acquire", 0), ("save", 0)])
async def test_a_client_of_its_own_gets_a_token_without_the_store(operation: str, after: int) -> None:
    """Wherever the store fails: 50 callers, one token request, and the next refresh works as well."""
    async with Authority() as authority:
        credential = own(authority, store=Failing(operation, after))
        tokens = await asyncio.gather(*(credential.token() for _ in range(50)))
        assert {token.value for token in tokens} == {"token-1"}
        assert len(authority.forms) == 1
        credential.invalidate(tokens[0])
        assert (await credential.token()).value == "token-2"
        assert len(authority.forms) == 2


@pytest.mark.parametrize(("operation", "after"), [("load", 0), ("load", 1), ("acquire", 0)])
async def test_a_refresh_token_is_not_used_without_the_store(operation: str, after: int) -> None:
    """A sibling may have used it: the callers are told, nothing is asked, and all is well once the store is back."""
    async with Authority() as authority:
        store = Failing(operation, after)
        credential = rotating(authority, store=store)
        with pytest.raises(TokenUnavailable, match=r"the token store .* failed") as caught:
            await credential.token()
        assert caught.value.recoverable
        assert authority.forms == []
        store.operation = None
        await credential.token()
        assert [form["refresh_token"] for form in authority.forms] == ["refresh-0"]


async def test_a_rotated_token_that_was_not_stored_is_not_lost() -> None:
    """Nobody gets it before it is stored, and once the store is back it is, without another token request."""
    async with Authority() as authority:
        store = Failing("save")
        credential = rotating(authority, store=store)
        with pytest.raises(TokenUnavailable):
            await credential.token()
        store.operation = None
        await credential.token()
        assert [form["refresh_token"] for form in authority.forms] == ["refresh-0"]


async def test_a_rotated_token_that_was_not_stored_serves_a_credential_for_more_scope() -> None:
    """They share the grant: what one could not store, the other goes on with, and not with what is used up."""
    async with Authority() as authority:
        store = Failing("save")
        credential = rotating(authority, store=store, scope="a", allowed_scopes=["b"])
        wider = credential.for_scope("b")
        assert wider is not None
        with pytest.raises(TokenUnavailable):
            await credential.token()
        store.operation = None
        await wider.token()
        await credential.token()
        assert [form["refresh_token"] for form in authority.forms] == ["refresh-0", "refresh-1"]
        assert not authority.revoked


class Mute(MemoryTokenStore):
    """A store in memory that saves, and then fails to say so, or loses what it has."""

    mute = True

    async def save(self, key: str, text: str, lease: str) -> bool:
        saved = await super().save(key, text, lease)
        if self.mute:
            raise ConnectionError("no answer")
        return saved

    def lose(self, text: str | None) -> None:
        for key in list(self._texts):
            del self._texts[key]
            if text is not None:
                self._texts[key] = text


async def renewed(*credentials: RefreshToken) -> None:
    for credential in credentials:
        credential.invalidate(await credential.token())
        await credential.token()


async def test_what_was_stored_after_all_is_not_stored_over_what_came_after_it() -> None:
    """The answer of the store was lost, and siblings went on from what it has: so does the one that was not told."""
    async with Authority() as authority:
        store = Mute()
        one, two = rotating(authority, store=store), rotating(authority, store=store)
        with pytest.raises(TokenUnavailable):
            await one.token()
        store.mute = False
        for _ in range(3):
            await renewed(two, one)
        assert not authority.revoked
        sent = [form["refresh_token"] for form in authority.forms]
        assert len(sent) == len(set(sent)) > 3


async def test_a_store_that_lost_everything_does_not_bring_back_a_used_token() -> None:
    """This process knows the one that comes next."""
    async with Authority() as authority:
        store = Mute()
        store.mute = False
        credential = rotating(authority, store=store)
        await credential.token()
        store.lose(None)
        await renewed(credential)
        assert [form["refresh_token"] for form in authority.forms] == ["refresh-0", "refresh-1"]


async def test_a_lost_lease_does_not_lose_the_rotated_token() -> None:
    """What could not be saved because another held the lease is saved next time, if nobody has stored a later one."""

    class Taken(MemoryTokenStore):
        taken = True

        async def save(self, key: str, text: str, lease: str) -> bool:
            return False if self.taken else await super().save(key, text, lease)

    async with Authority() as authority:
        store = Taken()
        credential = rotating(authority, store=store)
        await credential.token()
        store.taken = False
        await renewed(credential)
        assert [form["refresh_token"] for form in authority.forms] == ["refresh-0", "refresh-1"]


@pytest.mark.parametrize("record", ['{"version": 2}', ""], ids=["later version", "no key opens it"])
async def test_a_record_that_cannot_be_read_is_no_reason_to_use_the_first_token_again(record: str) -> None:
    """It may be of a later program: to ask with what that has used up would revoke the grant for both."""
    async with Authority() as authority:
        store = Mute()
        store.mute = False
        await rotating(authority, store=store).token()
        store.lose(record)
        with pytest.raises(
            TokenUnavailable, match="cannot be read; use the program and keys that wrote it, or sign in"
        ) as caught:
            await rotating(authority, store=store).token()
        assert not caught.value.recoverable
        assert len(authority.forms) == 1


async def test_a_lease_that_cannot_be_given_back_harms_nobody() -> None:
    """The token was stored, so that everybody may have it; the lease ends by itself."""
    async with Authority() as authority:
        for grant in (own(authority, store=Failing("release")), rotating(authority, store=Failing("release"))):
            token = await grant.token()
            assert await grant.token() is token
        assert len(authority.forms) == 2


@pytest.mark.looptime
async def test_a_server_that_hangs_delays_a_token_by_the_stated_time() -> None:
    """An address that swallows everything: after ``patience`` the process asks for a token of its own."""

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    loop = asyncio.get_running_loop()
    silent = await asyncio.start_server(swallow, "127.0.0.1", 0)
    shared = Redis(f"redis://127.0.0.1:{silent.sockets[0].getsockname()[1]}", patience=3.0)
    async with Authority() as authority:
        began = loop.time()
        assert (await own(authority, store=shared.tokens).token()).value
        assert 2.9 < loop.time() - began < 3.5
        began = loop.time()
        with pytest.raises(TokenUnavailable):
            await rotating(authority, store=shared.tokens).token()
        assert loop.time() - began < 3.5
    await shared.aclose()
    silent.close()
    await asyncio.sleep(0.01)
