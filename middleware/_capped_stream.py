"""A response's stream that gives up once too many bytes have come out of it."""

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Self, TypeVar

import aiohttp
from aiohttp import ClientResponse

from apiclient.middleware.errors import BodyTooLarge

T = TypeVar("T")


class CappedStream:
    """Stands in for ``response.content``: the same methods, and a limit on the bytes that leave it.

    What counts are bytes after decompression, which aiohttp does in small steps and only as fast as they are read, so
    that memory stays flat however much a body would unpack to.

    Args:
        response: Whose ``content`` it stands in for. Its connection is closed when the limit is passed.
        limit: Most bytes.

    Raises:
        BodyTooLarge: (while reading) There are more.
    """

    def __init__(self, response: ClientResponse, limit: int) -> None:
        self._stream = response.content
        self._limit = limit
        self._left = limit
        self._close = weakref.WeakMethod(response.close)

    def __repr__(self) -> str:
        return f"<CappedStream {self._limit - self._left} of {self._limit} bytes>"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __aiter__(self) -> "_Blocks[bytes]":
        return _Blocks(self.readline, b"")

    def iter_chunked(self, n: int) -> "_Blocks[bytes]":
        """Iterate over blocks of at most *n* bytes."""
        return _Blocks(lambda: self.read(n), b"")

    def iter_any(self) -> "_Blocks[bytes]":
        """Iterate over blocks as they arrive."""
        return _Blocks(self.readany, b"")

    def iter_chunks(self) -> "_Blocks[tuple[bytes, bool]]":
        """Iterate over HTTP chunks; see ``aiohttp.StreamReader.iter_chunks``."""
        return _Blocks(self.readchunk, (b"", False))

    async def read(self, n: int = -1) -> bytes:
        """Return at most *n* bytes, or with -1 all of them."""
        if n >= 0:
            return self._taken(await self._stream.read(n))
        blocks: list[bytes] = []
        try:
            async for block in self._stream.iter_any():
                blocks.append(block)
                self._taken(block)
            self._taken(b"")
        except BodyTooLarge as error:
            error.partial = b"".join(blocks)[: self._limit]  # type: ignore[attr-defined]
            raise
        return b"".join(blocks)

    async def readany(self) -> bytes:
        """Return what has arrived."""
        return self._taken(await self._stream.readany())

    async def readchunk(self) -> tuple[bytes, bool]:
        """Return some bytes, and whether an HTTP chunk ends with them."""
        block, ended = await self._stream.readchunk()
        return self._taken(block), ended

    async def readline(self, **options: Any) -> bytes:
        """Return a line."""
        return self._taken(await self._stream.readline(**options))

    async def readuntil(self, separator: bytes = b"\n", **options: Any) -> bytes:
        """Return what comes before *separator*, and it."""
        return self._taken(await self._stream.readuntil(separator, **options))

    async def readexactly(self, n: int) -> bytes:
        """Return *n* bytes."""
        try:
            return self._taken(await self._stream.readexactly(min(n, self._left + 1)))
        except asyncio.IncompleteReadError as error:
            raise asyncio.IncompleteReadError(error.partial, n) from None

    def read_nowait(self, n: int = -1) -> bytes:
        """Return what is there without waiting."""
        return self._taken(self._stream.read_nowait(n))

    def _taken(self, block: bytes) -> bytes:
        if not block and (broken := self._stream.exception()) is not None:
            # aiohttp says only before a body's end that the connection broke.
            raise broken
        self._left -= len(block)
        if self._left < 0:
            self._refuse()
        return block

    def _refuse(self) -> None:
        close = self._close()
        if close is not None:
            close()
        raise BodyTooLarge(f"The body is over the limit of {self._limit} bytes")


class _Blocks(Generic[T]):
    """What ``async for`` needs; not a generator, so that one left halfway leaves nothing behind."""

    def __init__(self, read: Callable[[], Awaitable[T]], end: T) -> None:
        self._read = read
        self._end = end

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        try:
            block = await self._read()
        except aiohttp.EofStream:
            raise StopAsyncIteration from None
        if block == self._end:
            raise StopAsyncIteration
        return block
