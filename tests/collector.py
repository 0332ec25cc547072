"""An OpenTelemetry collector in memory, of one's own: the global providers stay as they are."""

from collections.abc import Mapping
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, SpanKind

from apiclient import Pipeline
from apiclient.middleware import Telemetry


class Collector:
    """Keeps what a ``Telemetry`` reports."""

    def __init__(self, *, endpoints: int = 1000) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self.meters = MeterProvider(metric_readers=[self._reader])
        self.telemetry = Telemetry(tracer_provider=self.tracers, meter_provider=self.meters, endpoints=endpoints)

    def into(self, pipeline: Pipeline) -> Pipeline:
        """Return *pipeline* with this collector's telemetry, innermost."""
        return Pipeline([*pipeline.without(Telemetry), self.telemetry])

    def spans(self, kind: SpanKind | None = None) -> list[ReadableSpan]:
        """Return the spans that have ended, in that order."""
        return [span for span in self._exporter.get_finished_spans() if kind is None or span.kind is kind]

    def metrics(self) -> dict[str, Metric]:
        """Return the metrics by name."""
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def points(self, name: str) -> list[tuple[dict[str, Any], float]]:
        """Return attributes and value (of a histogram, its count) of each point of the metric *name*."""
        metric = self.metrics().get(name)
        found: list[tuple[dict[str, Any], float]] = []
        for point in () if metric is None else metric.data.data_points:
            value: Any = getattr(point, "value", None)
            found.append((dict(point.attributes or {}), getattr(point, "count", 0) if value is None else value))
        return found

    def close(self) -> None:
        """Stop."""
        self.tracers.shutdown()
        self.meters.shutdown()


def context_of(span: ReadableSpan) -> SpanContext:
    """Return the context of *span*, which has one once it has begun."""
    context = span.get_span_context()
    assert context is not None
    return context


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    """Return the attributes of *span*."""
    return dict(span.attributes or {})
