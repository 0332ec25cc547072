"""The chain of a batch whose results are its log."""

from apiclient.middleware import AccessLog, Alert
from apiclient.middleware.credential import Credential
from apiclient.pipeline import Pipeline, default_pipeline


def lean_pipeline(credentials: Credential | None = None, *, timeout: float = 60.0) -> Pipeline:
    """Return the default chain without those who report to somebody else: no log, no alerts, no spans.

    Args:
        credentials: As for ``default_pipeline``.
        timeout: Total seconds of a call.
    """
    return default_pipeline(credentials=credentials, timeout=timeout, telemetry=False).without(AccessLog, Alert)
