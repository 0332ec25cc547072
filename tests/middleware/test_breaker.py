"""The states of a circuit, as tables and as a Hypothesis state machine."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from apiclient.middleware._breaker import Breaker, State, Verdict

FAILURE, SUCCESS, IGNORED = Verdict.FAILURE, Verdict.SUCCESS, Verdict.IGNORED


def breaker(**options: Any) -> Breaker:
    return Breaker(**({"minimum": 4, "window": 10.0, "cooldown": 5.0, "max_cooldown": 60.0, "probes": 2} | options))


def attempt(subject: Breaker, verdict: Verdict, now: float, **more: Any) -> bool:
    ticket = subject.enter(now)
    if ticket is not None:
        subject.leave(ticket, verdict, now, **more)
    return ticket is not None


def opened(now: float = 0.0, **options: Any) -> Breaker:
    subject = breaker(**options)
    for _ in range(4):
        attempt(subject, FAILURE, now)
    assert subject.state is State.OPEN
    return subject


@pytest.mark.parametrize(
    ("verdicts", "state"),
    [
        ([FAILURE] * 3, State.CLOSED),  # Below the minimum.
        ([FAILURE] * 4, State.OPEN),
        ([SUCCESS, SUCCESS, FAILURE, FAILURE], State.OPEN),
        ([SUCCESS, SUCCESS, SUCCESS, FAILURE], State.CLOSED),
        ([IGNORED] * 9 + [FAILURE] * 3, State.CLOSED),  # Ignored ones are no attempts.
    ],
)
def test_it_opens_at_the_ratio_with_the_minimum(verdicts: list[Verdict], state: State) -> None:
    """Half of at least four."""
    subject = breaker()
    for verdict in verdicts:
        attempt(subject, verdict, 1.0)
    assert subject.state is state


def test_old_failures_do_not_count() -> None:
    """The ratio is taken over the window only."""
    subject = breaker()
    for now in (0.0, 0.0, 0.0, 11.0):
        attempt(subject, FAILURE, now)
    assert subject.state is State.CLOSED


def test_open_refuses_until_the_cooldown_is_over() -> None:
    """No attempt while open, and the time left is told."""
    subject = opened(100.0)
    assert not attempt(subject, SUCCESS, 104.9)
    assert subject.retry_after(102.0) == 3.0
    assert subject.enter(105.0) is not None
    assert subject.state is State.HALF_OPEN


def test_half_open_lets_as_many_probes_through_and_no_more() -> None:
    """Two at once among a thousand callers; as many successes close it."""
    subject = opened()
    tickets = [ticket for ticket in (subject.enter(5.0) for _ in range(1000)) if ticket is not None]
    assert len(tickets) == 2
    subject.leave(tickets[0], SUCCESS, 5.1)
    assert subject.state.value == "half_open"
    assert subject.enter(5.1) is None
    subject.leave(tickets[1], SUCCESS, 5.2)
    assert subject.state.value == "closed"


def test_a_cancelled_probe_gives_its_place_back() -> None:
    """An ignored probe lets the next caller probe, as often as that happens."""
    subject = opened(probes=1)
    for step in range(50):
        ticket = subject.enter(5.0 + step)
        assert ticket is not None
        assert subject.enter(5.0 + step) is None
        subject.leave(ticket, IGNORED, 5.0 + step)
    assert attempt(subject, SUCCESS, 60.0)
    assert subject.state is State.CLOSED


def test_the_cooldown_grows_while_it_keeps_failing() -> None:
    """5, 10, 20, 40, 60, 60 seconds: doubling up to the greatest."""
    subject, now, cooldowns = opened(), 0.0, []
    for _ in range(6):
        cooldowns.append(subject.retry_after(now))
        now += cooldowns[-1] or 0.0
        assert attempt(subject, FAILURE, now)
    assert cooldowns == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]


def test_a_thousand_failed_probes_do_not_overflow() -> None:
    """The growth is bounded, whatever the factor."""
    subject, now = opened(growth=10.0), 0.0
    for _ in range(1000):
        now += 60.0
        assert attempt(subject, FAILURE, now)
    assert subject.retry_after(now) == 60.0


def test_the_cooldown_starts_anew_after_a_good_time() -> None:
    """Closed for a whole window: new trouble. Closed for less: the same trouble, and the cooldown grows on."""
    for pause, expected in ((1.0, 10.0), (10.0, 10.0), (11.0, 5.0)):
        subject = opened()
        attempt(subject, SUCCESS, 5.0)
        attempt(subject, SUCCESS, 5.0)
        assert subject.state is State.CLOSED
        for _ in range(4):
            attempt(subject, FAILURE, 5.0 + pause)
        assert subject.retry_after(5.0 + pause) == expected


def test_a_longer_retry_after_wins_and_is_bounded() -> None:
    """Open as long as the server says, up to an hour; a shorter one changes nothing."""
    for asked, expected in ((30.0, 30.0), (1.0, 5.0), (1e18, 3600.0)):
        subject = breaker()
        for _ in range(4):
            attempt(subject, FAILURE, 0.0, retry_after=asked)
        assert subject.retry_after(0.0) == expected


def test_a_late_retry_after_prolongs_an_open_circuit() -> None:
    """What was sent before it opened may still say for how long; nothing else of it counts."""
    subject = breaker()
    late = subject.enter(0.0)
    assert late is not None
    for _ in range(4):
        attempt(subject, FAILURE, 0.0)
    subject.leave(late, FAILURE, 1.0, retry_after=9.0)
    assert subject.retry_after(1.0) == 9.0


def test_a_success_from_before_does_not_close_it() -> None:
    """A ticket of an earlier state is void."""
    subject = breaker()
    late = subject.enter(0.0)
    assert late is not None
    for _ in range(4):
        attempt(subject, FAILURE, 0.0)
    assert subject.enter(5.0) is not None
    subject.leave(late, SUCCESS, 5.0)
    subject.leave(late, SUCCESS, 5.0)
    assert subject.state is State.HALF_OPEN
    assert subject.probing == 1


def test_a_probe_of_an_earlier_half_open_state_is_none_of_this_one() -> None:
    """It was open between: what comes late takes no place and closes nothing."""
    subject = opened()
    late = subject.enter(5.0)
    assert late is not None
    attempt(subject, FAILURE, 5.0)
    assert subject.enter(15.0) is not None
    subject.leave(late, SUCCESS, 15.0)
    assert subject.probing == 1
    assert attempt(subject, SUCCESS, 15.0)
    assert subject.state is State.HALF_OPEN


def test_what_was_sent_before_an_outage_counts_nothing_after_it() -> None:
    """Closed again it begins with an empty window, and a straggler of the earlier time stays out of it."""
    subject = breaker()
    late = subject.generation
    for _ in range(4):
        attempt(subject, FAILURE, 0.0)
    attempt(subject, SUCCESS, 5.0)
    attempt(subject, SUCCESS, 5.0)
    subject.succeeded(late, 5.0)
    subject.leave(late, FAILURE, 5.0)
    assert subject.counts(5.0) == (0, 0, 0)
    subject.succeeded(subject.generation, 5.0)
    assert subject.counts(5.0) == (1, 0, 0)


def test_slow_attempts_open_it_too() -> None:
    """With a slow ratio; without one slowness means nothing."""
    for ratio, state in ((0.5, State.OPEN), (0.75, State.CLOSED), (None, State.CLOSED)):
        subject = breaker(slow_ratio=ratio)
        for slow in (False, False, True, True):
            attempt(subject, SUCCESS, 0.0, slow=slow)
        assert subject.state is state


@pytest.mark.parametrize(
    ("verdicts", "hinted", "state"),
    [
        ([FAILURE] * 5, True, State.OPEN),
        ([FAILURE] * 5, False, State.CLOSED),
        ([FAILURE] * 4, True, State.CLOSED),  # Below a quarter of the minimum.
        ([SUCCESS] + [FAILURE] * 18, True, State.CLOSED),  # One of its own succeeded: the hint says nothing.
        ([SUCCESS] + [FAILURE] * 19, True, State.OPEN),  # The minimum of its own.
        ([IGNORED] * 20 + [FAILURE] * 4, True, State.CLOSED),
    ],
)
def test_with_a_hint_less_evidence_of_its_own_is_enough(verdicts: list[Verdict], *, hinted: bool, state: State) -> None:
    """A quarter of the minimum, and no success among it; a hint alone does nothing."""
    subject = breaker(minimum=20)
    for verdict in verdicts:
        attempt(subject, verdict, 1.0, hinted=hinted)
    assert subject.state is state


def test_two_failures_at_least_confirm_a_hint() -> None:
    """However small the minimum is."""
    subject = breaker()
    for state in (State.CLOSED, State.OPEN):
        attempt(subject, FAILURE, 0.0, hinted=True)
        assert subject.state is state


def test_successes_of_long_ago_do_not_contradict_a_hint() -> None:
    """Only the last fifth of the window does: a busy process notices an outage as fast as an idle one."""
    subject = breaker(minimum=20)
    for _ in range(1000):
        attempt(subject, SUCCESS, 1.0)
    for _ in range(5):
        attempt(subject, FAILURE, 4.0, hinted=True)
    assert (subject.state, subject.on_hint) == (State.OPEN, True)
    assert subject.reason == "all of the last 5 attempts failed, as another process has hinted"


def test_what_it_found_itself_is_no_hearsay() -> None:
    """Opened with the whole minimum, or by a failed probe, it did so on its own evidence, hint or not."""
    subject = breaker(minimum=2)
    for _ in range(2):
        attempt(subject, FAILURE, 0.0, hinted=True)
    assert (subject.state, subject.on_hint) == (State.OPEN, False)
    subject = breaker(minimum=20)
    for _ in range(5):
        attempt(subject, FAILURE, 0.0, hinted=True)
    assert subject.on_hint
    attempt(subject, FAILURE, 5.0)
    assert (subject.state, subject.on_hint) == (State.OPEN, False)


@pytest.mark.parametrize(
    ("ratio", "verdict", "slow", "state"),
    [
        (0.5, SUCCESS, True, State.OPEN),
        (0.5, SUCCESS, False, State.CLOSED),
        (0.5, IGNORED, True, State.HALF_OPEN),
        (None, SUCCESS, True, State.CLOSED),
    ],
)
def test_a_probe_that_is_slow_has_failed(ratio: float | None, verdict: Verdict, *, slow: bool, state: State) -> None:
    """Where slowness counts, and of a probe that says anything at all."""
    subject = opened(slow_ratio=ratio, probes=1)
    attempt(subject, verdict, 5.0, slow=slow)
    assert subject.state is state


def test_a_probe_may_say_for_how_long_it_stays_open() -> None:
    """A Retry-After of the probe's answer counts like that of any other; without one the cooldown does alone."""
    subject = opened()
    attempt(subject, FAILURE, 5.0, retry_after=99.0)
    assert subject.retry_after(5.0) == 99.0
    assert opened(cooldown=0.25).retry_after(0.0) == 0.25


