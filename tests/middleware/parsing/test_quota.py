from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from apiclient.middleware._parsing.quota import MAX_LIMIT, Quota, read_headers, read_text
from apiclient.middleware._parsing.rate import YEAR

WALL = 1_795_341_600.0  # Sun, 22 Nov 2026 10:00:00 GMT
DATE = "Sun, 22 Nov 2026 10:00:00 GMT"
HUGE = 10_000_000


def quota(
    source: str,
    limit: int | None = None,
    period: float | None = None,
    remaining: int | None = None,
    reset: Any = None,
    name: str | None = None,
    partition: str | None = None,
) -> Quota:
    """Write a quota of which most is unsaid."""
    return Quota(limit, period, remaining, reset, name, partition, source)


def read(headers: dict[str, str] | list[tuple[str, str]], wall: float = WALL) -> list[Quota]:
    return list(read_headers(CIMultiDict(headers), wall=wall))


@pytest.mark.parametrize(
    ("text", "limit", "period"),
    [
        ("API calls quota exceeded! maximum admitted 5 per 1 second.", 5, 1.0),
        ("API calls quota exceeded! maximum admitted 5 per 1s.", 5, 1.0),
        ("API calls quota exceeded! maximum admitted 5 per Second.", 5, 1.0),
        ("API calls quota exceeded! maximum admitted 100 per 1m30s.", 100, 90.0),
        ("API calls quota exceeded! maximum admitted 100 per 15m.", 100, 900.0),
        ("API calls quota exceeded! maximum admitted 1000 per 12h.", 1000, 43_200.0),
        ("API calls quota exceeded! maximum admitted 1000 per 7d.", 1000, 604_800.0),
        ("API calls quota exceeded! maximum admitted 2.5 per 1s.", 2, 1.0),
        ("API calls quota exceeded! maximum admitted 1.5 per 1s.", 1, 1.0),
        ("API calls quota exceeded! maximum admitted 0.5 per 1s.", 1, 2.0),
        ("API calls quota exceeded! maximum admitted 1,000 per 1 hour.", 1000, 3600.0),
        ('{"message": "API calls quota exceeded! maximum admitted 5 per 1 second."}', 5, 1.0),
        ('{"error":"Rate limit exceeded: 5 per 1 minute"}', 5, 60.0),
        ("429 Too Many Requests: 10 per 1 minute", 10, 60.0),
        ("Rate limit of 40 requests per 10 second(s) exceeded", 40, 10.0),
        ("You are limited to 60 requests/min.", 60, 60.0),
        ("Rate limit is 10 req/s", 10, 1.0),
        ("10req/s", 10, 1.0),
        ("max 120 API calls per minute", 120, 60.0),
        ("Maximum 3 calls a second", 3, 1.0),
        ("You may make 100 requests every 10 seconds", 100, 10.0),
        ("no more than 100 requests in the last 60 seconds", 100, 60.0),
        ("only 30 queries within 1 minute", 30, 60.0),
        ("10,000 requests per day", 10_000, 86_400.0),
        (
            "Rate limit reached for m-1 in organization org-x on requests per min (RPM): Limit 3, Used 3, Requested 1.",
            3,
            60.0,
        ),
        ("Rate limit reached on requests per day. Limit: 200 / day.", 200, 86_400.0),
        ("1 request(s) per 1 second", 1, 1.0),
        ("maximum admitted 999999999999 per 1s", MAX_LIMIT, 1.0),
        ("maximum admitted 5000 per 1 year.", 5000, YEAR),
    ],
)
def test_a_limit_is_read_from_the_text_of_an_error(text: str, limit: int, period: float) -> None:
    """The seed API's wording, AspNetCoreRateLimit's and the common ones of others state limit and period."""
    assert read_text(text) == quota("text", limit, period)


@pytest.mark.parametrize(
    ("text", "reset"),
    [
        ("Request was throttled. Expected available in 5 seconds.", 5.0),
        ("Please try again in 1m30s.", 90.0),
        ("Try again after 5 minutes", 300.0),
        ("Please wait 10 seconds", 10.0),
        ("retry after 30 seconds", 30.0),
        ("Your limit resets in 42 seconds", 42.0),
        ('{"message": "You are being rate limited.", "retry_after": 0.65, "global": false}', 0.65),
        ('{"retryDelay": "34.5s"}', 34.5),
        ("retryAfter: 3", 3.0),
    ],
)
def test_a_wait_is_read_from_the_text_of_an_error(text: str, reset: float) -> None:
    """A text that only says when to come back gives the reset."""
    assert read_text(text) == quota("text", reset=reset)


