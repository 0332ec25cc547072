import time
from types import MappingProxyType

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from apiclient.middleware._parsing.rate import YEAR
from apiclient.middleware._parsing.retry_after import moment, retry_after, server_time

WALL = 1_795_341_600.0  # Sun, 22 Nov 2026 10:00:00 GMT
HUGE = 10_000_000


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("1", 1.0),
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("007", 7.0),
        ("1.5", 1.5),
        ("2.0", 2.0),
        (".5", 0.5),
        ("5, 5", 5.0),
        ("5,5,5", 5.0),
        ("5, 30, 10", 30.0),
        ("5, soon", 5.0),
        ("-1, 5", 5.0),
        ("1000000000000000000", YEAR),
        ("9" * 128, YEAR),
        ("31536001", YEAR),
        ("Sun, 22 Nov 2026 10:00:30 GMT", 30.0),
        ("Sun, 22 Nov 2026 10:00:30 UTC", 30.0),
        ("Sun, 22 Nov 2026 10:00:30 -0000", 30.0),
        ("Sun, 22 Nov 2026 10:00:30 +0000", 30.0),
        ("Sun, 22 Nov 2026 11:00:30 +0100", 30.0),
        ("Sun, 22 Nov 2026 05:00:30 EST", 30.0),
        ("Sun, 22 Nov 2026 10:00:30", 30.0),
        ("22 Nov 2026 10:00:30 GMT", 30.0),
        ("Sunday, 22-Nov-26 10:00:30 GMT", 30.0),
        ("Sun Nov 22 10:00:30 2026", 30.0),
        ("Sun, 22 Nov 2026 10:00:60 GMT", 60.0),
        ("2026-11-22T10:00:30Z", 30.0),
        ("2026-11-22T10:00:30.5000000Z", 30.5),
        ("2026-11-22T10:00:30", 30.0),
        ("2026-11-22 11:00:30+01:00", 30.0),
        ("Sun, 22 Nov 2026 09:59:59 GMT", 0.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", YEAR),
    ],
)
def test_each_readable_form_gives_its_seconds(text: str, wait: float) -> None:
    """FACTS 3: whole seconds, fractions, lists and every spelling of a date are read; the far future is a year."""
    assert retry_after(CIMultiDict({"Retry-After": text}), wall=WALL) == wait


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "-1",
        "-1.5",
        "inf",
        "Infinity",
        "nan",
        "1e3",
        "1_000",
        "0x10",
        "five",
        "5s",
        "1:30",
        ",",
        ", ,",
        ".",
        "\u0665",
        "\u00b2",
        "1\x002",
        "9" * 129,
        "Sun, 32 Nov 2026 10:00:30 GMT",
        "Sun, 22 Foo 2026 10:00:30 GMT",
        "Sun, 22 Nov 2026 25:00:30 GMT",
        "Sun, 22 Nov 2026 10:61:30 GMT",
        "Sun, 22 Nov 2026 10:00:99 +99999999999999999999",
        "Sun, 22 Nov 10000 10:00:30 GMT",
        "2026-13-22T10:00:30Z",
        "2026-",
        "GMT",
    ],
)
def test_what_cannot_be_read_asks_for_nothing(text: str) -> None:
    """A broken value is no wait at all, rather than a guess or an error."""
    assert retry_after(CIMultiDict({"Retry-After": text}), wall=WALL) is None


def test_no_header_asks_for_nothing() -> None:
    """Without any of the fields there is nothing to wait for."""
    assert retry_after(CIMultiDict({"Content-Type": "text/plain"}), wall=WALL) is None
    assert retry_after({}, wall=WALL) is None


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ([("retry-after-ms", "250")], 0.25),
        ([("x-ms-retry-after-ms", "1500.5")], 1.5005),
        ([("Retry-After", "1"), ("retry-after-ms", "250")], 1.0),
        ([("Retry-After", "1"), ("retry-after-ms", "1250")], 1.25),
        ([("retry-after-ms", "100"), ("x-ms-retry-after-ms", "200")], 0.2),
        ([("Retry-After", "soon"), ("retry-after-ms", "250")], 0.25),
        ([("Retry-After", "2"), ("retry-after-ms", "-5")], 2.0),
        ([("retry-after-ms", "1" + "0" * 40)], YEAR),
        ([("Retry-After", "3"), ("Retry-After", "9")], 9.0),
    ],
)
def test_the_longest_of_several_statements_holds(headers: list[tuple[str, str]], wait: float) -> None:
    """Law 6: never earlier than any Retry-After that was stated, whichever field stated it."""
    assert retry_after(CIMultiDict(headers), wall=WALL) == wait