def test_unless_told_otherwise() -> None:
    """Half of twenty attempts in half a minute open it, for five seconds and then up to thirty; two probes close it."""
    subject = Breaker()
    for _ in range(2):
        attempt(subject, FAILURE, 0.0)  # Half a minute ago: they do not count.
    for number in range(20):
        assert subject.state is State.CLOSED
        attempt(subject, FAILURE if number % 2 else SUCCESS, 30.0)
    assert subject.retry_after(30.0) == 5.0
    assert [subject.enter(35.0) is None for _ in range(3)] == [False, False, True]
    subject.leave(subject.generation, FAILURE, 35.0)
    for now, cooldown in ((45.0, 20.0), (65.0, 30.0), (95.0, 30.0)):
        assert attempt(subject, FAILURE, now)
        assert subject.retry_after(now) == cooldown


def test_half_open_and_full_it_asks_for_a_second_at_most() -> None:
    """Nobody knows when the probes return; with a place left one may come at once."""
    for cooldown, wait in ((5.0, 1.0), (0.25, 0.25)):
        subject = opened(cooldown=cooldown)
        first = subject.enter(5.0)
        assert first is not None
        assert subject.retry_after(5.0) == 0.0
        assert subject.enter(5.0) is not None
        assert subject.retry_after(5.0) == wait
        subject.leave(first, SUCCESS, 5.0)
        assert subject.retry_after(5.0) == wait


