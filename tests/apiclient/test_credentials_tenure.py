"""Who may replace a shared token: for as long as that takes, and not much longer where the holder dies."""

import asyncio
from typing import Any

import pytest

from apiclient.credentials import ClientCredentials, RefreshToken
from apiclient.credentials._tenure import LEASE, Tenure
from apiclient.middleware.errors import CredentialsRejected, TokenUnavailable
from apiclient.stores import MemoryTokenStore, SqliteTokenStore
from apiclient.stores.token_store import RenewableTokenStore
from tests.authority import Authority, answer, hang

pytestmark = pytest.mark.looptime


class Process:
    """The store as one process reaches it: not at all once it is dead, and without renewals while it is cut off.

    Attributes:
        robbed: Whether another process has its lease.
        renewals: How often it tried to renew.
    """

    def __init__(self, store: MemoryTokenStore, *, slow: float = 0.0) -> None:
        self._store = store
        self._slow = slow
        self.dead = self.cut_off = self.robbed = False
        self.renewals = 0

    async def _through(self) -> None:
        while self.dead:
            await asyncio.sleep(LEASE)

    async def load(self, key: str) -> str | None:
        await self._through()
        if self.cut_off:
            await asyncio.sleep(self._slow)
        return await self._store.load(key)

    async def acquire(self, key: str, seconds: float) -> str | None:
        await self._through()
        return await self._store.acquire(key, seconds)

    async def renew(self, key: str, lease: str, seconds: float) -> bool:
        await self._through()
        self.renewals += 1
        if self.cut_off:
            raise ConnectionError("no store here")
        return not self.robbed and await self._store.renew(key, lease, seconds)

    async def save(self, key: str, text: str, lease: str) -> bool:
        await self._through()
        return await self._store.save(key, text, lease)

    async def release(self, key: str, lease: str) -> None:
        await self._through()
        await self._store.release(key, lease)


class Unrenewable:
    """A store of the smaller protocol, that notes for how long it lends."""

    def __init__(self) -> None:
        self.lent: list[float] = []
        store = MemoryTokenStore()
        self.load, self.save, self.release = store.load, store.save, store.release
        self._store = store

    async def acquire(self, key: str, seconds: float) -> str | None:
        self.lent.append(seconds)
        return await self._store.acquire(key, seconds)


def rotating(authority: Authority, store: Any, **options: Any) -> RefreshToken:
    authority.rotating = True
    return RefreshToken(
        token_url=f"{authority.url}/token", client_id="app", refresh_token="refresh-0", store=store, **options
    )


def own(authority: Authority, store: Any, **options: Any) -> ClientCredentials:
    return ClientCredentials(
        token_url=f"{authority.url}/token", client_id="app", client_secret="s", store=store, **options
    )


def shared() -> MemoryTokenStore:
    return MemoryTokenStore(now=asyncio.get_running_loop().time)


async def asked(authority: Authority, times: int) -> None:
    while authority.token_requests < times:
        await asyncio.sleep(0.01)


async def test_a_holder_that_died_delays_its_siblings_by_one_lease() -> None:
    """The lease of a process that is gone ends by itself, ten seconds after it was renewed last."""
    time = asyncio.get_running_loop().time
    async with Authority() as authority:
        store = shared()
        process = Process(store)
        authority.script = [hang]
        dying = asyncio.create_task(own(authority, process, timeout=60.0).token())
        await asked(authority, 1)
        await asyncio.sleep(12.0)
        process.dead, died = True, time()
        try:
            assert (await own(authority, store).token()).value == "token-1"
            assert LEASE / 2 < time() - died <= LEASE + 0.2
        finally:
            process.dead = False
            dying.cancel()


async def test_a_refresh_that_takes_longer_than_a_lease_keeps_it() -> None:
    """Siblings wait for a holder that lives, and take what it brings: one use of the refresh token."""
    async with Authority() as authority:
        store = shared()
        authority.delay = 3.5 * LEASE
        both = [rotating(authority, store, timeout=60.0) for _ in range(2)]
        tokens = await asyncio.gather(*(each.token() for each in both))
        assert {token.value for token in tokens} == {"token-2"}
        assert authority.token_requests == 1
        assert not authority.revoked


async def test_one_renewal_that_fails_costs_no_lease() -> None:
    """It is tried again before the lease is over."""
    async with Authority() as authority:
        store = shared()
        process = Process(store)
        authority.delay = 2 * LEASE
        holder = asyncio.create_task(rotating(authority, process, timeout=60.0).token())
        await asked(authority, 1)
        sibling = asyncio.create_task(rotating(authority, store, timeout=60.0).token())
        process.cut_off = True
        await asyncio.sleep(0.6 * LEASE)
        process.cut_off = False
        assert (await holder).value == (await sibling).value
        assert authority.token_requests == 1


