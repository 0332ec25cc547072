import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiclient.testing import (
    FixedWindow,
    Guard,
    Latency,
    LeakyBucket,
    QuotaServer,
    SlidingCounter,
    SlidingLog,
    TokenBucket,
    least_time,
)


def accepted(server: QuotaServer, *times: float) -> list[bool]:
    """Return what *server* says to requests at *times*."""
    return [server.arrive(time).accepted for time in times]


def test_a_window_starts_at_the_first_request_and_includes_its_end() -> None:
    """AspNetCoreRateLimit: a request exactly one period later is still in the same window."""
    server = FixedWindow(2)
    assert accepted(server, 0.4, 0.9, 1.0, 1.4, 1.41) == [True, True, False, False, True]
    assert (server.accepted, server.rejected) == (3, 2)


def test_a_rejected_request_does_not_extend_the_window() -> None:
    """The window ends one period after the request that opened it."""
    server = FixedWindow(1)
    assert accepted(server, 0.0, 0.5, 0.99, 1.01) == [True, False, False, True]


def test_a_window_on_the_clock_starts_at_whole_periods() -> None:
    """Kong: a burst on each side of the boundary passes."""
    server = FixedWindow(2, start="clock")
    assert accepted(server, 0.8, 0.9, 0.95, 1.0, 1.1, 1.2) == [True, True, False, True, True, False]


def test_a_window_on_a_timer_is_one_heartbeat_longer() -> None:
    """ASP.NET Core's own: the heartbeat after the period has passed begins the next window."""
    server = FixedWindow(1, start="timer")
    assert accepted(server, 0.0, 1.0, 1.05, 1.1) == [True, False, False, True]


def test_a_log_holds_in_every_sliding_window() -> None:
    """The third within a period is refused, however the first two lie."""
    assert accepted(SlidingLog(2), 0.0, 0.9, 0.95, 1.0, 1.1) == [True, True, False, True, False]


def test_a_log_that_counts_refusals_locks_out_who_keeps_asking() -> None:
    """Each try starts its period anew."""
    assert not any(accepted(SlidingLog(1, count_rejected=True), *(step * 0.9 for step in range(10)))[1:])


def test_a_counter_weighs_the_window_before() -> None:
    """Half a window after a full one, half of it counts."""
    server = SlidingCounter(4)
    assert accepted(server, *[0.9] * 5) == [True] * 4 + [False]
    assert accepted(server, *[1.5] * 3) == [True, True, False]


def test_a_bucket_lets_a_burst_through_and_then_its_rate() -> None:
    """Up to 2 limit - 1 fit into one period: the reason why it is no fixed window."""
    server = TokenBucket(2)
    assert accepted(server, 0.0, 0.0, 0.0, 0.5, 0.9, 1.0) == [True, True, False, True, False, True]


def test_a_leaky_bucket_enforces_the_spacing() -> None:
    """Nginx without burst: the second at once is refused."""
    assert accepted(LeakyBucket(5), 0.0, 0.1, 0.2, 0.2) == [True, False, True, False]
    assert accepted(LeakyBucket(5, burst=2), 0.0, 0.0, 0.0, 0.0) == [True, True, True, False]


MODELS: dict[str, Callable[[], QuotaServer]] = {
    "request": lambda: FixedWindow(3),
    "clock": lambda: FixedWindow(3, start="clock", phase=0.3),
    "timer": lambda: FixedWindow(3, start="timer", phase=0.05),
    "log": lambda: SlidingLog(3),
    "counter": lambda: SlidingCounter(3, phase=0.2),
    "bucket": lambda: TokenBucket(3),
    "half": lambda: TokenBucket(3, capacity=1.5),
    "leaky": lambda: LeakyBucket(3),
}


@settings(max_examples=60, derandomize=True, deadline=None)
@given(kind=st.sampled_from(sorted(MODELS)), gaps=st.lists(st.floats(0, 1.5), max_size=30))
def test_a_model_knows_when_it_opens(kind: str, gaps: list[float]) -> None:
    """Nothing is accepted before ``opens``, and something is then."""
    server, now = MODELS[kind](), 0.0
    for gap in gaps:
        now += gap
        opens = server.opens(now)
        assert opens >= now
        if opens > now + 1e-6:
            assert not server.arrive((now + opens) / 2).accepted
            now = opens + 1e-6
        assert server.arrive(now).accepted


@pytest.mark.parametrize(
    ("kind", "least"),
    [("request", 3.0), ("clock", 2.3), ("log", 3.0), ("bucket", 3.0), ("leaky", 11 / 3)],
)
def test_the_least_time_of_a_model(kind: str, least: float) -> None:
    """Twelve requests at 3 per second."""
    assert least_time(MODELS[kind](), 12) == pytest.approx(least, abs=1e-3)


@pytest.mark.parametrize(
    ("limit", "period", "name"), [(0, 1.0, "limit"), (1, 0.0, "period"), (1, float("inf"), "period")]
)
def test_a_wrong_option_is_named(limit: int, period: float, name: str) -> None:
    """The message says which option and which value."""
    with pytest.raises(ValueError, match=f"{name} must be"):
        SlidingLog(limit, period)
    with pytest.raises(ValueError, match="capacity must be at least 1, got 0"):
        TokenBucket(1, capacity=0)


def test_retry_after_is_whole_seconds_and_at_least_one() -> None:
    """As the real servers round it."""
    server = FixedWindow(1, 10.0)
    server.arrive(0.0)
    assert server.arrive(5.5).retry_after == 5.0
    assert FixedWindow(1, retry_after=False).arrive(0.0).retry_after is None
    fast = FixedWindow(1)
    fast.arrive(0.0)
    assert fast.arrive(0.9).retry_after == 1.0


def test_a_guard_tells_the_densest_period() -> None:
    """Half-open intervals of one period, wherever they lie."""
    guard = Guard(1.0)
    for time in (0.0, 0.9, 0.5, 1.0, 1.6):
        guard.arrive(time)
    assert guard.densest() == 3


def test_latencies_are_reproducible_and_within_their_bounds() -> None:
    """The same seed draws the same times; nothing is quicker than the base."""
    first, second = Latency.wan(random.Random(1)), Latency.wan(random.Random(1))
    times = [first.way() for _ in range(100)]
    assert times == [second.way() for _ in range(100)]
    assert min(times) >= first.base
    assert first.work() == 0.0
    assert Latency.slow(random.Random(1)).work() > 0
    jittery = Latency.jittery(random.Random(1))
    assert max(jittery.way() for _ in range(500)) > 0.2


def test_the_repr_of_a_model_counts() -> None:
    """What it let through and what it refused."""
    server = FixedWindow(1)
    accepted(server, 0.0, 0.0)
    assert repr(server) == "FixedWindow(1/1s, 1 accepted, 1 rejected)"
