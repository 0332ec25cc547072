import random

from apiclient.middleware._pacing.ledger import Ledger
from apiclient.middleware._pacing.pacer import Pacer
from apiclient.middleware._parsing.quota import Quota
from apiclient.middleware._parsing.rate import Rate
from apiclient.testing import Latency, TokenBucket
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


def test_a_known_limit_a_queue_or_a_pause_ends_free_passage() -> None:
    """Where there is anything to count or to wait for, it is counted."""
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
        pacer.passed(1000.0 + step / 100)
    slot = pacer.adopt(1000.1, 1)
    pacer.rejected(slot, 1000.2, retry_after=2.0)
    assert [(meter.limit, meter.period) for meter in pacer.meters] == [(9, 2.0)]


def test_a_guess_gives_way_to_what_the_server_states() -> None:
    """Guessed 9 in 2 s, told 100 per minute: only the latter is counted."""
    pacer = proven(2000)
    for step in range(9):
        pacer.passed(1000.0 + step / 100)
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
