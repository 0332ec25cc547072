import math
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiclient.middleware._pacing.lesson import Lesson
from apiclient.middleware._pacing.meter import Meter
from apiclient.middleware._pacing.pacer import Pacer
from apiclient.middleware._pacing.slot import OVER, Queue, Slot
from apiclient.middleware._parsing.quota import Quota
from apiclient.middleware._parsing.rate import Rate
from apiclient.testing._models import (
    NETWORKS,
    FixedWindow,
    Latency,
    LeakyBucket,
    QuotaServer,
    SlidingCounter,
    SlidingLog,
    TokenBucket,
    least_time,
)
from tests.middleware.wire import Outcome, Wire, told

FIRST_THREE: dict[str, Callable[[int], QuotaServer]] = {
    "fixed": FixedWindow,
    "log": SlidingLog,
    "bucket": TokenBucket,
}


def text(limit: int, period: float = 1.0) -> Quota:
    """Return what a 429 says in words."""
    return Quota(limit, period, None, None, None, None, "text")


def batch(pacer: Pacer, server: QuotaServer, network: Latency, count: int, said: Quota | None = None) -> Outcome:
    """Ask for *count* requests at once and return what came of it."""
    wire = Wire(pacer, server, network, text=said)
    for number in range(count):
        wire.ask(0.0, number)
    outcome = wire.run()
    assert sorted(outcome.done) == list(range(count))
    return outcome


# What is promised


@settings(max_examples=80, derandomize=True, deadline=None)
@given(
    kind=st.sampled_from(sorted(FIRST_THREE)),
    limit=st.integers(1, 12),
    asks=st.lists(st.floats(0, 4), min_size=1, max_size=60),
    cancels=st.lists(st.tuples(st.integers(0, 59), st.floats(0, 5)), max_size=20),
    base=st.floats(0.00001, 0.2),
    jitter=st.integers(0, 2**32),
    work=st.sampled_from([0.0, 0.0, 0.05, 0.5]),
)
def test_no_server_of_the_usual_kinds_ever_refuses_a_told_limit(
    kind: str, limit: int, asks: list[float], cancels: list[tuple[int, float]], base: float, jitter: int, work: float
) -> None:
    """Whatever arrives and is cancelled when, over any network of little jitter: no 429, in order, nobody forgotten."""
    chance = random.Random(jitter)
    network = Latency(base, 0.0, handler=work, random=chance)
    network.way = lambda: base + chance.uniform(0, 0.0008)  # type: ignore[method-assign]
    server = FIRST_THREE[kind](limit)
    wire = Wire(Pacer((Rate(limit),)), server, network)
    for number, time in enumerate(sorted(asks)):
        wire.ask(time, number)
    for number, time in cancels:
        wire.cancel(time, number)
    outcome = wire.run()
    assert server.rejected == 0
    assert outcome.granted == sorted(outcome.granted)
    cancelled = {number for number, _ in cancels}
    assert set(range(len(asks))) - cancelled <= set(outcome.done)
    assert not wire.pacer.flights
    assert not wire.pacer.queue


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    kind=st.sampled_from(sorted(FIRST_THREE)),
    limit=st.integers(1, 40),
    count=st.integers(1, 120),
    base=st.floats(0.00001, 0.04),
)
def test_a_batch_takes_the_least_time_and_little_more(kind: str, limit: int, count: int, base: float) -> None:
    """All asked for at once: as many periods as it has quotas, half a percent, and a little for what is not known."""
    outcome = batch(Pacer((Rate(limit),)), FIRST_THREE[kind](limit), Latency(base, 0.0), count)
    least = math.ceil(count / limit) - 1
    assert outcome.rejected == 0
    assert outcome.took <= least * 1.005 + 4 * base + 0.12