def test_limit_and_wait_can_stand_together() -> None:
    """Both are taken from one text."""
    text = "Rate limit reached on requests per min. Limit: 3 / min. Please try again in 20s."
    assert read_text(text) == quota("text", 3, 60.0, reset=20.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Too many requests",
        "API rate limit exceeded",
        "maximum admitted 0 per 1 second",
        "maximum admitted five per 1 second",
        "maximum admitted 5 per 0 seconds",
        "maximum admitted 5 per fortnight",
        "Limit 'Read requests per minute per user' of service x exceeded",
        "see https://example.com/limits/5/day for help",
        "2026/11/22 10:00:00",
        "wait 100 years",
        '{"retry_after_ms": 500}',
        '{"retry_after": "500ms"}',
        " " * 1024 + "maximum admitted 5 per 1 second",
    ],
)
def test_text_without_a_limit_says_nothing(text: str) -> None:
    """No number is made up, none is taken from a URL or date, and only the first 1,024 characters are read."""
    assert read_text(text) is None


ANCRL = {
    "X-Rate-Limit-Limit": "1s",
    "X-Rate-Limit-Remaining": "4",
    "X-Rate-Limit-Reset": "2026-11-22T10:00:01.1234567Z",
}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        # Draft 8 and later.
        ({"RateLimit": '"default";r=50;t=30'}, [quota("draft-8", remaining=50, reset=30.0, name="default")]),
        (
            {"RateLimit": '"default";r=50;t=30', "RateLimit-Policy": '"default";q=100;w=60'},
            [quota("draft-8", 100, 60.0, remaining=50, reset=30.0, name="default")],
        ),
        ({"RateLimit-Policy": '"burst";q=5;w=1, "daily";q=1000;w=86400'}, [quota("draft-8", 5, 1.0, name="burst"), quota("draft-8", 1000, 86_400.0, name="daily")]),
        (
            {"RateLimit": '"daily";r=9;t=100', "RateLimit-Policy": '"burst";q=5;w=1,"daily";q=1000;w=86400'},
            [quota("draft-8", 1000, 86_400.0, remaining=9, reset=100.0, name="daily"), quota("draft-8", 5, 1.0, name="burst")],
        ),
        (
            {"RateLimit": '"5-in-1sec"; r=4; t=1; pk=:MTI3:', "RateLimit-Policy": '"5-in-1sec"; q=5; w=1; pk=:MTI3:'},
            [quota("draft-8", 5, 1.0, remaining=4, reset=1.0, name="5-in-1sec", partition="MTI3")],
        ),
        (
            {"RateLimit": '"a";r=1;t=1;pk="u1"', "RateLimit-Policy": '"a";q=5;w=1;pk="u2"'},
            [quota("draft-8", 5, 1.0, name="a", partition="u2"), quota("draft-8", remaining=1, reset=1.0, name="a", partition="u1")],
        ),
        ({"RateLimit": '"a";a=3;w=7'}, [quota("draft-8", remaining=3, reset=7.0, name="a")]),
        ({"RateLimit": "a;r=3"}, [quota("draft-8", remaining=3, name="a")]),
        (
            {"RateLimit": '"b";r=9000;t=1, "n";r=3;t=1', "RateLimit-Policy": '"b";q=10000;w=1;qu="content-bytes", "n";q=5;w=1;qu="requests"'},
            [quota("draft-8", 5, 1.0, remaining=3, reset=1.0, name="n")],
        ),
        (
            {"RateLimit": '"a";r=4;t=1', "RateLimit-Policy": '"a";q=5;w=1', "RateLimit-Limit": "5", "RateLimit-Remaining": "4"},
            [quota("draft-8", 5, 1.0, remaining=4, reset=1.0, name="a")],
        ),
        ({"RateLimit": '"a";r=4;t=1', "RateLimit-Policy": "5;w=1"}, [quota("draft-6", 5, 1.0), quota("draft-8", remaining=4, reset=1.0, name="a")]),
        # Draft 7.
        ({"RateLimit": "limit=5, remaining=0"}, [quota("draft-7", 5, remaining=0)]),
        (
            {"RateLimit": "limit=100, remaining=50, reset=30", "RateLimit-Policy": "5;w=1"},
            [quota("draft-7", 5, 1.0), quota("draft-7", 100, remaining=50, reset=30.0)],
        ),
        (
            {"RateLimit": "limit=5, remaining=4, reset=1", "RateLimit-Policy": '"b";q=10000;w=1;qu="content-bytes", 5;w=1'},
            [quota("draft-7", 5, 1.0, remaining=4, reset=1.0)],
        ),
        ({"RateLimit": "limit=5, remaining=0, reset=1"}, [quota("draft-7", 5, remaining=0, reset=1.0)]),
        ({"RateLimit": "limit=5, remaining=4, reset=1", "RateLimit-Policy": "5;w=1"}, [quota("draft-7", 5, 1.0, remaining=4, reset=1.0)]),
        (
            {"RateLimit": "limit=5, remaining=4, reset=1", "RateLimit-Policy": "100;w=60, 5;w=1"},
            [quota("draft-7", 100, 60.0), quota("draft-7", 5, 1.0, remaining=4, reset=1.0)],
        ),
        # Draft 6 and earlier.
        ({"RateLimit-Limit": "5", "RateLimit-Remaining": "4", "RateLimit-Reset": "1"}, [quota("draft-6", 5, remaining=4, reset=1.0)]),
        (
            {"RateLimit-Policy": "5;w=1", "RateLimit-Limit": "5", "RateLimit-Remaining": "4", "RateLimit-Reset": "1"},
            [quota("draft-6", 5, 1.0, remaining=4, reset=1.0)],
        ),
        (
            {"RateLimit-Limit": "10, 10;w=1, 50;w=60", "RateLimit-Remaining": "9", "RateLimit-Reset": "1"},
            [quota("draft-6", 10, 1.0, remaining=9, reset=1.0), quota("draft-6", 50, 60.0)],
        ),
        ({"RateLimit-Limit": "10, 10;window=1", "RateLimit-Remaining": "9"}, [quota("draft-6", 10, 1.0, remaining=9)]),
        ({"RateLimit-Policy": "5;w=1", "RateLimit-Remaining": "4"}, [quota("draft-6", 5, 1.0, remaining=4)]),
        ({"RateLimit-Limit": "600", "RateLimit-Remaining": "1", "RateLimit-Reset": "1795341660"}, [quota("draft-6", 600, remaining=1, reset=60.0)]),
        # X-RateLimit-*: delta, epochs of every unit, durations, dates.
        ({"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "59", "X-RateLimit-Reset": "30"}, [quota("x-ratelimit", 60, remaining=59, reset=30.0)]),
        ({"X-RateLimit-Limit": "60", "X-RateLimit-Reset": "0"}, [quota("x-ratelimit", 60, reset=0.0)]),
        ({"X-RateLimit-Limit": "60", "X-RateLimit-Reset": "0.25"}, [quota("x-ratelimit", 60, reset=0.25)]),
        ({"X-RateLimit-Limit": "60", "X-RateLimit-Reset": "1795341630"}, [quota("x-ratelimit", 60, reset=30.0)]),
        ({"X-RateLimit-Limit": "60", "X-RateLimit-Reset": "1795341630.5"}, [quota("x-ratelimit", 60, reset=30.5)]),
        ({"X-RateLimit-Limit": "60", "X-RateLimit-Reset": "1795341630500"}, [quota("x-ratelimit", 60, reset=30.5)]),
        ({"X-RateLimit-Limit": "60", "X-RateLimit-Reset": "1795341630500000"}, [quota("x-ratelimit", 60, reset=30.5)]),
        ({"X-RateLimit-Limit": "60", "X-RateLimit-Reset": "1795341000"}, [quota("x-ratelimit", 60, reset=0.0)]),
        ({"X-RateLimit-Limit": "60", "X-RateLimit-Reset": "6m0s"}, [quota("x-ratelimit", 60, reset=360.0)]),
        ({"X-RateLimit-Limit": "60", "X-RateLimit-Reset": "2026-11-22T10:00:30Z"}, [quota("x-ratelimit", 60, reset=30.0)]),
        ({"X-RateLimit-Limit": "60", "X-RateLimit-Reset": "Sun, 22 Nov 2026 10:00:30 GMT"}, [quota("x-ratelimit", 60, reset=30.0)]),
        ({"X-RateLimit-Limit": "60", "X-RateLimit-Reset": "soon"}, [quota("x-ratelimit", 60)]),
        ({"X-RateLimit-Remaining": "599.0", "X-RateLimit-Reset": "345"}, [quota("x-ratelimit", remaining=599, reset=345.0)]),
        ({"X-RateLimit-Limit": "5/1s"}, [quota("x-ratelimit", 5, 1.0)]),
        ({"X-RateLimit-Limit": '10, 10;w=1;name="x"', "X-RateLimit-Remaining": "9"}, [quota("x-ratelimit", 10, 1.0, remaining=9)]),
        ({"X-RateLimit-Limit": "10, 10;w=1, 50;w=60", "X-RateLimit-Remaining": "9"}, [quota("x-ratelimit", 10, 1.0, remaining=9), quota("x-ratelimit", 50, 60.0)]),
        (
            {"X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1795341660", "X-RateLimit-Resource": "core"},
            [quota("x-ratelimit", 5000, remaining=0, reset=60.0, name="core")],
        ),
        (
            {"X-RateLimit-Limit": "5", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1795341660", "X-RateLimit-Reset-After": "1.2", "X-RateLimit-Bucket": "abcd"},
            [quota("x-ratelimit", 5, remaining=0, reset=1.2, name="abcd")],
        ),
        # X-Rate-Limit-*.
        (ANCRL, [quota("aspnetcore", period=1.0, remaining=4, reset=1.0)]),
        ({**ANCRL, "X-Rate-Limit-Limit": "15m"}, [quota("aspnetcore", period=900.0, remaining=4, reset=pytest.approx(1.123456, abs=1e-5))]),
        ({"X-Rate-Limit-Limit": "900", "X-Rate-Limit-Remaining": "1", "X-Rate-Limit-Reset": "1795341660"}, [quota("x-rate-limit", 900, remaining=1, reset=60.0)]),
        # Kong, OpenAI, Shopify.
        (
            {"RateLimit-Limit": "5", "RateLimit-Remaining": "4", "RateLimit-Reset": "1", "X-RateLimit-Limit-Second": "5", "X-RateLimit-Remaining-Second": "4", "X-RateLimit-Limit-Hour": "100", "X-RateLimit-Remaining-Hour": "99"},
            [quota("kong", 5, 1.0, remaining=4, reset=1.0), quota("kong", 100, 3600.0, remaining=99)],
        ),
        ({"X-RateLimit-Limit-Minute": "7", "X-RateLimit-Remaining-Minute": "3"}, [quota("kong", 7, 60.0, remaining=3)]),
        ({"X-RateLimit-Limit-Month": "7", "X-RateLimit-Remaining-Month": "3"}, [quota("kong", 7, 2_592_000.0, remaining=3)]),
        (
            {"X-RateLimit-Limit-Requests": "60", "X-RateLimit-Remaining-Requests": "59", "X-RateLimit-Reset-Requests": "1s", "X-RateLimit-Limit-Tokens": "150000"},
            [quota("requests", 60, remaining=59, reset=1.0)],
        ),
        ({"X-Shopify-Shop-Api-Call-Limit": "32/40"}, [quota("shopify", 40, remaining=8)]),
        ({"X-Shopify-Shop-Api-Call-Limit": "41/40"}, [quota("shopify", 40, remaining=0)]),
        # One quota said twice.
        (
            {"RateLimit-Policy": '"5-in-1sec"; q=5; w=1', "RateLimit": '"5-in-1sec"; r=4; t=1', "X-RateLimit-Limit": "5", "X-RateLimit-Remaining": "4", "X-RateLimit-Reset": "1795341601"},
            [quota("draft-8", 5, 1.0, remaining=4, reset=1.0, name="5-in-1sec")],
        ),
        (
            {"RateLimit-Limit": "5", "RateLimit-Remaining": "4", "X-RateLimit-Limit": "5", "X-RateLimit-Remaining": "4", "X-RateLimit-Reset": "30"},
            [quota("draft-6", 5, remaining=4, reset=30.0)],
        ),
        (
            {"RateLimit": '"a";r=1;pk="u1", "a";r=2;pk="u2"', "RateLimit-Policy": '"a";q=5;w=1'},
            [quota("draft-8", 5, 1.0, remaining=1, name="a", partition="u1"), quota("draft-8", 5, 1.0, remaining=2, name="a", partition="u2")],
        ),
        (
            {"RateLimit-Policy": '"a";q=5;w=1', "X-RateLimit-Limit": "5", "X-RateLimit-Remaining": "4"},
            [quota("draft-8", 5, 1.0, remaining=4, name="a")],
        ),
        # One that says nothing beside one that does.
        ({"RateLimit-Limit": "unlimited", "X-RateLimit-Limit": "5"}, [quota("x-ratelimit", 5)]),
        # Several that are alike and yet not one.
        ({"RateLimit-Policy": '"a";q=5;w=1, "b";q=5;w=1'}, [quota("draft-8", 5, 1.0, name="a"), quota("draft-8", 5, 1.0, name="b")]),
        ({"RateLimit-Policy": "5;w=1, 5;w=60, 5;w=1"}, [quota("draft-6", 5, 1.0), quota("draft-6", 5, 60.0)]),
        ({"RateLimit-Limit": "5", "X-RateLimit-Limit": "7"}, [quota("draft-6", 5), quota("x-ratelimit", 7)]),
        # A limit of nothing.
        ({"X-RateLimit-Limit": "0", "X-RateLimit-Reset": "30"}, [quota("x-ratelimit", remaining=0, reset=30.0)]),
        ({"RateLimit-Policy": '"a";q=0;w=1'}, [quota("draft-8", None, 1.0, remaining=0, name="a")]),
        # Clamped, or out of all reason.
        ({"X-RateLimit-Limit": "1000000000000000000"}, [quota("x-ratelimit", MAX_LIMIT)]),
        ({"X-RateLimit-Limit": "5", "X-RateLimit-Remaining": "999999999999"}, [quota("x-ratelimit", 5, remaining=MAX_LIMIT)]),
        ({"X-RateLimit-Limit": "5", "X-RateLimit-Reset": "2110874400"}, [quota("x-ratelimit", 5)]),
        ({"X-RateLimit-Limit": "5", "X-RateLimit-Reset": "315360000"}, [quota("x-ratelimit", 5)]),
        ({"RateLimit": '"a";r=1;t=999999999999999'}, [quota("draft-8", remaining=1, name="a")]),
        ({"RateLimit-Policy": '"a";q=999999999999999;w=999999999999999'}, [quota("draft-8", MAX_LIMIT, name="a")]),
    ],
)  # fmt: skip
def test_what_headers_say(headers: dict[str, str], expected: list[Quota]) -> None:
    """Each family of fields, old and new, gives its quotas; repeats are folded, nonsense is clamped or left out."""
    assert read(headers) == expected


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "application/json", "Retry-After": "1"},
        {"RateLimit": '"a";r=-1'},
        {"RateLimit": '"a";t=1'},
        {"RateLimit": "5;r=1"},
        {"RateLimit": '"a";r=1,'},
        {"RateLimit": '"a;r=1'},
        {"RateLimit": '("a");r=1'},
        {"RateLimit": ""},
        {"RateLimit": '"a";r="1"'},
        {"RateLimit": '"a";r=1.5'},
        {"RateLimit-Policy": '"a";w=1'},
        {"RateLimit-Policy": '"a";q=5;w=1;qu="concurrent-requests"'},
        {"RateLimit-Policy": "-5;w=1"},
        {"RateLimit-Limit": "unlimited"},
        {"RateLimit-Limit": "-1"},
        {"X-RateLimit-Limit": ""},
        {"X-RateLimit-Limit": "nan"},
        {"X-RateLimit-Limit": "inf"},
        {"X-RateLimit-Limit": "1e3"},
        {"X-RateLimit-Limit": "\u0665"},
        {"X-RateLimit-Limit": "1" * 40},
        {"X-RateLimit-Remaining": "-1"},
        {"X-Rate-Limit-Limit": "0s"},
        {"X-Rate-Limit-Limit": "1 fortnight"},
        {"X-Shopify-Shop-Api-Call-Limit": "40"},
        {"X-Shopify-Shop-Api-Call-Limit": "a/b"},
        {"X-RateLimit-Limit-Second": "five"},
    ],
)
def test_headers_that_say_nothing(headers: dict[str, str]) -> None:
    """No field, or only malformed ones, is no quota."""
    assert read(headers) == []


