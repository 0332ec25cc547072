"""The life of a token: fetched once, replaced ahead of time, refused for good, had again after trouble."""

import asyncio
import logging
from typing import Any

import pytest
from yarl import URL

from apiclient.credentials import (
    ApiKey,
    Basic,
    ClientCredentials,
    Credential,
    RefreshToken,
    ScopedCredential,
    StaticToken,
)
from apiclient.middleware._call import Call, calling, joined
from apiclient.middleware.credential import Token
from apiclient.middleware.errors import CredentialsRejected, TokenUnavailable
from apiclient.stores import MemoryTokenStore
from tests.authority import SECRET, Authority, answer, drop, hang


class Clock:
    """Wall time that follows the loop's."""

    def __init__(self) -> None:
        self.ahead = 1_800_000_000.0

    def __call__(self) -> float:
        return self.ahead + asyncio.get_running_loop().time()


async def test_the_secret_is_sent_as_rfc_6749_says() -> None:
    """Id and secret with reserved characters arrive whole, in the header by default, in the body if asked."""
    async with Authority() as authority:
        await authority.client(scope="a b", parameters={"audience": "x"}).token()
        await authority.client(client_auth="client_secret_post").token()
        assert authority.clients == [("the client", SECRET), None]
        assert authority.forms[0] == {"grant_type": "client_credentials", "scope": "a b", "audience": "x"}
        assert authority.forms[1] == {
            "grant_type": "client_credentials", "client_id": "the client", "client_secret": SECRET,
        }  # fmt: skip


async def test_callers_share_one_token_and_one_request() -> None:
    """50 callers at once, and any number later, make one token request."""
    async with Authority() as authority:
        credential = authority.client()
        tokens = await asyncio.gather(*(credential.token() for _ in range(50)))
        assert len({id(token) for token in tokens}) == 1
        assert await credential.token() is tokens[0]
        assert authority.token_requests == 1


@pytest.mark.looptime
async def test_ahead_of_its_expiry_a_token_is_replaced_and_nobody_waits() -> None:
    """Within the window one background request is made; everybody goes on with the current token meanwhile."""
    async with Authority() as authority:
        authority.lifetime, authority.delay = 600, 2.0
        credential = authority.client(now=Clock(), refresh_ahead=60.0)
        first = await credential.token()
        await asyncio.sleep(530)
        assert await credential.token() is first
        assert authority.token_requests == 1
        await asyncio.sleep(26)
        began = asyncio.get_running_loop().time()
        assert [await credential.token() for _ in range(20)] == [first] * 20
        assert asyncio.get_running_loop().time() - began < 1.0
        await asyncio.sleep(5)
        second = await credential.token()
        assert second.value == "token-2"
        assert authority.token_requests == 2


@pytest.mark.looptime
async def test_past_its_expiry_everybody_waits_for_one_request() -> None:
    """An expired token is never sent: all callers get the next one."""
    async with Authority() as authority:
        authority.lifetime = 600
        credential = authority.client(now=Clock())
        await credential.token()
        await asyncio.sleep(700)
        tokens = await asyncio.gather(*(credential.token() for _ in range(50)))
        assert {token.value for token in tokens} == {"token-2"}
        assert authority.token_requests == 2


@pytest.mark.looptime
async def test_a_background_refresh_that_fails_harms_nobody_and_is_not_repeated_at_once() -> None:
    """While the token is still good, trouble at the token endpoint is not the callers' business."""
    async with Authority() as authority:
        authority.lifetime = 600
        credential = authority.client(now=Clock(), refresh_ahead=60.0, attempts=1)
        await credential.token()
        authority.script = [answer(503), answer(401, {"error": "invalid_client"})]
        await asyncio.sleep(560)
        for _ in range(40):
            assert (await credential.token()).value == "token-1"
            await asyncio.sleep(0.1)
        assert authority.token_requests == 2
        await asyncio.sleep(2)
        assert (await credential.token()).value == "token-1"
        await asyncio.sleep(1)
        assert (await credential.token()).value == "token-1"
        assert authority.token_requests == 3


@pytest.mark.looptime
@pytest.mark.parametrize("expires_in", [None, 0, -1, 10**18, "soon", [1]])
async def test_a_token_without_a_sensible_expiry_is_used_until_it_is_rejected(expires_in: Any) -> None:
    """No expires_in, or nonsense in it, neither stops the client nor makes it ask for each call."""
    async with Authority() as authority:
        authority.lifetime = expires_in
        credential = authority.client(now=Clock())
        token = await credential.token()
        await asyncio.sleep(10 * 86400)
        assert await credential.token() is token
        assert token.expires_at is None
        credential.invalidate(token)
        assert (await credential.token()).value == "token-2"