def test_every_change_says_why() -> None:
    """A person can read the reason, whatever the change."""
    subject = opened(probes=1)
    reasons = [subject.reason]
    for now, verdict in ((5.0, FAILURE), (15.0, SUCCESS)):
        ticket = subject.enter(now)
        assert ticket is not None
        reasons.append(subject.reason)
        subject.leave(ticket, verdict, now)
        reasons.append(subject.reason)
    subject.force("open", 20.0)
    assert [*reasons, subject.reason] == [
        "of 4 attempts 4 failed and 0 were slow",
        "the cooldown is over",
        "a probe failed",
        "the cooldown is over",
        "the probes succeeded",
        "by hand",
    ]
    assert (repr(subject), subject.busy) == ("<Breaker forced_open>", True)


def test_it_can_be_held_by_hand() -> None:
    """Forced open nothing passes, forced closed all does, and let go it starts closed."""
    subject = breaker()
    subject.force("open", 0.0)
    assert not attempt(subject, SUCCESS, 1e6)
    assert subject.retry_after(1e6) is None
    subject.force("closed", 0.0)
    for _ in range(100):
        assert attempt(subject, FAILURE, 0.0)
    assert subject.counts(0.0) == (100, 100, 0)
    subject.force(None, 0.0)
    assert (subject.state, subject.counts(0.0)) == (State.CLOSED, (0, 0, 0))
    for _ in range(4):
        attempt(subject, FAILURE, 0.0)
    assert (subject.counts(0.0), subject.retry_after(0.0)) == ((4, 4, 0), 5.0)
    subject.force("closed", 0.0)
    assert subject.counts(0.0) == (0, 0, 0)
    with pytest.raises(ValueError, match="state must be"):
        subject.force("half_open", 0.0)


