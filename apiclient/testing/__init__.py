"""What a team needs to test code against any answer in milliseconds, without a server."""

from typing import TYPE_CHECKING, Any

from apiclient.testing._cassette import Cassette
from apiclient.testing._cassette_file import CassetteError
from apiclient.testing._chaos import Chaos
from apiclient.testing._clock import FakeClock
from apiclient.testing._mock_transport import MockTransport, UnmatchedRequest
from apiclient.testing._mode import Testing, set_testing
from apiclient.testing._models import (
    FixedWindow,
    Guard,
    Latency,
    LeakyBucket,
    QuotaServer,
    SlidingCounter,
    SlidingLog,
    TokenBucket,
    least_time,
)
from apiclient.testing._received import Received
from apiclient.testing._route import Answer, Route

if TYPE_CHECKING:
    from apiclient.testing._aioresponses import aioresponses

__all__ = [
    "Answer",
    "Cassette",
    "CassetteError",
    "Chaos",
    "FakeClock",
    "FixedWindow",
    "Guard",
    "Latency",
    "LeakyBucket",
    "MockTransport",
    "QuotaServer",
    "Received",
    "Route",
    "SlidingCounter",
    "SlidingLog",
    "Testing",
    "TokenBucket",
    "UnmatchedRequest",
    "aioresponses",
    "least_time",
    "set_testing",
]


def __getattr__(name: str) -> Any:
    if name == "aioresponses":
        from apiclient.testing._aioresponses import aioresponses  # noqa: PLC0415 - aioresponses is an extra

        return aioresponses
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
