"""ScopeStepUp: the scope that an endpoint needs, where the credential allows it, once."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, web

from apiclient import Pipeline, current_call
from apiclient.credentials import ClientCredentials, StaticToken
from apiclient.middleware.auth_refresh import AuthRefresh
from apiclient.middleware.authorize import Authorize
from apiclient.middleware.errors import CredentialsRejected
from apiclient.middleware.scope_step_up import ScopeStepUp
from tests.authority import Authority, answer


def chain(authority: Authority, credential: Any) -> tuple[ScopeStepUp, AuthRefresh, Authorize]:
    return ScopeStepUp(credential), AuthRefresh(credential), Authorize(credential, origin=authority.url)


def scoped(authority: Authority) -> ClientCredentials:
    authority.scopes = {"/pay": "pay", "/close": "close", "/admin": "admin"}
    return authority.client(scope="read", allowed_scopes=["pay", "close"])


async def test_the_missing_scope_is_asked_for_and_the_request_sent_once_more() -> None:
    """403 insufficient_scope: one token with the old scopes and the new one, one replay."""
    async with Authority() as authority:
        async with authority.session(*chain(authority, scoped(authority))) as session:
            assert await _status(session, "/pay") == 200
        assert [form.get("scope") for form in authority.forms] == ["read", "read pay"]
        assert authority.calls == 2


async def test_the_endpoint_is_remembered_and_the_others_keep_the_narrower_token() -> None:
    """Later calls to the endpoint carry the wider token from the start; no other endpoint does."""
    async with Authority() as authority:
        async with authority.session(*chain(authority, scoped(authority))) as session:
            for path in ("/pay", "/pay", "/other", "/pay"):
                assert await _status(session, path) == 200
        sent = [(path, token) for _, path, token in authority.requests]
        assert sent == [
            ("/pay", "Bearer token-1"),
            ("/pay", "Bearer token-2"),
            ("/pay", "Bearer token-2"),
            ("/other", "Bearer token-1"),
            ("/pay", "Bearer token-2"),
        ]
        assert authority.token_requests == 2


async def test_a_credential_chosen_for_one_call_is_neither_replaced_nor_remembered() -> None:
    """Two accounts on one chain: what one account's endpoint needed is never sent in the name of the other."""
    async with Authority() as authority:
        first, second = scoped(authority), scoped(authority)

        async def on_behalf(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
            call = current_call()
            call.credential = second if "second" in request.headers else first
            return await handler(request)

        async with authority.session(Pipeline([on_behalf, *chain(authority, first)])) as session:
            for headers in ({}, {"second": "1"}, {}):
                async with session.get("/pay", headers=headers) as response:
                    assert response.status == 200
        sent = [token for _, path, token in authority.requests if path == "/pay"]
        assert sent == [f"Bearer token-{number}" for number in (1, 2, 3, 4, 1, 2)]


async def test_many_at_once_make_one_token_request() -> None:
    """100 concurrent 403s for one scope lead to one wider token."""
    async with Authority() as authority:
        credential = scoped(authority)
        await credential.token()
        authority.api_delay = authority.delay = 0.02
        async with authority.session(*chain(authority, credential)) as session:
            assert await asyncio.gather(*(_status(session, "/pay") for _ in range(100))) == [200] * 100
        assert authority.token_requests == 2
        assert authority.calls == 200


async def test_a_scope_that_is_not_allowed_is_never_asked_for() -> None:
    """A server cannot talk the client into more than its owner allowed: the 403 is returned."""
    async with Authority() as authority:
        async with authority.session(*chain(authority, scoped(authority))) as session:
            assert await _status(session, "/admin") == 403
        assert authority.token_requests == 1
        assert authority.calls == 1


async def test_a_replay_that_is_refused_too_is_returned_and_not_remembered() -> None:
    """One replay per call; what did not help is not used again."""
    async with Authority() as authority:
        credential = scoped(authority)
        authority.api = answer(403, WWW_Authenticate='Bearer error="insufficient_scope", scope="pay"')
        async with authority.session(*chain(authority, credential)) as session:
            assert await _status(session, "/x") == 403
            assert await _status(session, "/x") == 403
        assert [token for _, _, token in authority.requests] == ["Bearer token-1", "Bearer token-2"] * 2
        assert authority.token_requests == 2


async def test_scopes_add_up_at_an_endpoint_that_needs_two() -> None:
    """An endpoint that asks for one scope after the other ends with a token that has both."""
    async with Authority() as authority:
        credential = scoped(authority)

        async def api(request: web.Request) -> web.StreamResponse:
            held = authority.valid[request.headers["Authorization"][7:]].split()
            for scope in ("pay", "close"):
                if scope not in held:
                    challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
                    return web.Response(status=403, headers={"WWW-Authenticate": challenge})
            return web.Response()

        authority.api = api
        step_up, refresh, authorize = chain(authority, credential)
        async with authority.session(step_up, refresh, authorize) as session:
            assert await _status(session, "/x") == 403
            step_up._known.get((authority.url, "GET /x"), 0.0).credential = credential.for_scope("pay")
            assert await _status(session, "/x") == 200
        assert authority.forms[-1]["scope"] == "read pay close"


async def test_a_token_with_the_wider_scope_is_refreshed_like_any_other() -> None:
    """A 401 for the wider token replaces that one, and leaves the narrower alone."""
    async with Authority() as authority:
        credential = scoped(authority)
        async with authority.session(*chain(authority, credential)) as session:
            assert await _status(session, "/pay") == 200
            authority.valid.pop("token-2")
            assert await _status(session, "/pay") == 200
            assert await _status(session, "/other") == 200
        assert [form.get("scope") for form in authority.forms] == ["read", "read pay", "read pay"]


async def test_a_scope_that_the_token_endpoint_refuses_ends_the_call() -> None:
    """invalid_scope is final for this scope, and harms the other endpoints in no way."""
    async with Authority() as authority:
        credential = scoped(authority)
        await credential.token()
        authority.script = [answer(400, {"error": "invalid_scope"})]
        async with authority.session(*chain(authority, credential)) as session:
            with pytest.raises(CredentialsRejected, match="grant this client the scope") as caught:
                await session.get("/pay")
            assert caught.value.attempts == 1
            assert await _status(session, "/other") == 200


@pytest.mark.parametrize(
    "challenge",
    ["Bearer", 'Bearer error="insufficient_scope"', 'Bearer error="invalid_token", scope="pay"', "", "Negotiate x=="],
)
async def test_any_other_403_is_returned(challenge: str) -> None:
    """Without insufficient_scope and a name for the scope there is nothing to step up to."""
    async with Authority() as authority:
        authority.api = answer(403, **({"WWW_Authenticate": challenge} if challenge else {}))
        async with authority.session(*chain(authority, scoped(authority))) as session:
            assert await _status(session, "/x") == 403
        assert authority.calls == 1


async def test_a_stream_is_not_sent_twice() -> None:
    """Law 2: a body that can be read only once is not resent; the 403 is returned, and the next call is served."""

    async def stream() -> AsyncIterator[bytes]:
        yield b"once"

    async with Authority() as authority:
        async with authority.session(*chain(authority, scoped(authority))) as session:
            async with session.post("/pay", data=stream()) as response:
                assert response.status == 403
            async with session.post("/pay", data=b"twice") as response:
                assert response.status == 200
        assert authority.bodies == [b"once", b"twice", b"twice"]


async def test_one_connection_and_large_error_bodies_never_deadlock() -> None:
    """Law 1: with limit=1 and 2 MB in each 403, the refused response makes room for the replay."""
    async with Authority() as authority:

        async def api(request: web.Request) -> web.StreamResponse:
            if "pay" in authority.valid[request.headers["Authorization"][7:]].split():
                return web.Response()
            challenge = 'Bearer error="insufficient_scope", scope="pay"'
            return web.Response(status=403, headers={"WWW-Authenticate": challenge}, body=b"x" * 2**21)

        authority.api = api
        async with authority.session(*chain(authority, scoped(authority)), limit=1) as session:
            assert await asyncio.gather(*(_status(session, "/x") for _ in range(3))) == [200] * 3


async def test_an_error_in_a_credential_leaks_no_connection() -> None:
    """Law 1: whatever a user's own credential raises, the refused response is closed."""

    class Broken(StaticToken):
        def for_scope(self, scope: str) -> None:
            raise RuntimeError("broken")

    async with Authority() as authority:
        credential = Broken("x")
        challenge = 'Bearer error="insufficient_scope", scope="pay"'
        authority.api = answer(403, b"x" * 2**21, WWW_Authenticate=challenge)
        async with authority.session(*chain(authority, credential), limit=1) as session:
            for _ in range(3):
                with pytest.raises(RuntimeError, match="broken"):
                    await session.get("/x")


async def test_a_credential_without_scopes_changes_nothing() -> None:
    """A fixed token cannot step up: the 403 is returned."""
    async with Authority() as authority:
        authority.api = answer(403, WWW_Authenticate='Bearer error="insufficient_scope", scope="pay"')
        async with authority.session(*chain(authority, StaticToken("x"))) as session:
            assert await _status(session, "/x") == 403
        assert authority.calls == 1


async def test_what_is_remembered_is_bounded() -> None:
    """Law 14: endpoints without end leave bounded memory."""
    async with Authority() as authority:
        credential = scoped(authority)
        step_up, refresh, authorize = chain(authority, credential)
        for number in range(5000):
            step_up._known.get(("origin", f"GET /{number}"), float(number)).credential = credential
        async with authority.session(step_up, refresh, authorize) as session:
            assert await _status(session, "/pay") == 200
        assert len(step_up._known) <= 1025


def test_its_repr_shows_the_credential() -> None:
    """The repr reads as the constructor."""
    assert repr(ScopeStepUp(StaticToken("x"))) == "ScopeStepUp(StaticToken(scheme='Bearer'))"


async def _status(session: Any, path: str) -> int:
    async with session.get(path) as response:
        await response.read()
        return int(response.status)
