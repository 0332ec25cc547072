"""FakeClock."""

import math

import pytest

from apiclient.testing import FakeClock


def test_time_stands_still_until_it_is_moved() -> None:
    """Reading never moves the clock; advance() does, and says where it is."""
    clock = FakeClock(100.0)
    assert [clock(), clock()] == [100.0, 100.0]
    assert clock.advance(0.5) == clock() == 100.5
    assert clock.advance(0) == 100.5
    clock.set(7)
    assert clock() == 7.0
    assert repr(clock) == "FakeClock(7.0)"
    assert FakeClock()() == 0.0


@pytest.mark.parametrize("seconds", [-0.1, math.inf, math.nan])
def test_it_advances_by_sensible_amounts_only(seconds: float) -> None:
    """Going back is for set(), and an unreadable amount is refused; the clock stays where it was."""
    clock = FakeClock(1.0)
    with pytest.raises(ValueError, match="seconds must"):
        clock.advance(seconds)
    assert clock() == 1.0


def test_a_time_must_be_finite() -> None:
    """Neither the start nor a set time may be infinite or NaN."""
    with pytest.raises(ValueError, match="start must be finite, got nan"):
        FakeClock(math.nan)
    with pytest.raises(ValueError, match="time must be finite, got inf"):
        FakeClock().set(math.inf)
