"""A very light HTTP/1.1 peer in a process of its own, so that its work is not counted as the client's.

Every request is answered 200 with the same small JSON, on a connection that stays open. ``GET /-/count`` answers the
number of other requests so far, so that a benchmark can check that one call was one request on the wire.

Run by ``serving()``; by hand: ``python benchmarks/_server.py`` prints the port and serves until its stdin closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

BODY = b'{"id": 7, "name": "Ada Lovelace", "group": "engineering", "active": true, "quota": 5}'
CLIENT_CORE, _SERVER_CORE = 0, 1


def _answer(body: bytes) -> bytes:
    head = (
        "HTTP/1.1 200 OK\r\n"
        "Content-Type: application/json; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
        "Server: benchmark\r\n\r\n"
    )
    return head.encode() + body


_ANSWER = _answer(BODY)


class _Connection(asyncio.Protocol):
    """One keep-alive connection: finds the end of each request and answers it."""

    served = 0

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(f"a stream transport is needed, got {transport!r}")
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        data = self._pending + data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            head, end = data[:end], end + 4
            length = _content_length(head)
            if len(data) < end + length:
                break
            data = data[end + length :]
            self._answer(head)
        self._pending = data

    def _answer(self, head: bytes) -> None:
        if self._transport is None:
            return
        if head.startswith(b"GET /-/count "):
            self._transport.write(_answer(str(_Connection.served).encode()))
        else:
            _Connection.served += 1
            self._transport.write(_ANSWER)


def _content_length(head: bytes) -> int:
    if head.startswith(b"GET "):
        return 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def pin(core: int) -> bool:
    """Keep this process on the *core*-th of the cores it may use; False where the platform or the number forbids it."""
    if sys.platform != "linux":
        return False
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < _SERVER_CORE + 1:
        return False
    os.sched_setaffinity(0, {cores[core]})
    return True


@contextlib.contextmanager
def serving() -> Generator[str, None, None]:
    """Run the peer in another process and yield its URL, ``http://127.0.0.1:port``."""
    with subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:
        try:
            if peer.stdout is None or not (port := peer.stdout.readline().strip()):
                raise RuntimeError("the benchmark's server did not start")
            yield f"http://127.0.0.1:{port}"
        finally:
            peer.terminate()


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    gone = asyncio.Event()

    def wait_for_parent() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(gone.set)

    # A process whose parent was killed must not serve on for ever.
    threading.Thread(target=wait_for_parent, daemon=True).start()
    async with server:
        await gone.wait()


if __name__ == "__main__":
    pin(_SERVER_CORE)
    asyncio.run(_serve())