@pytest.mark.looptime
async def test_expires_in_as_text_counts() -> None:
    """The text 60 is 60 seconds."""
    async with Authority() as authority:
        authority.lifetime = "60"
        credential = authority.client(now=Clock())
        await credential.token()
        await asyncio.sleep(61)
        assert (await credential.token()).value == "token-2"


async def test_only_the_rejected_token_is_dropped() -> None:
    """A token that is not the current one changes nothing."""
    async with Authority() as authority:
        credential = authority.client()
        first = await credential.token()
        credential.invalidate(first)
        second = await credential.token()
        credential.invalidate(first)
        credential.invalidate(Token("foreign"))
        assert await credential.token() is second
        assert authority.token_requests == 2


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("invalid_client", "client id and key"),
        ("unauthorized_client", "grant"),
        ("invalid_grant", "Sign in again"),
        ("invalid_scope", "scope"),
        ("unsupported_grant_type", "grant type"),
        ("something_else", "client id and key"),
    ],
)
async def test_a_refusal_is_final_and_remembered(code: str, hint: str) -> None:
    """CredentialsRejected names credential and way out; for 30 s further calls fail without a token request."""
    async with Authority() as authority:
        credential = authority.client(name="payroll")
        authority.script = [answer(400, {"error": code})]
        errors = await asyncio.gather(*(credential.token() for _ in range(20)), return_exceptions=True)
        assert {type(error) for error in errors} == {CredentialsRejected}
        assert len({id(error) for error in errors}) == 20
        await asyncio.sleep(29)
        with pytest.raises(CredentialsRejected, match="29 s ago") as caught:
            await credential.token()
        error = caught.value
        assert authority.token_requests == 1
        assert (error.code, error.recoverable) == (code, False)
        assert hint in error.hint
        assert "name='payroll', client_id='the client'" in error.credential
        assert SECRET not in f"{error}{error!r}"
        await asyncio.sleep(2)
        assert (await credential.token()).value == "token-1"


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("trouble", "requests"),
    [
        ([answer(503)], 2),
        ([answer(429)], 2),
        ([answer(500, {"error": "server_error"}), answer(502, b"<html>")], 3),
        ([answer(400, {"error": "temporarily_unavailable"})], 2),
        ([drop], 2),
        ([hang], 2),
    ],
)
async def test_passing_trouble_is_retried_shortly(trouble: list[Any], requests: int) -> None:
    """5xx, 429, a lost connection and silence are tried again, up to three times in all."""
    async with Authority() as authority:
        authority.script = list(trouble)
        assert (await authority.client().token()).value == "token-1"
        assert authority.token_requests == requests


@pytest.mark.looptime
async def test_lasting_trouble_is_told_to_every_waiter_and_not_remembered() -> None:
    """After three attempts: TokenUnavailable for all, recoverable; the next call asks again."""
    async with Authority() as authority:
        authority.script = [answer(503)] * 3
        credential = authority.client()
        errors = await asyncio.gather(*(credential.token() for _ in range(20)), return_exceptions=True)
        assert {type(error) for error in errors} == {TokenUnavailable}
        assert all(isinstance(error, TokenUnavailable) and error.recoverable for error in errors)
        assert authority.token_requests == 3
        assert (await credential.token()).value == "token-1"


@pytest.mark.looptime
async def test_retry_after_is_never_undercut() -> None:
    """Law 6: a short Retry-After is waited out, one that is too long ends the attempts and is handed on."""
    async with Authority() as authority:
        authority.script = [answer(429, Retry_After="7")]
        began = asyncio.get_running_loop().time()
        await authority.client().token()
        assert asyncio.get_running_loop().time() - began >= 7.0
        authority.script = [answer(503, Retry_After="3600")]
        with pytest.raises(TokenUnavailable) as caught:
            await authority.client().token()
        assert caught.value.retry_after == 3600.0
        assert authority.token_requests == 3


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        (answer(200, b"<!doctype html><title>Sign in</title>", Content_Type="text/html"), "an HTML page"),
        (answer(200, b"\xff\x00garbage"), "not a JSON object"),
        (answer(200, b""), "an empty body"),
        (answer(200, b'{"access_token": "' + b"x" * 10 * 2**20), "more than any token answer"),
        (answer(200, {"ok": True}), "no access_token"),
        (answer(302, Location="http://127.0.0.1:1/"), "a redirect"),
        (answer(404), "404"),
    ],
)
async def test_nonsense_is_not_asked_for_twice(trouble: Any, message: str) -> None:
    """An answer that is no token answer ends at once, says what it looks like and what to check."""
    async with Authority() as authority:
        authority.script = [trouble]
        with pytest.raises(TokenUnavailable, match=message) as caught:
            await authority.client().token()
        assert not caught.value.recoverable
        assert "token URL" in caught.value.hint
        assert authority.token_requests == 1