WRAPS: list[Callable[[Any], Any]] = [
    dict,
    CIMultiDict,
    MappingProxyType,
    lambda pairs: CIMultiDictProxy(CIMultiDict(pairs)),
]


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("spell", [str, str.lower, str.upper])
def test_names_are_found_in_any_case(wrap: Any, spell: Any) -> None:
    """Field names are case-insensitive in every kind of mapping."""
    headers = wrap({spell("X-RateLimit-Limit"): "5", spell("X-RateLimit-Remaining"): "4"})
    assert read_headers(headers, wall=WALL) == (quota("x-ratelimit", 5, remaining=4),)


def test_repeated_fields_are_one_list() -> None:
    """RFC 9110 5.3: several lines of one field are its members joined; of repeated numbers the least holds."""
    assert read([("RateLimit-Policy", '"a";q=5;w=1'), ("RateLimit-Policy", '"b";q=9;w=60')]) == [
        quota("draft-8", 5, 1.0, name="a"),
        quota("draft-8", 9, 60.0, name="b"),
    ]
    assert read([("X-RateLimit-Remaining", "4"), ("X-RateLimit-Remaining", "3")]) == [quota("x-ratelimit", remaining=3)]
    assert read([("X-RateLimit-Limit", "9"), ("X-RateLimit-Limit", "5")]) == [quota("x-ratelimit", 5)]


