"""Borders S1 to S7: where a redirect leads, and what goes with it, as the bytes received tell."""

from typing import Any

import aiohttp
import pytest
from aiohttp import web

from apiclient import ApiClient
from apiclient.credentials import ApiKey, StaticToken
from apiclient.middleware.errors import Forbidden, RedirectRefused
from apiclient.redirects import Redirects
from tests.conftest import Peer
from tests.security.conftest import CANARY, Origin

ALL = [301, 302, 303, 307, 308]
SECRET: dict[str, Any] = {
    "headers": {"X-Api-Key": CANARY, "Cookie": f"a={CANARY}", "Proxy-Authorization": CANARY, "X-Other": CANARY},
    "idempotency_key": CANARY,
}


def client_of(good: Origin, evil: Origin | None = None, **options: Any) -> ApiClient:
    redirects = Redirects(to=[evil.url], **options) if evil is not None else Redirects(**options)
    return ApiClient(
        good.url, credentials=StaticToken(CANARY), headers={"X-Default": CANARY}, redirects=redirects, cookies=True
    )


@pytest.mark.parametrize("status", ALL)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_another_origin_gets_nothing_by_default(good: Origin, evil: Origin, status: int, method: str) -> None:
    """S1, S2: not one byte goes to another origin, be it only another port of the same host."""
    good.handler = good.reply(status, Location=f"{evil.url}/x?next=1")
    async with client_of(good) as client:
        with pytest.raises(RedirectRefused, match="another origin"):
            await client.request(method, "/a", json={"a": CANARY} if method == "POST" else None, **SECRET)
    assert len(good.requests) == 1
    assert evil.connections == 0


@pytest.mark.parametrize("status", ALL)
async def test_a_listed_origin_gets_none_of_what_is_ours(good: Origin, evil: Origin, status: int) -> None:
    """S1, S4, S5: no credential, key, cookie or header of ours goes there, and the chain adds none again."""
    good.handler = good.reply(status, Location=f"{evil.url}/file")
    async with client_of(good, evil) as client:
        assert (await client.get("/a", **SECRET)).status == 200
    assert CANARY.encode() in bytes(good.received)
    assert CANARY.encode() not in bytes(evil.received)
    names = {name.lower() for name, _ in evil.requests[0].headers}
    assert names == {"host", "accept", "accept-encoding", "user-agent"}


