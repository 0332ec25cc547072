import pytest
from aiohttp import web

from apiclient import ApiClient, errors
from apiclient.pagination import Next, by_cursor, by_link, by_offset, by_page
from tests.conftest import Peer

ITEMS = list(range(7))


async def pages(request: web.Request) -> web.StreamResponse:
    query = request.query
    start = int(query.get("cursor") or query.get("offset") or (int(query.get("page", 1)) - 1) * 3)
    more = start + 3 if start + 3 < len(ITEMS) else None
    headers = {"Link": f'</v1/list?cursor={more}>; rel="next", </v1/list>; rel="first"'} if more is not None else {}
    return web.json_response({"data": ITEMS[start : start + 3], "meta": {"next": more}}, headers=headers)


@pytest.mark.parametrize(
    ("following", "count"),
    [(by_link, 3), (by_cursor("meta.next", "cursor"), 3), (by_page(items="data"), 4), (by_offset(items="data"), 4)],
)
async def test_each_style_yields_every_item_once(peer: Peer, following: Next, count: int) -> None:
    """Link, cursor, page and offset lead through the whole list, through the chain."""
    peer.handler = pages
    async with ApiClient(peer.url + "/v1") as client:
        found = [
            item async for page in client.paginate("/list", following=following) for item in (await page.json())["data"]
        ]
    assert found == ITEMS
    assert peer.count == count


async def test_a_page_that_fails_is_retried(peer: Peer) -> None:
    """Pages pass the chain like any call."""
    failed = False

    async def flaky(request: web.Request) -> web.StreamResponse:
        nonlocal failed
        if request.query and not failed:
            failed = True
            return web.Response(status=503)
        return await pages(request)

    peer.handler = flaky
    async with ApiClient(peer.url + "/v1") as client:
        assert len([page async for page in client.paginate("/list")]) == 3


async def test_only_what_is_taken_is_fetched(peer: Peer) -> None:
    """A limit, or leaving the loop, ends the requests."""
    peer.handler = pages
    async with ApiClient(peer.url + "/v1") as client:
        assert len([page async for page in client.paginate("/list", limit=2)]) == 2
        assert peer.count == 2
        with pytest.raises(ValueError, match=r"limit.*0"):
            await anext(aiter(client.paginate("/list", limit=0)))


@pytest.mark.parametrize("link", ["http://evil.example/v1/list?cursor=3", "/other/list", "//evil.example/v1/x"])
async def test_the_next_page_is_below_the_base_url(peer: Peer, link: str) -> None:
    """Law 11: a server cannot lead the client away by a link."""
    peer.answers(200, headers={"Link": f'<{link}>; rel="next"'})
    async with ApiClient(peer.url + "/v1") as client:
        with pytest.raises(errors.RedirectRefused):
            [page async for page in client.paginate("/list")]
    assert peer.count == 1


async def test_a_circle_ends(peer: Peer) -> None:
    """A page that names itself as the next does not go on for ever."""
    peer.answers(200, headers={"Link": '</v1/list>; rel="next"'})
    async with ApiClient(peer.url + "/v1") as client:
        with pytest.raises(errors.ApiError, match="circle"):
            [page async for page in client.paginate("/list")]
