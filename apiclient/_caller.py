"""A call before it is made, and what whoever makes many of them needs of a client."""

from collections.abc import Generator
from types import TracebackType
from typing import Any, Protocol, Unpack

from aiohttp import ClientResponse
from yarl import URL

from apiclient._watch import Watch
from apiclient.middleware._call import Call
from apiclient.middleware.errors import ApiError
from apiclient.middleware.intent import Intent
from apiclient.options import CallOptions
from apiclient.pipeline import Pipeline


class PendingCall:
    """A call not yet made: ``await`` it for a buffered response, ``async with`` it for a streamed one.

    Attributes:
        options: What was said of it.
        call: The logical call once it has begun, with its attempts and times; None before.
    """

    __slots__ = ("_client", "_method", "_path", "_response", "call", "options")

    def __init__(self, client: "Caller", method: str, path: str, options: CallOptions) -> None:
        self._client = client
        self._method = method
        self._path = path
        self.options = options
        self._response: ClientResponse | None = None
        self.call: Call | None = None

    def __repr__(self) -> str:
        return f"<PendingCall {self._method} {self._path!r}>"

    def __await__(self) -> Generator[Any, None, ClientResponse]:
        return self._client.perform(self, self._method, self._path, buffered=True).__await__()

    async def __aenter__(self) -> ClientResponse:
        self._response = await self._client.perform(self, self._method, self._path, buffered=False)
        return self._response

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._response is not None:
            self._response.release()
        if isinstance(error, ApiError) and error.request is None and self.call is not None:
            self.call.stamp(error)


class Caller(Protocol):
    """What the batch runner and the outbox need of an ``ApiClient``, which says what each of these does."""

    watch: Watch

    @property
    def base_url(self) -> URL:
        """The base URL."""
        ...

    @property
    def pipeline(self) -> Pipeline:
        """The chain of every call that names no other."""
        ...

    def request(self, method: str, path: str, **options: Unpack[CallOptions]) -> PendingCall:
        """Prepare a call."""
        ...

    def endpoint_key(self, method: str, path: str) -> tuple[str, str]:
        """Return origin and endpoint of a call."""
        ...

    async def perform(self, pending: PendingCall, method: str, path: str, *, buffered: bool) -> ClientResponse:
        """Make the call that *pending* stands for."""
        ...

    async def send(self, intent: Intent, *, timeout: float | None = None) -> ClientResponse:  # noqa: ASYNC109
        """Make the call that *intent* stands for."""
        ...