async def test_credential_headers_given_twice_are_all_dropped(good: Origin, evil: Origin) -> None:
    """S4: each line of a header that is there several times stays behind."""
    good.handler = good.reply(302, Location=evil.url)

    async def twice(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        for name in ("Authorization", "authorization", "Cookie", "X-Api-Key"):
            request.headers.add(name, CANARY)
        return await handler(request)

    async with client_of(good, evil) as client:
        pipeline = client.pipeline
        await client.get("/a", pipeline=type(pipeline)([*pipeline, twice]))
    assert len(good.requests[0].all("authorization")) == 3
    assert len(evil.requests) == 1
    assert CANARY.encode() not in bytes(evil.received)


async def test_a_key_in_the_query_stays_at_home(good: Origin, evil: Origin) -> None:
    """S5: a credential that is a query parameter is added for its own origin only."""
    good.handler = good.reply(302, Location=f"{evil.url}/file")
    async with ApiClient(
        good.url, credentials=ApiKey(CANARY, query="key"), redirects=Redirects(to=[evil.url])
    ) as client:
        await client.get("/a")
    assert CANARY in good.requests[0].target
    assert [each.target for each in evil.requests] == ["/file"]


@pytest.mark.parametrize("status", [307, 308])
async def test_a_body_goes_to_another_origin_only_if_that_was_said(good: Origin, evil: Origin, status: int) -> None:
    """S1: 307 and 308 keep the body, so they are refused for another origin; nothing is ever resent empty."""
    good.handler = good.reply(status, Location=f"{evil.url}/x")
    async with client_of(good, evil) as client:
        with pytest.raises(RedirectRefused, match="with its body"):
            await client.post("/a", json={"a": 1}, **SECRET)
        assert evil.connections == 0
    async with client_of(good, evil, bodies=True) as client:
        await client.post("/a", json={"a": 1}, **SECRET)
    assert evil.requests[0].line.startswith("POST /x")
    assert evil.requests[0].body == b'{"a": 1}'
    assert CANARY.encode() not in bytes(evil.received)


async def test_a_post_becomes_a_get_without_body_on_its_way_out(good: Origin, evil: Origin) -> None:
    """S1: after 303 nothing of the body, nor its type, is left."""
    good.handler = good.reply(303, Location=f"{evil.url}/x")
    async with client_of(good, evil) as client:
        await client.post("/a", data=b"secret " + CANARY.encode(), params={"q": CANARY})
    assert evil.requests[0].line == "GET /x HTTP/1.1"
    assert evil.requests[0].body == b""
    assert evil.requests[0].all("content-type") == []
    assert CANARY.encode() not in bytes(evil.received)


@pytest.mark.parametrize("status", [301, 302, 303])
@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"Content-Type": "application/xml", "Content-Language": "en", "X-Mine": "1"}},
        {"chunked": True},
        {"compress": "gzip"},
        {"expect100": True},
    ],
)
async def test_a_post_that_becomes_a_get_says_nothing_of_a_body(
    peer: Peer, status: int, options: dict[str, Any]
) -> None:
    """S1: what was said of the body goes with it; ``chunked`` would put bytes on the wire that belong to no request."""
    names: list[set[str]] = []

    async def page(request: web.Request) -> web.StreamResponse:
        names.append({name.lower() for name in request.headers})
        return (
            web.Response() if request.path == "/there" else web.Response(status=status, headers={"Location": "/there"})
        )

    peer.handler = page
    async with ApiClient(peer.url) as client:
        assert (await client.post("/a", data=b"<a/>", **options)).method == "GET"
    assert names[1] - {"x-mine"} == {"host", "accept", "accept-encoding", "user-agent"}
    assert ("x-mine" in names[1]) == ("headers" in options)


async def test_another_origin_cannot_send_the_client_home(good: Origin, evil: Origin) -> None:
    """S5: what another origin asks for is not done with the credentials of this one."""
    good.handler = good.reply(302, Location=f"{evil.url}/x")
    evil.handler = evil.reply(302, Location=f"{good.url}/admin/delete")
    async with client_of(good, evil) as client:
        with pytest.raises(RedirectRefused, match="back to the client's own origin"):
            await client.get("/a")
    assert [each.target for each in good.requests] == ["/a"]


async def test_another_origin_cannot_ask_for_a_scope_or_a_token(good: Origin, evil: Origin) -> None:
    """S24: a 403 with a challenge, from somewhere else, makes no request for a token."""
    good.handler = good.reply(302, Location=f"{evil.url}/x")
    evil.handler = evil.reply(403, WWW_Authenticate='Bearer error="insufficient_scope", scope="admin"')
    async with client_of(good, evil) as client:
        with pytest.raises(Forbidden):
            await client.get("/a")
    assert len(evil.requests) == 1


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("http://user:{canary}@127.0.0.1:{good}/x", "user or password"),
        ("http://{canary}@127.0.0.1:{good}/x", "user or password"),
        ("file:///etc/passwd", "'file'"),
        ("ftp://127.0.0.1/x", "'ftp'"),
        ("data:text/plain,x", "'data'"),
        ("javascript:alert(1)", "'javascript'"),
        ("//127.0.0.1:{evil}/x", "another origin"),
        ("http://127.0.0.1:{good}@127.0.0.1:{evil}/x", "user or password|another origin"),
        ("http:\\\\127.0.0.1:{evil}\\x", "no URL|another origin|address"),
        ("http://127.0.0.1.evil.invalid/x", "another origin"),
        ("https://127.0.0.1:{good}/x", "another origin"),
        ("http://[", "no URL"),
        ("http://127.0.0.1:99999/", "no URL"),
        ("http:///x", "no URL|address|another origin"),
    ],
)
async def test_a_redirect_to_no_good_place_is_refused(good: Origin, evil: Origin, location: str, message: str) -> None:
    """S6, S7: another scheme, userinfo, and what only looks like the own origin are refused, the secret not shown."""
    good.handler = good.reply(302, Location=location.format(good=good.port, evil=evil.port, canary=CANARY))
    async with client_of(good) as client:
        with pytest.raises(RedirectRefused, match=message) as caught:
            await client.get("/a")
    assert CANARY not in str(caught.value)
    assert evil.connections == 0


