"""Every event with its fields, and every name in the docs, the dashboard and the rules against those really emitted."""

import ast
import asyncio
import contextlib
import json
import logging
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml  # type: ignore[import-untyped]
from aiohttp import web
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, generate_latest

from apiclient import ApiClient, Pipeline, Rate, errors
from apiclient.credentials import ClientCredentials
from apiclient.middleware import (
    AccessLog,
    Alert,
    CircuitBreaker,
    Fallback,
    RateLimit,
    Retry,
    StatusErrors,
    Substitute,
    Telemetry,
)
from apiclient.middleware._readings import GAUGES, Reading
from apiclient.outbox import Outbox
from apiclient.sandbox import Sandbox
from apiclient.stores import MemoryOutboxStore
from tests.authority import Authority, answer
from tests.conftest import Peer

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGE = (DOCS / "observability.md").read_text(encoding="utf-8")
COMMON = {"call_id", "endpoint", "otel_trace_id"}
# What a program of another process would have to do to it, or a disk: shown by name in tests/apiclient/test_outbox*.py.
ELSEWHERE = {
    "auth.lease_lost", "auth.store_failed", "outbox.record_failed", "outbox.lease_lost", "outbox.store_failed",
    "outbox.callback_failed", "outbox.refused",
}  # fmt: skip


class Row(NamedTuple):
    """An event as the page describes it."""

    levels: set[int]
    required: set[str]
    optional: set[str]


def documented() -> dict[str, Row]:
    """Return the page's table of events."""
    found: dict[str, Row] = {}
    table = PAGE.partition("| event | level |")[2].partition("\n\n")[0]
    for name, levels, fields in re.findall(r"^\| `([\w.]+)` \| ([A-Z, ]+) \| ([^|]*) \|", table, re.MULTILINE):
        required, _, optional = fields.partition("optional:")
        row = Row(
            {logging.getLevelNamesMapping()[level.strip()] for level in levels.split(",")},
            set(re.findall(r"`(\w+)`", required)),
            set(re.findall(r"`(\w+)`", optional)),
        )
        if "as before" in fields:
            previous = list(found.values())[-1]
            row = row._replace(required=previous.required, optional=previous.optional)
        assert name not in found, f"{name} is listed twice"
        found[name] = row
    return found


def metrics_documented() -> dict[str, tuple[str, str, set[str]]]:
    """Return the page's table of metrics: kind, unit and attributes by name."""
    found: dict[str, tuple[str, str, set[str]]] = {}
    table = PAGE.partition("| metric | type |")[2].partition("\n\n")[0]
    for name, kind, unit, labels in re.findall(r"^\| `([\w.]+)` \| (\w+) \| (\S+) \|([^|]*)\|", table, re.MULTILINE):
        assert name not in found, f"{name} is listed twice"
        found[name] = kind, unit, set(re.findall(r"`([\w.]+)`", labels))
    return found


class Recorder:
    """A logger that keeps every event."""

    def __init__(self) -> None:
        self.events: list[tuple[int, str, dict[str, Any]]] = []

    def log(self, level: int, event: str, **fields: Any) -> None:
        self.events.append((level, event, fields))


def client_of(peer: Peer, log: Recorder, *middlewares: Any) -> ApiClient:
    pipeline = ApiClient(peer.url).pipeline.without(Telemetry)
    for each in middlewares:
        pipeline = pipeline.replace(type(each), each)
    return ApiClient(peer.url, pipeline=pipeline, logger=log)


async def plain_calls(peer: Peer, log: Recorder) -> None:
    peer.answers(503, 200)
    body = AccessLog(body=100, sample=0.5, random=lambda: 0.0)
    async with client_of(peer, log, body) as client:
        await client.post("/a/{id}", path_params={"id": 1}, json={"a": 1}, idempotency_key="k-canary")
    peer.answers(404, body=b'{"title": "gone", "traceId": "t-1"}', headers={"Content-Type": "application/problem+json"})
    async with client_of(peer, log) as client:
        with pytest.raises(errors.NotFound):
            await client.get("/a")
    peer.answers(302, 200, headers={"Location": "/b"})
    async with client_of(peer, log) as client:
        await client.get("/a")