@settings(max_examples=40, derandomize=True, deadline=None)
@given(
    rates=st.lists(st.tuples(st.integers(1, 20), st.sampled_from([0.5, 1.0, 3.0, 10.0])), min_size=1, max_size=3),
    count=st.integers(1, 60),
    costs=st.lists(st.integers(1, 4), min_size=60, max_size=60),
)
def test_several_rates_and_costs_all_hold_in_every_sliding_window(
    rates: list[tuple[int, float]], count: int, costs: list[int]
) -> None:
    """No interval of any rate's period sees more units than that rate allows, a single dear request aside."""
    pacer = Pacer([Rate(limit, per) for limit, per in rates], learn=False)
    wire = Wire(pacer, TokenBucket(1_000_000), Latency(0.001, 0.0))
    for number in range(count):
        wire.ask(0.0, number, cost=costs[number])
    outcome = wire.run()
    taken = [(time, costs[number]) for time, number in zip(outcome.arrivals, outcome.granted, strict=True)]
    for limit, per in rates:
        for index, (time, _) in enumerate(taken):
            inside = [cost for other, cost in taken[index:] if other < time + per]
            assert sum(inside) <= limit or len(inside) == 1


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.integers(-2, 2), st.booleans()), max_size=80))
def test_the_queue_is_first_come_first_served_within_a_priority(entries: list[tuple[int, bool]]) -> None:
    """Those who left are skipped, and within one priority nobody overtakes."""
    queue, slots = Queue(), [Slot(1, priority) for priority, _ in entries]
    for slot in slots:
        queue.push(slot)
    for slot, (_, leaves) in zip(slots, entries, strict=True):
        if leaves:
            slot.state = OVER
            queue.drop(slot)
    served: list[Slot] = []
    while (head := queue.head()) is not None:
        queue.pop()
        served.append(head)
    assert len(queue) == queue.cost == queue.ahead(-9) == 0
    assert len(served) == sum(1 for _, leaves in entries if not leaves)
    for priority in range(-2, 3):
        orders = [slot.order for slot in served if slot.priority == priority]
        assert orders == sorted(orders)


def test_the_longest_waiting_gets_each_eighth_turn() -> None:
    """A stream of important requests cannot starve an unimportant one."""
    queue = Queue()
    queue.push(Slot(1, 0))
    for _ in range(20):
        queue.push(Slot(1, 5))
    served: list[int] = []
    while (head := queue.head()) is not None:
        queue.pop()
        served.append(head.priority)
    assert served.index(0) == 7


# Told the limit


@pytest.mark.parametrize("network", ["lan", "wan"])
@pytest.mark.parametrize("kind", sorted(FIRST_THREE))
@pytest.mark.parametrize(("limit", "count"), [(5, 100), (50, 500)])
def test_told_the_limit_a_batch_is_within_two_percent(kind: str, network: str, limit: int, count: int) -> None:
    """At most 1.02 of the least time, and not one refusal."""
    for seed in range(3):
        path = NETWORKS[network](random.Random(seed))
        outcome = batch(Pacer((Rate(limit),)), FIRST_THREE[kind](limit), path, count)
        least = least_time(FIRST_THREE[kind](limit), count) + 4 * path.base
        assert outcome.rejected == 0
        assert outcome.took <= 1.02 * least


OTHERS: dict[str, tuple[Callable[[int], QuotaServer], float, int]] = {
    "clock": (lambda limit: FixedWindow(limit, start="clock", phase=0.4), 1.15, 0),
    "timer": (lambda limit: FixedWindow(limit, start="timer", phase=0.03, retry_after=False), 1.15, 6),
    "log counting refusals": (lambda limit: SlidingLog(limit, count_rejected=True), 1.02, 0),
    "counter": (lambda limit: SlidingCounter(limit, phase=0.3), 1.15, 25),
    "half": (lambda limit: TokenBucket(limit, capacity=limit / 2), 1.15, 10),
    "leaky": (LeakyBucket, 1.15, 6),
}


@pytest.mark.parametrize("kind", sorted(OTHERS))
@pytest.mark.parametrize(("limit", "count"), [(5, 100), (50, 500)])
def test_told_the_limit_other_servers_are_adapted_to(kind: str, limit: int, count: int) -> None:
    """Servers that count otherwise cost some refusals, then at most 15 % of time."""
    make, ratio, refusals = OTHERS[kind]
    outcome = batch(Pacer((Rate(limit),)), make(limit), Latency.lan(), count)
    assert outcome.took <= ratio * (least_time(make(limit), count) + 0.001)
    assert outcome.rejected <= refusals


# Told nothing


