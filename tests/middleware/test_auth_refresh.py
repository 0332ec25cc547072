"""AuthRefresh: one new token for everybody, one replay for each, and no loop."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, ClientSession, CookieJar, web
from yarl import URL

from apiclient.credentials import ClientCredentials, StaticToken
from apiclient.middleware._call import Call, calling
from apiclient.middleware.auth_refresh import AuthRefresh
from apiclient.middleware.authorize import Authorize
from apiclient.middleware.credential import Token
from apiclient.middleware.errors import CredentialsRejected, TokenUnavailable
from tests.authority import Authority, answer


def chain(authority: Authority, credential: Any, **options: Any) -> tuple[AuthRefresh, Authorize]:
    return AuthRefresh(credential, **options), Authorize(credential, origin=authority.url)


async def warm(authority: Authority) -> ClientCredentials:
    """Return credentials whose token the server has just revoked."""
    credential = authority.client()
    await credential.token()
    authority.revoke()
    return credential


async def test_a_thousand_concurrent_401s_make_one_token_request() -> None:
    """Law 8: one token request by the server's count, one replay for each call, all answered."""
    async with Authority() as authority:
        credential = await warm(authority)
        authority.api_delay = authority.delay = 0.05
        async with authority.session(*chain(authority, credential)) as session:
            statuses = await asyncio.gather(*(_status(session, "/a") for _ in range(1000)))
        assert statuses == [200] * 1000
        assert authority.token_requests == 2
        assert authority.calls == 2000


async def test_a_late_401_for_an_old_token_makes_no_token_request() -> None:
    """Law 8: the token was replaced meanwhile: the call picks the new one up and resends."""
    async with Authority() as authority:
        credential = await warm(authority)
        slow, arrived = asyncio.Event(), asyncio.Event()

        async def api(request: web.Request) -> web.StreamResponse:
            sent = request.headers["Authorization"]
            if request.path == "/slow" and sent == "Bearer token-1":
                arrived.set()
                await slow.wait()
            return web.Response(status=200 if sent == "Bearer token-2" else 401)

        authority.api = api
        async with authority.session(*chain(authority, credential)) as session:
            late = asyncio.create_task(_status(session, "/slow"))
            await arrived.wait()
            assert await _status(session, "/quick") == 200
            slow.set()
            assert await late == 200
        assert authority.token_requests == 2
        assert [request[2] for request in authority.requests if request[1] == "/slow"] == [
            "Bearer token-1",
            "Bearer token-2",
        ]


@pytest.mark.looptime
async def test_a_fresh_token_that_is_rejected_too_ends_the_call() -> None:
    """Law 8: one replay, then the 401 is returned; and the endpoint costs no more tokens for a while."""
    async with Authority() as authority:
        credential = authority.client()
        await credential.token()
        authority.api = answer(401)
        async with authority.session(*chain(authority, credential, quiet=30.0)) as session:
            assert await _status(session, "/a") == 401
            assert (authority.calls, authority.token_requests) == (2, 2)
            assert await asyncio.gather(*(_status(session, "/a") for _ in range(20))) == [401] * 20
            assert (authority.calls, authority.token_requests) == (22, 2)
            await asyncio.sleep(31.0)
            assert await _status(session, "/a") == 401
            assert (authority.calls, authority.token_requests) == (24, 3)


async def test_an_endpoint_that_always_says_401_does_not_spoil_the_others() -> None:
    """The refusal is remembered for the endpoint alone: elsewhere a revoked token is replaced as ever."""
    async with Authority() as authority:
        credential = authority.client()
        usual = authority._call

        async def api(request: web.Request) -> web.StreamResponse:
            if request.path == "/never":
                return web.Response(status=401)
            authority.api = None
            try:
                return await usual(request)
            finally:
                authority.api = api

        authority.api = api
        async with authority.session(*chain(authority, credential)) as session:
            assert await _status(session, "/never") == 401
            for _ in range(5):
                assert await _status(session, "/never") == 401
                assert await _status(session, "/fine") == 200
            assert authority.token_requests == 2
            authority.revoke()
            assert await _status(session, "/fine") == 200
            assert authority.token_requests == 3


async def test_a_fixed_credential_is_not_tried_twice() -> None:
    """There is no other token to try: the 401 is returned, and one request was made."""
    async with Authority() as authority:
        async with authority.session(*chain(authority, StaticToken("old"))) as session:
            assert await _status(session, "/a") == 401
        assert authority.calls == 1


@pytest.mark.parametrize(
    ("challenges", "requests"),
    [
        ([], 2),
        (["Bearer"], 2),
        (['bearer error="invalid_token"'], 2),
        (['Digest realm="a, Bearer b", nonce="x", Bearer realm="api"'], 2),
        (["Negotiate", "Bearer"], 2),
        (["Negotiate YWJj=="], 1),
        (['Basic realm="Bearer"'], 1),
        (['Digest realm="x", nonce="Bearer"'], 1),
    ],
)
async def test_only_a_bearer_challenge_or_none_leads_to_a_refresh(challenges: list[str], requests: int) -> None:
    """RFC 9110 11.6.1: every challenge of every field line is read; another scheme alone needs another credential."""
    async with Authority() as authority:
        credential = authority.client()

        async def api(_: web.Request) -> web.StreamResponse:
            response = web.Response(status=401)
            for challenge in challenges:
                response.headers.add("WWW-Authenticate", challenge)
            return response

        authority.api = api
        async with authority.session(*chain(authority, credential)) as session:
            assert await _status(session, "/a") == 401
        assert authority.calls == authority.token_requests == requests


