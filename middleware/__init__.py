"""The policies: one native aiohttp client middleware per file.

Each works alone on a bare session, ``aiohttp.ClientSession(middlewares=(Retry(), RateLimit()))``, beside
anybody's own middlewares, and as part of an ``ApiClient``'s pipeline.
"""

from apiclient.middleware._budget import RetryBudget
from apiclient.middleware._call import Call, calling, current_call
from apiclient.middleware._outlet import Notice
from apiclient.middleware._parsing.quota import Rate
from apiclient.middleware._substitute import Substitute
from apiclient.middleware.access_log import AccessLog
from apiclient.middleware.alert import Alert
from apiclient.middleware.attempt_timeout import AttemptTimeout
from apiclient.middleware.auth_refresh import AuthRefresh
from apiclient.middleware.authorize import Authorize
from apiclient.middleware.circuit_breaker import CircuitBreaker
from apiclient.middleware.concurrency_limit import ConcurrencyLimit
from apiclient.middleware.content_type import ContentType
from apiclient.middleware.deadline import Deadline
from apiclient.middleware.defer import Defer
from apiclient.middleware.fallback import Fallback
from apiclient.middleware.idempotency import Idempotency
from apiclient.middleware.rate_limit import RateLimit
from apiclient.middleware.retry import Retry
from apiclient.middleware.scope_step_up import ScopeStepUp
from apiclient.middleware.status_errors import StatusErrors
from apiclient.middleware.telemetry import Telemetry
from apiclient.middleware.webhook import Webhook

__all__ = [
    "AccessLog",
    "Alert",
    "AttemptTimeout",
    "AuthRefresh",
    "Authorize",
    "Call",
    "CircuitBreaker",
    "ConcurrencyLimit",
    "ContentType",
    "Deadline",
    "Defer",
    "Fallback",
    "Idempotency",
    "Notice",
    "Rate",
    "RateLimit",
    "Retry",
    "RetryBudget",
    "ScopeStepUp",
    "StatusErrors",
    "Substitute",
    "Telemetry",
    "Webhook",
    "calling",
    "current_call",
]