@pytest.mark.parametrize("network", ["lan", "wan", "slow"])
@pytest.mark.parametrize("kind", sorted(FIRST_THREE))
@pytest.mark.parametrize("limit", [1, 2, 5, 10, 20, 50, 100])
def test_the_text_of_a_429_is_enough(kind: str, network: str, limit: int) -> None:
    """Nobody configured anything: at most a third of one quota is refused, and one quota where answers are slow."""
    path = NETWORKS[network](random.Random(7))
    outcome = batch(Pacer(), FIRST_THREE[kind](limit), path, 6 * limit, text(limit))
    # A bucket fills again while the rounds take their time.
    slow = network == "slow" or (network == "wan" and kind == "bucket")
    assert outcome.rejected <= (max(4, 1.5 * limit) if slow else max(2, limit / 3))


def test_without_a_word_from_the_server_the_limit_is_guessed() -> None:
    """Only the status and Retry-After: what passed before the refusal is the limit."""
    pacer = Pacer()
    outcome = batch(pacer, FixedWindow(7), Latency.lan(), 70)
    assert outcome.took < 11
    assert outcome.rejected < 20
    assert [(meter.limit, meter.period) for meter in pacer.meters] == [(7, 1.0)]


def test_a_siblings_limit_is_tried_first_and_one_more_after_it() -> None:
    """Where the same limit holds, it costs one refusal to know it."""
    outcome = batch(Pacer(first=7), FixedWindow(7), Latency.wan(), 70, text(7))
    assert outcome.rejected == 1
    assert outcome.took < 9.5


def test_an_unlimited_endpoint_is_hardly_held_up() -> None:
    """A thousand requests at once over a wide network: a second of rounds, then everything goes."""
    outcome = batch(Pacer(), TokenBucket(1_000_000), Latency.wan(), 1000)
    assert outcome.took < 2.5


def test_headers_on_the_first_answer_end_the_search() -> None:
    """A stated limit is taken over as it is, with what has been used of it."""
    pacer = Pacer()
    assert str(pacer.mode) == "probe"
    slot = pacer.take(0.0)
    assert slot is not None
    pacer.sent(slot, 0.0)
    pacer.settle(slot, 0.01)
    pacer.stated(slot, (Quota(5, 1.0, 4, 1.0, None, None, "draft-8"),), 0.01)
    assert str(pacer.mode) == "log"
    assert pacer.lessons == [Lesson(5, 1.0)]
    assert sum(1 for step in range(9) if pacer.take(0.02 + step / 50)) == 4


@pytest.mark.parametrize(
    ("quota", "rate"),
    [
        (Quota(None, 1.0, 4, 0.9, None, None, "aspnetcore"), (5, 1.0)),
        (Quota(100, None, 99, 57.0, None, None, "x-ratelimit"), (100, 60.0)),
        (Quota(5000, None, 4999, 3600.0, None, None, "x-ratelimit"), (5000, 3600.0)),
        (Quota(5, None, 4, 0.0, None, None, "x-ratelimit"), None),
        (Quota(5, None, 4, 30_000_000.0, None, None, "x-ratelimit"), None),
        (Quota(5, 10.0, 0, 30_000_000.0, None, None, "draft-8"), (5, 10.0)),
        (Quota(None, None, 4, 0.0, None, None, "draft-8"), None),
    ],
)
def test_what_is_missing_in_headers_is_filled_in(quota: Quota, rate: tuple[int, float] | None) -> None:
    """The limit from what remains and what was used, the period from the time until the reset."""
    pacer = Pacer()
    slot = pacer.take(0.0)
    assert slot is not None
    pacer.sent(slot, 0.0)
    pacer.settle(slot, 0.01)
    pacer.stated(slot, (quota,), 0.01)
    assert [(meter.limit, meter.period) for meter in pacer.meters] == ([] if rate is None else [rate])


def test_a_new_window_does_not_make_the_limit_larger() -> None:
    """Five of the last window and four left of this one are no nine, whether the limit was known before or not."""
    pacer = Pacer()
    told(pacer, 0.0, Quota(None, 1.0, 4, 1.0, None, None, "aspnetcore"))
    for _ in range(4):
        told(pacer, 0.01, Quota(None, 1.0, 4, 0.99, None, None, "aspnetcore"))
    told(pacer, 1.005, Quota(None, 1.0, 4, 1.0, None, None, "aspnetcore"))
    assert pacer.lessons == [Lesson(5, 1.0, fixed=True)]
    pacer = Pacer(first=10)
    for step in range(5):
        told(pacer, 0.1 + step / 1000, Quota(None, None, None, None, None, None, "aspnetcore"))
    told(pacer, 1.01, Quota(None, 1.0, 4, 1.0, None, None, "aspnetcore"))
    assert pacer.lessons == [Lesson(5, 1.0, fixed=True)]


