"""What the tests of the command line share."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from apiclient.cli._app import run

Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Said:
    """Run a command in a folder of its own and return exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("APICLIENT_"):
            monkeypatch.delenv(name)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = run(arguments)
        caught = capsys.readouterr()
        return code, caught.out, caught.err

    return call