@pytest.mark.parametrize(
    "location", ["/\\127.0.0.1:{evil}/x", "\\\\127.0.0.1:{evil}\\x", "/x\t//y", "?a=b", "x/../../y"]
)
async def test_odd_paths_stay_on_the_origin(good: Origin, evil: Origin, location: str) -> None:
    """S7: backslashes, tabs and dots in a Location lead nowhere else."""
    good.answers(good.reply(302, Location=location.format(evil=evil.port)), good.reply())
    async with client_of(good) as client:
        assert (await client.get("/a")).status == 200
    assert evil.connections == 0
    assert len(good.requests) == 2


async def test_a_loop_and_a_long_walk_end(good: Origin) -> None:
    """S7: the first repetition ends a loop; ten hops are the most."""
    good.handler = good.reply(302, Location="/a")
    async with client_of(good) as client:
        with pytest.raises(RedirectRefused, match="circle"):
            await client.get("/a")
    assert len(good.requests) == 1

    async def further(arrived: Any, writer: Any) -> None:
        await good.reply(302, Location=f"/n{len(good.requests)}")(arrived, writer)

    good.requests.clear()
    good.handler = further
    async with client_of(good) as client:
        with pytest.raises(RedirectRefused, match="more than 10"):
            await client.get("/a")
    assert len(good.requests) == 11


async def test_no_redirect_is_followed_where_none_is_wanted(good: Origin) -> None:
    """``hops=0`` hands the redirect over; one without Location is handed over anyway, its body readable."""
    good.handler = good.reply(302, body=b"moved", Location="/b")
    async with client_of(good, hops=0) as client:
        response = await client.get("/a")
        assert (response.status, await response.read()) == (302, b"moved")
    good.handler = good.reply(302, body=b"moved")
    async with client_of(good) as client:
        response = await client.get("/a")
        assert (response.status, await response.read()) == (302, b"moved")
    assert len(good.requests) == 2


async def test_a_cookie_set_by_a_redirect_is_kept_for_its_origin(good: Origin) -> None:
    """A login that sets a cookie and redirects works where cookies are wanted."""
    good.answers(good.reply(302, Location="/home", Set_Cookie="session=abc; Path=/"), good.reply())
    good.url = good.url.replace("127.0.0.1", "localhost")  # a jar keeps no cookie of an address
    async with client_of(good) as client:
        await client.get("/login")
    assert good.requests[1].all("cookie") == ["session=abc"]


async def test_a_jar_gives_another_port_of_its_host_nothing(good: Origin, evil: Origin) -> None:
    """S1, S2: cookies know no ports (RFC 6265 section 8.5), a redirect to another port does."""
    good.url, evil.url = (each.url.replace("127.0.0.1", "localhost") for each in (good, evil))
    good.answers(good.reply(200, Set_Cookie=f"a={CANARY}; Path=/"), good.reply(302, Location=f"{evil.url}/x"))
    async with client_of(good, evil) as client:
        await client.get("/login")
        await client.get("/a")
    assert good.requests[1].all("cookie") == [f"a={CANARY}"]
    assert len(evil.requests) == 1
    assert CANARY.encode() not in bytes(evil.received)


async def test_a_redirect_with_a_large_body_gives_its_connection_back(good: Origin) -> None:
    """Law 1: with one connection and 2 MB in each redirect, a streamed call still arrives."""
    big = good.reply(302, b"x" * 2**21, Location="/b")
    good.answers(big, good.reply(302, b"x" * 2**21, Location="/c"), good.reply())
    async with ApiClient(good.url, connections=1) as client:
        async with client.get("/a") as response:
            assert await response.json() == {}
        good.handler = good.reply(302, b"x" * 2**21, Location="http://127.0.0.1:1/")
        with pytest.raises(RedirectRefused):
            async with client.get("/a"):
                pass
        good.handler = good.reply()
        assert (await client.get("/a")).status == 200
