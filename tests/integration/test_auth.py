"""Authentication in the whole pipeline of an ApiClient, on real sockets and virtual time."""

import asyncio
from typing import Any

import pytest
from aiohttp import web

from apiclient import ApiClient, errors
from apiclient.credentials import ApiKey, ClientCredentials, StaticToken
from apiclient.middleware import RateLimit
from apiclient.pipeline import default_pipeline
from apiclient.sandbox import Sandbox
from tests.authority import SECRET, Authority, answer


@pytest.mark.looptime
async def test_a_thousand_calls_through_the_whole_pipeline_make_one_token_request() -> None:
    """Law 8 with everything else at work, and a pool of 100 connections."""
    async with Authority() as authority:
        credentials = authority.client()
        await credentials.token()
        authority.revoke()
        authority.api_delay = authority.delay = 0.05
        async with ApiClient(authority.url, credentials=credentials) as client:
            answers = await asyncio.gather(*(client.get("/a") for _ in range(1000)))
        assert {response.status for response in answers} == {200}
        assert authority.token_requests == 2


@pytest.mark.looptime
async def test_a_request_waits_for_its_token_before_it_takes_a_slot() -> None:
    """Law 6 of the limiter holds on a cold start: slots are not held back by the token and then used all at once."""
    times: list[float] = []

    async with Authority() as authority:
        authority.delay = 0.9
        time = asyncio.get_running_loop().time

        async def api(_: web.Request) -> web.StreamResponse:
            times.append(time())
            return web.Response()

        authority.api = api
        credentials = authority.client()
        chain = default_pipeline(credentials=credentials).replace(RateLimit, RateLimit(default="5/1s"))
        async with ApiClient(authority.url, pipeline=chain) as client:
            await asyncio.gather(*(client.get("/a") for _ in range(15)))
    assert all(later - earlier > 0.95 for earlier, later in zip(times, times[5:], strict=False))


@pytest.mark.looptime
async def test_a_refused_credential_waits_for_no_slot() -> None:
    """While a refusal is remembered every call fails at once, however long the queue for the quota would be."""
    async with Authority() as authority:
        credentials = authority.client()
        authority.script = [answer(401, {"error": "invalid_client"})]
        chain = default_pipeline(credentials=credentials).replace(RateLimit, RateLimit(default="5/10s"))
        async with ApiClient(authority.url, pipeline=chain) as client:
            outcomes = await asyncio.gather(*(client.get("/a") for _ in range(20)), return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {errors.CredentialsRejected}
            assert asyncio.get_running_loop().time() < 5.0
        assert (authority.calls, authority.token_requests) == (0, 1)


@pytest.mark.looptime
async def test_a_refused_client_ends_every_call_without_a_request_to_the_api() -> None:
    """invalid_client through the sandbox: the error names credential and way out; nothing reached the API."""
    async with Sandbox() as sandbox:
        wrong = ClientCredentials(token_url=sandbox.token_url, client_id="demo", client_secret=SECRET)
        async with ApiClient(sandbox.api_url, credentials=wrong) as client:
            for _ in range(5):
                with pytest.raises(errors.CredentialsRejected, match="client id and key") as caught:
                    await client.get("/ping")
                assert caught.value.code == "invalid_client"
                assert "client_id='demo'" in caught.value.credential
                assert caught.value.attempts == 0
                assert not caught.value.recoverable
        assert sandbox.count("GET /v1/ping") == 0
        assert sandbox.count("POST /oauth/token") == 1


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("headers", "body", "kind", "attributes"),
    [
        (
            {"WWW_Authenticate": 'Bearer error="insufficient_scope", scope="admin"'},
            {},
            errors.ScopeMissing,
            {"scope": "admin"},
        ),
        ({}, {"message": "The user group has no permission"}, errors.PermissionMissing, {}),
        ({}, {"message": "Unknown path /x"}, errors.WrongEndpoint, {}),
        ({"X_RateLimit_Remaining": "0"}, {}, errors.Banned, {"recoverable": True}),
        ({"Retry_After": "9"}, {}, errors.Banned, {"retry_after": 9.0}),
        ({}, {}, errors.Forbidden, {}),
    ],
)
async def test_each_403_is_an_error_of_its_own_and_sent_once(
    headers: dict[str, str], body: Any, kind: type[errors.Forbidden], attributes: dict[str, Any]
) -> None:
    """None is retried blindly; each has a hint."""
    async with Authority() as authority:
        authority.api = answer(403, body, **headers)
        async with ApiClient(authority.url, credentials=authority.client()) as client:
            with pytest.raises(errors.Forbidden) as caught:
                await client.get("/x")
        assert type(caught.value) is kind
        assert caught.value.hint == kind.hint
        assert {name: getattr(caught.value, name) for name in attributes} == attributes
        assert authority.calls == 1
        assert authority.token_requests == 1


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("credentials", "challenge", "hint", "calls"),
    [
        (StaticToken("x"), "Digest nonce=a", "asks for Digest, but Bearer was sent", 1),
        (ApiKey("x"), "", "Check client id and key", 1),
        (None, "Bearer", r"No credential was sent \(Bearer\)", 1),
        ("renewable", "Bearer", "Check client id and key", 2),
    ],
)
async def test_a_401_that_is_left_says_what_to_do(credentials: Any, challenge: str, hint: str, calls: int) -> None:
    """Unauthorized names what the server asks for; a renewable credential is replaced once, no other is resent."""
    async with Authority() as authority:
        authority.api = answer(401, **({"WWW_Authenticate": challenge} if challenge else {}))
        given = authority.client() if credentials == "renewable" else credentials
        async with ApiClient(authority.url, credentials=given) as client:
            with pytest.raises(errors.Unauthorized, match=hint) as caught:
                await client.get("/x")
        assert caught.value.attempts == authority.calls == calls


@pytest.mark.looptime
async def test_short_lived_tokens_carry_a_long_run() -> None:
    """A minute of calls with tokens of two seconds: no call fails, and hardly a 401 is seen."""
    async with Sandbox(token_lifetime=2.0) as sandbox:
        loop = asyncio.get_running_loop()
        credentials = ClientCredentials(
            token_url=sandbox.token_url, client_id="demo", client_secret="demo-secret", now=loop.time
        )
        async with ApiClient(sandbox.api_url, credentials=credentials) as client:
            for _ in range(240):
                await client.get("/ping")
                await asyncio.sleep(0.25)
        assert sandbox.count("GET /v1/ping", 401) <= 2
        assert 30 <= sandbox.count("POST /oauth/token") <= 60


@pytest.mark.looptime
async def test_a_token_endpoint_that_is_down_is_retried_by_nobody_else() -> None:
    """Its own three attempts are all: Retry does not multiply them, and the API's breaker does not hear of it."""
    async with Authority() as authority:
        credentials = authority.client()
        async with ApiClient(authority.url, credentials=credentials) as client:
            for number in range(1, 31):
                authority.script = [answer(503)] * 3
                with pytest.raises(errors.TokenUnavailable) as caught:
                    await client.get("/a")
                assert caught.value.recoverable
                assert caught.value.attempts == 0
                assert authority.token_requests == 3 * number
            assert (await client.get("/a")).status == 200
        assert authority.calls == 1
