import random

import hypothesis.strategies as st
from hypothesis import given, settings

from apiclient.middleware._pacing.ledger import Ledger
from apiclient.middleware._pacing.pacer import Pacer
from apiclient.middleware._parsing.quota import Quota
from apiclient.middleware._parsing.rate import Rate
from apiclient.testing import Latency, SlidingLog, TokenBucket
from tests.middleware.wire import Wire


def proven(count: int) -> Pacer:
    """Return a pacer that has seen bursts pass, *count* requests in all."""
    pacer = Pacer()
    wire = Wire(pacer, TokenBucket(1_000_000), Latency.lan(random.Random(0)))
    for number in range(count):
        wire.ask(0.0, number)
    wire.run()
    return pacer


def text(limit: int, period: float) -> Quota:
    """Return what a 429 says in words."""
    return Quota(limit, period, None, None, None, None, "text")


def test_few_beside_what_was_proven_pass_freely() -> None:
    """A sixteenth of the largest burst that met no refusal; nothing before such a burst."""
    assert not Pacer().free(0.0)
    pacer = proven(2000)
    for _ in range(1000):
        if not pacer.free(10.0):
            break
        pacer.passing += 1
    assert 4 <= pacer.passing <= 100


def test_an_unknown_server_a_queue_or_a_pause_ends_free_passage() -> None:
    """Where there is anything to find out or to wait for, each one is followed."""
    assert not Pacer((Rate(1000),)).free(0.0)
    pacer = proven(2000)
    pacer.halt(20.0)
    assert not pacer.free(10.0)
    assert pacer.free(20.0)


def test_what_passes_when_a_limit_is_learned_counts() -> None:
    """Three are under way without a slot: of a quota of five two are left."""
    pacer = proven(2000)
    now = 1000.0
    pacer.passing = 3
    slot = pacer.adopt(now, 1)
    pacer.settle(slot, now)
    pacer.stated(slot, (Quota(5, 60.0, None, None, None, None, "draft-8"),), now)
    assert pacer.meters[0].room(now, 1) == now
    assert pacer.meters[0].used == 4


def test_what_passed_freely_tells_the_limit_where_the_server_does_not() -> None:
    """Nine passed within the period before the refusal."""
    pacer = proven(2000)
    for step in range(9):
        pacer.passed(1000.0 + step / 100, 1000.0 + step / 100, 1, ())
    slot = pacer.adopt(1000.1, 1)
    pacer.rejected(slot, 1000.2, retry_after=2.0)
    assert [(meter.limit, meter.period) for meter in pacer.meters] == [(9, 2.0)]


def test_a_guess_gives_way_to_what_the_server_states() -> None:
    """Guessed 9 in 2 s, told 100 per minute: only the latter is counted."""
    pacer = proven(2000)
    for step in range(9):
        pacer.passed(1000.0 + step / 100, 1000.0 + step / 100, 1, ())
    pacer.rejected(pacer.adopt(1000.1, 1), 1000.2, retry_after=2.0)
    slot = pacer.take(1010.0)
    assert slot is not None
    pacer.sent(slot, 1010.0)
    pacer.rejected(slot, 1010.1, quotas=(text(100, 60.0),))
    assert [(meter.limit, meter.period) for meter in pacer.meters] == [(100, 60.0)]


def test_what_others_used_is_held_for_one_period_at_most() -> None:
    """A reset in a decade is not believed."""
    pacer = Pacer((Rate(5, per=10.0),))
    slot = pacer.take(0.0)
    assert slot is not None
    pacer.sent(slot, 0.0)
    pacer.settle(slot, 0.001)
    pacer.stated(slot, (Quota(5, 10.0, 0, 30_000_000.0, None, None, "draft-7"),), 0.001)
    assert pacer.take(9.0) is None
    assert pacer.meters[0].room(10.1, 5) == 10.1


def test_a_ledger_holds_while_anything_counts() -> None:
    """A request without a slot, or one within its period."""
    ledger = Ledger((Rate(5),), (), None)
    assert not ledger.holds(0.0)
    ledger.passing = 1
    assert ledger.holds(0.0)


