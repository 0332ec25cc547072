"""A raw server that follows a script of bytes, closes, resets and stalls, one script per connection."""

import asyncio
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple, Self


class Head(NamedTuple):
    """Read up to the end of the request's head."""


class Body(NamedTuple):
    """Read *size* bytes of the request's body; None for all that Content-Length says."""

    size: int | None = None


class Some(NamedTuple):
    """Read a few bytes of the request, whatever they are."""

    size: int


class Send(NamedTuple):
    """Send bytes."""

    data: bytes


class Close(NamedTuple):
    """Close the connection in an orderly way."""


class Reset(NamedTuple):
    """Reset the connection (RST)."""


class Stall(NamedTuple):
    """Do nothing until the peer goes away."""


Step = Head | Body | Some | Send | Close | Reset | Stall
FINE: tuple[Step, ...] = (Head(), Body(), Send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"))


class Scripted:
    """Serves the n-th connection by the n-th script, and those after the last one with 200.

    Attributes:
        connections: How many were accepted.
        requests: Heads that arrived whole.
        bodies: Bytes of the bodies that arrived whole.
    """

    def __init__(self, *scripts: Sequence[Step]) -> None:
        self.scripts = list(scripts)
        self.connections = 0
        self.requests: list[bytes] = []
        self.bodies: list[bytes] = []
        self.url = ""
        self._tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._tasks.values():
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self.connections = self.connections, self.connections + 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task] = writer
        task.add_done_callback(self._tasks.pop)
        script = self.scripts[number] if number < len(self.scripts) else None
        try:
            while True:
                for step in FINE if script is None else script:
                    if await self._step(step, reader, writer):
                        return
                if script is not None:
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _step(self, step: Step, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        match step:
            case Head():
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            case Body(size):
                length = _length(self.requests[-1])
                body = await reader.readexactly(length if size is None else size)
                if size is None:
                    self.bodies.append(body)
            case Some(size):
                await reader.readexactly(size)
            case Send(data):
                writer.write(data)
                await writer.drain()
            case Stall():
                while await reader.read(65536):
                    pass
                return True
            case Reset():
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
                return True
            case Close():
                return True
        return False


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0