@pytest.mark.looptime
async def test_a_token_endpoint_that_never_answers_ends_by_the_timeout() -> None:
    """Three attempts of 10 s each, and then an error that says so."""
    async with Authority() as authority:
        authority.script = [hang] * 3
        with pytest.raises(TokenUnavailable, match="no answer within 10 s"):
            await authority.client().token()
        assert asyncio.get_running_loop().time() < 35.0


async def test_a_token_endpoint_that_is_not_there_is_trouble_that_may_pass() -> None:
    """A refused connection is reported by its kind."""
    credential = ClientCredentials(token_url="http://127.0.0.1:1/token", client_id="x", client_secret="y", attempts=1)
    with pytest.raises(TokenUnavailable, match="ClientConnectorError") as caught:
        await credential.token()
    assert caught.value.recoverable


@pytest.mark.looptime
async def test_no_retry_is_begun_that_nobody_could_wait_for() -> None:
    """Law 5: the backoff ends when the latest deadline among the waiters would pass; without one it goes on."""
    async with Authority() as authority:
        authority.script = [answer(503, Retry_After="8")] * 2
        credential = authority.client()
        began = asyncio.get_running_loop().time()
        with calling(_call(authority, deadline=5.0)), pytest.raises(TokenUnavailable):
            await credential.token()
        assert authority.token_requests == 1
        assert asyncio.get_running_loop().time() - began < 1.0

        async def patient() -> Token:
            with calling(_call(authority, deadline=60.0)):
                return await credential.token()

        async def hasty() -> Token:
            with calling(_call(authority, deadline=5.0)):
                return await credential.token()

        tokens = await asyncio.gather(hasty(), patient())
        assert [token.value for token in tokens] == ["token-1", "token-1"]


async def test_token_traffic_belongs_to_no_call() -> None:
    """The request runs outside of the call that started it: no call, no chain, no cookies, no proxy settings."""
    seen: list[object] = []

    class Watching(MemoryTokenStore):
        async def load(self, key: str) -> str | None:
            seen.append(joined())
            return await super().load(key)

    async with Authority() as authority:
        with calling(_call(authority)):
            await authority.client(store=Watching()).token()
        assert seen == [None, None]


