"""What the gauges tell, without the library that carries it. Pure."""

from collections.abc import Callable, Iterable, Mapping
from operator import add
from typing import NamedTuple, Protocol

Attributes = Mapping[str, str | int]
Key = tuple[tuple[str, str | int], ...]
Counted = Callable[[str], str]
"""Returns an endpoint as metrics name it: itself, or ``_OTHER`` where there are too many."""


class Reading(NamedTuple):
    """One value of a gauge.

    Attributes:
        name: The metric's.
        value: In its unit.
        attributes: What tells it from others of that name.
        subject: ``id`` of what it was read from, so that what several clients share is told once.
    """

    name: str
    value: float
    attributes: Attributes
    subject: int = 0


class Source(Protocol):
    """A client, as the gauges see it."""

    def read(self) -> Iterable[Reading]:
        """Return the present values; from any thread."""
        ...


class Gauge(NamedTuple):
    """A metric that is read rather than recorded.

    Attributes:
        name: The metric's.
        unit: In OpenTelemetry's notation.
        description: In one sentence.
        merge: Makes one value of those of several clients.
        counter: Whether it only grows.
    """

    name: str
    unit: str
    description: str
    merge: Callable[[float, float], float] = add
    counter: bool = False


GAUGES = (
    Gauge("apiclient.ratelimit.learned", "{request}/s", "Rate that an endpoint is held to, set or learned", max),
    Gauge("apiclient.retry.budget.remaining", "{retry}", "Retries that an origin may still have", min),
    Gauge("apiclient.breaker.state", "{state}", "State of a circuit: 0 closed, 1 half open, 2 open", max),
    Gauge("apiclient.auth.refresh", "{refresh}", "Tokens asked for, by result", counter=True),
    Gauge("apiclient.outbox.depth", "{request}", "Requests in the outbox"),
    Gauge("apiclient.outbox.oldest", "s", "Age of the oldest request in the outbox", max),
    Gauge("apiclient.outbox.dead", "{request}", "Requests in the outbox that were given up"),
    Gauge("apiclient.batch.running", "{request}", "Requests of batches that are under way"),
    Gauge("apiclient.batch.held", "{request}", "Requests of batches that are held back until their endpoint has room"),
    Gauge("apiclient.batch.done", "{request}", "Results so far of the batches that are not over"),
    Gauge("apiclient.batch.failed", "{request}", "Failures among those results"),
)


def merged(
    gauge: Gauge, readings: Iterable[Reading], counted: Counted
) -> dict[tuple[tuple[str, str | int], ...], float]:
    """Return the values of *gauge* among *readings* by their attributes.

    Args:
        gauge: Which.
        readings: Of all clients.
        counted: Names an endpoint; what it calls ``_OTHER`` is left out, since one value cannot stand for many.
    """
    values: dict[Key, float] = {}
    seen: set[tuple[object, ...]] = set()
    for reading in readings:
        endpoint = reading.attributes.get("apiclient.endpoint")
        if reading.name != gauge.name or (endpoint is not None and counted(str(endpoint)) != endpoint):
            continue
        key = tuple(reading.attributes.items())
        if reading.subject and (key, reading.subject) in seen:
            continue
        seen.add((key, reading.subject))
        values[key] = gauge.merge(values[key], reading.value) if key in values else reading.value
    return values
