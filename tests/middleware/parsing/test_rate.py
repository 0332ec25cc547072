import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiclient.middleware._parsing.quota import Rate
from apiclient.middleware._parsing.rate import MAX_LIMIT, YEAR, rate_in, seconds


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("5/1s", Rate(5, per=1.0)),
        ("5/s", Rate(5)),
        ("5/second", Rate(5)),
        ("5 per 1 second", Rate(5)),
        ("5 per second", Rate(5)),
        ("  5 Per 1 Second ", Rate(5)),
        ("5 / 1 s", Rate(5)),
        ("100/min", Rate(100, per=60.0)),
        ("100/m", Rate(100, per=60.0)),
        ("1000/hour", Rate(1000, per=3600.0)),
        ("1000/24h", Rate(1000, per=86_400.0)),
        ("10/1m30s", Rate(10, per=90.0)),
        ("10/1 minute 30 seconds", Rate(10, per=90.0)),
        ("10/250ms", Rate(10, per=0.25)),
        ("10/0.5s", Rate(10, per=0.5)),
        ("10/5e-07s", Rate(10, per=5e-7)),
        ("7/day", Rate(7, per=86_400.0)),
        ("7/2 weeks", Rate(7, per=1_209_600.0)),
        ("7/month", Rate(7, per=2_592_000.0)),
        ("7/year", Rate(7, per=YEAR)),
    ],
)
def test_a_rate_is_read_from_text(text: str, rate: Rate) -> None:
    """A rate can be written as people write it."""
    assert Rate.parse(text) == rate


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "/s",
        "5/",
        "5/1",
        "s/5",
        "-5/s",
        "5.5/s",
        "5/fortnight",
        "5//s",
        "5/s/s",
        "5 s",
        "5per s",
        "\u0665/s",
        "5/1s;",
        "1" * 16 + "/s",
    ],
)
def test_text_that_is_no_rate_is_refused_with_the_text(text: str) -> None:
    """The message shows what was expected and what was given."""
    with pytest.raises(ValueError, match=r'^rate must look like "5/1s" or "100/min", got ') as caught:
        Rate.parse(text)
    assert str(caught.value).endswith(repr(text))


@pytest.mark.parametrize(
    ("limit", "per", "error", "message"),
    [
        (0, 1.0, ValueError, "limit must be at least 1 and at most 1000000000, got 0"),
        (-1, 1.0, ValueError, "limit must be at least 1 and at most 1000000000, got -1"),
        (MAX_LIMIT + 1, 1.0, ValueError, "limit must be at least 1 and at most 1000000000, got 1000000001"),
        (2.5, 1.0, TypeError, "limit must be an int, got 2.5"),
        (True, 1.0, TypeError, "limit must be an int, got True"),
        ("5", 1.0, TypeError, "limit must be an int, got '5'"),
        (5, 0, ValueError, "per must be above 0 and at most 31536000 seconds, got 0"),
        (5, -1.0, ValueError, "per must be above 0 and at most 31536000 seconds, got -1.0"),
        (5, math.inf, ValueError, "per must be above 0 and at most 31536000 seconds, got inf"),
        (5, math.nan, ValueError, "per must be above 0 and at most 31536000 seconds, got nan"),
        (5, "1s", TypeError, "per must be a number of seconds, got '1s'"),
        (5, True, TypeError, "per must be a number of seconds, got True"),
    ],
)
def test_a_rate_out_of_range_is_refused(limit: Any, per: Any, error: type[Exception], message: str) -> None:
    """The message names the option and its value."""
    with pytest.raises(error) as caught:
        Rate(limit, per=per)
    assert str(caught.value) == message


def test_parse_checks_range_and_type_too() -> None:
    """What parses but is out of range is refused as the constructor refuses it."""
    with pytest.raises(ValueError, match="limit must be at least 1"):
        Rate.parse("0/s")
    with pytest.raises(ValueError, match="per must be above 0"):
        Rate.parse("5/0s")
    with pytest.raises(ValueError, match="rate must look like"):
        Rate.parse(" " * 1024 + "5/s")
    wrong: Any = 5
    with pytest.raises(TypeError, match="rate must be a str, got 5"):
        Rate.parse(wrong)


def test_repr_and_str() -> None:
    """The repr is the constructor call, the text is what parse reads."""
    assert repr(Rate(5)) == "Rate(5, per=1.0)"
    assert repr(Rate(100, per=60)) == "Rate(100, per=60.0)"
    assert str(Rate(5)) == "5/1s"
    assert str(Rate(5, per=0.25)) == "5/0.25s"


def test_a_rate_is_an_immutable_value() -> None:
    """Equal rates are one key; nothing can be changed or added."""
    assert {Rate(5): 1}[Rate(5, per=1)] == 1
    rate: Any = Rate(5)
    with pytest.raises(AttributeError):
        rate.limit = 6
    assert not hasattr(rate, "__dict__")


@settings(max_examples=150, derandomize=True, deadline=None)
@given(st.integers(1, MAX_LIMIT), st.floats(1e-9, YEAR))
def test_a_rate_survives_its_text(limit: int, per: float) -> None:
    """Text and parse are inverse to each other."""
    rate = Rate(limit, per=per)
    assert Rate.parse(str(rate)) == rate


@settings(max_examples=150, derandomize=True, deadline=None)
@given(st.text() | st.text("0123456789./ permsecondhour", max_size=30))
def test_any_text_is_a_rate_or_a_value_error(text: str) -> None:
    """Parse raises ValueError and nothing else."""
    try:
        rate = Rate.parse(text)
    except ValueError:
        return
    assert 1 <= rate.limit <= MAX_LIMIT
    assert 0 < rate.per <= YEAR


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1s", 1.0),
        ("1m30s", 90.0),
        ("6m0s", 360.0),
        ("20ms", 0.02),
        ("1.5h", 5400.0),
        ("2 days", 172_800.0),
        ("minute", 60.0),
        ("1h 2m 3s 4ms", 3723.004),
    ],
)
def test_durations_add_up(text: str, expected: float) -> None:
    """A duration is the sum of its parts."""
    assert seconds(text) == expected


@pytest.mark.parametrize(
    "text", ["", "1", "s1", "1x", "1s1", "1h2m3s4ms5s", "-1s", "1s" * 5_000_000, "1" * 10_000_000, " " * 10_000_000]
)
def test_what_is_no_duration_is_nan(text: str) -> None:
    """Anything else, ten megabytes of it included, is nan and no rate."""
    assert math.isnan(seconds(text))
    assert rate_in(text) is None
