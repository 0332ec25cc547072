"""The sandbox as a server of its own."""

import asyncio
import signal
import sys
from contextlib import suppress

from apiclient._refused import Refused
from apiclient.sandbox import Sandbox


def serve(sandbox: Sandbox, secret: str) -> int:
    """Run *sandbox* until Ctrl-C or SIGTERM; return the exit code.

    Raises:
        Refused: The port cannot be used.
    """
    try:
        asyncio.run(_serve(sandbox, secret))
    except OSError as error:
        raise Refused(f"sandbox: {error.strerror}") from error
    return 0


async def _serve(sandbox: Sandbox, secret: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with sandbox:
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(NotImplementedError):
                loop.add_signal_handler(number, stop.set)
        sys.stdout.write(
            f"{sandbox.describe()}\n\n"
            "To use it:\n"
            f"  export APICLIENT_BASE_URL={sandbox.api_url} APICLIENT_TOKEN_URL={sandbox.token_url}"
            f" APICLIENT_CLIENT_ID=demo APICLIENT_CLIENT_SECRET={secret}\n"
            "Ctrl-C stops it.\n"
        )
        sys.stdout.flush()
        await stop.wait()
        sys.stdout.write(f"\n{len(sandbox.ledger)} requests served\n")