def test_what_others_use_of_the_quota_is_held_back() -> None:
    """Another client has taken three of five: two are left until the reset."""
    pacer = Pacer((Rate(5, per=10.0),))
    slot = pacer.take(0.0)
    assert slot is not None
    pacer.sent(slot, 0.0)
    pacer.settle(slot, 0.001)
    pacer.stated(slot, (Quota(5, 10.0, 1, 4.0, None, None, "draft-7"),), 0.001)
    assert pacer.take(0.002) is not None
    assert pacer.take(0.002) is None
    assert pacer.take(4.1) is not None


def test_nothing_remaining_of_an_unnamed_limit_pauses_until_the_reset() -> None:
    """A limit of zero, as it were: come back at the reset."""
    pacer = Pacer()
    slot = pacer.take(0.0)
    assert slot is not None
    pacer.sent(slot, 0.0)
    pacer.settle(slot, 0.01)
    pacer.stated(slot, (Quota(None, None, 0, 30.0, None, None, "draft-8"),), 0.01)
    assert pacer.take(1.0) is None
    assert pacer.take(30.1) is not None


@pytest.mark.parametrize(
    "quota",
    [
        Quota(None, None, 0, 30_000_000.0, None, None, "draft-8"),
        Quota(5, 10.0, 0, 30_000_000.0, None, None, "draft-8"),
        Quota(5, None, 0, 30_000_000.0, None, None, "x-ratelimit"),
    ],
)
def test_a_reset_in_a_decade_does_not_stop_the_key_for_ever(quota: Quota) -> None:
    """Headers are not trusted with more than an hour, or the stated period."""
    pacer = Pacer()
    slot = pacer.take(0.0)
    assert slot is not None
    pacer.sent(slot, 0.0)
    pacer.settle(slot, 0.01)
    pacer.stated(slot, (quota,), 0.01)
    assert pacer.take(3601.0) is not None


@pytest.mark.parametrize(("before", "after"), [(20, 5), (5, 20)])
def test_a_stale_limit_heals_by_itself(before: int, after: int) -> None:
    """The server's limit fell or grew since it was learned: refusals, or careful tries, find out."""
    pacer = Pacer(lessons=(Lesson(before, 1.0),))
    outcome = batch(pacer, FixedWindow(after), Latency.lan(), 3000, text(after))
    assert pacer.meters[0].limit == pytest.approx(after, abs=1)
    assert outcome.rejected <= max(before, 40)


def test_a_limit_that_the_user_set_is_never_changed() -> None:
    """What the server says else is counted beside it."""
    pacer = Pacer((Rate(2),))
    batch(pacer, FixedWindow(2), Latency.lan(), 8, text(5))
    slot = pacer.take(100.0)
    assert slot is not None
    pacer.sent(slot, 100.0)
    pacer.settle(slot, 100.01)
    pacer.stated(slot, (text(5), text(60, 60.0)), 100.01)
    assert [(meter.limit, meter.period) for meter in pacer.meters] == [(2, 1.0), (60, 60.0)]


def test_without_learning_nothing_is_learned() -> None:
    """A refusal pauses, and that is all."""
    pacer = Pacer(learn=False)
    outcome = batch(pacer, FixedWindow(5), Latency.lan(), 20, text(5))
    assert pacer.meters == []
    assert outcome.took < 5


# Refusals


def refused(pacer: Pacer, now: float, **options: Any) -> Slot:
    """Let one request leave and be refused at *now*."""
    slot = pacer.take(now)
    assert slot is not None
    pacer.sent(slot, now)
    pacer.rejected(slot, now, **options)
    return slot


def test_a_refusal_pauses_everybody_and_its_request_goes_first() -> None:
    """Retry-After holds for the whole key, and the queue goes on with who was refused."""
    pacer = Pacer((Rate(5),))
    slot = refused(pacer, 0.0, retry_after=3.0)
    waiting = Slot()
    pacer.join(waiting)
    again = pacer.again(slot)
    assert pacer.due(2.9) == []
    assert pacer.wake(2.9) == 3.0
    assert pacer.due(3.0)[0] is again


