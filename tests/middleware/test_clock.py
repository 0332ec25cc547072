import asyncio
import time

import pytest

from apiclient.middleware._clock import clock_of


def test_asyncios_own_loop_reads_the_monotonic_clock() -> None:
    """The shortcut is the same clock: what the loop says lies between two readings of it."""
    loop = asyncio.SelectorEventLoop()
    try:
        clock = clock_of(loop)
        assert clock is time.monotonic
        assert clock() <= loop.time() <= clock()
    finally:
        loop.close()


@pytest.mark.looptime
async def test_a_virtual_loop_keeps_its_own_clock() -> None:
    """Law 13: virtual time moves what the policies see."""
    clock = clock_of(asyncio.get_running_loop())
    began = clock()
    await asyncio.sleep(1000)
    assert clock() - began == pytest.approx(1000)


def test_a_loop_whose_clock_was_replaced_keeps_the_replacement() -> None:
    """A test that patches loop.time is not passed over."""
    loop = asyncio.new_event_loop()
    try:
        loop.time = lambda: 7.0  # type: ignore[method-assign]
        assert clock_of(loop)() == 7.0
    finally:
        loop.close()