@pytest.mark.parametrize(
    ("skew", "reset"),
    [(-3600.0, 30.0), (-0.5, 30.0), (0.0, 30.0), (0.5, 29.5), (1.5, 28.5), (2.0, 30.0), (2.5, 30.0), (3600.0, 30.0)],
)
def test_a_point_in_time_is_counted_from_the_servers_clock(skew: float, reset: float) -> None:
    """Date rules where the clocks disagree; within its whole second the finer clock is kept."""
    headers = {"X-RateLimit-Limit": "5", "X-RateLimit-Reset": "1795341630", "Date": DATE}
    assert read(headers, WALL + skew) == [quota("x-ratelimit", 5, reset=reset)]


@pytest.mark.parametrize(
    ("reset", "now", "left"),
    [
        ("31536000", WALL, YEAR),
        ("31536001", WALL, None),
        ("500000000", 499_999_990.0, 10.0),
        ("499999999", 499_999_990.0, None),
        ("100000000000", 99_999_990.0, 10.0),
        ("100000000000000", 99_999_990.0, 10.0),
        ("100000000000000000", 99_999_990.0, 10.0),
        ("1795341630000", WALL, 30.0),
        ("1795341630000000", WALL, 30.0),
        ("1795341630000000000", WALL, 30.0),
        ("1795341500", WALL, 0.0),
        ("Sun, 22 Nov 2026 09:59:00 GMT", WALL, 0.0),
        ("2026-11-22T10:00:30Z", WALL, 30.0),
    ],
)
def test_a_reset_is_a_wait_or_an_epoch_by_its_size(reset: str, now: float, left: float | None) -> None:
    """Up to a year it is a wait, from 15 years on an epoch in seconds, milli-, micro- or nanoseconds, or a date."""
    assert read({"X-RateLimit-Limit": "5", "X-RateLimit-Reset": reset}, now) == [quota("x-ratelimit", 5, reset=left)]


