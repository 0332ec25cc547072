"""How a client stands: a frozen snapshot of its endpoints, origins, tokens, outbox and batches."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from apiclient.middleware import Alert, Authorize, CircuitBreaker, Rate, RateLimit, Retry
from apiclient.middleware._readings import Reading
from apiclient.middleware._standing import named
from apiclient.pipeline import Pipeline

__all__ = ["BatchStats", "ClientStats", "EndpointStats", "OriginStats", "OutboxStats", "TokenStats"]

_BREAKER_STATES = {"closed": 0, "forced_closed": 0, "half_open": 1, "open": 2, "forced_open": 2}


class Batch(Protocol):
    """A batch under way, as statistics see it."""

    @property
    def progress(self) -> "BatchStats":
        """How far it is."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointStats:
    """How one endpoint stands.

    Attributes:
        origin: Scheme, host and port.
        endpoint: ``METHOD template``, or the name of a group of endpoints with one quota.
        rates: What requests are held to, configured and learned.
        paused: Seconds for which nothing may leave, since the server refused.
        waiting: Requests that wait for a slot of the quota.
        flying: Requests that left and have no answer yet.
        alarm: ``ok``, ``degraded``, ``alerting`` or ``resolved``.
        breaker: State of its own circuit, or None where circuits are kept per origin.
    """

    origin: str
    endpoint: str
    rates: tuple[Rate, ...] = ()
    paused: float = 0.0
    waiting: int = 0
    flying: int = 0
    alarm: str = "ok"
    breaker: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginStats:
    """How one origin stands.

    Attributes:
        origin: Scheme, host and port.
        breaker: State of its circuit, or None where there is none.
        retries_left: Retries that its budget has left, or None where there is no budget.
    """

    origin: str
    breaker: str | None = None
    retries_left: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStats:
    """How one credential stands.

    Attributes:
        credential: Its repr, without a secret.
        age: Seconds since the current token was asked for, or None where there is none.
        expires_in: Seconds until it expires, or None where that is unknown or there is none.
        refreshes: Token requests so far by result: ``issued``, ``refused``, ``unavailable``.
    """

    credential: str
    age: float | None = None
    expires_in: float | None = None
    refreshes: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxStats:
    """How the outbox stands, as it was counted last.

    Attributes:
        depth: Requests still to be delivered.
        oldest: Age in seconds of the oldest of them.
        dead: Requests that were given up.
    """

    depth: int = 0
    oldest: float = 0.0
    dead: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStats:
    """How far a batch is.

    Attributes:
        running: Requests under way.
        held: Requests held back until their endpoint has room.
        done: Results so far.
        failed: Failures among them.
    """

    running: int = 0
    held: int = 0
    done: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientStats:
    """How a client stands; ``str()`` of it is a page for a person.

    Attributes:
        base_url: Of the client.
        alarm: Of all endpoints together: ``ok``, ``degraded``, ``alerting`` or ``resolved``.
        endpoints: Those used lately.
        origins: Those used lately.
        tokens: Of each credential.
        outbox: Or None where there is none, or nobody has counted it yet.
        batches: Those under way.
    """

    base_url: str
    alarm: str = "ok"
    endpoints: tuple[EndpointStats, ...] = ()
    origins: tuple[OriginStats, ...] = ()
    tokens: tuple[TokenStats, ...] = ()
    outbox: OutboxStats | None = None
    batches: tuple[BatchStats, ...] = ()

    def __str__(self) -> str:
        return "\n".join(_page(self))


class Parts(NamedTuple):
    """What a snapshot is taken of.

    Attributes:
        base_url: Of the client.
        pipeline: The client's.
        outbox: As it was counted last, or None.
        batches: Those under way.
        now: Time on the loop's clock.
    """

    base_url: str
    pipeline: Pipeline
    outbox: OutboxStats | None
    batches: Iterable[Batch]
    now: float


def stats_of(parts: Parts) -> ClientStats:
    """Return the snapshot of *parts*; to be taken in the event loop's thread."""
    endpoints, alarm = _endpoints(parts.pipeline)
    return ClientStats(
        base_url=parts.base_url,
        alarm=alarm,
        endpoints=endpoints,
        origins=_origins(parts.pipeline, parts.now),
        tokens=tuple(_tokens(parts.pipeline)),
        outbox=parts.outbox,
        batches=tuple(batch.progress for batch in parts.batches),
    )


