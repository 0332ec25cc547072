"""The loop's clock, without the Python frame that asyncio puts around it."""

import asyncio
import time
from collections.abc import Callable

_STOCK = asyncio.BaseEventLoop.time


def clock_of(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """Return the clock of *loop*, in seconds.

    asyncio's own loops read ``time.monotonic``, which is returned as it is: a request asks for the time about
    twenty times. Any other loop, a virtual one among them, keeps its own.
    """
    stock = getattr(type(loop), "time", None) is _STOCK and "time" not in vars(loop)
    return time.monotonic if stock else loop.time
