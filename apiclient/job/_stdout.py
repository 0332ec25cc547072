"""Results on standard output: for pipes; there is nothing to resume."""

import os
import secrets
import sys
from collections.abc import Callable

from apiclient._batch_model import BatchResult
from apiclient.job._checkpoint import Render
from apiclient.job._ids import Ids


class Stdout:
    """Takes results as ``Checkpoint`` does; a reader that went away ends the batch cleanly, a full disk with an error.

    Attributes:
        run: Names the run.
        done: Nothing.
        ok: 0.
        failed: 0.
        error: What went wrong in writing, or None.
        gone: Whether nothing can be written any more.
    """

    def __init__(self, *, render: Render, on_error: Callable[[], None]) -> None:
        self.run = secrets.token_hex(8)
        self.done = Ids()
        self.ok = 0
        self.failed = 0
        self.error: OSError | None = None
        self.gone = False
        self._render = render
        self._on_error = on_error

    def __repr__(self) -> str:
        return "Stdout()"

    def add(self, result: BatchResult, now: float) -> None:
        """Write a result, at once."""
        line, _ = self._render(result, now)
        if self.gone:
            return
        try:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
        except OSError as error:
            self.gone = True
            if not isinstance(error, BrokenPipeError):
                self.error = error
            # What is left in the buffer must not raise again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self._on_error()

    def flush(self) -> None:
        """Do nothing: it is flushed."""

    def close(self) -> None:
        """Do nothing: it is not ours."""