async def limits(peer: Peer, log: Recorder) -> None:
    peer.answers(429, 200, headers={"Retry-After": "1"})
    async with client_of(peer, log) as client:
        await client.get("/limited")
    peer.answers(200)

    class Broken:
        async def lease(self, key: str, rates: tuple[Rate, ...], want: int) -> Any:
            raise ConnectionError

        async def pause(self, key: str, seconds: float) -> None:
            raise ConnectionError

    async with client_of(peer, log, RateLimit(default="5/1s", store=Broken())) as client:
        await client.get("/limited")


async def outage(peer: Peer, log: Recorder) -> None:
    async def sink(_: object) -> None:
        raise RuntimeError

    alert = Alert(consecutive=3, recovery=1, cooldown=5.0, sinks=[sink])
    breaker = CircuitBreaker(minimum=4, cooldown=1.0, probes=1)
    async with client_of(peer, log, alert, breaker, Retry(attempts=1)) as client:
        peer.answers(500)
        for _ in range(8):
            with pytest.raises(errors.ApiError):
                await client.get("/down")
            await asyncio.sleep(1)
        peer.answers(200)
        for _ in range(40):
            with contextlib.suppress(errors.CircuitOpen):
                await client.get("/down")
            await asyncio.sleep(10)
        await alert.aclose()


async def stale(peer: Peer, log: Recorder) -> None:
    peer.answers(500)
    pipeline = Pipeline([Fallback({"GET /x": Substitute(status=200, body=b"{}")}), StatusErrors()])
    async with ApiClient(peer.url, pipeline=pipeline, logger=log) as client:
        await client.get("/x")


async def wrong_type(peer: Peer, log: Recorder) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        fits = request.content_type == "application/merge-patch+json"
        return web.Response(status=200 if fits else 415, headers={"Accept-Patch": "application/merge-patch+json"})

    peer.handler = handler
    async with client_of(peer, log) as client:
        await client.patch("/x", json={"a": 1})


async def tokens(log: Recorder) -> None:
    async with Sandbox() as sandbox:
        credentials = ClientCredentials(
            token_url=sandbox.token_url,
            client_id="demo",
            client_secret="demo-secret",
            scope="employees.read",
            allowed_scopes=["payroll.read"],
            logger=log,
        )
        async with ApiClient(sandbox.api_url, credentials=credentials, logger=log) as client:
            await client.get("/ping")
            sandbox.revoke_tokens()
            await client.get("/ping")
            with contextlib.suppress(errors.ApiError):
                await client.get("/payroll/7")
    async with Authority() as authority:
        for trouble in (answer(401, {"error": "invalid_client"}), answer(404)):
            authority.script = [trouble]
            with pytest.raises(errors.ApiError):
                await authority.client(logger=log).token()


async def deferred(peer: Peer, log: Recorder) -> None:
    outbox = Outbox(MemoryOutboxStore(now=asyncio.get_running_loop().time), logger=log, attempts=2, wait=0.01)
    async with ApiClient(peer.url, outbox=outbox, logger=log) as client:
        for final in (200, 400, 500):
            peer.answers(503, 503, 503, 503, final)
            with pytest.raises(errors.Deferred):
                await client.put(f"/stored/{final}", defer=True, timeout=5.0)
            await outbox.drain()
            await asyncio.sleep(60)


@pytest.mark.looptime
async def test_every_event_has_the_fields_that_the_page_names(peer: Peer) -> None:
    """Golden: each event is seen, at its level, with exactly the fields documented for it."""
    log = Recorder()
    for scenario in (plain_calls, limits, outage, stale, wrong_type, deferred):
        await scenario(peer, log)
    await tokens(log)
    rows = documented()
    wrong: list[str] = []
    for level, event, fields in log.events:
        row = rows.get(event)
        if row is None:
            wrong.append(f"{event} is not documented")
            continue
        told = set(fields)
        if level not in row.levels or not row.required <= told or not told <= row.required | row.optional | COMMON:
            wrong.append(f"{event}: level {level}, {sorted(told)}")
        elif not event.startswith(("auth.token", "outbox.", "alert.sink")) and not {"call_id", "endpoint"} <= told:
            wrong.append(f"{event}: no call in {sorted(told)}")
    assert sorted(set(wrong)) == []
    seen = {event for _, event, _ in log.events}
    assert set(rows) - seen - ELSEWHERE == set()
    optional = {name for _, event, fields in log.events if event == "http.call" for name in fields}
    assert {"backoff_s", "limiter_s", "trace_id", "request_body", "response_body", "sample", "error_type"} <= optional
    assert "k-canary" not in str(log.events)


