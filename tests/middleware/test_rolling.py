"""The sum over a moving window."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiclient.middleware._rolling import Rolling


def test_what_is_older_than_the_window_is_gone() -> None:
    """Nothing is counted longer than the window, and everything for at least all but a slice of it."""
    rolling = Rolling(10.0, 10)
    rolling.add(0.5)
    assert rolling.sum(9.9) == 1
    assert rolling.sum(10.0) == 0


def test_a_jump_over_the_whole_window_forgets_all() -> None:
    """After a pause longer than the window nothing is left, however long it was."""
    rolling = Rolling(10.0, 10)
    for second in range(10):
        rolling.add(float(second))
    assert rolling.sum(1e9) == 0
    rolling.add(1e9)
    assert rolling.sum(1e9) == 1


def test_the_tail_counts_the_newest_slices() -> None:
    """The tail is the sum over the newest slices, the one being filled among them."""
    rolling = Rolling(10.0, 10)
    for second in range(10):
        rolling.add(second + 0.5)
    assert rolling.tail(9.9, 3) == 3
    assert rolling.tail(10.1, 3) == 2
    assert rolling.tail(9.9, 99) == rolling.sum(9.9)


def test_one_slice_is_a_window_that_begins_anew() -> None:
    """The least number of slices: all or nothing."""
    rolling = Rolling(10.0, 1)
    rolling.add(3.0, 2.5)
    assert rolling.sum(9.9) == 2.5
    assert rolling.sum(10.0) == 0


def test_unless_told_otherwise_there_are_ten_slices() -> None:
    """What was added in the first tenth is gone with the first tenth of the next window."""
    rolling = Rolling(10.0)
    rolling.add(0.99)
    rolling.add(1.0)
    assert rolling.sum(9.99) == 2
    assert rolling.sum(10.0) == 1
    assert rolling.sum(11.0) == 0


def test_slices_may_be_shorter_than_a_second() -> None:
    """Each ends where it should, and not with another."""
    rolling = Rolling(5.0, 10)
    rolling.add(0.6)
    rolling.add(1.2)
    assert (rolling.sum(5.4), rolling.sum(5.6), rolling.sum(6.0)) == (2, 1, 0)


def test_what_was_cleared_is_gone_from_every_reading() -> None:
    """Older slices, the one being filled and the tail; what comes then counts."""
    rolling = Rolling(10.0, 10)
    rolling.add(0.5)
    rolling.add(3.5)
    rolling.clear()
    assert (rolling.sum(3.5), rolling.tail(3.5, 10), rolling.sum(4.0)) == (0, 0, 0)
    rolling.add(4.5)
    assert (rolling.sum(5.0), rolling.tail(5.0, 10)) == (1, 1)


@pytest.mark.parametrize("count", [1, 2, 10, 11])
def test_a_tail_of_the_slice_that_is_being_filled_and_those_before(count: int) -> None:
    """So many slices and no more, at the very moment at which one begins."""
    rolling = Rolling(10.0, 10)
    for second in range(20):
        rolling.add(float(second), 2.0**second)
    assert rolling.tail(19.0, count) == sum(2.0**second for second in range(20 - min(count, 10), 20))
    assert rolling.tail(20.0, count) == sum(2.0**second for second in range(21 - min(count, 10), 20))


def test_a_clock_that_steps_back_loses_nothing() -> None:
    """Time that goes backwards counts into the newest slice."""
    rolling = Rolling(10.0, 10)
    rolling.add(100.0)
    rolling.add(50.0)
    rolling.add(99.0)
    assert (rolling.sum(100.0), rolling.sum(100.6), rolling.sum(110.0)) == (3, 3, 0)


def test_nothing_is_lost_where_a_slice_ends() -> None:
    """Three times 0.7 s is a little less than 2.1 s in binary: what comes then counts too, and once."""
    rolling = Rolling(7.0, 10)
    for now in (1.5, 3 * 0.7, 3 * 0.7):
        rolling.add(now)
    assert rolling.sum(2.2) == 3


@pytest.mark.parametrize(
    ("window", "slices", "named"), [(0, 10, "window"), (float("inf"), 10, "window"), (1, 0, "slices")]
)
def test_a_wrong_option_is_named(window: float, slices: int, named: str) -> None:
    """Options out of range fail with their name and value."""
    with pytest.raises(ValueError, match=named):
        Rolling(window, slices)


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 5)), max_size=60))
@settings(max_examples=60, derandomize=True, deadline=None)
def test_the_sum_lies_between_the_window_and_all_but_a_slice_of_it(steps: list[tuple[float, int]]) -> None:
    """For any additions the sum is at least what the last nine tenths hold, and at most what the window holds."""
    rolling, now, added = Rolling(10.0, 10), 0.0, list[tuple[float, int]]()
    for step, amount in steps:
        now += step
        added.append((now, amount))
        rolling.add(now, amount)
        total = rolling.sum(now)
        assert sum(n for at, n in added if at > now - 9.0) <= total <= sum(n for at, n in added if at > now - 10.0)
