"""The retry decision, as tables."""

from typing import Any

import pytest
from multidict import CIMultiDict

from apiclient.middleware._verdict import Decision, Outcome, Rules, Stop, decide, in_progress, verdict_of

RULES = Rules(
    attempts=4,
    statuses=frozenset({408, 500, 502, 503, 504}),
    once=frozenset({421, 425}),
    methods=None,
    max_retry_after=60.0,
)


def decided(outcome: Outcome, rules: Rules = RULES, **changed: Any) -> Decision:
    given: dict[str, Any] = {"method": "GET", "attempt": 1, "repeatable": True, "replayable": True, "delay": 0.5}
    return decide(rules, outcome, **(given | changed))


@pytest.mark.parametrize("status", [408, 421, 425, 500, 502, 503, 504])
def test_a_temporary_status_is_retried_after_the_delay(status: int) -> None:
    """The statuses of the design are retried."""
    assert decided(Outcome(status)).wait == 0.5


@pytest.mark.parametrize(
    "status",
    [
        400,
        401,
        403,
        404,
        405,
        406,
        409,
        410,
        411,
        412,
        413,
        414,
        415,
        416,
        417,
        418,
        422,
        423,
        424,
        426,
        428,
        429,
        431,
        451,
        501,
        505,
        506,
        507,
        508,
        511,
    ],
)
def test_any_other_status_is_final(status: int) -> None:
    """501, 505 and the other 4xx are not retried, and that is no lack of attempts."""
    assert decided(Outcome(status))[:2] == (None, None)


@pytest.mark.parametrize("status", [421, 425])
def test_421_and_425_are_retried_once(status: int) -> None:
    """The second answer of the kind is final, whatever else came between."""
    assert decided(Outcome(status), attempt=2, retried=1).stop is Stop.ATTEMPTS
    assert decided(Outcome(status), attempt=2, retried=0).wait == 0.5


@pytest.mark.parametrize(
    ("outcome", "wait", "stop"),
    [
        (Outcome(None, "ClientConnectorError", nothing_sent=True), 0.5, None),
        (Outcome(None, "ClientConnectorCertificateError", nothing_sent=True, permanent=True), None, None),
        (Outcome(None, "ServerDisconnectedError"), 0.5, None),
        (Outcome(None, "BadStatusLine", permanent=True), None, None),
        (Outcome(503, verdict=False), None, Stop.VERDICT),
        (Outcome(400, verdict=True), 0.5, None),
        (Outcome(None, "ClientConnectorCertificateError", nothing_sent=True, permanent=True, verdict=True), 0.5, None),
        (Outcome(409, in_progress=True), 0.5, None),
        (Outcome(503, retry_after=2.0), 2.5, None),
        (Outcome(503, retry_after=0.0), 0.5, None),
        (Outcome(503, retry_after=60.0), 60.5, None),
        (Outcome(503, retry_after=60.1), None, Stop.RETRY_AFTER),
    ],
)
def test_a_get(outcome: Outcome, wait: float | None, stop: Stop | None) -> None:
    """What happened decides, and a Retry-After is a lower bound: the jitter comes on top."""
    assert decided(outcome)[:2] == (wait, stop)


@pytest.mark.parametrize(
    ("outcome", "wait", "stop"),
    [
        (Outcome(None, "ClientConnectorError", nothing_sent=True), 0.5, None),  # Nothing left: always safe.
        (Outcome(None, "ServerDisconnectedError"), None, Stop.NOT_REPEATABLE),
        (Outcome(503), None, Stop.NOT_REPEATABLE),
        (Outcome(503, verdict=True), None, Stop.NOT_REPEATABLE),  # No server's word breaks law 3.
        (Outcome(503, retry_after=1.0), None, Stop.NOT_REPEATABLE),
        (Outcome(408), None, Stop.NOT_REPEATABLE),
        (Outcome(421), 0.5, None),  # These say themselves that nothing was carried out.
        (Outcome(425), 0.5, None),
        (Outcome(404), None, None),
        (Outcome(501), None, None),
    ],
)
def test_a_post_without_a_key(outcome: Outcome, wait: float | None, stop: Stop | None) -> None:
    """Law 3: not sent again once bytes may have left."""
    assert decided(outcome, method="POST", repeatable=False)[:2] == (wait, stop)


def test_a_last_attempt_of_a_post_is_still_of_unknown_outcome() -> None:
    """That no attempt was left does not hide that nobody knows what happened."""
    assert decided(Outcome(503), method="POST", repeatable=False, attempt=4).stop is Stop.NOT_REPEATABLE


@pytest.mark.parametrize(
    ("changed", "stop", "needed"),
    [
        ({"attempt": 4}, Stop.ATTEMPTS, None),
        ({"replayable": False}, Stop.NOT_REPLAYABLE, None),
        ({"replayable": False, "attempt": 4}, Stop.ATTEMPTS, None),
        ({"remaining": 0.5}, Stop.DEADLINE, 0.5),  # A wait that ends with the deadline leaves no time for a request.
        ({"remaining": 0.0}, Stop.DEADLINE, 0.5),
    ],
)
def test_limits(changed: dict[str, Any], stop: Stop, needed: float | None) -> None:
    """Attempts, body and deadline each end it, and a wait that does not fit is named."""
    decision = decided(Outcome(503), **changed)
    assert (decision.wait, decision.stop, decision.needed) == (None, stop, needed)


