"""The parts that a client is given, checked before it is made of them."""

from apiclient.middleware import Authorize
from apiclient.outbox import Outbox
from apiclient.pipeline import Pipeline
from apiclient.shared import Redis


def check_parts(*, credentials: object, pipeline: object, outbox: object, shared: object) -> None:
    """Check that each part is of its kind, and that none of them would go unused.

    Raises:
        TypeError: ``pipeline``, ``outbox`` or ``shared`` is something else.
        ValueError: One is given beside a pipeline that does not use it.
    """
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
