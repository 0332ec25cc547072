"""Answer something of use when the API cannot."""

import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from apiclient.middleware._body import discard
from apiclient.middleware._call import Call, joined, opened
from apiclient.middleware._substitute import Substitute, response_of
from apiclient.middleware.errors import ApiError, Deferred

Source = Callable[[Call, ApiError | None], Substitute | Awaitable[Substitute | None] | None]
"""Gives a stale or default answer for a call and its error (None: a plain 5xx), or None to let the call fail."""

_MARK = "X-Fallback"


class Fallback:
    """Give a stale or default answer where the caller said that one will do.

    Only for the endpoints listed, and only for a failure that is recoverable: a 5xx, a transport error, an open
    circuit, a deadline or quota that ran out. The answer carries the header ``X-Fallback`` with the name of the error,
    and an event ``http.fallback`` is logged. List it outside ``Alert`` and ``AccessLog``, which see the failure then.

    Args:
        answers: For each endpoint (``"GET /rates"``) a ``Substitute``, or a callable, sync or async, that gets the
            call and the error and returns a ``Substitute``, or None to let the call fail after all.

    Raises:
        TypeError: An entry is neither.
    """

    def __init__(self, answers: Mapping[str, Substitute | Source]) -> None:
        for endpoint, answer in answers.items():
            if not isinstance(answer, Substitute) and not callable(answer):
                raise TypeError(f"answers[{endpoint!r}] must be a Substitute or a callable, got {answer!r}")
        self._answers = dict(answers)

    def __repr__(self) -> str:
        return f"Fallback({sorted(self._answers)})"

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send *request*, and answer in the server's place where it failed for now."""
        call = joined()
        if call is None:
            return await opened(self, request, handler)
        source = self._answers.get(call.endpoint)
        if source is None:
            return await handler(request)
        failure: ApiError | None = None
        response: ClientResponse | None = None
        try:
            response = await handler(request)
            if response.status < 500:
                return response
        except ApiError as error:
            if not error.recoverable or isinstance(error, Deferred):
                raise
            failure = error
        try:
            answer = await _asked(source, call, failure)
            if answer is not None:
                return await self._instead(request, call, answer, failure, response)
        except BaseException:
            if response is not None:
                response.close()
            raise
        if failure is not None:
            raise failure
        return _given(response)

    async def _instead(
        self,
        request: ClientRequest,
        call: Call,
        answer: Substitute,
        failure: ApiError | None,
        response: ClientResponse | None,
    ) -> ClientResponse:
        name = type(failure).__name__ if response is None else str(response.status)
        call.emit(logging.WARNING, "http.fallback", error_type=name)
        if response is not None:
            discard(response, request)
        return await response_of(request, answer, {_MARK: name})


async def _asked(source: Substitute | Source, call: Call, failure: ApiError | None) -> Substitute | None:
    if isinstance(source, Substitute):
        return source
    answer = source(call, failure)
    return await answer if inspect.isawaitable(answer) else answer


def _given(response: ClientResponse | None) -> ClientResponse:
    if response is None:
        raise RuntimeError("a call ended with neither a response nor an error")
    return response
