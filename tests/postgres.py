"""A real Postgres server on a free port of this machine, where its programs are found."""

import atexit
import functools
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.valkey import free_port

DEBIAN = Path("/usr/lib/postgresql")


@functools.cache
def programs() -> Path | None:
    """Return the folder of ``initdb`` and ``postgres``, or None."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    folders = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])) if DEBIAN.exists() else []
    return folders[-1].parent if folders else None


@functools.cache
def common() -> str:
    """Return the address of the database that tests share, each with a table of its own; it ends with the interpreter."""
    folder = programs()
    assert folder is not None
    home, port = Path(tempfile.mkdtemp(prefix="postgres-")), free_port()
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:
        # The server refuses to run as root.
        as_user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        shutil.chown(home, "nobody", "nogroup")
    data = home / "data"
    subprocess.run(
        [folder / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"],
        check=True, capture_output=True, cwd=home, timeout=25, **as_user,
    )  # fmt: skip
    options = ["-D", str(data), "-p", str(port), "-k", str(home), "-c", "listen_addresses=127.0.0.1"]
    command = [str(folder / "postgres"), *options]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=home, stderr=log, **as_user)

    def end() -> None:
        process.send_signal(signal.SIGQUIT)  # At once: what it keeps is thrown away.
        process.wait(10)
        shutil.rmtree(home, ignore_errors=True)

    atexit.register(end)
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    subprocess.run(
        ["bash", "-c", f"until '{folder}/pg_isready' -q -d '{url}'; do sleep 0.05; done"], check=True, timeout=20
    )
    return url