async def test_a_body_is_sent_again_whole_and_a_stream_never() -> None:
    """Law 2: bytes are resent as they were; what can be read only once is not, and the call says why."""

    async def stream() -> AsyncIterator[bytes]:
        yield b"once"

    async with Authority() as authority:
        credential = await warm(authority)
        call = _call(authority)
        async with authority.session(*chain(authority, credential)) as session:
            async with session.post("/a", data=b"twice") as response:
                assert response.status == 200
            authority.revoke()
            with calling(call):
                async with session.post("/a", data=stream()) as response:
                    assert response.status == 401
            async with session.post("/a", data=b"next") as response:
                assert response.status == 200
        assert authority.bodies == [b"twice", b"twice", b"once", b"next"]
        assert call.stopped == "not_replayable"
        assert authority.token_requests == 3


async def test_one_connection_and_large_error_bodies_never_deadlock() -> None:
    """Law 1: with limit=1 and 2 MB in each 401, the rejected response makes room for the replay."""
    async with Authority() as authority:
        credential = await warm(authority)

        async def api(request: web.Request) -> web.StreamResponse:
            valid = request.headers["Authorization"][7:] in authority.valid
            return web.Response(status=200 if valid else 401, body=b"x" * 2**21)

        authority.api = api
        async with authority.session(*chain(authority, credential), limit=1) as session:
            for _ in range(3):
                authority.revoke()
                assert await asyncio.gather(*(_status(session, "/a") for _ in range(5))) == [200] * 5


async def test_token_traffic_takes_nothing_that_its_waiters_hold() -> None:
    """With one connection in the pool and a limiter of one slot, the token request still gets through."""
    async with Authority() as authority:
        credential = authority.client()
        slot = asyncio.Semaphore(1)

        async def one_at_a_time(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
            async with slot:
                return await handler(request)

        refresh, authorize = chain(authority, credential)
        async with authority.session(refresh, one_at_a_time, authorize, limit=1) as session:
            assert await asyncio.gather(*(_status(session, "/a") for _ in range(5))) == [200] * 5
            authority.revoke()
            assert await asyncio.gather(*(_status(session, "/a") for _ in range(5))) == [200] * 5


async def test_cookies_of_the_rejected_answer_are_kept() -> None:
    """A cookie that came with the 401 goes out with the replay."""
    async with Authority() as authority:
        credential = await warm(authority)
        sent: list[str] = []

        async def api(request: web.Request) -> web.StreamResponse:
            sent.append(request.headers.get("Cookie", ""))
            response = web.Response(status=200 if request.headers["Authorization"][7:] in authority.valid else 401)
            response.set_cookie("route", "b")
            return response

        authority.api = api
        jar = CookieJar(unsafe=True)
        async with ClientSession(authority.url, middlewares=chain(authority, credential), cookie_jar=jar) as session:
            assert await _status(session, "/a") == 200
        assert sent == ["", "route=b"]


async def test_a_refresh_that_is_refused_ends_every_call_and_names_the_credential() -> None:
    """invalid_client is final: every waiter gets an error of its own that names the credential, not the secret."""
    async with Authority() as authority:
        credential = await warm(authority)
        authority.api_delay = 0.02
        authority.script = [answer(401, {"error": "invalid_client"}, WWW_Authenticate="Basic")]
        async with authority.session(*chain(authority, credential)) as session:
            outcomes = await asyncio.gather(*(_status(session, "/a") for _ in range(50)), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {CredentialsRejected}
        assert len({id(outcome) for outcome in outcomes}) == 50
        assert authority.token_requests == 2
        error = outcomes[0]
        assert isinstance(error, CredentialsRejected)
        assert error.code == "invalid_client"
        assert "client_id='the client'" in error.credential
        assert error.attempts == 1


async def test_a_refresh_that_fails_is_told_once_and_the_next_call_may_try_again() -> None:
    """A token endpoint that is down ends the calls that wait; later calls ask anew."""
    async with Authority() as authority:
        credential = authority.client(attempts=1)
        authority.delay = 0.05
        authority.script = [answer(503)]
        async with authority.session(*chain(authority, credential)) as session:
            outcomes = await asyncio.gather(*(_status(session, "/a") for _ in range(50)), return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {TokenUnavailable}
            assert authority.token_requests == 1
            assert await _status(session, "/a") == 200
        assert authority.token_requests == 2


async def test_an_error_in_a_credential_leaks_no_connection() -> None:
    """Law 1: whatever a user's own credential raises, the rejected response is closed."""

    class Broken:
        async def token(self) -> Token:
            return Token("x")

        def invalidate(self, token: Token) -> None:
            raise RuntimeError("broken")

    async with Authority() as authority, authority.session(*chain(authority, Broken()), limit=1) as session:
        authority.api = answer(401, b"x" * 2**21)
        for _ in range(3):
            with pytest.raises(RuntimeError, match="broken"):
                await session.get("/a")


def test_options_are_checked_and_shown() -> None:
    """A wrong option names itself and its value; the repr reads as the constructor."""
    with pytest.raises(ValueError, match="quiet must be above 0, got 0"):
        AuthRefresh(StaticToken("x"), quiet=0)
    assert repr(AuthRefresh(StaticToken("x"))) == "AuthRefresh(StaticToken(scheme='Bearer'), quiet=30)"


def _call(authority: Authority) -> Call:
    url = URL(authority.url)
    return Call(
        "POST", "POST /a", key=(authority.url, "POST /a"), url=url, time=asyncio.get_running_loop().time, origin=url
    )


async def _status(session: Any, path: str) -> int:
    async with session.get(path) as response:
        await response.read()
        return int(response.status)
