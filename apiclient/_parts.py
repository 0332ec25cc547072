"""The parts that a client is given, checked, and made a chain of."""

from apiclient.middleware import Authorize, CircuitBreaker, RateLimit
from apiclient.middleware.credential import Credential
from apiclient.outbox import Outbox
from apiclient.pipeline import Pipeline, default_pipeline
from apiclient.shared import Redis


def pipeline_of(
    pipeline: Pipeline | None,
    *,
    credentials: Credential | None,
    timeout: float,
    outbox: Outbox | None,
    shared: Redis | None,
) -> Pipeline:
    """Return *pipeline*, or the default one for the other parts.

    Raises:
        TypeError: A part is something else.
        ValueError: A part is given beside a pipeline that does not use it.
    """
    _check(credentials=credentials, pipeline=pipeline, outbox=outbox, shared=shared)
    if pipeline is not None:
        return pipeline
    chain = default_pipeline(credentials=credentials, timeout=timeout, outbox=outbox)
    if shared is None:
        return chain
    chain = chain.replace(RateLimit, RateLimit(store=shared.quotas))
    return chain.replace(CircuitBreaker, CircuitBreaker(hints=shared.hints)) if shared.breaker_hints else chain


def _check(*, credentials: object, pipeline: object, outbox: object, shared: object) -> None:
    if pipeline is not None and not isinstance(pipeline, Pipeline):
        raise TypeError(
            f"pipeline must be a Pipeline, got {type(pipeline).__name__}; write Pipeline([...]) or default_pipeline()"
        )
    if outbox is not None and not isinstance(outbox, Outbox):
        raise TypeError(f"outbox must be an Outbox, got {type(outbox).__name__}; write Outbox(path)")
    if shared is not None and not isinstance(shared, Redis):
        raise TypeError(f"shared must be a Redis, got {type(shared).__name__}; write Redis(url)")
    if pipeline is None:
        return
    if shared is not None:
        raise ValueError("shared= is for the default pipeline; in one of your own write RateLimit(store=shared.quotas)")
    if credentials is not None and pipeline.find(Authorize) is None:
        raise ValueError(
            "credentials= is for the default pipeline, and this one sends none; "
            "write default_pipeline(credentials=...), or list Authorize(...)"
        )
