"""Authorize: the right token, at the last moment, to one origin only."""

import asyncio
from typing import Any

import pytest
from aiohttp import ClientHandlerType, ClientMiddlewareType, ClientRequest, ClientResponse, ClientSession, web
from yarl import URL

from apiclient.credentials import ApiKey, Basic, StaticToken
from apiclient.middleware._call import Call, calling, joined
from apiclient.middleware.authorize import Authorize
from apiclient.middleware.credential import Token
from apiclient.middleware.errors import CredentialsRejected, InvalidRequest
from tests.authority import Authority
from tests.conftest import Peer


class Counting:
    """A credential of a user's own."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.asked = 0

    async def token(self) -> Token:
        self.asked += 1
        await asyncio.sleep(self.seconds)
        return Token(f"mine-{self.asked}")

    def invalidate(self, token: Token) -> None:
        pass


async def test_a_token_goes_to_its_own_origin(peer: Peer) -> None:
    """The token is sent in the header that it names."""
    response = await get(f"{peer.url}/employees", Authorize(StaticToken("abc"), origin=peer.url))
    assert response.status == 200
    assert peer.headers[0]["Authorization"] == "Bearer abc"


async def test_no_other_origin_gets_it(peer: Peer) -> None:
    """Another port is another origin: no credential is sent there."""
    async with Authority() as other:
        await get(f"{other.url}/employees", Authorize(StaticToken("abc"), origin=peer.url))
        assert other.requests == [("GET", "/employees", "")]


async def test_a_redirect_does_not_carry_it_to_another_origin(peer: Peer) -> None:
    """A redirect runs the chain again: the other origin gets no credential all the same."""
    async with Authority() as other:

        async def redirect(_: web.Request) -> web.StreamResponse:
            raise web.HTTPTemporaryRedirect(f"{other.url}/elsewhere")

        peer.handler = redirect
        for credential in (StaticToken("abc"), ApiKey("abc"), ApiKey("abc", query="key")):
            await get(f"{peer.url}/employees", Authorize(credential, origin=peer.url))
        assert {request[1:] for request in other.requests} == {("/elsewhere", "")}
    assert "X-Api-Key" in peer.headers[1]


async def test_the_clients_own_origin_is_the_default(peer: Peer) -> None:
    """Inside an ApiClient's call the origin is the client's."""
    with calling(_call(peer, origin=URL(peer.url))):
        await get(f"{peer.url}/a", Authorize(StaticToken("abc")))
    assert peer.headers[0]["Authorization"] == "Bearer abc"


async def test_a_bare_session_must_name_the_origin(peer: Peer) -> None:
    """Without an origin nothing is sent, and the error says what to write."""
    with pytest.raises(InvalidRequest, match=r"origin='https://api.example.com'"):
        await get(f"{peer.url}/a", Authorize(StaticToken("abc")))
    assert peer.count == 0


async def test_a_header_of_the_same_name_is_replaced_and_taken_off_again(peer: Peer) -> None:
    """One credential header arrives, and none stays behind in response.request_info."""
    headers = [("authorization", "Bearer old"), ("Authorization", "Bearer older")]
    response = await get(f"{peer.url}/a", Authorize(StaticToken("abc"), origin=peer.url), headers=headers)
    assert "Authorization" not in response.request_info.headers
    assert peer.headers[0]["Authorization"] == "Bearer abc"


@pytest.mark.parametrize(
    ("credential", "header", "value"),
    [
        (StaticToken("abc", scheme="Token"), "Authorization", "Token abc"),
        (StaticToken("abc", scheme=None), "Authorization", "abc"),
        (ApiKey("abc"), "X-Api-Key", "abc"),
        (ApiKey("abc", header="Ocp-Key"), "Ocp-Key", "abc"),
        (Basic("jos\u00e9", "p:w"), "Authorization", "Basic am9zw6k6cDp3"),
    ],
)
async def test_each_kind_of_credential_says_how_it_is_attached(
    peer: Peer, credential: Any, header: str, value: str
) -> None:
    """Header and scheme are the token's own."""
    await get(f"{peer.url}/a", Authorize(credential, origin=peer.url))
    assert peer.headers[0][header] == value


