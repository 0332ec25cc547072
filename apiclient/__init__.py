"""The resilient API client for asyncio: an aiohttp session behind a chain of small, composable middlewares."""

from apiclient import errors
from apiclient._caller import PendingCall
from apiclient.batch import BatchResult, Request
from apiclient.client import ApiClient
from apiclient.middleware import Rate, current_call
from apiclient.options import CallOptions
from apiclient.outbox import Outbox
from apiclient.pipeline import Pipeline, default_pipeline
from apiclient.redirects import Redirects

__all__ = [
    "ApiClient",
    "BatchResult",
    "CallOptions",
    "Outbox",
    "PendingCall",
    "Pipeline",
    "Rate",
    "Redirects",
    "Request",
    "current_call",
    "default_pipeline",
    "errors",
]
