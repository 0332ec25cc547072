"""Counts and distributions that stay small and can be added."""

import json
import math
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiclient import BatchResult, Request, errors
from apiclient.job import Histogram, Statistics
from apiclient.job._report import page
from apiclient.middleware.errors import Attempt

CHROMIUM = shutil.which("chromium")
durations = st.lists(st.floats(min_value=1e-6, max_value=1e5), min_size=1, max_size=80)


def _filled(values: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


@given(durations, st.floats(min_value=0.01, max_value=1.0))
@settings(max_examples=100, derandomize=True)
def test_a_quantile_is_right_to_a_few_hundredths(values: list[float], share: float) -> None:
    """The estimate is within 3 % of the true quantile for durations from 10 us to a day, and within the extremes."""
    inside = [min(max(value, 1.01e-5), 9e4) for value in values]
    true = sorted(inside)[max(1, math.ceil(share * len(inside))) - 1]
    assert _filled(inside).quantile(share) == pytest.approx(true, rel=0.031)


@given(durations, durations)
@settings(max_examples=50, derandomize=True)
def test_two_histograms_added_are_the_histogram_of_both(first: list[float], second: list[float]) -> None:
    """Merging is the same as having counted everything in one place, also by way of JSON."""
    merged = Histogram.of(json.loads(json.dumps(_filled(first).data())))
    merged.merge(_filled(second))
    both = _filled(first + second)
    assert merged.data()["buckets"] == both.data()["buckets"]
    assert merged.count == both.count
    assert merged.total == pytest.approx(both.total, abs=1e-4)


def _result(number: int, **changes: Any) -> BatchResult:
    given: dict[str, Any] = {
        "request": Request(path="/a"),
        "ok": True,
        "status": 200,
        "attempts": 1,
        "duration": 0.01 * (number + 1),
        "network": 0.01,
        "endpoint": "GET /a",
    }
    return BatchResult(**{**given, **changes})


def _statistics(count: int, *, began: float = 1000.0, every: float = 0.5) -> Statistics:
    statistics = Statistics(began)
    for number in range(count):
        changes: dict[str, Any] = {}
        if number % 5 == 4:
            error = errors.NotFound("404 <b>Not Found</b>", status=404)
            changes = {"ok": False, "status": 404, "error": error, "endpoint": "GET /<b>"}
        if number % 7 == 6:
            trail = (Attempt(429, None, 1.0, 0.01),)
            changes |= {"attempts": 2, "trail": trail, "waits": {"limiter": 1.0, "token": 0.1}}
        statistics.add(_result(number, **changes), f'"{number}"', began + every * (number + 1))
    return statistics


def test_everything_is_counted() -> None:
    """Calls, successes, failures, wire requests, 429s and waits are what was put in."""
    statistics = _statistics(70)
    assert (statistics.calls, statistics.ok, statistics.failed) == (70, 56, 14)
    assert (statistics.wire, statistics.again, statistics.rejected) == (80, 10, 10)
    assert statistics.statuses == {200: 56, 404: 14}
    assert statistics.errors["NotFound"]["count"] == 14
    assert statistics.waits["limiter"].total == pytest.approx(10.0)
    assert statistics.call_latency.count == 70
    assert statistics.amplification == pytest.approx(80 / 70)
    assert sum(step["#calls"] for step in statistics.course.values()) == 70
    assert [round(entry[0], 2) for entry in sorted(statistics.slowest, reverse=True)][:2] == [0.7, 0.69]


def test_the_size_does_not_grow_with_the_batch() -> None:
    """Steps, endpoints, errors and slowest calls are bounded, whatever comes."""
    statistics = Statistics(0.0)
    for number in range(5000):
        statistics.add(_result(number, endpoint=f"GET /{number}"), str(number), float(number))
    assert len(statistics.course) <= 600
    assert len(statistics.endpoints) <= 41
    assert len(statistics.slowest) == 12
    assert sum(step["#calls"] for step in statistics.course.values()) == 5000
    assert sum(endpoint.calls for endpoint in statistics.endpoints.values()) == 5000
    assert statistics.width == 16


def test_shards_add_up() -> None:
    """Two summaries, one coarser than the other, by way of JSON: all counts are their sums."""
    first, second = _statistics(70), _statistics(3000, began=1100.0)
    merged = Statistics.of(json.loads(json.dumps(first.data())))
    merged.merge(Statistics.of(json.loads(json.dumps(second.data()))))
    assert (merged.calls, merged.wire, merged.failed) == (3070, first.wire + second.wire, 14 + 600)
    assert merged.began == 1000.0
    assert merged.ended == second.ended
    assert merged.errors["NotFound"]["count"] == 614
    assert merged.endpoints["GET /a"].calls == first.endpoints["GET /a"].calls + second.endpoints["GET /a"].calls
    assert sum(step["#calls"] for step in merged.course.values()) == 3070
    assert merged.width == second.width > first.width


def test_a_summary_comes_back_as_it_was() -> None:
    """Reading back what was written and writing it again gives the same."""
    data = json.loads(json.dumps(_statistics(70).data()))
    assert json.loads(json.dumps(Statistics.of(data).data())) == data


@pytest.mark.parametrize("data", [{}, {"version": 99}, {"version": 1, "began": "x"}])
def test_what_is_no_summary_is_refused(data: dict[str, Any]) -> None:
    """A wrong file is a ValueError that says so, never a half-filled report."""
    with pytest.raises(ValueError, match=r"summary|version|float"):
        Statistics.of(data)


class _Tags(HTMLParser):
    """Checks that tags close in order, and collects what could load something."""

    VOID = frozenset({"meta"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.loads += [f"{name}={value}" for name, value in attrs if name in {"src", "href", "srcset", "action"}]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _parsed(text: str) -> _Tags:
    tags = _Tags()
    tags.feed(text)
    assert tags.open == []
    return tags


def test_the_page_is_whole_and_needs_no_network() -> None:
    """Tags are balanced, nothing is loaded, no script runs, and the policy in the page forbids both."""
    statistics = _statistics(70)
    statistics.endpoints["GET /a"].rates = ((5, 1.0),)
    statistics.event(1010.0, "circuit open: https://api.example.com")
    text = page([statistics], title="in.jsonl <script>alert(1)</script>")
    tags = _parsed(text)
    assert tags.loads == []
    assert "script" not in tags.seen
    assert "url(" not in text
    assert "default-src 'none'" in text


def test_the_page_escapes_what_came_from_outside() -> None:
    """Messages, endpoints and titles of others do not become markup."""
    text = page([_statistics(70)], title="<b>title</b>")
    assert "<b>title" not in text
    assert "<b>Not Found" not in text
    assert "GET /&lt;b&gt;" in text


def test_the_page_shows_quota_light_and_dark() -> None:
    """The quota is a line in its endpoint's chart; there are colours for both schemes; it adapts to a phone."""
    statistics = _statistics(70)
    statistics.endpoints["GET /a"].rates = ((5, 1.0),)
    text = page([statistics], title="t")
    assert "5 per 1 s" in text
    assert "prefers-color-scheme:dark" in text
    assert "width=device-width" in text


@pytest.mark.parametrize("count", [0, 1])
def test_a_page_about_little_is_still_a_page(count: int) -> None:
    """A batch without any result, or with one, gives a page."""
    _parsed(page([_statistics(count)], title="t"))


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_browser_draws_the_page_and_complains_of_nothing(tmp_path: Path) -> None:
    """Chromium renders the page at the width of a phone, loads nothing besides it, and refuses nothing in it."""
    path = tmp_path / "report.html"
    path.write_text(page([_statistics(70)], title="t"), encoding="utf-8")
    picture = tmp_path / "report.png"
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={picture}", "--window-size=500,1600"]
    done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=25, check=False)
    assert done.returncode == 0, done.stderr
    assert picture.stat().st_size > 20_000
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line or "Refused to" in line]
    assert console == []