async def test_a_key_in_the_query_is_sent_and_not_kept(peer: Peer) -> None:
    """The key joins the query on the wire, encoded; the response's URL does not show it."""
    urls: list[str] = []

    async def look(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        response = await handler(request)
        urls.append(str(request.url))
        return response

    authorize = Authorize(ApiKey("a&b c", query="key"), origin=peer.url)
    response = await get(f"{peer.url}/a?x=1&key=old", look, authorize)
    assert urls == [f"{peer.url}/a?x=1&key=old"]
    assert "a&b" not in str(response.url)
    assert "a%26b" not in str(response.url)
    assert peer.seen[0][1] == "/a?x=1&key=a%26b+c"


async def test_the_token_is_asked_for_after_the_waits_outside(peer: Peer) -> None:
    """What waits outside of Authorize never makes the token stale: it is asked for per attempt."""
    credential = Counting()

    async def twice(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        (await handler(request)).release()
        return await handler(request)

    await get(f"{peer.url}/a", twice, Authorize(credential, origin=peer.url))
    assert [headers["Authorization"] for headers in peer.headers] == ["Bearer mine-1", "Bearer mine-2"]


@pytest.mark.looptime
async def test_waiting_for_a_token_is_booked(peer: Peer) -> None:
    """The seconds spent waiting for a token stand in the call's timing."""
    waits: dict[str, float] = {}

    async def look(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        call = joined()
        assert call is not None
        waits.update(call.waits)
        assert call.token is not None
        assert call.token.value == "mine-1"
        return await handler(request)

    await get(f"{peer.url}/a", Authorize(Counting(2.0), origin=peer.url), look)
    assert waits["token"] == pytest.approx(2.0, abs=0.01)


async def test_the_credential_chosen_for_the_call_goes_first(peer: Peer) -> None:
    """What ScopeStepUp chose for this call replaces the client's own credential."""
    call = _call(peer, origin=URL(peer.url))
    call.credential = StaticToken("wider")
    with calling(call):
        await get(f"{peer.url}/a", Authorize(StaticToken("abc")))
    assert peer.headers[0]["Authorization"] == "Bearer wider"


async def test_a_foreign_origin_leaves_no_token_in_the_call(peer: Peer) -> None:
    """A 401 from elsewhere must not be taken for a rejection of our token."""
    call = _call(peer, origin=URL("https://api.example.com"))
    call.token = Token("earlier")
    with calling(call):
        await get(f"{peer.url}/a", Authorize(StaticToken("abc")))
    assert call.token is None


async def test_a_credential_that_fails_stops_the_request(peer: Peer) -> None:
    """Without a token nothing is sent, and the credential's error passes through."""

    class Dead(Counting):
        async def token(self) -> Token:
            raise CredentialsRejected("no")

    with pytest.raises(CredentialsRejected):
        await get(f"{peer.url}/a", Authorize(Dead(), origin=peer.url))
    assert peer.count == 0


@pytest.mark.parametrize("origin", ["api.example.com", "/v1", "ftp://example.com", ""])
def test_an_origin_must_be_absolute(origin: str) -> None:
    """A wrong origin fails in the constructor and is shown."""
    with pytest.raises(ValueError, match="origin must be an absolute http or https URL"):
        Authorize(StaticToken("abc"), origin=origin)


def test_a_credential_must_be_one() -> None:
    """Text in place of a credential fails in the constructor, and is not shown."""
    with pytest.raises(TypeError, match=r"credential must have token\(\) and invalidate\(\), got str"):
        Authorize("secret")  # type: ignore[arg-type]


def test_its_repr_shows_the_credential_and_no_secret() -> None:
    """The repr reads as the constructor."""
    assert repr(Authorize(StaticToken("abc"))) == "Authorize(StaticToken(scheme='Bearer'))"
    named = Authorize(ApiKey("abc"), origin="https://api.example.com/v1")
    assert repr(named) == "Authorize(ApiKey(header='X-Api-Key'), origin='https://api.example.com')"


async def get(url: str, *middlewares: ClientMiddlewareType, headers: Any = None) -> ClientResponse:
    async with ClientSession(middlewares=middlewares) as session, session.get(url, headers=headers) as response:
        await response.read()
        return response


def _call(peer: Peer, *, origin: URL) -> Call:
    url = URL(peer.url)
    return Call("GET", "GET /a", key=(peer.url, "GET /a"), url=url, time=asyncio.get_running_loop().time, origin=origin)
