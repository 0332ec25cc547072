"""``Deprecation`` (RFC 9745) and ``Sunset`` (RFC 8594) say that an endpoint will go away; somebody should hear it."""

from collections.abc import Callable
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
from yarl import URL


class Ending(NamedTuple):
    """What an API says about the end of an endpoint.

    Attributes:
        url: Scheme, host and path of the first request that heard of it.
        until: When the endpoint goes away, or None where the API does not say.
    """

    url: URL
    until: datetime | None


class SunsetWatch:
    """Tell *listener* once of each endpoint whose answers announce its end.

    It only looks: nothing is changed, and a failure is not its business. List it anywhere.

    Args:
        listener: Called with an ``Ending``. It must not block.
        most: Most endpoints remembered; what is beyond is not told.

    Raises:
        ValueError: ``most`` is below 1.
    """

    def __init__(self, listener: Callable[[Ending], object], *, most: int = 1000) -> None:
        if most < 1:
            raise ValueError(f"most must be at least 1, got {most!r}")
        self._listener = listener
        self._most = most
        self._told: set[tuple[str, URL]] = set()

    def __repr__(self) -> str:
        return f"SunsetWatch({len(self._told)} told, most={self._most})"

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send *request* on and look at the answer's headers."""
        response = await handler(request)
        if "Sunset" in response.headers or "Deprecation" in response.headers:
            self._tell(request.method, request.url.with_query(None), response.headers.get("Sunset"))
        return response

    def _tell(self, method: str, url: URL, sunset: str | None) -> None:
        if (method, url) in self._told or len(self._told) >= self._most:
            return
        self._told.add((method, url))
        self._listener(Ending(url, None if sunset is None else _date(sunset)))


def _date(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text)
    except ValueError:
        return None
