"""Does what a page tells its reader to do: writes its files, types its commands, compares what is printed.

How a page is read, block by block, in an empty folder:

- A block with a title (``python title="api.py"``, in any language) is a file of that name.
- A ``bash`` block is typed into one shell. It must not fail; what may fail says so: ``|| echo "exit code $?"``.
- ``bash title="second terminal"`` is typed into a terminal of that name, which runs until the page says ``^C`` in a
  ``text`` block of the same title, or is over. The next block waits until it listens.
- ``text printed`` is what the block before it printed, with ``...`` for anything.
- ``bash title="once"`` installs something: it is left out unless the whole way is gone.
- The ports 8080 and 8000 of the page are free ports of this machine.
"""

import asyncio
import contextlib
import doctest
import importlib.metadata
import os
import re
import signal
import socket
import sys
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^(?P<mark>```+)(?P<info>[^`\n]*)\n(?P<body>.*?)^(?P=mark)[ ]*$", re.MULTILINE | re.DOTALL)
TITLE = re.compile(r'(?P<language>\w+) title="(?P<title>[^"]+)"')
PATIENCE = 30.0


class Block(NamedTuple):
    """A fenced block: its language and what else its info string says, its title, its text, and its first line."""

    language: str
    rest: str
    title: str
    body: str
    line: int


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a page."""
    found: list[Block] = []
    for match in FENCE.finditer(text):
        info = match["info"].strip()
        language, _, rest = info.partition(" ")
        titled = TITLE.fullmatch(info)
        line = text.count("\n", 0, match.start("body")) + 1
        found.append(Block(language, rest, "" if titled is None else titled["title"], match["body"], line))
    return found


class Terminal:
    """A shell, to be typed into.

    Args:
        folder: Where it begins.
        environment: Of everything that it starts.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._printed = b""

    async def start(self, command: str | None = None) -> None:
        """Open it, for *command* alone where one is given."""
        self._process = await asyncio.create_subprocess_exec(
            *("bash", "-e", *(() if command is None else ("-c", command))),
            cwd=self._folder,
            env=self._environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )

    async def type(self, commands: str) -> str:
        """Type *commands* and return what was printed.

        Raises:
            AssertionError: One of them failed.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        mark = f"--- {os.urandom(8).hex()} ---"
        self._process.stdin.write(f"{commands}\necho '{mark}'\n".encode())
        printed = await self.until(mark)
        self._printed = b""
        return printed.rpartition(mark)[0]

    async def until(self, said: str) -> str:
        """Return what was printed up to *said* and a little beyond.

        Raises:
            AssertionError: It ended, or went silent, without having said that.
        """
        assert self._process is not None
        assert self._process.stdout is not None
        while said.encode() not in self._printed:
            try:
                async with asyncio.timeout(PATIENCE):
                    more = await self._process.stdout.read(65536)
            except TimeoutError:
                more = b""
            if not more:
                raise AssertionError(f"it never said {said!r}, but\n{self._printed.decode()}")
            self._printed += more
        return self._printed.decode()

    async def interrupt(self) -> str:
        """Press Ctrl-C, wait for the end, and return what was printed last."""
        return await self._end(signal.SIGINT)

    async def close(self) -> None:
        """End it, and everything that it started."""
        if self._process is not None:
            with contextlib.suppress(AssertionError):
                await self._end(signal.SIGTERM)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _end(self, number: int) -> str:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
        self._process.stdin.close()
        try:
            async with asyncio.timeout(PATIENCE):
                rest, _ = await self._process.communicate()
        except TimeoutError:
            raise AssertionError(f"it did not end; it said\n{self._printed.decode()}") from None
        return (self._printed + rest).decode()


class Walkthrough:
    """Reads one page; a context manager, at whose end nothing that it started runs any more.

    Args:
        folder: Empty, or with what the page takes for granted.
        installing: Whether to do what is to be done once.
    """

    def __init__(self, folder: Path, *, installing: bool = False) -> None:
        self._folder = folder
        self._installing = installing
        self._ports = {"8080": str(free_port()), "8000": str(free_port())}
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("APICLIENT_", "COV_"))},
            "PATH": os.pathsep.join([str(folder / ".venv/bin"), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "120",
            "TERM": "dumb",
        }
        self._environment.pop("PYTHONPATH", None)
        if not installing:
            self._environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(plugin(folder.parent))])
        self._shell = Terminal(folder, self._environment)
        self._others: dict[str, Terminal] = {}
        self.printed = ""

    async def __aenter__(self) -> Self:
        await self._shell.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for terminal in (self._shell, *self._others.values()):
            await terminal.close()

    async def read(self, text: str) -> None:
        """Do everything that *text* says.

        Raises:
            AssertionError: A command failed, or printed something else.
        """
        for block in blocks(text):
            try:
                await self._do(block)
            except AssertionError as error:
                raise AssertionError(f"line {block.line}: {error}") from error

    async def _do(self, block: Block) -> None:
        body = self._with_ports(block.body)
        if block.title.endswith("terminal"):
            await self._elsewhere(block.title, body)
        elif block.title == "once":
            if self._installing:
                await self._shell.type(body.replace("~/apiclient", str(ROOT)))
        elif block.title:
            path = self._folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(body, encoding="utf-8")
        elif block.language == "bash":
            self.printed = await self._shell.type(body)
        elif block.language == "text" and block.rest == "printed":
            same = doctest.OutputChecker().check_output(body, self.printed, doctest.ELLIPSIS)
            assert same, f"it printed\n{self.printed}"

    async def _elsewhere(self, title: str, body: str) -> None:
        if body.strip() == "^C":
            self.printed = await self._others.pop(title).interrupt()
            return
        terminal = self._others[title] = Terminal(self._folder, self._environment)
        await terminal.start(body)
        await terminal.until("http://127.0.0.1:")

    def _with_ports(self, text: str) -> str:
        return re.sub("|".join(self._ports), lambda match: self._ports[match[0]], text)


def free_port() -> int:
    """Return a port that is free just now."""
    with socket.socket() as sought:
        sought.bind(("127.0.0.1", 0))
        return int(sought.getsockname()[1])


def plugin(folder: Path) -> Path:
    """Return a folder by which pytest finds our plugin, where this checkout was installed before there was one."""
    path = folder / "installed"
    path.mkdir(exist_ok=True)
    if not any(each.value == "apiclient.testing.plugin" for each in importlib.metadata.entry_points(group="pytest11")):
        described = path / "plugin-1.dist-info"
        described.mkdir(exist_ok=True)
        (described / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1\n")
        (described / "entry_points.txt").write_text("[pytest11]\napiclient = apiclient.testing.plugin\n")
    return path