def readings_of(parts: Parts) -> list[Reading]:
    """Return what gauges tell of *parts*; to be asked in the event loop's thread."""
    pipeline, stats = parts.pipeline, stats_of(parts)
    limiter, breaker, retry, authorize = (pipeline.find(each) for each in (RateLimit, CircuitBreaker, Retry, Authorize))
    found: list[Reading] = []
    for each in stats.endpoints:
        where = {"apiclient.origin": each.origin, "apiclient.endpoint": each.endpoint}
        for rate in each.rates:
            labels = {**where, "apiclient.ratelimit.period": f"{rate.per:g}s"}
            found.append(Reading("apiclient.ratelimit.learned", rate.limit / rate.per, labels, id(limiter)))
        if each.breaker is not None:
            found.append(Reading("apiclient.breaker.state", _BREAKER_STATES[each.breaker], where, id(breaker)))
    for origin in stats.origins:
        at = {"apiclient.origin": origin.origin}
        if origin.breaker is not None:
            found.append(Reading("apiclient.breaker.state", _BREAKER_STATES[origin.breaker], at, id(breaker)))
        if origin.retries_left is not None:
            found.append(Reading("apiclient.retry.budget.remaining", origin.retries_left, at, id(retry.budget)))
    credential = None if authorize is None else id(authorize.credential)
    refreshes: dict[str, int] = {}
    for token in stats.tokens:
        for result, count in token.refreshes.items():
            refreshes[result] = refreshes.get(result, 0) + count
    found += [
        Reading("apiclient.auth.refresh", count, {"apiclient.result": result}, credential or 0)
        for result, count in refreshes.items()
    ]
    if stats.outbox is not None:
        found += [
            Reading(f"apiclient.outbox.{name}", getattr(stats.outbox, name), {}) for name in ("depth", "oldest", "dead")
        ]
    found += [
        Reading(f"apiclient.batch.{name}", sum(getattr(each, name) for each in stats.batches), {})
        for name in ("running", "held", "done", "failed")
    ]
    return found


def _endpoints(pipeline: Pipeline) -> tuple[tuple[EndpointStats, ...], str]:
    limiter: RateLimit | None = pipeline.find(RateLimit)
    alert: Alert | None = pipeline.find(Alert)
    breaker: CircuitBreaker | None = pipeline.find(CircuitBreaker)
    told: dict[tuple[str, str], dict[str, Any]] = {}
    for quota in () if limiter is None else limiter.standing():
        told[quota.origin, quota.endpoint] = {
            "rates": quota.rates, "paused": quota.paused, "waiting": quota.waiting, "flying": quota.flying
        }  # fmt: skip
    alarm = "ok"
    for key, phase in ({} if alert is None else alert.phases()).items():
        where = named(key)
        if where[0]:
            told.setdefault(where, {})["alarm"] = phase.value
        else:
            alarm = phase.value
    for name, state in _circuits(breaker).items():
        origin, _, endpoint = name.partition(" ")
        if endpoint:
            told.setdefault((origin, endpoint), {})["breaker"] = state
    return tuple(EndpointStats(origin=key[0], endpoint=key[1], **facts) for key, facts in sorted(told.items())), alarm


def _origins(pipeline: Pipeline, now: float) -> tuple[OriginStats, ...]:
    retry: Retry | None = pipeline.find(Retry)
    told: dict[str, dict[str, Any]] = {}
    for name, state in _circuits(pipeline.find(CircuitBreaker)).items():
        if " " not in name:
            told[name] = {"breaker": state}
    budget = None if retry is None else retry.budget
    for origin, left in ({} if budget is None else budget.remaining(now)).items():
        told.setdefault(origin, {})["retries_left"] = left
    return tuple(OriginStats(origin=origin, **facts) for origin, facts in sorted(told.items()))


def _circuits(breaker: CircuitBreaker | None) -> dict[str, str]:
    return {} if breaker is None else {name: state.value for name, state in breaker.states().items()}


def _tokens(pipeline: Pipeline) -> Iterator[TokenStats]:
    authorize: Authorize | None = pipeline.find(Authorize)
    if authorize is None:
        return
    standing = getattr(authorize.credential, "standing", None)
    if standing is None:
        yield TokenStats(credential=repr(authorize.credential))
        return
    for each in standing():
        yield TokenStats(
            credential=each.credential, age=each.age, expires_in=each.expires_in, refreshes=dict(each.refreshes)
        )


def _page(stats: ClientStats) -> Iterator[str]:
    yield f"{stats.base_url}: {stats.alarm}"
    for origin in stats.origins:
        facts = [f"circuit {origin.breaker}"] if origin.breaker is not None else []
        facts += [f"{origin.retries_left:.3g} retries left"] if origin.retries_left is not None else []
        yield f"  {origin.origin}: {', '.join(facts)}"
    for each in stats.endpoints:
        facts = [", ".join(map(str, each.rates)) or "no limit known"]
        facts += [f"paused for {each.paused:.3g} s"] if each.paused else []
        facts += [f"{each.waiting} waiting"] if each.waiting else []
        facts += [f"{each.flying} under way"] if each.flying else []
        facts += [f"circuit {each.breaker}"] if each.breaker is not None else []
        facts += [each.alarm] if each.alarm != "ok" else []
        yield f"  {each.endpoint}: {', '.join(facts)}"
    for token in stats.tokens:
        facts = ["no token yet" if token.age is None else f"token {token.age:.0f} s old"]
        facts = facts if token.refreshes else ["fixed"]
        facts += [f"{token.expires_in:.0f} s left"] if token.expires_in is not None else []
        facts += [f"{count} {result}" for result, count in token.refreshes.items() if count]
        yield f"  {token.credential}: {', '.join(facts)}"
    if stats.outbox is not None:
        outbox = stats.outbox
        oldest = f", the oldest {outbox.oldest:.0f} s old" if outbox.depth else ""
        yield f"  outbox: {outbox.depth} to deliver{oldest}, {outbox.dead} dead"
    for batch in stats.batches:
        yield f"  batch: {batch.done} done, {batch.failed} failed, {batch.running} running, {batch.held} held back"
