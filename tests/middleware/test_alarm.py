"""The states of an alarm, as tables and as a Hypothesis state machine."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from apiclient.middleware._alarm import Alarm, Cause, Change, Phase, Thresholds


def alarm(**options: Any) -> Alarm:
    given: dict[str, Any] = {"consecutive": None, "breaker_open": None} | options
    return Alarm(Thresholds(**given))


def told(changes: list[Change | None]) -> list[str]:
    return [change.kind for change in changes if change is not None]


def failures(subject: Alarm, count: int, now: float = 0.0, step: float = 0.0) -> list[Change | None]:
    return [subject.failure(now + step * number) for number in range(count)]


def successes(subject: Alarm, count: int, now: float = 0.0, step: float = 0.0) -> list[Change | None]:
    return [subject.success(now + step * number) for number in range(count)]


def test_a_ratio_needs_the_minimum() -> None:
    """Nineteen failures of nineteen are not enough to know, twenty are."""
    subject = alarm()
    assert told(failures(subject, 19)) == []
    change = subject.failure(0.0)
    assert change is not None
    assert (change.kind, change.cause, change.failed, change.calls) == ("alerting", Cause.RATIO, 20, 20)


def test_a_blip_is_not_told() -> None:
    """The short window alone is bad: degraded, and ok again."""
    subject = alarm()
    successes(subject, 200, 0.0, 1.0)
    assert told(failures(subject, 40, 200.0, 0.1)) == ["degraded"]
    assert subject.phase.value == "degraded"
    successes(subject, 60, 204.0, 0.5)
    assert subject.phase.value == "ok"


def test_trouble_that_is_over_is_not_told() -> None:
    """The long window alone is bad: nothing is raised by a single late failure among successes."""
    subject = alarm(minimum=50)
    failures(subject, 49, 0.0)
    assert told(successes(subject, 10, 100.0, 1.0)) == []
    assert told([subject.failure(111.0)]) == []


def test_what_comes_through_raises_nothing() -> None:
    """With it the minimum is reached: the next failure tells, and not the success, nor the silence after it."""
    for silence, expected in ((0.0, ["alerting"]), (100.0, [])):
        subject = alarm()
        failures(subject, 19)
        assert told(successes(subject, 1)) == []
        assert told([subject.outbox(silence, oldest=0.0, dead=0)]) == expected


def test_one_failure_is_a_short_window_too() -> None:
    """The twentieth, after a pause: all that failed lately is it."""
    subject = alarm()
    failures(subject, 19)
    assert told([subject.failure(100.0)]) == ["alerting"]


def test_it_is_told_once_again_after_the_cooldown_and_once_when_over() -> None:
    """An hour of failures at one a second, then successes: once, every quarter of an hour, and resolved."""
    subject = alarm()
    changes = failures(subject, 3600, 0.0, 1.0)
    assert told(changes) == ["alerting", "reminder", "reminder", "reminder"]
    assert told(successes(subject, 100, 3600.0, 1.0)) == ["resolved"]
    assert subject.phase is Phase.OK


def test_the_change_says_since_when_and_how_many() -> None:
    """Since the first failure of the trouble, and all that failed since it was raised."""
    subject = alarm(consecutive=5)
    successes(subject, 3, 0.0)
    changes = failures(subject, 2000, 100.0, 1.0)
    reminders = [change for change in changes if change is not None and change.kind == "reminder"]
    assert {change.since for change in reminders} == {100.0}
    assert reminders[0].failed == 905


def test_the_ratio_itself_is_enough() -> None:
    """Half of twenty, in the long window and in the short one."""
    subject = alarm()
    assert told(successes(subject, 10) + failures(subject, 9)) == []
    assert told(failures(subject, 1)) == ["alerting"]


def test_it_is_over_only_below_half_of_the_ratio() -> None:
    """Twenty of eighty in the short window are still too many, twenty of eighty-one are not."""
    subject = alarm()
    assert told(failures(subject, 20)) == ["alerting"]
    assert told(successes(subject, 60)) == []
    assert told(successes(subject, 1)) == ["resolved"]


def test_it_is_strained_by_half_a_row_or_by_the_short_window_alone() -> None:
    """Three of six in a row; or enough calls in all, and the latest of them bad."""
    subject = alarm(consecutive=6)
    successes(subject, 1000)
    assert told(failures(subject, 2)) == []
    assert told(failures(subject, 1)) == ["degraded"]
    subject = alarm()
    successes(subject, 15, 0.0)
    assert told(failures(subject, 4, 100.0)) == []
    assert told(failures(subject, 1, 100.0)) == ["degraded"]


def test_only_an_alert_is_worth_keeping() -> None:
    """What is merely strained may be forgotten; the repr says where it stands."""
    subject = alarm(consecutive=4)
    seen = []
    for _ in range(4):
        subject.failure(0.0)
        seen.append((repr(subject), subject.busy))
    assert seen == [
        ("<Alarm ok>", False),
        ("<Alarm degraded>", False),
        ("<Alarm degraded>", False),
        ("<Alarm alerting>", True),
    ]


def test_failures_in_a_row_raise_it() -> None:
    """Five in a row, whatever the ratio over the long window; half of it is a strain."""
    subject = alarm(consecutive=5)
    successes(subject, 1000)
    assert told(failures(subject, 5)) == ["degraded", "alerting"]
    assert subject.cause is Cause.CONSECUTIVE


def test_a_success_between_breaks_the_row() -> None:
    """Four, one success, four: nothing."""
    subject = alarm(consecutive=5)
    successes(subject, 1000)
    changes = failures(subject, 4) + successes(subject, 1) + failures(subject, 4)
    assert "alerting" not in told(changes)


def test_it_takes_some_successes_to_be_over() -> None:
    """Three in a row: one that came through between failures resolves nothing."""
    subject = alarm(consecutive=5)
    failures(subject, 5)
    changes: list[Change | None] = []
    for second in range(0, 100, 2):
        changes += [subject.success(1000.0 + second), subject.failure(1001.0 + second)]
    assert told(changes) == ["reminder"]
    assert told(successes(subject, 2, 2000.0)) == []
    assert told(successes(subject, 1, 2000.0)) == ["resolved"]
    assert told(successes(subject, 200, 2000.0, 0.5)) == []


def test_resolved_lasts_for_the_short_window_and_a_strain_no_longer_than_its_cause() -> None:
    """A panel that looks every few seconds sees the end of an alert; after half a minute it is ok."""
    subject = alarm(consecutive=4)
    failures(subject, 4, 900.0)
    successes(subject, 3, 1000.0)
    seen = []
    for now in (1000.0, 1029.9, 1030.0):
        subject.success(now)
        seen.append(subject.phase.value)
    assert seen == ["resolved", "resolved", "ok"]
    assert told(failures(subject, 2, 2000.0)) == ["degraded"]
    subject.success(2000.0)
    assert subject.phase.value == "ok"


def test_a_breaker_that_stays_open_raises_it() -> None:
    """Calls refused for a minute, with none that reached the origin between."""
    subject = alarm(breaker_open=60.0, minimum=1000)
    changes = [subject.failure(float(second), refused=True) for second in range(59)]
    assert told(changes) == ["degraded"]
    changes = [subject.failure(59.0), subject.failure(60.0, refused=True), subject.failure(119.0, refused=True)]
    assert told(changes) == ["degraded"]
    change = subject.failure(120.0, refused=True)
    assert change is not None
    assert (change.kind, change.cause) == ("alerting", Cause.BREAKER)
    assert told(failures(alarm(breaker_open=1.0), 1)) == []


@pytest.mark.parametrize(
    ("oldest", "dead", "cause"),
    [(3600.0, 0, Cause.OUTBOX), (0.0, 1, Cause.DEAD_LETTER), (9999.0, 2, Cause.DEAD_LETTER)],
)
def test_an_old_outbox_or_a_dead_letter_raises_it(oldest: float, dead: int, cause: Cause) -> None:
    """Told once, and over as soon as the outbox is well."""
    subject = alarm()
    assert subject.outbox(0.0, oldest=3599.0, dead=0) is None
    change = subject.outbox(1.0, oldest=oldest, dead=dead)
    assert change is not None
    began = 1.0 if cause is Cause.DEAD_LETTER else 1.0 - oldest
    assert (change.kind, change.cause, change.since) == ("alerting", cause, began)
    assert subject.outbox(2.0, oldest=oldest, dead=dead) is None
    assert told([subject.outbox(3.0, oldest=0.0, dead=0)]) == ["resolved"]


def test_no_rule_no_alarm() -> None:
    """What is set to None never raises anything."""
    subject = alarm(minimum=10_000, outbox_age=None, dead_letters=False)
    failures(subject, 5000, 0.0, 0.01)
    assert subject.outbox(60.0, oldest=1e9, dead=9) is None
    assert told([subject.failure(61.0, refused=True)]) in ([], ["degraded"])
    assert subject.phase is not Phase.ALERTING


class AlarmMachine(RuleBasedStateMachine):
    """Whatever comes in whatever order, what is told makes sense."""

    def __init__(self) -> None:
        super().__init__()
        self.thresholds = Thresholds(minimum=4, consecutive=6, breaker_open=20.0, cooldown=60.0, long=60.0, short=10.0)
        self.subject = Alarm(self.thresholds)
        self.now = 0.0
        self.told: list[tuple[float, str]] = []
        self.failed = 0

    def take(self, change: Change | None) -> None:
        if change is not None:
            self.told.append((self.now, change.kind))
            assert change.since <= self.now
            assert change.failed >= 0

    @rule(seconds=st.floats(0, 30))
    def pause(self, seconds: float) -> None:
        self.now += seconds

    @rule(count=st.integers(1, 6))
    def succeed(self, count: int) -> None:
        for _ in range(count):
            self.take(self.subject.success(self.now))

    @rule(count=st.integers(1, 6), refused=st.booleans())
    def fail(self, count: int, *, refused: bool) -> None:
        self.failed += count
        for _ in range(count):
            self.take(self.subject.failure(self.now, refused=refused))

    @rule(oldest=st.sampled_from([0.0, 0.0, 5000.0]), dead=st.sampled_from([0, 0, 1]))
    def outbox(self, oldest: float, dead: int) -> None:
        self.take(self.subject.outbox(self.now, oldest=oldest, dead=dead))

    @invariant()
    def raised_and_resolved_in_turn(self) -> None:
        raised = [kind for _, kind in self.told if kind in {"alerting", "resolved"}]
        assert raised == ["alerting", "resolved"] * (len(raised) // 2) + ["alerting"] * (len(raised) % 2)
        assert (self.subject.phase is Phase.ALERTING) == (len(raised) % 2 == 1)

    @invariant()
    def reminded_only_after_the_cooldown(self) -> None:
        previous = 0.0
        for at, kind in self.told:
            if kind == "reminder":
                assert at - previous >= self.thresholds.cooldown
            if kind in {"alerting", "reminder"}:
                previous = at


TestAlarmMachine = AlarmMachine.TestCase
TestAlarmMachine.settings = settings(max_examples=60, stateful_step_count=40, derandomize=True, deadline=None)
