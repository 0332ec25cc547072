"""What a batch did, as one page that needs nothing else: no script, no network."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape

from apiclient.job._charts import Line, bars, course, distributions, span, strips
from apiclient.job._statistics import WAITS, Endpoint, Statistics

_MOST_PANELS = 6
_TONES = ("t1", "t2", "t3", "t4", "t5", "t6")

_STYLE = """
:root{color-scheme:light dark;--back:#fbfbfa;--card:#fff;--ink:#1d2025;--dim:#656b75;--rule:#e3e4e8;--bad:#b3261e;
--t1:#2f6fdb;--t2:#0e8a6d;--t3:#a15c00;--t4:#8a4bc4;--t5:#bd3b6b;--t6:#4f6b1f}
@media(prefers-color-scheme:dark){:root{--back:#14161a;--card:#1c1f25;--ink:#e8eaed;--dim:#9aa1ac;--rule:#30343c;
--bad:#ff8a80;--t1:#7cabff;--t2:#4fd1ac;--t3:#f0a848;--t4:#c79bf2;--t5:#f58bb0;--t6:#b2d06b}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1160px;margin:0 auto;padding:20px 16px 48px}
h1{font-size:22px;margin:0 0 2px;overflow-wrap:anywhere}h2{font-size:17px;margin:30px 0 10px}
h3{font-size:13px;margin:0 0 6px;font-weight:600;overflow-wrap:anywhere}
p{margin:0 0 10px;color:var(--dim)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(132px,1fr));gap:10px;margin-top:16px}
.tile,.panel{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:10px 12px}
.tile b{display:block;font-size:21px;line-height:1.25;font-variant-numeric:tabular-nums}
.tile span{color:var(--dim);font-size:13px}
.tile.bad b{color:var(--bad)}
.panels{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(320px,100%),1fr));gap:12px}
svg{display:block;width:100%;height:auto}
svg text{font-size:10px;fill:var(--dim)}svg .name,svg text.limit{text-anchor:end}svg .tick{text-anchor:middle}
svg .value{fill:var(--ink)}.grid{stroke:var(--rule)}.limit{stroke:var(--bad);stroke-dasharray:4 3}
svg text.limit{stroke:none;fill:var(--bad)}.mark{stroke:var(--bad);stroke-width:1.5}
.stroke{fill:none;stroke-width:1.5}.area{opacity:.16}
.t1{stroke:var(--t1)}.t2{stroke:var(--t2)}.t3{stroke:var(--t3)}
.t4{stroke:var(--t4)}.t5{stroke:var(--t5)}.t6{stroke:var(--t6)}
.area,.bar{stroke:none}
.area.t1,.bar.t1,i.t1{fill:var(--t1);background:var(--t1)}.area.t2,.bar.t2,i.t2{fill:var(--t2);background:var(--t2)}
.area.t3,.bar.t3,i.t3{fill:var(--t3);background:var(--t3)}.area.t4,.bar.t4,i.t4{fill:var(--t4);background:var(--t4)}
.area.t5,.bar.t5,i.t5{fill:var(--t5);background:var(--t5)}.area.t6,.bar.t6,i.t6{fill:var(--t6);background:var(--t6)}
.key{color:var(--dim);font-size:12px;margin:4px 0 0}
.key i{display:inline-block;width:9px;height:9px;border-radius:2px;margin:0 4px 0 10px}
.wide{overflow-x:auto;background:var(--card);border:1px solid var(--rule);border-radius:8px}
table{border-collapse:collapse;width:100%;font-size:13px}
th,td{text-align:left;padding:6px 10px;border-top:1px solid var(--rule);vertical-align:top}
thead th{border-top:0;color:var(--dim);font-weight:600;white-space:nowrap}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td code{white-space:nowrap}td.w{min-width:15em;overflow-wrap:anywhere}
code{font:12px ui-monospace,SFMono-Regular,Menlo,monospace}
"""


def page(parts: Sequence[Statistics], *, title: str) -> str:
    """Return the page about *parts*, added up.

    Args:
        parts: At least one.
        title: Says what was run.
    """
    total = parts[0]
    if len(parts) > 1:
        total = Statistics.of(json.loads(json.dumps(parts[0].data())))
        for other in parts[1:]:
            total.merge(other)
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    began = datetime.fromtimestamp(total.began, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    body = [
        f"<h1>{escape(title)}</h1><p>Begun {began}; {span(total.seconds)} to the last result.</p>",
        _tiles(total),
        "<h2>Throughput over time</h2>",
        "<p>Wire requests per second, counted where their calls ended; the dashed line is the quota.</p>",
        _throughput(total),
        "<h2>Where the time went</h2>",
        _time(total),
        "<h2>Endpoints</h2>",
        _endpoints(total),
        "<h2>Outcomes</h2>",
        _outcomes(total),
        "<h2>Slowest calls</h2>",
        _slowest(total),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def _tiles(total: Statistics) -> str:
    latency = total.call_latency
    tiles = [
        (f"{total.calls:,}", "calls", False),
        (f"{total.ok:,}", "ok", False),
        (f"{total.failed:,}", "failed", total.failed > 0),
        (f"{total.calls / max(total.seconds, 0.001):,.1f}/s", "on average", False),
        (f"{total.wire:,}", "wire requests", False),
        (f"{total.amplification:.3f}", "wire requests per call", False),
        (f"{total.again:,}", "sent again", False),
        (f"{total.rejected:,}", "answered 429", False),
        (span(latency.quantile(0.5)), "median call", False),
        (span(latency.quantile(0.95)), "95 % of calls", False),
        (span(latency.quantile(0.99)), "99 % of calls", False),
        (_bytes(total.received), "received", False),
    ]
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile{" bad" if bad else ""}"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
            for value, name, bad in tiles
        )
        + "</div>"
    )


def _throughput(total: Statistics) -> str:
    steps, start = _steps(total)
    panels: list[str] = []
    for number, (name, endpoint) in enumerate(_busiest(total)[:_MOST_PANELS]):
        values = [total.course[step][name] / total.width if step in total.course else 0.0 for step in steps]
        line = None
        if endpoint.rates:
            limit, period = min(endpoint.rates, key=lambda rate: rate[0] / rate[1])
            line = Line(limit / period, f"{limit} per {span(period)}")
        tone = _TONES[number % len(_TONES)]
        label = f"Wire requests per second of {name}"
        chart = course(values, start=start, width=total.width, tone=tone, label=label, line=line)
        panels.append(_panel(name, chart))
    return _panels(panels)


def _time(total: Statistics) -> str:
    steps, start = _steps(total)
    rows = [
        (name, tone, [float(total.course[step][mark]) if step in total.course else 0.0 for step in steps])
        for name, tone, mark in (
            ("failed", "t5", "#failed"),
            ("429", "t3", "#429"),
            ("again", "t1", "#again"),
            ("token", "t4", "#token"),
        )
    ]
    marks = [(at - total.began, text) for at, text in total.events]
    timeline = strips(rows, start=start, width=total.width, marks=marks, label="What happened when")
    spread = distributions(
        [("attempts", "t2", total.attempt_latency.bars()), ("calls", "t1", total.call_latency.bars())],
        label="Distribution of durations",
    )
    key = '<p class="key"><i class="t2"></i>attempts, on the wire<i class="t1"></i>calls, waits included</p>'
    waits = [("network", "t2", total.attempt_latency)]
    waits += [(kind, _TONES[n + 1], total.waits[kind]) for n, kind in enumerate(WAITS) if kind in total.waits]
    lengths = [
        (name, tone, each.total, f"{span(each.total)}, median {span(each.quantile(0.5))}") for name, tone, each in waits
    ]
    return _panels(
        [
            _panel("Distribution of durations", spread + key),
            _panel("Time in all, over all calls", bars(lengths, label="Time by kind")),
            _panel("What happened when (lines: the circuit breaker)", timeline),
        ]
    )


def _endpoints(total: Statistics) -> str:
    head = ("endpoint", "calls", "failed", "wire", "429", "median", "95 %", "99 %", "most", "quota")
    rows = [
        [
            f"<code>{escape(name or '(none)')}</code>",
            *(f"{number:,}" for number in (endpoint.calls, endpoint.failed, endpoint.wire, endpoint.rejected)),
            *(span(endpoint.latency.quantile(share)) for share in (0.5, 0.95, 0.99)),
            span(endpoint.latency.most),
            ", ".join(f"{limit} per {span(period)}" for limit, period in endpoint.rates) or "none known",
        ]
        for name, endpoint in _busiest(total)
    ]
    return _table(head, rows, numbers=range(1, 9))


def _outcomes(total: Statistics) -> str:
    statuses = [
        [escape("no answer" if status is None else str(status)), f"{number:,}"]
        for status, number in sorted(total.statuses.items(), key=lambda entry: -entry[1])
    ]
    errors = [
        [
            f"{error['count']:,}",
            f"<code>{escape(name)}</code>",
            escape(str(error["message"])),
            escape(str(error["hint"])),
            f"<code>{escape(str(error['example']))}</code>",
        ]
        for name, error in sorted(total.errors.items(), key=lambda entry: -int(entry[1]["count"]))
    ]
    parts = [_table(("final status", "calls"), statuses, numbers=range(1, 2))]
    if errors:
        parts.append("<h2>Errors</h2>")
        parts.append(_table(("", "error", "message", "what to do", "example"), errors, numbers=range(1), words=(2, 3)))
    return "".join(parts)


def _slowest(total: Statistics) -> str:
    rows = [
        [
            f"<code>{escape(key)}</code>",
            span(seconds),
            f"<code>{escape(str(rest['endpoint']))}</code>",
            escape(str(rest["status"])),
            str(rest["attempts"]),
            span(float(rest["network"])),
            escape(", ".join(f"{kind} {span(float(each))}" for kind, each in rest["waits"].items())),
        ]
        for seconds, key, rest in sorted(total.slowest, reverse=True, key=lambda entry: entry[:2])
    ]
    head = ("id", "took", "endpoint", "status", "attempts", "network", "waits")
    return _table(head, rows, numbers=(1, 4, 5))


def _steps(total: Statistics) -> tuple[range, float]:
    if not total.course:
        return range(0), 0.0
    steps = range(min(total.course), max(total.course) + 1)
    return steps, max(0.0, steps.start * total.width - total.began)


def _busiest(total: Statistics) -> list[tuple[str, Endpoint]]:
    return sorted(total.endpoints.items(), key=lambda entry: -entry[1].wire)


def _panel(title: str, inside: str) -> str:
    return f'<div class="panel"><h3>{escape(title)}</h3>{inside}</div>'


def _panels(panels: Sequence[str]) -> str:
    return f'<div class="panels">{"".join(panels)}</div>'


def _table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Iterable[int], words: Iterable[int] = ()
) -> str:
    kinds = dict.fromkeys(numbers, ' class="n"') | dict.fromkeys(words, ' class="w"')
    heads = "".join(f"<th{kinds.get(n, '')}>{escape(name)}</th>" for n, name in enumerate(head))
    body = "".join(
        "<tr>" + "".join(f"<td{kinds.get(n, '')}>{cell}</td>" for n, cell in enumerate(row)) + "</tr>" for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
