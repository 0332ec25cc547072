"""The pure part of delivering: how many at once, and when again."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiclient.outbox._pace import Pace


def pace(**options: float) -> Pace:
    given: dict[str, float] = {"concurrency": 10, "wait": 2.0, "max_wait": 900.0, "max_pause": 30.0}
    return Pace(**(given | options), random=lambda: 1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("attempts", "seconds"), [(0, 2), (1, 2), (2, 4), (3, 8), (9, 512), (10, 900), (100, 900), (10_000, 900)]
)
def test_an_item_rests_longer_each_time(attempts: int, seconds: float) -> None:
    """Doubled, up to the cap, and no overflow after any number."""
    assert pace().rest(attempts) == seconds


def test_a_rest_is_shortened_by_chance() -> None:
    """From a half to the whole, so that items that failed together come back apart."""
    least = Pace(concurrency=1, wait=2.0, max_wait=900.0, max_pause=30.0, random=lambda: 0.0)
    assert least.rest(3) == 4.0


def test_a_failing_endpoint_is_tried_by_one_at_a_time() -> None:
    """Paused, then one probe, paused longer; the first success opens it for all."""
    machine = pace()
    assert machine.room("a", 0.0, 0) == 10
    for began, pause in ((0.0, 1.0), (1.0, 2.0), (3.0, 4.0)):
        machine.failed("a", began)
        assert machine.room("a", began + pause - 0.01, 0) == 0
        assert machine.next_probe(began) == pause
        assert machine.room("a", began + pause, 0) == 1
        assert machine.room("a", began + pause, 1) == 0, "one at a time"
    assert machine.room("b", 3.0, 0) == 10, "another endpoint is not concerned"
    machine.answered("a")
    assert machine.room("a", 3.0, 0) == 10
    assert machine.next_probe(3.0) == math.inf


def test_what_was_under_way_lengthens_no_pause() -> None:
    """Ten that fail together are one failure; a Retry-After of any of them is kept."""
    machine = pace()
    for _ in range(10):
        machine.failed("a", 0.0)
    assert machine.next_probe(0.0) == 1.0
    machine.failed("a", 0.5, retry_after=20.0)
    assert machine.next_probe(0.5) == 20.0
    machine.failed("a", 20.5)
    assert machine.next_probe(20.5) == 2.0


def test_a_pause_has_a_cap_that_only_the_server_exceeds() -> None:
    """Recovery is noticed within max_pause, unless the server asked for more."""
    machine = pace(max_pause=5.0)
    now = 0.0
    for _ in range(100):
        machine.failed("a", now)
        now += machine.next_probe(now)
    machine.failed("a", now)
    assert machine.next_probe(now) == 5.0
    machine.failed("a", now, retry_after=60.0)
    assert machine.next_probe(now) == 60.0


@given(
    busy=st.dictionaries(st.sampled_from("abcd"), st.integers(1, 10)),
    failing=st.dictionaries(st.sampled_from("abcd"), st.floats(0, 5)),
    concurrency=st.integers(1, 10),
)
@settings(derandomize=True, max_examples=200)
def test_whatever_is_claimed_no_endpoint_gets_too_much(
    busy: dict[str, int], failing: dict[str, float], concurrency: int
) -> None:
    """All claimed items may be of one endpoint: even then its share holds, and a failing one gets a single probe."""
    machine = pace(concurrency=concurrency)
    for endpoint, at in failing.items():
        machine.failed(endpoint, at)
    busy = {endpoint: min(count, concurrency) for endpoint, count in busy.items()}
    limit, skip = machine.limit(busy, 3.0, most=20)
    assert limit + sum(busy.values()) <= 20 or limit <= 0
    for endpoint in "abcde":
        if endpoint not in skip and limit > 0:
            assert limit + busy.get(endpoint, 0) <= (1 if endpoint in failing else concurrency)


def test_endpoints_that_failed_once_are_forgotten() -> None:
    """Law 14: state does not grow with the number of endpoints seen."""
    machine = pace()
    for number in range(5000):
        machine.failed(f"GET /{number}", float(number))
    assert len(machine._lanes) <= 1024
    assert repr(machine) == f"Pace(concurrency=10, {len(machine._lanes)} endpoints failing or failed)"