class BreakerMachine(RuleBasedStateMachine):
    """Any order of attempts, ends, pauses and hands keeps the promises."""

    def __init__(self) -> None:
        super().__init__()
        self.subject = breaker()
        self.now = 0.0
        self.under_way: list[tuple[int, State]] = []

    @rule(seconds=st.floats(0, 30))
    def pause(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def enter(self) -> None:
        before = self.subject.state
        left = self.subject.retry_after(self.now)
        probing = self.subject.probing
        ticket = self.subject.enter(self.now)
        if before is State.OPEN:
            assert (ticket is None) == (left is not None and left > 0)
        if before is State.HALF_OPEN and probing >= 2:
            assert ticket is None
        if before in {State.CLOSED, State.FORCED_CLOSED}:
            assert ticket is not None
        if before is State.FORCED_OPEN:
            assert ticket is None
        if ticket is not None:
            self.under_way.append((ticket, self.subject.state))

    @precondition(lambda self: self.under_way)
    @rule(
        data=st.data(),
        verdict=st.sampled_from(Verdict),
        slow=st.booleans(),
        asked=st.none() | st.floats(0, 100),
        hinted=st.booleans(),
    )
    def leave(self, data: st.DataObject, verdict: Verdict, asked: float | None, *, slow: bool, hinted: bool) -> None:
        ticket, _ = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        before = self.subject.state
        self.subject.leave(ticket, verdict, self.now, slow=slow, retry_after=asked, hinted=hinted)
        if verdict is IGNORED or before in {State.FORCED_OPEN, State.FORCED_CLOSED}:
            assert self.subject.state is before
        if self.subject.state is not before:
            assert (before, self.subject.state) in {
                (State.CLOSED, State.OPEN),
                (State.HALF_OPEN, State.OPEN),
                (State.HALF_OPEN, State.CLOSED),
            }

    @rule(state=st.sampled_from(["open", "closed", None, None]))
    def force(self, state: str | None) -> None:
        self.subject.force(state, self.now)

    @invariant()
    def never_more_probes_than_allowed_and_none_lost(self) -> None:
        assert 0 <= self.subject.probing <= 2
        generation = self.subject.generation
        if self.subject.state is State.HALF_OPEN:
            assert self.subject.probing == sum(1 for ticket, _ in self.under_way if ticket == generation)
        else:
            assert self.subject.probing == 0

    @invariant()
    def it_always_opens_up_again(self) -> None:
        left = self.subject.retry_after(self.now)
        assert (left is None) == (self.subject.state is State.FORCED_OPEN)
        if left is not None:
            assert 0 <= left <= 100


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=60, stateful_step_count=40, derandomize=True, deadline=None)