@pytest.mark.parametrize(
    "name", sorted({name for row in documented().values() for name in row.required | row.optional})
)
def test_no_field_is_in_the_way_of_stdlib_logging(name: str) -> None:
    """A field that a LogRecord has already would make logging raise."""
    assert name not in logging.LogRecord("", 0, "", 0, "", (), None).__dict__
    assert name not in {"message", "asctime", "event", "level"}


def emitted() -> tuple[set[str], set[str]]:
    """Return the names of events in the code, and the beginnings of those that are put together."""
    names: set[str] = set()
    starts: set[str] = set()
    for folder in (ROOT / "middleware", ROOT / "apiclient"):
        for path in folder.rglob("*.py"):
            if (ROOT / "apiclient" / "middleware") in path.parents or "testing" in path.parts:
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and node.func.attr in {"emit", "write", "_event"}
                ):
                    # What is written to a file has one argument.
                    for argument in node.args[node.func.attr == "write" : 2]:
                        match argument:
                            case ast.Constant(value=str(value)):
                                names.add(value)
                            case ast.JoinedStr(values=[ast.Constant(value=str(value)), *_]):
                                starts.add(value)
                            case _:
                                pass
    return names, starts


def test_the_page_names_each_event_of_the_code_once() -> None:
    """No event without a row, and no row without an event."""
    names, starts = emitted()
    assert {"http.call", "http.retry"} <= names
    assert starts == {"breaker.", "alert.", "outbox."}
    rows = set(documented())
    assert names - rows == set()
    assert {row for row in rows - names if not row.startswith(tuple(starts))} == set()


class Told:
    """A client's gauges, each with every attribute that it can have."""

    def read(self) -> list[Reading]:
        labels = {name: set(each[2]) for name, each in metrics_documented().items()}
        return [Reading(gauge.name, 1.0, dict.fromkeys(sorted(labels[gauge.name]), "x")) for gauge in GAUGES]


@pytest.fixture
def exposed(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the Prometheus exporter makes of all our metrics."""
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(registry=registry)
    provider = MeterProvider(metric_readers=[reader])
    yield {"registry": registry, "provider": provider}
    provider.shutdown()


async def told_by(peer: Peer, exposed: dict[str, Any]) -> dict[str, set[str]]:
    """Return the names of all series that a lively client leads to, each with its labels."""
    telemetry = Telemetry(meter_provider=exposed["provider"])
    source = Told()
    telemetry.watch(source)
    pipeline = Pipeline([*ApiClient(peer.url).pipeline.without(Telemetry), telemetry])
    async with ApiClient(peer.url, pipeline=pipeline.replace(RateLimit, RateLimit(default="1/1s"))) as client:
        peer.answers(503, 200)
        await client.get("/a")
        await client.get("/a")
        peer.answers(404)
        with pytest.raises(errors.NotFound):
            await client.get("/a")

        async def drop(request: web.Request) -> web.StreamResponse:
            assert request.transport is not None
            request.transport.close()
            return web.Response()

        peer.handler = drop
        with pytest.raises(errors.TransportError):
            await client.get("/a")
    found: dict[str, set[str]] = {}
    for line in generate_latest(exposed["registry"]).decode().splitlines():
        match = re.match(r"(\w+)\{(.*)\} ", line)
        if match and not line.startswith(("#", "target_info", "otel_")):
            found.setdefault(match[1], set()).update(re.findall(r"(\w+)=\"", match[2]))
    return found


@pytest.mark.looptime
async def test_the_page_names_each_metric_once(peer: Peer, exposed: dict[str, Any]) -> None:
    """Kind, unit and attributes of each metric are as the table says."""
    series = await told_by(peer, exposed)
    rows = metrics_documented()
    assert {gauge.name for gauge in GAUGES} <= set(rows)
    for name, (kind, unit, labels) in rows.items():
        base = name.replace(".", "_") + {"s": "_seconds", "{request}/s": "_per_second"}.get(unit, "")
        shown = base + {"histogram": "_bucket", "counter": "_total", "gauge": ""}[kind]
        assert shown in series, name
        told = {label for label in series[shown] if not label.startswith("otel_scope") and label != "le"}
        assert told == {label.replace(".", "_") for label in labels}, name
    bases = {re.sub(r"_(bucket|count|sum|total)$", "", name) for name in series}
    assert len(bases) == len(rows)


NAME = re.compile(r"\b((?:apiclient|http_client)_\w+|apiclient:[\w:]+)\b(?:\{([^}]*)\})?")


def used(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Yield each series that a PromQL expression reads, with the labels it asks for."""
    grouped = set(re.findall(r"\w+", " ".join(re.findall(r"(?:by|without) \(([^)]*)\)", expression)))) - {"le"}
    bare = re.sub(r"(?:by|without) \([^)]*\)", "", expression)
    for name, selector in NAME.findall(bare):
        yield name, grouped | set(re.findall(r"(\w+)\s*[=!]~?", selector))


def expressions() -> dict[str, str]:
    """Return every expression of the dashboard and the rules, by where it stands."""
    dashboard = json.loads((DOCS / "observability" / "grafana.json").read_text(encoding="utf-8"))
    rules = yaml.safe_load((DOCS / "observability" / "prometheus-rules.yaml").read_text(encoding="utf-8"))
    found = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    }
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.findall(r"label_values\((\w+), (\w+)\)", variable["definition"])[0]
            found[f"variable {variable['name']}"] = f"sum by ({label}) ({metric})"
    for group in rules["groups"]:
        found |= {rule.get("alert", rule.get("record")): rule["expr"] for rule in group["rules"]}
    return found


