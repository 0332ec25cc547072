import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import cast

import pytest
from aiohttp import ClientResponse, web

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


@pytest.mark.parametrize("ahead", [1, 2, 5])
async def test_a_bounded_number_of_pages_is_fetched_ahead(peer: Peer, ahead: int) -> None:
    """While one is worked on, so many more have been asked for at the end, and no more; all arrive in order."""
    arrived = asyncio.Semaphore(0)

    async def counted(request: web.Request) -> web.StreamResponse:
        arrived.release()
        page = int(request.query.get("page", 1))
        return web.json_response({"data": [page] if page < 10 else []})

    peer.handler = counted
    async with ApiClient(peer.url + "/v1") as client:
        found: list[int] = []
        async for page in client.paginate("/list", following=by_page(items="data"), prefetch=ahead):
            number = len(found) + 1
            while peer.count < min(10, number + ahead):
                await arrived.acquire()
            for _ in range(20):
                await asyncio.sleep(0)
            assert peer.count == min(10, number + ahead)
            found += (await page.json())["data"]
    assert found == list(range(1, 10))


async def test_what_was_fetched_ahead_comes_before_the_error(peer: Peer) -> None:
    """The third page fails; two are yielded first, however late they are taken."""

    async def failing(request: web.Request) -> web.StreamResponse:
        page = int(request.query.get("page", 1))
        return web.json_response([page]) if page < 3 else web.Response(status=404)

    peer.handler = failing
    found: list[int] = []
    async with ApiClient(peer.url + "/v1") as client:

        async def take() -> None:
            async for page in client.paginate("/list", following=by_page(), prefetch=5):
                found.extend(await page.json())

        with pytest.raises(errors.NotFound):
            await take()
    assert found == [1, 2]


async def test_leaving_the_loop_ends_what_is_fetched_ahead(peer: Peer) -> None:
    """Nothing is left running, and the connection of the page under way is closed."""
    peer.handler = pages
    before = asyncio.all_tasks()
    async with ApiClient(peer.url + "/v1") as client:
        async with aclosing(cast("AsyncGenerator[ClientResponse]", client.paginate("/list", prefetch=1))) as found:
            await anext(found)
        assert not [task for task in asyncio.all_tasks() - before if "fetch" in repr(task.get_coro())]
        with pytest.raises(ValueError, match=r"prefetch.*-1"):
            await anext(aiter(client.paginate("/list", prefetch=-1)))


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


async def test_a_circle_of_pages_long_ago_is_not_remembered(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 14: a list of any length takes the same memory."""
    monkeypatch.setattr("apiclient.pagination._REMEMBERED", 3)

    async def page(request: web.Request) -> web.StreamResponse:
        number = int(request.query.get("page", 0))
        return web.Response(headers={"Link": f'</list?page={(number + 1) % 5}>; rel="next"'})

    peer.handler = page
    async with ApiClient(peer.url) as client:
        assert len([page async for page in client.paginate("/list", limit=12)]) == 12


@pytest.mark.parametrize("relation", ['rel="next prefetch"', "rel=Next", 'rel="last NEXT"', 'title="a, b"; rel="next"'])
async def test_a_link_may_have_several_relations_in_any_case(peer: Peer, relation: str) -> None:
    """RFC 8288 section 3.3: a list must not end before its last page."""

    async def page(request: web.Request) -> web.StreamResponse:
        return web.Response(headers={} if request.query else {"Link": f"</list?page=2>; {relation}"})

    peer.handler = page
    async with ApiClient(peer.url) as client:
        assert len([page async for page in client.paginate("/list")]) == 2


@pytest.mark.parametrize("cursor", [None, False, "", [], {}])
async def test_a_cursor_that_is_none_ends_the_list(peer: Peer, cursor: object) -> None:
    """As servers say that there is no more."""
    peer.handler = _cursors(cursor)
    async with ApiClient(peer.url) as client:
        assert len([page async for page in client.paginate("/list", following=by_cursor("next", "c"))]) == 1


@pytest.mark.parametrize("cursor", [True, ["a"], {"a": 1}])
async def test_a_cursor_that_cannot_be_sent_is_an_error(peer: Peer, cursor: object) -> None:
    """The list is not taken to be over, nor asked for with something else."""
    peer.handler = _cursors(cursor)
    async with ApiClient(peer.url) as client:
        with pytest.raises(errors.ApiError, match="cursor at 'next' is neither text nor number"):
            [page async for page in client.paginate("/list", following=by_cursor("next", "c"))]
    assert peer.count == 1


async def test_a_number_is_a_cursor(peer: Peer) -> None:
    """Zero as well."""
    peer.handler = _cursors(0, last="0")
    async with ApiClient(peer.url) as client:
        assert len([page async for page in client.paginate("/list", following=by_cursor("next", "c"))]) == 2


def _cursors(cursor: object, *, last: str = "") -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def page(request: web.Request) -> web.StreamResponse:
        over = bool(last) and request.query.get("c") == last
        return web.json_response({"next": None if over else cursor})

    return page


async def test_after_the_last_page_wanted_no_next_one_is_looked_for(peer: Peer) -> None:
    """With a limit, what that page says of the next does not matter."""
    peer.answers(200, body=b"no JSON")
    async with ApiClient(peer.url) as client:
        assert len([page async for page in client.paginate("/list", following=by_page(), limit=1)]) == 1


async def test_all_pages_of_a_list_have_one_endpoint(peer: Peer) -> None:
    """Law 7: its template is in the first page's path only, and its quota is that of all pages."""

    async def page(request: web.Request) -> web.StreamResponse:
        return web.Response(headers={} if request.query else {"Link": '</v1/staff/a7/days?page=2>; rel="next"'})

    peer.handler = page
    async with ApiClient(peer.url + "/v1") as client:
        for name in ("a7", "b8"):
            pages = client.paginate("/staff/{name}/days", path_params={"name": name})
            assert len([page async for page in pages]) == 2
        # The second list goes on at another path, of which nobody gave the template.
        assert [each.endpoint for each in client.stats().endpoints] == ["GET /staff/a7/days", "GET /staff/{name}/days"]