@pytest.mark.parametrize("skew", [-86_400.0, -5.0, 0.0, 5.0, 1e9])
def test_a_date_is_counted_from_the_servers_own_clock(skew: float) -> None:
    """A wrong clock on this side does not change the wait: the response's Date is the other end of it."""
    headers = CIMultiDict({"Retry-After": "Sun, 22 Nov 2026 10:00:30 GMT", "Date": "Sun, 22 Nov 2026 10:00:00 GMT"})
    assert retry_after(headers, wall=WALL + skew) == 30.0
    assert server_time(headers, wall=WALL + skew) == WALL


def test_an_unreadable_date_field_falls_back_to_the_wall_clock() -> None:
    """A broken Date is as good as none."""
    headers = {"Retry-After": "Sun, 22 Nov 2026 10:00:30 GMT", "Date": "yesterday"}
    assert retry_after(headers, wall=WALL + 10) == 20.0


def test_a_date_without_a_zone_is_utc_wherever_this_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The local zone never enters."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        # Times that no other test reads: what was read once is remembered.
        assert moment("2026-11-22T10:00:31") == WALL + 31
        assert moment("Sun, 22 Nov 2026 10:00:32") == WALL + 32
        assert moment("Sun, 22 Nov 2026 10:00:33 -0000") == WALL + 33
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_date_above_the_cap_is_not_read() -> None:
    """A date is at most 128 characters, even one that could be read."""
    text = "Sun, 22 Nov 2026 10:00:30 GMT"
    assert moment(text + " x" * 49 + "x") == WALL + 30
    assert moment(text + " x" * 50) is None


@pytest.mark.parametrize("name", ["Retry-After", "retry-after", "RETRY-AFTER", "rEtRy-aFtEr"])
def test_names_are_found_in_any_case(name: str) -> None:
    """Field names are case-insensitive (RFC 9110 5.1), in a plain mapping too."""
    assert retry_after(CIMultiDictProxy(CIMultiDict({name: "4"})), wall=WALL) == 4.0
    assert retry_after({name: "4"}, wall=WALL) == 4.0
    assert retry_after(MappingProxyType({name: "4"}), wall=WALL) == 4.0


@pytest.mark.parametrize("text", ["1" * HUGE, "5," * (HUGE // 2), " " * HUGE, "Sun, " * (HUGE // 5), "(" * HUGE])
def test_ten_megabytes_are_not_looked_at(text: str) -> None:
    """A value above the cap of 128 characters is ignored before any parsing, whatever is in it."""
    assert retry_after(CIMultiDict({"Retry-After": text, "Date": text, "retry-after-ms": text}), wall=WALL) is None
    assert moment(text) is None


@settings(max_examples=150, derandomize=True, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["Retry-After", "retry-after-ms", "X-MS-Retry-After-MS", "Date"]),
            st.one_of(
                st.text(max_size=150),
                st.text("0123456789.,-+ :GMTSunovA", max_size=40),
                st.from_regex(
                    r"(Sun, )?[0-9]{1,2}[ -]Nov[ -][0-9]{1,5} [0-9]{1,3}:[0-9]{2}(:[0-9]{2})? [-+A-Z0-9]{0,9}"
                ),
                st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9.]{2,12}Z?", fullmatch=True),
            ),
        ),
        max_size=4,
    )
)
@example([("Retry-After", "\udcff")])
@example([("Retry-After", "0001-01-01T00:00:00+23:59")])
@example([("Retry-After", "1 Jan 0 00:00:00 GMT")])
def test_any_headers_give_seconds_in_range_or_nothing(headers: list[tuple[str, str]]) -> None:
    """Nothing a server sends raises, or gives a wait outside 0 to a year."""
    wait = retry_after(CIMultiDict(headers), wall=WALL)
    assert wait is None or 0.0 <= wait <= YEAR


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_the_wait_never_ends_before_a_stated_number(first: int, second: int) -> None:
    """Law 6 for lists: at least the greatest of the numbers, up to the clamp."""
    assert retry_after({"Retry-After": f"{first}, {second}"}, wall=WALL) == min(max(first, second), YEAR)
