"""Lists that come in pages: what the next request is, by the usual conventions."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, cast

from aiohttp import ClientResponse
from yarl import URL

from apiclient.middleware.errors import ApiError, RedirectRefused, redacted

Next = Callable[[ClientResponse], Awaitable["URL | Mapping[str, Any] | None"]]
"""From a page to the next one: its URL, the query values to change, or None after the last."""


_REMEMBERED = 10_000


async def by_link(response: ClientResponse) -> URL | None:
    """Follow the ``Link`` header with ``rel="next"``, alone or among other words (RFC 8288 section 3.3)."""
    for relations, link in response.links.items():
        if "next" in relations.lower().split():
            return URL(str(link["url"]))
    return None


def by_cursor(field: str, parameter: str) -> Next:
    """Follow a cursor in the JSON body.

    Args:
        field: Where it is: a key, or keys joined by dots (``meta.next``). Missing, null, false or empty ends the list.
        parameter: Query parameter that takes it.

    Raises:
        ApiError: (from the list) It is there, and neither text nor number.
    """

    async def following(response: ClientResponse) -> Mapping[str, Any] | None:
        value = _at(await response.json(content_type=None), field)
        if value is None or value is False or value in ("", [], {}):
            return None
        if value is True or not isinstance(value, str | int | float):
            raise ApiError(f"The cursor at {field!r} is neither text nor number, but {type(value).__name__}")
        return {parameter: value}

    return following


def by_page(parameter: str = "page", *, items: str = "", first: int = 1) -> Next:
    """Count pages until one is empty.

    Args:
        parameter: Query parameter that takes the number.
        items: Where the list is in the JSON body, keys joined by dots; empty where the body is the list.
        first: Number of the first page.
    """

    async def following(response: ClientResponse) -> Mapping[str, Any] | None:
        if not _at(await response.json(content_type=None), items):
            return None
        return {parameter: int(response.url.query.get(parameter, first)) + 1}

    return following


def by_offset(parameter: str = "offset", *, items: str = "") -> Next:
    """Count items until a page is empty.

    Args:
        parameter: Query parameter that takes the number of items to skip.
        items: Where the list is in the JSON body, keys joined by dots; empty where the body is the list.
    """

    async def following(response: ClientResponse) -> Mapping[str, Any] | None:
        found = _at(await response.json(content_type=None), items)
        return {parameter: int(response.url.query.get(parameter, 0)) + len(found)} if found else None

    return following


async def run_paginate(
    get: Callable[..., Awaitable[ClientResponse]],
    base: URL,
    path: str,
    *,
    following: Next = by_link,
    limit: int | None = None,
    prefetch: int = 0,
    **options: Any,
) -> AsyncGenerator[ClientResponse]:
    """Yield the pages of a list, each a buffered response, each through the client's whole chain.

    Unless told to *prefetch*, it asks for the next page when the last one has been taken: nothing is fetched that
    nobody wants.

    Args:
        get: Makes a buffered call: ``ApiClient.get``.
        base: The base URL that every page must be below.
        path: Of the first page.
        following: How to get from a page to the next; ``by_link`` or one of its neighbours here.
        limit: Most pages, or None.
        prefetch: Pages that are fetched, one after another, while you work on one. What has been fetched is yielded
            before the error of a page that could not be.
        **options: For every call, as for ``ApiClient.request``.

    Raises:
        ValueError: ``limit`` is below 1, or ``prefetch`` below 0.
        RedirectRefused: The next page is said to be on another origin.
        ApiError: A page names itself, or one of the 10,000 before it, as the next.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit!r}")
    if prefetch < 0:
        raise ValueError(f"prefetch must be at least 0, got {prefetch!r}")
    pages = _one_by_one(get, base, path, following=following, limit=limit, options=options)
    async with aclosing(_ahead(pages, prefetch) if prefetch else pages) as found:
        async for page in found:
            yield page


async def _one_by_one(
    get: Callable[..., Awaitable[ClientResponse]],
    base: URL,
    path: str,
    *,
    following: Next,
    limit: int | None,
    options: Mapping[str, Any],
) -> AsyncGenerator[ClientResponse]:
    response = await get(path, **options)
    first = response.url
    seen = {str(first): None}
    pages = 1
    while True:
        yield response
        if pages == limit:
            return
        step = await following(response)
        if step is None:
            return
        target = step if isinstance(step, URL) else response.url.update_query({k: str(v) for k, v in step.items()})
        target = response.url.join(target)
        if str(target) in seen:
            raise ApiError(f"The list goes round in a circle, back to {redacted(target)}")
        seen[str(target)] = None
        if len(seen) > _REMEMBERED:
            del seen[next(iter(seen))]
        options = {name: value for name, value in options.items() if name not in {"params", "path_params"}}
        further = options
        if "{" in path and target.raw_path == first.raw_path:
            # The template is in the first page's path only, and all of them share its quota.
            further = {"endpoint": f"GET {path.partition('?')[0]}", **options}
        response = await get(_below(base, target), **further)
        pages += 1


async def _ahead(pages: AsyncGenerator[ClientResponse], most: int) -> AsyncGenerator[ClientResponse]:
    """Yield *pages*, and meanwhile fetch at most *most* more."""
    fetched: asyncio.Queue[ClientResponse | None] = asyncio.Queue()
    room = asyncio.Semaphore(most + 1)

    async def fetch() -> None:
        try:
            while await room.acquire():
                fetched.put_nowait(await anext(pages))
        except StopAsyncIteration:
            pass
        finally:
            fetched.put_nowait(None)

    task = asyncio.create_task(fetch())
    try:
        while (page := await fetched.get()) is not None:
            yield page
            room.release()
        await task
    finally:
        task.cancel()
        await asyncio.wait((task,))
        await pages.aclose()


def _below(base: URL, target: URL) -> str:
    prefix = base.raw_path.rstrip("/")
    if target.origin() != base.origin() or not target.raw_path.startswith(prefix + "/"):
        raise RedirectRefused(f"The next page is outside of the base URL: {redacted(target)}")
    return target.raw_path_qs[len(prefix) :]


def _at(document: Any, field: str) -> Any:
    for key in field.split(".") if field else ():
        document = cast("dict[str, Any]", document).get(key) if isinstance(document, dict) else None
    return document
