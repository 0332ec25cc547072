import pytest

from apiclient.middleware._pacing.caution import Caution, Refusal
from apiclient.middleware._pacing.ledger import Ledger
from apiclient.middleware._pacing.lesson import Lesson
from apiclient.middleware._pacing.meter import Meter
from apiclient.middleware._pacing.pacer import Pacer
from apiclient.middleware._pacing.ramp import RoundTrip
from apiclient.middleware._parsing.quota import Quota
from apiclient.middleware._parsing.rate import Rate
from tests.middleware.wire import told


@pytest.mark.parametrize(
    ("known", "said", "same"),
    [
        (Lesson(5, 60.0, exact=False), Lesson(5, 10.0, exact=False), True),  # late in the window: the same one
        (Lesson(5, 60.0, exact=False), Lesson(5, 10.0, exact=True), False),  # stated: another
        (Lesson(5, 60.0, exact=True), Lesson(5, 10.0, exact=False), False),
        (Lesson(5, 60.0, exact=False), Lesson(6, 10.0, exact=False), False),
        (Lesson(5, 10.0, exact=False), Lesson(5, 60.0, exact=False), False),  # longer: nothing made it look so
        (Lesson(5, 60.0), Lesson(9, 60.0), True),
    ],
)
def test_which_lesson_is_about_a_known_meter(known: Lesson, said: Lesson, same: bool) -> None:  # noqa: FBT001
    """The same period is the same quota; a guessed one may look shorter than it is, and a stated one may not."""
    ledger = Ledger((), (known,), None)
    assert (ledger.find(said) is not None) is same


def test_every_change_of_a_limit_is_news() -> None:
    """A limit that is new, and one that has changed, is remembered; the same one again is not."""
    pacer = Pacer()
    for now, limit, news in ((0.0, 50, True), (0.1, 50, False), (0.2, 60, True), (0.3, 60, False)):
        pacer.news = False
        told(pacer, now, Quota(limit, 10.0, None, None, None, None, "draft-8"))
        assert pacer.news is news, now


def test_a_limit_that_is_tried_is_not_learned() -> None:
    """Above the first limit some more are tried: neither that nor the end of it changes what is remembered of any."""

    def tried() -> Pacer:
        pacer = Pacer(lessons=(Lesson(10, 1.0), Lesson(500, 60.0)))
        for _ in range(21):
            pacer._trial.quiet(pacer.meters[0])
        return pacer

    pacer = tried()
    assert [meter.limit for meter in pacer.meters] == [12, 500]
    assert [lesson.limit for lesson in pacer.lessons] == [10, 500]
    for limit, period, remembered in ((400, 60.0, [10, 400]), (15, 1.0, [15, 500])):
        pacer = tried()
        told(pacer, 0.0, Quota(limit, period, None, None, None, None, "draft-8"))
        assert [lesson.limit for lesson in pacer.lessons] == remembered
        assert [meter.limit for meter in pacer.meters] == remembered


def test_a_wait_below_a_second_is_known_as_such() -> None:
    """Five of five were sent at 0.3 of a period of half a second: the next may go when that one is over."""
    meter = Meter(5, 0.5)
    pacer = Pacer((Rate(5, per=0.5),))
    for _ in range(5):
        slot = pacer.take(0.3)
        assert slot is not None
        pacer.sent(slot, 0.3)
        pacer.settle(slot, 0.301)
    assert pacer.eta(0.5) == pytest.approx(0.3, abs=0.01)
    assert pacer.eta(0.5, 6) == pytest.approx(0.3, abs=0.01)
    assert meter.eta(0.5, 5) == 0.0


def test_a_refused_tail_leads_to_an_even_pace_after_what_was_let_through() -> None:
    """Of ten per second six passed at once and the rest did not: one less at once, and then one each tenth."""
    caution, meter, trip = Caution(), Meter(10, 1.0), RoundTrip()
    caution.judge(Refusal(100.0, 1.0), [100.0] * 6, [meter], trip)
    assert caution.pace is not None
    assert caution.pace.burst == 5
    assert caution.pace.interval == pytest.approx(0.1, rel=0.01)


def test_what_passed_within_the_period_before_belongs_to_the_burst() -> None:
    """Two half a second before, four beside the refusal: six passed of ten."""
    caution = Caution()
    caution.judge(Refusal(100.0, 1.0), [98.9, 99.5, 99.5, 100.0, 100.0, 100.0, 100.0], [Meter(10, 1.0)], RoundTrip())
    assert caution.pace is not None
    assert caution.pace.burst == 5


def test_the_time_to_the_first_departure_tells_of_the_network() -> None:
    """What the connection took, and not what a later one took that was there already."""
    pacer = Pacer((Rate(5),))
    for granted, left in ((10.0, 10.03), (10.1, 10.2)):
        slot = pacer.take(granted)
        assert slot is not None
        pacer.sent(slot, left)
        pacer.settle(slot, left + 0.05)
    assert pacer.trip.connect == pytest.approx(0.03)


def test_refused_again_and_again_the_pace_slows_down_and_not_without_end() -> None:
    """Each time a little slower, at most four times the even interval."""
    caution, meter, trip = Caution(), Meter(10, 1.0), RoundTrip()
    intervals = []
    for step in range(40):
        caution.judge(Refusal(100.0 + 10 * step, 1.0), [100.0 + 10 * step] * 6, [meter], trip)
        assert caution.pace is not None
        intervals.append(caution.pace.interval)
    assert intervals == sorted(intervals)
    assert intervals[1] == pytest.approx(0.101)
    assert intervals[2] == pytest.approx(0.1 * 1.002 * 10 / 9)
    assert intervals[-1] == pytest.approx(0.4)


def test_an_early_refusal_widens_the_margin_up_to_a_quarter_of_the_period() -> None:
    """Ten had passed, and the eleventh, a period after them, was refused: the window is longer than was thought."""
    meter, trip = Meter(10, 1.0), RoundTrip()
    meter.margin = 0.2
    Caution().judge(Refusal(101.0, 1.0), [100.0] * 10, [meter], trip)
    assert meter.margin == 0.25