def test_without_retry_after_the_pause_is_short_and_grows() -> None:
    """Who is refused again and again waits a whole period: servers that count refusals would never let it in."""
    pacer = Pacer((Rate(5, per=10.0),))
    slot = refused(pacer, 0.0)
    now = 0.0
    assert pacer.gate == 0.5
    for _ in range(3):
        now = pacer.gate
        pacer.again(slot)
        (slot,) = pacer.due(now)
        pacer.sent(slot, now)
        pacer.rejected(slot, now)
    assert pacer.gate >= now + 10


def test_those_who_cannot_wait_for_the_gate_are_let_go() -> None:
    """Their deadline comes first, so waiting is of no use to them."""
    pacer = Pacer((Rate(1, per=1.0),))
    refused(pacer, 0.0, retry_after=30.0)
    patient, hurried = Slot(deadline=60.0), Slot(deadline=10.0)
    pacer.join(patient)
    pacer.join(hurried)
    assert pacer.hopeless() == [hurried]
    assert pacer.hopeless() == []
    assert list(pacer.queue) == [patient]
    pacer.halt(61.0)
    assert pacer.hopeless() == [patient]


def test_a_pause_is_never_shortened() -> None:
    """Of two refusals with different Retry-After the longer holds."""
    pacer = Pacer((Rate(5),))
    slots = [pacer.take(now) for now in (0.0, 0.1)]
    for slot, wait in zip(slots, (30.0, 1.0), strict=True):
        assert slot is not None
        pacer.sent(slot, 0.1)
        pacer.rejected(slot, 0.2, retry_after=wait)
    assert pacer.gate == 30.2
    pacer.halt(3.0)
    assert pacer.gate == 30.2


def test_an_early_refusal_widens_the_margin_and_quiet_narrows_it_again() -> None:
    """The first of a new quota was refused: the window is longer than was thought."""
    pacer = Pacer((Rate(2),))
    wire = Wire(pacer, TokenBucket(1_000_000), Latency(0.001, 0.0))
    for number in range(2):
        wire.ask(0.0, number)
    wire.run()
    refused(pacer, 1.01, retry_after=0.5)
    assert pacer.meters[0].margin == pytest.approx(0.004)
    wire = Wire(pacer, TokenBucket(1_000_000), Latency(0.001, 0.0))
    wire.now = 2.0
    for number in range(400):
        wire.ask(2.0, number)
    wire.run()
    assert pacer.meters[0].margin == pytest.approx(0.002)


def test_trying_for_more_costs_one_refusal_and_changes_nothing() -> None:
    """A learned limit that still holds is found to hold, without a word from the server."""
    pacer = Pacer(lessons=(Lesson(5, 1.0),))
    outcome = batch(pacer, FixedWindow(5), Latency.lan(), 3000)
    assert pacer.meters[0].limit == 5
    assert 1 <= outcome.rejected <= 6
    assert outcome.took < 620


def test_a_server_that_counts_refusals_is_not_hammered() -> None:
    """A client that keeps asking would never be let in."""
    outcome = batch(Pacer(), SlidingLog(3, count_rejected=True, retry_after=False), Latency.lan(), 30)
    assert outcome.rejected < 20
    assert outcome.took < 30


# Waiting


def test_the_least_wait_is_known_beforehand() -> None:
    """Told 5 per second: the twelfth waits two periods, and no more than that is claimed."""
    pacer = Pacer((Rate(5),))
    for _ in range(5):
        slot = pacer.take(0.0)
        if slot is not None:
            pacer.sent(slot, 0.0)
            pacer.settle(slot, 0.001)
    for _ in range(6):
        pacer.join(Slot())
    assert 2.0 <= pacer.eta(0.001) <= 2.02


def test_a_slot_that_never_left_is_free_at_once() -> None:
    """It took nothing of the quota."""
    pacer = Pacer((Rate(1, per=100.0),))
    slot = pacer.take(0.0)
    assert slot is not None
    assert pacer.take(1.0) is None
    pacer.leave(slot)
    pacer.leave(slot)
    assert pacer.take(1.0) is not None


def test_an_idle_pacer_is_not_busy() -> None:
    """A period after its last request there is nothing to remember."""
    pacer = Pacer((Rate(5),))
    assert not pacer.busy(0.0)
    slot = pacer.take(0.0)
    assert slot is not None
    pacer.sent(slot, 0.0)
    assert pacer.busy(0.5)
    pacer.settle(slot, 0.6)
    assert pacer.busy(0.9)
    assert not pacer.busy(1.2)