def trusted(*rates: Rate) -> Pacer:
    """Return a pacer that has had its *rates* used up, or large bursts pass, without a refusal, long ago."""
    pacer = Pacer(rates)
    wire = Wire(pacer, TokenBucket(1_000_000), Latency(0.01, 0.0))
    for number in range(min(2000, 3 * rates[0].limit)):
        wire.ask(0.0, number)
    wire.run()
    return pacer


def test_far_below_a_limit_requests_pass_freely_and_count_all_the_same() -> None:
    """Half of a quota of 200 passes without a slot, none beyond it does, and a period later there is room again."""
    pacer = trusted(Rate(200))
    now = 1000.0
    for _ in range(100):
        assert pacer.free(now)
        pacer.passing += 1
    assert not pacer.free(now)
    for _ in range(100):
        pacer.passing -= 1
        pacer.passed(now, now + 0.02, 1, pacer.meters)
    assert not pacer.free(now + 0.9)
    assert len(list(iter(lambda: pacer.take(now + 0.9), None))) == 100
    assert pacer.meters[0].room(now + 0.9, 1) > now + 0.9
    assert pacer.take(now + 1.1) is not None


def test_a_request_that_passed_freely_and_was_lost_counts() -> None:
    """Nobody knows whether the server counted it."""
    pacer = trusted(Rate(200))
    assert pacer.free(1000.0)
    before = pacer.meters[0].used
    pacer.lost(1000.0, 7, pacer.meters)
    assert pacer.meters[0].used == before + 7


def test_a_meter_found_meanwhile_counts_a_free_request_once() -> None:
    """It was counted as one under way when the meter was made, and is not counted again when it is over."""
    pacer = proven(2000)
    meters = pacer.meters
    assert pacer.free(1000.0)
    pacer.passing += 1
    slot = pacer.adopt(1000.0, 1)
    pacer.settle(slot, 1000.01)
    pacer.stated(slot, (Quota(500, 60.0, None, None, None, None, "draft-8"),), 1000.01)
    pacer.passing -= 1
    before = pacer.meters[0].used
    pacer.passed(1000.0, 1000.02, 1, meters)
    assert pacer.meters[0].used == before


def test_a_limit_that_was_reached_lately_or_is_small_or_shared_is_followed_closely() -> None:
    """Each slot then matters to the millisecond."""
    pacer = trusted(Rate(200))
    assert pacer.free(1000.0)
    taken = list(iter(lambda: pacer.take(1000.0), None))
    assert len(taken) == 200
    for slot in taken:
        pacer.sent(slot, 1000.0)
        pacer.settle(slot, 1000.02)
    assert not pacer.free(1005.0)
    assert pacer.free(1010.0)
    assert not trusted(Rate(99)).free(1000.0)
    pacer.meters[0].shared = True
    assert not pacer.free(1010.0)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    limit=st.integers(100, 400),
    load=st.floats(0.1, 2.0),
    base=st.floats(0.0001, 0.2),
    work=st.sampled_from([0.0, 0.05, 0.5]),
    seed=st.integers(0, 2**32),
)
def test_free_or_not_no_sliding_window_holds_more_than_the_limit(
    limit: int, load: float, base: float, work: float, seed: int
) -> None:
    """Any load below and above the limit, any network of little jitter: no 429."""
    chance = random.Random(seed)
    network = Latency(base, 0.0, handler=work, random=chance)
    network.way = lambda: base + chance.uniform(0, 0.0008)  # type: ignore[method-assign]
    server = SlidingLog(limit)
    wire = Wire(Pacer((Rate(limit),)), server, network)
    time = 0.0
    for number in range(6 * limit):
        time += chance.expovariate(limit * load)
        wire.ask(time, number)
    outcome = wire.run()
    assert server.rejected == 0
    assert len(outcome.done) == 6 * limit
    assert wire.free > 0 or load > 0.3


def test_a_free_passage_keeps_no_more_than_its_period() -> None:
    """Law 14: counts of the last period, in a few hundred portions."""
    pacer = trusted(Rate(1_000_000, per=10.0))
    now = 1000.0
    for _ in range(40_000):
        now += 0.0005
        assert pacer.free(now)
        pacer.passed(now, now + 0.001, 1, pacer.meters)
    (meter,) = pacer.meters
    assert len(meter._times) == len(meter._costs) <= 270
    assert 20_000 <= meter.used <= 20_200
