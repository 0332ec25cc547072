"""A call before it is made, and what whoever makes many of them needs of a client."""

import warnings
from collections.abc import Coroutine, Generator
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


class PendingCall(Coroutine[Any, Any, ClientResponse]):
    """A call not yet made: ``await`` it for a buffered response, ``async with`` it for a streamed one.

    It is a coroutine, so that ``create_task`` takes it; one that is forgotten is warned of.

    Attributes:
        options: What was said of it.
        call: The logical call once it has begun, with its attempts and times; None before.
    """

    __slots__ = ("_begun", "_client", "_method", "_path", "_response", "_running", "call", "options")

    def __init__(self, client: "Caller", method: str, path: str, options: CallOptions) -> None:
        self._client = client
        self._method = method
        self._path = path
        self.options = options
        self._response: ClientResponse | None = None
        self._running: Coroutine[Any, Any, ClientResponse] | None = None
        self._begun = False
        self.call: Call | None = None

    def __del__(self) -> None:
        if not self._begun:
            warnings.warn(f"{self!r} was never awaited: nothing was sent", RuntimeWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        return f"<PendingCall {self._method} {self._path!r}>"

    def __await__(self) -> Generator[Any, None, ClientResponse]:
        self._begun = True
        return self._client.perform(self, self._method, self._path, buffered=True).__await__()

    def send(self, value: Any) -> Any:
        """Go on; what a task does with a coroutine."""
        return self._begin().send(value)

    def throw(self, *error: Any) -> Any:
        """Go on with *error*; what a task does with a coroutine that is cancelled."""
        return self._begin().throw(*error)

    def close(self) -> None:
        """Give it up."""
        self._begun = True
        if self._running is not None:
            self._running.close()

    def _begin(self) -> Coroutine[Any, Any, ClientResponse]:
        self._begun = True
        if self._running is None:
            self._running = self._client.perform(self, self._method, self._path, buffered=True)
        return self._running

    async def __aenter__(self) -> ClientResponse:
        self._begun = True
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

    def perform(
        self, pending: PendingCall, method: str, path: str, *, buffered: bool
    ) -> Coroutine[Any, Any, ClientResponse]:
        """Make the call that *pending* stands for."""
        ...

    async def send(self, intent: Intent, *, timeout: float | None = None) -> ClientResponse:  # noqa: ASYNC109
        """Make the call that *intent* stands for."""
        ...
