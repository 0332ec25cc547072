"""Charts as SVG text, by hand: no script, no network, colours from the page's style sheet."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 360, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 10, 24
_PER_DECADE = 10  # bars of a distribution, as Histogram.bars gives them
_PLOT_WIDTH = WIDTH - _LEFT - _RIGHT
_PLOT_HEIGHT = HEIGHT - _TOP - _BOTTOM


class Line(NamedTuple):
    """A level drawn across a chart.

    Attributes:
        value: Where.
        label: What it is.
    """

    value: float
    label: str


def course(
    values: Sequence[float], *, start: float, width: float, tone: str, label: str, line: Line | None = None
) -> str:
    """Draw *values* over time.

    Args:
        values: One for each step.
        start: Seconds since the beginning at the first step.
        width: Seconds of a step.
        tone: Class of the colour.
        label: What the values are, for people who hear the page.
        line: A level to compare with.
    """
    top = _nice(max([*values, line.value if line is not None else 0.0, 1e-9]))
    length = max(len(values) * width, width)
    parts = [_frame(label), *_scale(top), *_time_axis(start, length)]
    points: list[str] = []
    for number, value in enumerate(values):
        y = _TOP + _PLOT_HEIGHT * (1 - value / top)
        points += [f"{_LEFT + _PLOT_WIDTH * edge * width / length:.1f},{y:.1f}" for edge in (number, number + 1)]
    base = _TOP + _PLOT_HEIGHT
    if points:
        area = f"{_LEFT},{base} {' '.join(points)} {_LEFT + _PLOT_WIDTH},{base}"
        parts.append(f'<polygon class="area {tone}" points="{area}"/>')
        parts.append(f'<polyline class="stroke {tone}" points="{" ".join(points)}"/>')
    if line is not None:
        y = _TOP + _PLOT_HEIGHT * (1 - line.value / top)
        parts.append(f'<line class="limit" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="limit" x="{WIDTH - _RIGHT}" y="{max(y - 3, 8):.1f}">{escape(line.label)}</text>')
    return "".join([*parts, "</svg>"])


def distributions(series: Sequence[tuple[str, str, Sequence[tuple[float, int]]]], *, label: str) -> str:
    """Draw distributions of durations over one another, on a logarithmic scale.

    Args:
        series: Name, class of the colour, and bars of lower edge (seconds) and number.
        label: What they are.
    """
    edges = [edge for _, _, bars in series for edge, _ in bars]
    if not edges:
        return _nothing(label)
    low = math.floor(math.log10(min(edges)) * 2) / 2
    high = max(math.ceil(math.log10(max(edges) * 1.25) * 2) / 2, low + 0.5)
    parts = [_frame(label)]
    for tick in range(math.ceil(low), math.floor(high) + 1):
        x = _LEFT + _PLOT_WIDTH * (tick - low) / (high - low)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_TOP + _PLOT_HEIGHT}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 8}">{span(10.0**tick)}</text>')
    base = _TOP + _PLOT_HEIGHT
    for _, tone, bars in series:
        most = max((number for _, number in bars), default=1) or 1
        points = [f"{_LEFT + _PLOT_WIDTH * (math.log10(bars[0][0]) - low) / (high - low):.1f},{base}"] if bars else []
        step = _PLOT_WIDTH / (high - low) / _PER_DECADE
        for edge, number in bars:
            x = _LEFT + _PLOT_WIDTH * (math.log10(edge) - low) / (high - low)
            y = base - _PLOT_HEIGHT * number / most
            points += [f"{x:.1f},{y:.1f}", f"{x + step:.1f},{y:.1f}"]
        if bars:
            points.append(f"{points[-1].partition(',')[0]},{base}")
            parts.append(f'<polygon class="area {tone}" points="{" ".join(points)}"/>')
            parts.append(f'<polyline class="stroke {tone}" points="{" ".join(points)}"/>')
    return "".join([*parts, "</svg>"])


def strips(
    rows: Sequence[tuple[str, str, Sequence[float]]],
    *,
    start: float,
    width: float,
    marks: Sequence[tuple[float, str]],
    label: str,
) -> str:
    """Draw what happened when: a row of bars for each kind, on one time axis, and marks across all of them.

    Args:
        rows: Name, class of the colour, and a number for each step.
        start: Seconds since the beginning at the first step.
        width: Seconds of a step.
        marks: Seconds since the beginning, and what happened then.
        label: What it is.
    """
    steps = max((len(values) for _, _, values in rows), default=0)
    length = max(steps * width, width)
    height = _PLOT_HEIGHT / max(len(rows), 1)
    parts = [_frame(label), *_time_axis(start, length)]
    for number, (name, tone, values) in enumerate(rows):
        base = _TOP + height * (number + 1)
        most = max([*values, 1])
        parts.append(f'<text class="name" x="{_LEFT - 4}" y="{base - 3:.1f}">{escape(name)}</text>')
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{base:.1f}" y2="{base:.1f}"/>')
        for place, value in enumerate(values):
            if value:
                x, tall = _LEFT + _PLOT_WIDTH * place * width / length, max(2.0, (height - 5) * value / most)
                wide = max(1.0, _PLOT_WIDTH * width / length)
                shape = f'x="{x:.1f}" y="{base - tall:.1f}" width="{wide:.1f}" height="{tall:.1f}"'
                title = f"{span(start + place * width)}: {value:g} {name}"
                parts.append(f'<rect class="bar {tone}" {shape}><title>{escape(title)}</title></rect>')
    for at, text in marks:
        x = _LEFT + _PLOT_WIDTH * min(max((at - start) / length, 0.0), 1.0)
        where = f'x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_TOP + _PLOT_HEIGHT}"'
        parts.append(f'<line class="mark" {where}><title>{escape(f"{span(at)}: {text}")}</title></line>')
    return "".join([*parts, "</svg>"])


def bars(rows: Sequence[tuple[str, str, float, str]], *, label: str) -> str:
    """Draw lengths beside one another.

    Args:
        rows: Name, class of the colour, length, and what is written at its end.
        label: What they are.
    """
    if not rows:
        return _nothing(label)
    most = max(*(value for _, _, value, _ in rows), 1e-9)
    height = min(26.0, (HEIGHT - 8) / len(rows))
    parts = [_frame(label)]
    for number, (name, tone, value, text) in enumerate(rows):
        y = 4 + height * number
        wide = max(1.0, (WIDTH - 216) * value / most)
        parts.append(f'<text class="name" x="70" y="{y + height * 0.65:.1f}">{escape(name)}</text>')
        parts.append(
            f'<rect class="bar {tone}" x="76" y="{y + 3:.1f}" width="{wide:.1f}" height="{height - 6:.1f}" rx="2"/>'
        )
        parts.append(f'<text class="value" x="{82 + wide:.1f}" y="{y + height * 0.65:.1f}">{escape(text)}</text>')
    return "".join([*parts, "</svg>"])


def span(seconds: float) -> str:
    """Write *seconds* for a person."""
    if seconds <= 0:
        return "0"
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 100:
        return f"{seconds:.3g} s"
    if seconds < 7200:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h"


def _frame(label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label, quote=True)}">'


def _nothing(label: str) -> str:
    return f'{_frame(label)}<text class="tick" x="{WIDTH / 2}" y="{HEIGHT / 2}">nothing</text></svg>'


def _scale(top: float) -> list[str]:
    parts: list[str] = []
    for share in (0.0, 0.5, 1.0):
        y = _TOP + _PLOT_HEIGHT * (1 - share)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="name" x="{_LEFT - 4}" y="{y + 3:.1f}">{top * share:g}</text>')
    return parts


def _time_axis(start: float, length: float) -> list[str]:
    step = _nice(length / 4)
    parts: list[str] = []
    at = math.ceil(start / step) * step
    while at <= start + length:
        x = _LEFT + _PLOT_WIDTH * (at - start) / length
        parts.append(f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 8}">{span(at)}</text>')
        at += step
    return parts


def _nice(value: float) -> float:
    """Return the next greater number of the form 1, 2, 2.5 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= value * 0.999)
