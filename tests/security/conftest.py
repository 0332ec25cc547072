"""Two origins on loopback, ``good`` and ``evil``, that keep every byte which reaches them."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple, Self

import pytest

# Stands in for everything secret: no byte of it may reach the wrong place.
CANARY = "canary-7f3a9c1e5b"


class Arrived(NamedTuple):
    """One request as it came over the wire."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def target(self) -> str:
        """Path and query."""
        return self.line.split(" ")[1]

    def all(self, name: str) -> list[str]:
        """Return the values of the header *name*."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


Answer = Callable[[Arrived, asyncio.StreamWriter], Awaitable[None]]


class Origin:
    """A server that keeps every byte and answers as it is told."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.requests: list[Arrived] = []
        self.connections = 0
        self.closed = asyncio.Event()
        self.url = ""
        self.handler: Answer = self.reply()
        self._server: asyncio.Server | None = None

    def __str__(self) -> str:
        return self.url

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def reply(
        self, status: int = 200, body: bytes = b"{}", content_type: str | None = "application/json", **headers: str
    ) -> Answer:
        """Return a handler that answers so; ``Content_Encoding="gzip"`` names a header."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if content_type is not None:
            fields.setdefault("Content-Type", content_type)
        fields.setdefault("Content-Length", str(len(body)))
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())

        async def answer(_: Arrived, writer: asyncio.StreamWriter) -> None:
            writer.write(f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + body)

        return answer

    def answers(self, *answers: Answer) -> None:
        """Give *answers* in turn, the last for ever after."""
        left = list(answers)

        async def handler(arrived: Arrived, writer: asyncio.StreamWriter) -> None:
            await (left.pop(0) if len(left) > 1 else left[0])(arrived, writer)

        self.handler = handler

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while (arrived := await self._read(reader)) is not None:
                self.requests.append(arrived)
                await self.handler(arrived, writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.closed.set()
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Arrived | None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            self.received += error.partial
            return None
        self.received += head
        first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        body = await reader.readexactly(int(length[1])) if length else b""
        if re.search(rb"(?i)\r\ntransfer-encoding: chunked", head):
            while (size := int(await reader.readline(), 16)) > 0:
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readline()
        self.received += body
        return Arrived(first, headers, body)


@pytest.fixture
async def good() -> AsyncIterator[Origin]:
    """The API's own origin."""
    async with Origin() as origin:
        yield origin


@pytest.fixture
async def evil() -> AsyncIterator[Origin]:
    """Another origin: the same host, another port."""
    async with Origin() as origin:
        yield origin