async def test_a_proxys_password_is_in_no_message(caplog: pytest.LogCaptureFixture) -> None:
    """The error of aiohttp quotes the proxy's whole URL: of that only what is no secret is told."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        proxy = f"http://user:canary@127.0.0.1:{server.sockets[0].getsockname()[1]}"
        credential = ClientCredentials(
            token_url="https://login.test/token", client_id="me", client_secret="hush", proxy=proxy, attempts=1
        )
        with pytest.raises(TokenUnavailable, match="ClientHttpProxyError: 407 Who are you") as caught:
            await credential.token()
    assert "canary" not in f"{caught.value!r} {caught.value} {[record.__dict__ for record in caplog.records]}"


def test_a_key_in_the_token_urls_query_is_not_shown() -> None:
    """The name of the parameter is; and two that differ only there are two credentials."""
    one, two = (
        ClientCredentials(token_url=f"https://login.test/token?code={key}", client_id="me", client_secret="hush")
        for key in ("canary", "other")
    )
    assert repr(one) == "ClientCredentials(client_id='me', token_url='https://login.test/token?code')"
    assert one._key() != two._key()


async def test_a_scope_may_be_added_where_it_is_allowed() -> None:
    """for_scope gives the same sibling for the same scopes, and None for what is held already or not allowed."""
    async with Authority() as authority:
        credential = authority.client(scope="read", allowed_scopes="pay close")
        wider = credential.for_scope("pay")
        assert wider is not None
        assert wider is credential.for_scope("pay read")
        assert credential.for_scope("read") is None
        assert credential.for_scope("admin") is None
        assert credential.for_scope("pay admin") is None
        assert credential.for_scope("") is None
        assert wider.for_scope("close") is credential.for_scope("pay close")
        assert (await wider.token()).scope == "read pay"
        assert (await credential.token()).scope == "read"
        assert isinstance(credential, ScopedCredential)


async def test_its_standing_names_it_and_what_came_out_of_it() -> None:
    """Age, time left and token requests by result, of the credential and of those for further scopes."""
    async with Authority() as authority:
        now = [1000.0]
        credential = authority.client(scope="read", allowed_scopes="pay", now=lambda: now[0])
        assert credential.standing() == ((repr(credential), None, None, {"issued": 0, "refused": 0, "unavailable": 0}),)
        await credential.token()
        authority.script = [answer(400, {"error": "invalid_scope"})]
        wider = credential.for_scope("pay")
        assert wider is not None
        with pytest.raises(CredentialsRejected):
            await wider.token()
        now[0] += 100.0
        assert credential.standing() == (
            (repr(credential), 100.0, 3500.0, {"issued": 1, "refused": 0, "unavailable": 0}),
            (repr(wider), None, None, {"issued": 0, "refused": 1, "unavailable": 0}),
        )
        assert wider.standing() == credential.standing()[1:]


async def test_what_happens_is_logged_without_the_secret(caplog: pytest.LogCaptureFixture) -> None:
    """Issued, refused and unavailable are events; none holds a secret."""
    caplog.set_level(logging.INFO, "apiclient")
    async with Authority() as authority:
        await authority.client().token()
        for trouble in (answer(401, {"error": "invalid_client"}), answer(404)):
            authority.script = [trouble]
            with pytest.raises((CredentialsRejected, TokenUnavailable)):
                await authority.client().token()
    names = ["auth.token_issued", "auth.token_refused", "auth.token_unavailable"]
    assert [record.message for record in caplog.records] == names
    assert all("client_id='the client'" in vars(record)["credential"] for record in caplog.records)
    assert not any(SECRET in str(vars(record)) for record in caplog.records)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"token_url": "http://login.example.com/t"}, "token_url must be https .* got 'http://login.example.com/t'"),
        ({"token_url": "/token"}, "token_url must be an absolute http or https URL, got '/token'"),
        ({"token_url": "https://u:hush@a/t"}, "token_url must not carry a user or a password, got 'https://a/t'"),
        ({"token_url": None}, "exactly one of token_url and issuer must be given"),
        ({"issuer": "https://a"}, "exactly one of token_url and issuer must be given"),
        ({"client_id": ""}, "client_id must not be empty"),
        ({"client_secret": None}, "client_secret must be given"),
        ({"scope": 'a"b'}, "scope must be made of scope tokens .* got 'a\"b'"),
        ({"allowed_scopes": ["a b"]}, "allowed_scopes must be made of scope tokens .* got 'a b'"),
        ({"refresh_ahead": -1}, "refresh_ahead must be finite and at least 0, got -1"),
        ({"rejected_for": float("nan")}, "rejected_for must be finite and at least 0, got nan"),
        ({"timeout": 0}, "timeout must be finite and above 0, got 0"),
        ({"attempts": 0}, "attempts must be at least 1, got 0"),
    ],
)
def test_wrong_options_fail_at_once(options: dict[str, Any], message: str) -> None:
    """The message names option and value, and no secret."""
    given: dict[str, Any] = {"token_url": "https://login.example.com/t", "client_id": "x", "client_secret": "hush"}
    with pytest.raises(ValueError, match=message) as caught:
        ClientCredentials(**(given | options))
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StaticToken(""), "value must not be empty"),
        (lambda: StaticToken("hu\nsh"), "control characters"),
        (lambda: ApiKey(""), "value must not be empty"),
        (lambda: ApiKey("hush", header="A", query="b"), "header and query exclude each other"),
        (lambda: ApiKey("hush", query=""), "query must not be empty"),
        (lambda: ApiKey("hush", header="X Key"), "header must be the name of a header, got 'X Key'"),
        (lambda: Basic("a:b", "hush"), "user must not contain a colon .* got 'a:b'"),
        (lambda: Basic("a", "hu\x00sh"), "control characters"),
    ],
)
def test_wrong_simple_credentials_fail_at_once(make: Any, message: str) -> None:
    """Likewise for the credentials that never change."""
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "hush" not in str(caught.value)


def test_reprs_name_the_credential_and_no_secret() -> None:
    """What a person needs to find the credential, and nothing to use it."""
    url = "https://login.example.com/t"
    assert repr(StaticToken("hush")) == "StaticToken(scheme='Bearer')"
    assert repr(ApiKey("hush", query="key")) == "ApiKey(query='key')"
    assert repr(Basic("me", "hush")) == "Basic('me')"
    shown = "ClientCredentials(client_id='x', token_url='https://login.example.com/t', scope='a b')"
    assert repr(ClientCredentials(token_url=url, client_id="x", client_secret="hush", scope="a b")) == shown
    shown = "RefreshToken(client_id='x', issuer='https://login.example.com/')"
    assert repr(RefreshToken(issuer="https://login.example.com/", client_id="x", refresh_token="hush")) == shown
    assert isinstance(StaticToken("x"), Credential)


def _call(authority: Authority, *, deadline: float | None = None) -> Call:
    url = URL(authority.url)
    time = asyncio.get_running_loop().time
    return Call("GET", "GET /a", key=(authority.url, "GET /a"), url=url, time=time, origin=url, deadline=deadline)
