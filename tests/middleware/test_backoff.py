"""The waits between attempts."""

import math
import random
from collections import Counter
from collections.abc import Generator
from functools import partial
from typing import Any

import backoff
import pytest

from apiclient.middleware._backoff import Delays, WaitGenerator, equal_jitter, full_jitter, no_jitter


def waits(make: WaitGenerator, count: int, cap: float = 20.0) -> list[float]:
    delays = Delays(make, cap=cap)
    return [delays.next() for _ in range(count)]


def bare_yield() -> Generator[float, Any, None]:
    yield 1.5
    yield 2.5


def nothing() -> Generator[float, Any, None]:
    yield from ()


def odd(*values: Any) -> WaitGenerator:
    def make() -> Generator[float, Any, None]:
        yield from values

    return make


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (partial(backoff.expo, base=2, factor=0.1), [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 20.0, 20.0]),
        (partial(backoff.expo, base=2, factor=0.1, max_value=1), [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]),
        (backoff.fibo, [1, 1, 2, 3, 5, 8, 13, 20]),
        (partial(backoff.constant, [1, 2]), [1, 2, 2, 2]),  # Exhausted: the last wait again.
        (partial(backoff.constant, 3), [3, 3, 3]),
        (bare_yield, [1.5, 2.5, 2.5]),  # No bare yield first: its first wait is not lost.
        (nothing, [20.0, 20.0]),
        (odd(-1, math.nan, math.inf, 1), [0.0, 20.0, 20.0, 1.0]),
    ],
)
def test_any_generator_is_primed_bounded_and_survives_its_end(make: WaitGenerator, expected: list[float]) -> None:
    """A generator gives its waits in order, at most the cap, and its last one for ever."""
    assert waits(make, len(expected)) == pytest.approx(expected)


def test_an_overflow_means_the_cap_for_ever() -> None:
    """``backoff.expo`` with a float base dies of OverflowError at step 1024; the waits go on at the cap."""
    delays = Delays(partial(backoff.expo, base=2.0), cap=20.0)
    assert [delays.next() for _ in range(1100)][-70:] == [20.0] * 70


def test_a_generator_that_ended_or_overflowed_is_not_asked_again() -> None:
    """What it would do then is its own affair."""
    asked: list[int] = []

    class Broken:
        def __init__(self, error: type[Exception]) -> None:
            self.error = error

        def send(self, _: object) -> float:
            asked.append(1)
            if len(asked) % 2 == 1:
                return 1.0
            raise self.error

    for error, last in ((StopIteration, 1.0), (OverflowError, 20.0)):
        asked.clear()
        make: Any = partial(Broken, error)
        assert waits(make, 4) == [1.0, last, last, last]
        assert len(asked) == 2


def test_a_generator_is_sent_the_last_outcome() -> None:
    """``backoff.runtime`` computes its wait from what happened."""
    delays = Delays(partial(backoff.runtime, value=float), cap=20.0)
    assert [delays.next(outcome) for outcome in (3, 5)] == [3.0, 5.0]


@pytest.mark.parametrize("value", ["1", None, True])
def test_a_wait_that_is_no_number_is_an_error(value: object) -> None:
    """A generator that yields something else is a mistake of its author, and told so."""
    delays = Delays(odd(1.0, value), cap=20.0)
    delays.next()
    with pytest.raises(TypeError, match="a wait must be a number"):
        delays.next()


def test_no_generator_is_made_before_the_first_wait() -> None:
    """A call that succeeds pays for no generator."""
    made: list[int] = []

    def make() -> Generator[float, Any, None]:
        made.append(1)
        yield 1.0

    delays = Delays(make, cap=1.0)
    assert made == []
    delays.next()
    delays.next()
    assert made == [1]


@pytest.mark.parametrize(
    ("jitter", "draw", "expected"),
    [
        (full_jitter, 0.0, 0.0),
        (full_jitter, 0.25, 2.0),
        (equal_jitter, 0.0, 4.0),
        (equal_jitter, 0.5, 6.0),
        (no_jitter, 0.9, 8.0),
    ],
)
def test_jitter_is_arithmetic_on_a_draw(jitter: Any, draw: float, expected: float) -> None:
    """Randomness is an argument: the same draw gives the same wait."""
    assert jitter(8.0, draw) == expected


def test_full_jitter_is_uniform_over_ten_thousand_draws() -> None:
    """Each tenth of the range gets a tenth of the draws, within a tenth of it."""
    draw = random.Random(7).random
    delays = Delays(partial(backoff.constant, 8), cap=20.0)
    counts = Counter(int(full_jitter(delays.next(), draw()) / 0.8) for _ in range(10_000))
    assert sorted(counts) == list(range(10))
    assert all(900 < count < 1100 for count in counts.values())