def test_a_retry_after_beyond_the_deadline_is_not_waited_for() -> None:
    """Laws 5 and 6: neither clamped nor begun, and the time it would have taken is told."""
    decision = decided(Outcome(503, retry_after=30.0), remaining=5.0)
    assert (decision.stop, decision.needed) == (Stop.DEADLINE, 30.5)


def test_methods_can_be_limited() -> None:
    """A method that is not listed is not retried."""
    rules = RULES._replace(methods=frozenset({"GET"}))
    assert decided(Outcome(503), rules, method="PUT").wait is None
    assert decided(Outcome(503), rules, method="GET").wait == 0.5


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, None),
        ({"X-Should-Retry": "true"}, True),
        ({"x-should-retry": " FALSE "}, False),
        ({"x-should-retry": "maybe"}, None),
        ({"x-should-retry": "1"}, True),
        ({"x-should-retry": "0"}, False),
        ({"stripe-should-retry": "true"}, True),
        ({"x-should-retry": "false", "stripe-should-retry": "true"}, False),
    ],
)
def test_the_servers_own_verdict_is_read(headers: dict[str, str], *, said: bool | None) -> None:
    """A verdict header is true, false, or nothing."""
    assert verdict_of(CIMultiDict(headers), ("x-should-retry", "stripe-should-retry")) is said


@pytest.mark.parametrize(
    ("resent", "after", "head", "expected"),
    [
        (False, None, b"", False),
        (False, None, b'{"title": "Email taken"}', False),
        (True, None, b"", True),
        (False, 1.0, b"", True),
        (False, None, b'{"title": "A request is outstanding for this Idempotency-Key"}', True),
        (False, None, b'{"code": "request_in_progress"}', True),
        (False, None, b'{"title": "Idempotency-Key is in use"}', True),
        (False, None, b"The first request is still In Progress", True),
        (False, None, b"it is being processed", True),
        (False, None, b"one request is outstanding", True),
        (False, None, b"x" * 5000 + b"in progress", False),
    ],
)
def test_a_409_is_in_progress_by_what_it_says(
    *, resent: bool, after: float | None, head: bytes, expected: bool
) -> None:
    """A plain conflict is not retried; the same key still being worked on is."""
    assert in_progress(resent=resent, retry_after=after, head=head) is expected


@pytest.mark.parametrize(
    ("outcome", "changed", "why"),
    [
        (Outcome(503), {}, "503 is a temporary failure"),
        (Outcome(404), {}, "404 is not among the statuses that are retried"),
        (Outcome(503, verdict=True), {}, "the server says to retry 503"),
        (Outcome(503, verdict=False, judge="retry_if"), {}, "retry_if says not to retry 503"),
        (Outcome(None, "X", verdict=False), {}, "the server says not to retry X"),
        (Outcome(None, "X"), {}, "X is a passing failure of the network"),
        (Outcome(None, "X", permanent=True), {}, "X does not go away by itself"),
        (Outcome(409, in_progress=True), {}, "409: the request with this key is still being carried out"),
        (Outcome(503), {"replayable": False}, "the body can be read only once"),
        (Outcome(503), {"attempt": 4}, "4 of 4 attempts are used up"),
        (Outcome(421), {"retried": 1}, "421 is retried once only"),
        (Outcome(503, retry_after=999.0), {}, "the server asks for 999 s; at most 60 s are waited"),
        (Outcome(503), {"remaining": 0.25}, "a wait of 0.5 s does not fit into the 0.25 s that the call has left"),
        (
            Outcome(503),
            {"method": "POST", "repeatable": False},
            "POST may have been carried out and has no idempotency key",
        ),
    ],
)
def test_every_decision_says_why(outcome: Outcome, changed: dict[str, Any], why: str) -> None:
    """A person can read the reason for each outcome."""
    assert decided(outcome, **changed).why == why


def test_a_method_that_is_not_retried_may_still_have_been_carried_out() -> None:
    """That nothing would be sent again hides no unknown outcome: only a failure that is permanent is no doubt."""
    rules = RULES._replace(methods=frozenset({"GET"}))
    given: dict[str, Any] = {"method": "POST", "repeatable": False}
    assert decided(Outcome(None, "X"), rules, **given).stop is Stop.NOT_REPEATABLE
    assert decided(Outcome(None, "X", permanent=True), rules, **given).stop is None
    assert decided(Outcome(503), rules, **given).stop is None


def test_a_retry_after_that_is_too_long_is_named() -> None:
    """Law 6: longer than allowed ends the call, and the time asked for is told."""
    assert decided(Outcome(503, retry_after=60.5)).needed == 60.5
