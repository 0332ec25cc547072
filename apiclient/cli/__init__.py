"""The command line: ``apiclient demo``, ``batch``, ``report``, ``sandbox``, ``pipeline``, ``doctor``, ``explain``."""

import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line and exit with its code: 2 for what the user has to put right, without a traceback."""
    try:
        from apiclient.cli._app import run  # noqa: PLC0415 - what it needs may not be installed
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in {"typer", "rich", "click"}:
            raise
        sys.stderr.write(
            f"apiclient: {error.name} is not installed, which the command line needs: "
            "pip install 'apiclient-middleware[cli]'\n"
        )
        sys.exit(2)
    sys.exit(run(sys.argv[1:]))