async def test_a_holder_that_could_not_renew_stores_nothing_over_a_newer_one() -> None:
    """The store says no to it: what the newer holder brought stays, and its own token is used by itself alone."""
    async with Authority() as authority:
        store = shared()
        process = Process(store)
        process.cut_off = True
        authority.delay = 2 * LEASE
        late = own(authority, process, timeout=60.0)
        task = asyncio.create_task(late.token())
        await asked(authority, 1)
        authority.delay = 0.0
        newer = await own(authority, store).token()
        assert (await task).value != newer.value
        kept = str(await store.load(late._key()))
        assert newer.value in kept
        assert (await task).value not in kept


async def test_a_holder_that_could_not_renew_uses_no_refresh_token_again() -> None:
    """Once its lease may be another's no further attempt is begun: a second use could revoke the grant."""
    async with Authority() as authority:
        process = Process(shared())
        process.cut_off = True
        authority.script = [hang, hang, hang]
        with pytest.raises(TokenUnavailable) as caught:
            await rotating(authority, process, timeout=1.5 * LEASE).token()
        assert caught.value.recoverable
        assert authority.token_requests == 1


async def test_a_holder_that_hears_of_another_uses_no_refresh_token_again() -> None:
    """At once, not only when its own lease would have ended; and it does not ask again."""
    async with Authority() as authority:
        process = Process(shared())
        process.robbed = True
        authority.delay = 0.5 * LEASE
        authority.script = [answer(503), answer(503)]
        with pytest.raises(TokenUnavailable):
            await rotating(authority, process).token()
        assert authority.token_requests == 1
        assert process.renewals == 1


async def test_nothing_is_renewed_once_the_refresh_is_over() -> None:
    """Neither after it went well nor after it did not."""
    async with Authority() as authority:
        process = Process(shared())
        authority.script = [answer(400, {"error": "invalid_client"})]
        with pytest.raises(CredentialsRejected):
            await own(authority, process).token()
        assert (await own(authority, process).token()).value
        await asyncio.sleep(2 * LEASE)
        assert process.renewals == 0


async def test_a_lease_that_was_lost_before_the_first_attempt_is_not_used() -> None:
    """A process that was held up begins nothing; a client of its own, which uses nothing up, does."""
    async with Authority() as authority:
        process = Process(shared(), slow=1.5 * LEASE)
        process.cut_off = True
        with pytest.raises(TokenUnavailable, match="held up"):
            await rotating(authority, process).token()
        assert authority.token_requests == 0
        assert (await own(authority, process).token()).value


async def test_a_token_whose_storing_was_not_confirmed_replaces_no_newer_one() -> None:
    """It was stored all the same, and a sibling went on from there: the next refresh uses the sibling's."""

    class Deaf(MemoryTokenStore):
        deaf = False

        async def save(self, key: str, text: str, lease: str) -> bool:
            saved = await super().save(key, text, lease)
            if self.deaf:
                raise TimeoutError
            return saved

    async with Authority() as authority:
        store = Deaf(now=asyncio.get_running_loop().time)
        one, two = rotating(authority, store), rotating(authority, store)
        store.deaf = True
        with pytest.raises(TokenUnavailable):
            await one.token()
        store.deaf = False
        two.invalidate(await two.token())
        await two.token()
        one.invalidate(await one.token())
        await one.token()
        assert [form["refresh_token"] for form in authority.forms] == ["refresh-0", "refresh-1", "refresh-3"]
        assert not authority.revoked


async def test_a_store_that_cannot_renew_lends_for_as_long_as_a_refresh_can_take() -> None:
    """The smaller protocol is enough: such a lease outlasts all attempts."""
    async with Authority() as authority:
        store = Unrenewable()
        assert (await own(authority, store, timeout=4.0, attempts=2).token()).value == "token-1"
        assert store.lent == [2 * 4.0 + 2 * 4.0 + 5.0]


def test_the_stores_here_can_renew() -> None:
    """Memory and file; the server's is tested beside it."""
    assert isinstance(MemoryTokenStore(), RenewableTokenStore)
    assert isinstance(SqliteTokenStore("tokens.db"), RenewableTokenStore)
    assert not isinstance(Unrenewable(), RenewableTokenStore)


async def test_its_repr_shows_no_lease() -> None:
    """A lease's name lets whoever has it save."""
    tenure = Tenure(MemoryTokenStore(), "key", longest=60.0)
    assert await tenure.acquire()
    assert repr(tenure) == "Tenure(MemoryTokenStore(0 kept), 10 s)"
