"""The retry budget."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiclient.middleware._budget import Budget, RetryBudget


def budget(ratio: float = 0.2, window: float = 10.0, floor: float = 0.0) -> Budget:
    return Budget(ratio=ratio, window=window, floor=floor)


def test_a_fifth_of_the_calls_may_be_retried() -> None:
    """Fifty calls are worth ten retries, and not one more."""
    subject = budget()
    for _ in range(50):
        subject.call(0.0)
    assert sum(subject.withdraw(1.0, 0.0) for _ in range(50)) == 10


def test_the_floor_lets_a_quiet_client_retry() -> None:
    """Without any other call the floor alone is available."""
    subject = budget(floor=1.0)
    subject.call(0.0)
    assert sum(subject.withdraw(1.0, 0.0) for _ in range(50)) == 10


def test_calls_and_retries_expire() -> None:
    """A budget spent is there again once the window has passed."""
    subject = budget(floor=1.0)
    assert sum(subject.withdraw(1.0, 0.5) for _ in range(50)) == 10
    assert not subject.withdraw(1.0, 10.4)
    assert sum(subject.withdraw(1.0, 11.5) for _ in range(50)) == 10


def test_a_throttling_answer_costs_less() -> None:
    """What is withdrawn is the cost, so cheaper retries are more of them."""
    subject = budget(floor=1.0)
    assert sum(subject.withdraw(RetryBudget().throttle_cost, 0.0) for _ in range(99)) == 28


def test_a_refused_withdrawal_takes_nothing() -> None:
    """Asking in vain costs nothing."""
    subject = budget(floor=0.1)
    assert not subject.withdraw(1.5, 0.0)
    assert subject.available(0.0) == 1.0


def test_origins_have_budgets_of_their_own() -> None:
    """One origin's outage takes nothing from another."""
    shared = RetryBudget(floor=0.1)
    assert shared.of("a", 0.0).withdraw(1.0, 0.0)
    assert not shared.of("a", 0.0).withdraw(1.0, 0.0)
    assert shared.of("b", 0.0).withdraw(1.0, 0.0)


def test_what_remains_is_told_by_origin() -> None:
    """For a person who asks why nothing is retried."""
    shared = RetryBudget(ratio=0.5, floor=0.1)
    shared.of("https://a.example", 0.0).call(0.0)
    shared.of("https://b.example", 0.0).withdraw(1.0, 0.0)
    assert shared.remaining(0.5) == {"https://a.example": 1.5, "https://b.example": 0.0}
    assert shared.remaining(99.0) == {"https://a.example": 1.0, "https://b.example": 1.0}


def test_the_origin_asked_for_last_is_looked_up_again_after_a_second() -> None:
    """What was remembered for the sake of speed is not used for ever: its use is noted, so that it is not forgotten."""
    shared = RetryBudget(floor=0.1)
    found = shared.of("a", 0.0)
    shared._budgets.pop("a")
    assert shared.of("a", 0.9) is found
    assert shared.of("a", 1.0) is not found


@pytest.mark.parametrize("cost", [0.0, 1.0])
def test_the_extremes_are_options_too(cost: float) -> None:
    """Ratio and cost from 0 to 1, a window up to an hour, no floor or a million."""
    shared = RetryBudget(ratio=cost, window=3600, floor=1_000_000 * cost, throttle_cost=cost)
    assert (shared.ratio, shared.throttle_cost) == (cost, cost)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": -0.1}, "ratio must be between 0 and 1, got -0.1"),
        ({"ratio": float("nan")}, "ratio must be"),
        ({"window": 0}, "window must be above 0 and at most 3600 seconds, got 0"),
        ({"ratio": 1.1}, "ratio must be"),
        ({"window": 3600.5}, "window must be"),
        ({"floor": -1}, "floor must be between 0"),
        ({"floor": 1_000_000.5}, "floor must be between 0 and 1000000 retries per second"),
        ({"throttle_cost": -0.1}, "throttle_cost must be"),
        ({"throttle_cost": 2}, "throttle_cost must be between 0 and 1, got 2"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, float], message: str) -> None:
    """Options out of range fail with their name and value."""
    with pytest.raises(ValueError, match=message):
        RetryBudget(**options)


def test_the_repr_tells_the_options() -> None:
    """A person sees what the budget is."""
    assert repr(RetryBudget()) == "RetryBudget(ratio=0.2, window=10, floor=10)"


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=80))
@settings(max_examples=80, derandomize=True, deadline=None)
def test_no_window_ever_holds_more_retries_than_allowed(steps: list[tuple[float, int, int]]) -> None:
    """Law 10: in any ten seconds, wherever they begin, retries are at most a fifth of the calls plus the floor."""
    subject, now = budget(floor=0.3), 0.0
    calls: list[float] = []
    retries: list[float] = []
    for step, begun, asked in steps:
        now += step
        for _ in range(begun):
            subject.call(now)
            calls.append(now)
        retries += [now] * sum(subject.withdraw(1.0, now) for _ in range(asked))
    for end in retries:
        allowed = 0.2 * sum(1 for at in calls if end - 10 < at <= end) + 3
        assert sum(1 for at in retries if end - 10 <= at <= end) <= allowed + 1e-6
