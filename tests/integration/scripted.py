"""A raw server that follows a script of bytes, closes, resets and stalls, one script per connection."""

import asyncio
import itertools
import socket
import ssl
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


class Drip(NamedTuple):
    """Send bytes one at a time, *every* so many seconds."""

    data: bytes
    every: float


class Flood(NamedTuple):
    """Send bytes again and again, *every* so many seconds, *times* times or until the peer goes away."""

    data: bytes
    every: float = 0.0
    times: int | None = None


class Pause(NamedTuple):
    """Wait for some seconds."""

    seconds: float


class HalfClose(NamedTuple):
    """Send no more, but go on reading until the peer goes away."""


class StartTls(NamedTuple):
    """Shake hands as a TLS server."""

    context: ssl.SSLContext


class Hello(NamedTuple):
    """Send the first *size* bytes of a TLS server's answer to the client's hello."""

    context: ssl.SSLContext
    size: int


class Serve(NamedTuple):
    """Behave from now on: answer each request with 200."""


class Cut(NamedTuple):
    """Close the socket without a word, as when a TLS connection is cut off."""


class Close(NamedTuple):
    """Close the connection in an orderly way."""


class Reset(NamedTuple):
    """Reset the connection (RST)."""


class Stall(NamedTuple):
    """Do nothing until the peer goes away."""


Step = (
    Head
    | Body
    | Some
    | Send
    | Drip
    | Flood
    | Pause
    | HalfClose
    | StartTls
    | Hello
    | Serve
    | Cut
    | Close
    | Reset
    | Stall
)
FINE: tuple[Step, ...] = (Head(), Body(), Send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"))


class Scripted:
    """Serves the n-th connection by the n-th script, and those after the last one by *otherwise*, or with 200.

    Attributes:
        connections: How many were accepted.
        wire: How many requests there were: whole heads, and connections that ended without one.
        otherwise: The script of all further connections; None answers each of their requests with 200.
        requests: Heads that arrived whole.
        bodies: Bytes of the bodies that arrived whole.
    """

    def __init__(self, *scripts: Sequence[Step], otherwise: Sequence[Step] | None = None) -> None:
        self.scripts = list(scripts)
        self.otherwise = otherwise
        self.connections = 0
        self.headless = 0
        self.requests: list[bytes] = []
        self.bodies: list[bytes] = []
        self.url = ""
        self._tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    @property
    def wire(self) -> int:
        return len(self.requests) + self.headless

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
        script = self.scripts[number] if number < len(self.scripts) else self.otherwise
        heads = len(self.requests)
        try:
            while True:
                for step in FINE if script is None else script:
                    if await self._step(step, reader, writer):
                        return
                if script is not None:
                    return
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            # One connection at a time is served where this is counted.
            self.headless += script is not None and len(self.requests) == heads
            writer.close()

    async def _step(  # noqa: PLR0911 - a step a case
        self, step: Step, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
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
            case Drip(data, every):
                for byte in data:
                    writer.write(bytes([byte]))
                    await asyncio.sleep(every)
                    await writer.drain()
            case Flood(data, every, times):
                for _ in itertools.count() if times is None else range(times):
                    writer.write(data)
                    await writer.drain()
                    await asyncio.sleep(every)
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case HalfClose():
                writer.write_eof()
                return await self._step(Stall(), reader, writer)
            case StartTls(context):
                plain = writer.transport
                try:
                    await writer.start_tls(context)
                except (AttributeError, OSError):
                    # asyncio loses the transport where the client ends the handshake.
                    setattr(writer, "_transport", plain)  # noqa: B010
                    return True
            case Hello(context, size):
                incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
                incoming.write(await reader.read(65536))
                try:
                    context.wrap_bio(incoming, outgoing, server_side=True).do_handshake()
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read(size))
                await writer.drain()
            case Serve():
                while True:
                    for fine in FINE:
                        await self._step(fine, reader, writer)
            case Stall():
                while await reader.read(65536):
                    pass
                return True
            case Reset():
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
                return True
            case Cut():
                writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
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