@pytest.mark.parametrize(
    ("remaining", "least"),
    [
        ("0", 0),
        ("4, 0", 0),
        ("0.5", 0),
        ("1", 1),
        ("2000000000", MAX_LIMIT),
        ("20000000000", MAX_LIMIT),
        ("4, x", None),
    ],
)
def test_a_count_is_the_least_of_its_numbers_and_clamped(remaining: str, least: int | None) -> None:
    """Zero is a number too; one that is none spoils the field."""
    expected = [] if least is None else [quota("x-ratelimit", remaining=least)]
    assert read({"X-RateLimit-Remaining": remaining}) == expected


@pytest.mark.parametrize(
    "name",
    [
        "RateLimit",
        "RateLimit-Policy",
        "RateLimit-Limit",
        "X-RateLimit-Limit",
        "X-RateLimit-Reset",
        "X-Rate-Limit-Limit",
        "X-Shopify-Shop-Api-Call-Limit",
        "X-RateLimit-Limit-Second",
    ],
)
@pytest.mark.parametrize("unit", ["1", "1,", '"a";q=1,', ";", "1s", " ", '"', "a=1,", "/1"])
def test_ten_megabytes_of_a_field_are_ignored(name: str, unit: str) -> None:
    """A field above its cap is as good as absent; many members at the cap give at most 16 quotas."""
    assert read({name: unit * (HUGE // len(unit))}) == []
    assert len(read({name: (unit * 4096)[:4096]})) <= 16


def test_at_most_sixteen_quotas_come_out() -> None:
    """However many policies a server lists."""
    assert len(read({"RateLimit-Policy": ",".join(f'"p{i}";q={i + 1};w=1' for i in range(100))})) == 16


WORDS = [
    "maximum admitted ",
    "5 ",
    "5,000",
    " per ",
    "1 second",
    "1m30s",
    "requests ",
    "a ",
    "in ",
    "limit: ",
    "try again in ",
    "/",
    "9" * 20,
    " ",
    "e-1",
    ".",
]


@pytest.mark.parametrize(
    "unit", [*WORDS, "5 a b requests ", "1s1s1s1s", "requests per min ", "limit 1 requests per m "]
)
def test_ten_megabytes_of_text_are_bounded(unit: str) -> None:
    """Only the head is searched, and no repetition makes the search explode (the time limit would end the test)."""
    read_text(unit * (HUGE // len(unit)))


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.text(max_size=200) | st.lists(st.sampled_from(WORDS), max_size=20).map("".join))
def test_any_text_is_a_quota_in_range_or_nothing(text: str) -> None:
    """Nothing in an error text raises or leaves the ranges that Quota states."""
    read_one = read_text(text)
    if read_one is not None:
        check(read_one)


NAMES = [
    "RateLimit",
    "RateLimit-Policy",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "X-Rate-Limit-Limit",
    "X-Rate-Limit-Remaining",
    "X-Rate-Limit-Reset",
    "X-RateLimit-Limit-Second",
    "X-Shopify-Shop-Api-Call-Limit",
    "X-RateLimit-Reset-After",
    "X-RateLimit-Bucket",
    "Date",
]
VALUES = st.one_of(
    st.text(max_size=40),
    st.integers(-5, 10**19).map(str),
    st.floats().map(str),
    st.lists(
        st.sampled_from(
            [
                '"a"',
                "a",
                "5",
                ";r=1",
                ";t=5",
                ";q=9",
                ";w=1",
                ";pk=:YQ==:",
                ";pk=?1",
                ", ",
                "limit=",
                "remaining=",
                "reset=",
                "1s",
                "/",
                "-",
                "0",
                "2026-11-22T10:00:00Z",
                DATE,
            ]
        ),
        max_size=12,
    ).map("".join),
)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=8), st.floats(-1e10, 1e12))
@example([("X-RateLimit-Limit", "5"), ("X-RateLimit-Reset", "\udcff")], 0.0)
@example([("X-RateLimit-Limit", "5"), ("X-RateLimit-Reset", "9999-12-31T23:59:59Z")], -1e10)
def test_any_headers_are_quotas_in_range(headers: list[tuple[str, str]], wall: float) -> None:
    """Nothing in the headers raises or leaves the ranges that Quota states."""
    quotas = read_headers(CIMultiDict(headers), wall=wall)
    assert len(quotas) <= 16
    for each in quotas:
        check(each)


def check(each: Quota) -> None:
    assert each.limit is None or 1 <= each.limit <= MAX_LIMIT
    assert each.period is None or 0 < each.period <= YEAR
    assert each.remaining is None or 0 <= each.remaining <= MAX_LIMIT
    assert each.reset is None or 0 <= each.reset <= YEAR
    assert any(value is not None for value in each[:4])