@pytest.mark.looptime
async def test_dashboard_and_rules_read_what_is_really_there(peer: Peer, exposed: dict[str, Any]) -> None:
    """A series or label that no client emits would make a panel that is always empty, or an alert that never fires."""
    series = await told_by(peer, exposed)
    rules = yaml.safe_load((DOCS / "observability" / "prometheus-rules.yaml").read_text(encoding="utf-8"))
    for group in rules["groups"]:
        series |= {rule["record"]: {"apiclient_endpoint"} for rule in group["rules"] if "record" in rule}
    assert len(expressions()) > 30
    for where, expression in expressions().items():
        reads = list(used(expression))
        assert reads, where
        for name, labels in reads:
            assert name in series, f"{where}: {name}"
            wanted = {label for label in labels if label in {each for told in series.values() for each in told}}
            assert labels == wanted, f"{where}: {labels - wanted}"
            own = re.findall(re.escape(name) + r"\{([^}]*)\}", expression)
            assert set(re.findall(r"(\w+)\s*[=!]~?", " ".join(own))) <= series[name], f"{where}: {name}"


def test_each_alert_says_what_is_the_matter_and_what_to_do() -> None:
    """Who is woken up at night sees both, and how bad it is."""
    rules = yaml.safe_load((DOCS / "observability" / "prometheus-rules.yaml").read_text(encoding="utf-8"))
    alerts = [rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule]
    assert len({rule["alert"] for rule in alerts}) == len(alerts) >= 8
    for rule in alerts:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert set(rule["annotations"]) == {"summary", "description"}


def test_the_dashboard_has_no_two_panels_in_one_place() -> None:
    """Grafana would shift them about."""
    dashboard = json.loads((DOCS / "observability" / "grafana.json").read_text(encoding="utf-8"))
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]}
    assert len(places) == len(dashboard["panels"]) == len({panel["id"] for panel in dashboard["panels"]})
    assert all(panel["description"] for panel in dashboard["panels"] if panel["type"] != "row")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool comes with Prometheus, not from PyPI")
def test_prometheus_accepts_the_rules_and_fires_them(tmp_path: Path) -> None:
    """Promtool reads rules and panels, and the alerts fire on made-up series as they should."""
    rules = DOCS / "observability" / "prometheus-rules.yaml"
    panels = {
        "groups": [
            {
                "name": "panels",
                "rules": [
                    {
                        "record": f"panel:{number}",
                        "expr": re.sub(r"\$__rate_interval", "5m", text).replace("$endpoint", ".*"),
                    }
                    for number, text in enumerate(expressions().values())
                ],
            }
        ]
    }
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump(panels), encoding="utf-8")
    shutil.copy(rules, tmp_path)
    shutil.copy(Path(__file__).with_name("prometheus_rules_test.yaml"), tmp_path)
    for command in (
        ["check", "rules", "prometheus-rules.yaml", "panels.yaml"],
        ["test", "rules", "prometheus_rules_test.yaml"],
    ):
        done = subprocess.run(["promtool", *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