def test_an_answer_that_never_comes_does_not_block_the_quota() -> None:
    """A slow endpoint: requests count from when they left, not from when they are answered."""
    pacer = Pacer((Rate(2),))
    for now in (0.0, 0.1):
        slot = pacer.take(now)
        assert slot is not None
        pacer.sent(slot, now)
    assert pacer.take(1.0) is None
    assert pacer.take(1.1) is not None


def test_an_answer_after_its_slot_is_free_again_frees_nothing_more() -> None:
    """The quota is never larger for answers that came late."""
    pacer = Pacer((Rate(2),))
    slots = [pacer.take(now) for now in (0.0, 0.1)]
    for slot in slots:
        assert slot is not None
        pacer.sent(slot, 0.1)
    assert pacer.take(2.0) is not None
    for slot in slots:
        assert slot is not None
        pacer.settle(slot, 2.1)
    assert pacer.take(4.0) is not None
    assert pacer.take(4.1) is None


def test_a_large_limit_is_counted_coarsely_and_never_too_early() -> None:
    """Beyond a few thousand slots, times are rounded up and counted together."""
    meter = Meter(10_000, 100.0)
    for index in range(10_000):
        slot = Slot()
        meter.used += 1
        meter.settle(slot, index * 0.001)
    assert meter.room(99.0, 1) > 100.0
    assert meter.room(100.0 + meter.margin, 1) >= 100.0 + meter.margin
    freed = 10_000 - meter.used
    meter.room(106.0, 10_000)
    assert 10_000 - meter.used > freed
    assert meter.room(111.0, 10_000) == 111.0


def test_a_meter_shared_by_two_keys_holds_for_both() -> None:
    """Partition keys name buckets that several endpoints draw from."""
    buckets: dict[Any, Meter] = {}
    first, second = Pacer(buckets=buckets), Pacer(buckets=buckets)
    said = (Quota(3, 10.0, None, None, "api", "tenant", "draft-8"),)
    for pacer in (first, second):
        slot = pacer.take(0.0)
        assert slot is not None
        pacer.sent(slot, 0.0)
        pacer.settle(slot, 0.001)
        pacer.stated(slot, said, 0.001)
    assert first.meters[0] is second.meters[0]
    assert first.take(0.01) is not None
    assert second.take(0.01) is None
    second.join(Slot())
    assert second.wake(0.01) is not None


def test_the_repr_says_what_is_known() -> None:
    """Mode, meters and how many wait."""
    pacer = Pacer((Rate(5),))
    assert repr(pacer) == "<Pacer log [Meter(5/1s, used=0, margin=0.002)] waiting=0 flights=0>"
    assert math.isinf(pacer.trip.least)


@pytest.mark.long
@pytest.mark.parametrize("network", ["lan", "wan"])
@pytest.mark.parametrize("kind", sorted(FIRST_THREE))
def test_told_the_limit_never_a_refusal_in_many_runs(kind: str, network: str) -> None:
    """Two hundred seeds, limits from 1 to 200."""
    for seed in range(200):
        chance = random.Random(seed)
        limit = chance.choice([1, 2, 5, 10, 20, 50, 200])
        outcome = batch(Pacer((Rate(limit),)), FIRST_THREE[kind](limit), NETWORKS[network](chance), 8 * limit)
        assert outcome.rejected == 0, seed


@pytest.mark.parametrize(
    ("rate", "most"), [(Rate(10**9, 1.0), 4_000), (Rate(10**6, 86_400.0), 4_000), (Rate(5, 1.0), 20)]
)
def test_a_limit_that_is_never_reached_keeps_no_more_than_its_period(rate: Rate, most: int) -> None:
    """Law 14: what is remembered follows the load of one period, not the number of requests."""
    pacer = Pacer((rate,))
    now = 1000.0
    for _ in range(30_000):
        now += 0.0007
        slot = pacer.take(now)
        if slot is None:
            now += rate.per
            continue
        pacer.sent(slot, now)
        pacer.settle(slot, now + 0.0003)
    (meter,) = pacer.meters
    assert len(meter._flying) <= 5
    assert len(meter._times) == len(meter._costs) <= most
