"""The arithmetic of quotas."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiclient.sandbox import FixedWindow
from apiclient.sandbox._window import abbreviated, spelled


@pytest.mark.parametrize(
    ("times", "admitted"),
    [
        ([0, 0, 0], [True, True, False]),
        ([5, 5.5, 6.0], [True, True, False]),  # closed at its end
        ([5, 5.5, 6.001], [True, True, True]),
        ([0, 0.9, 0.95, 1.5, 1.6, 1.7], [True, True, False, True, True, False]),  # rejected ones do not extend
        ([0, 0, 1, 1.01, 1.02, 2.01, 2.02], [True, True, False, True, True, False, True]),  # opens with its first
    ],
)
def test_a_window_opens_with_its_first_request_and_is_closed_at_both_ends(
    times: list[float], admitted: list[bool]
) -> None:
    """Two per second: what counts is the time since the window's first request."""
    window = FixedWindow(2, 1.0)
    assert [window.hit(now).admitted for now in times] == admitted


def test_the_repr_tells_the_fill() -> None:
    """Limit, period and what was counted."""
    window = FixedWindow(2, 1.0)
    assert repr(window) == "FixedWindow(limit=2, period=1.0, count=0)"
    window.hit(0.0)
    assert repr(window) == "FixedWindow(limit=2, period=1.0, count=1)"


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.integers(1, 4), st.lists(st.integers(0, 30), min_size=1, max_size=30).map(sorted))
def test_a_window_agrees_with_counting_by_hand(limit: int, times: list[int]) -> None:
    """A request is admitted if fewer than the limit came since the first request of its window."""
    window, opened, seen = FixedWindow(limit, 10), -100, 0
    for now in times:
        if now - opened > 10:
            opened, seen = now, 0
        hit = window.hit(now)
        seen += 1
        assert (hit.admitted, hit.remaining, hit.resets_in) == (seen <= limit, max(limit - seen, 0), opened + 10 - now)


@pytest.mark.parametrize(("now", "expected"), [(0, 3), (0.4, 3), (0.5, 3), (0.6, 2), (1.6, 1), (2.9, 1), (3, 1)])
def test_retry_after_is_rounded_to_the_nearest_second_and_at_least_one(now: float, expected: int) -> None:
    """As real servers do, which makes it too short at times."""
    window = FixedWindow(1, 3)
    window.hit(0)
    assert window.hit(now).retry_after == expected


@pytest.mark.parametrize(
    ("period", "words", "short"),
    [
        (1, "1 second", "1s"),
        (2.5, "2.5 seconds", "2.5s"),
        (60.0, "1 minute", "1m"),
        (900, "15 minutes", "15m"),
        (7200, "2 hours", "2h"),
        (86400, "1 day", "1d"),
    ],
)
def test_periods_are_written_in_their_largest_unit(period: float, words: str, short: str) -> None:
    """In the words of the 429 text, and short in the header."""
    assert (spelled(period), abbreviated(period)) == (words, short)
