"""One structured event per logical call."""

import logging

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, hdrs

from apiclient.middleware._call import Call, joined, opened

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class AccessLog:
    """Record ``http.call`` when a call has ended: endpoint, status, attempts, duration, and where time went.

    The endpoint's template stands for the URL, so that neither path parameters nor query values reach a log.
    A redirect that is followed is part of its call, and recorded as ``http.redirect`` at debug. Each wire
    request is recorded as ``http.attempt`` at debug by the pipeline.

    Args:
        level: ``logging`` level of a call that ended in an answer below 400.
        failure_level: Level of every other outcome, cancellation included.
    """

    def __init__(self, *, level: int = logging.INFO, failure_level: int = logging.WARNING) -> None:
        self._level = level
        self._failure_level = failure_level

    def __repr__(self) -> str:
        level, failure = logging.getLevelName(self._level), logging.getLevelName(self._failure_level)
        return f"AccessLog(level={level}, failure_level={failure})"

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send *request*, and record how it ended."""
        call = joined()
        if call is None:
            return await opened(self, request, handler)
        try:
            response = await handler(request)
        except BaseException as error:
            if call.log.enabled(self._failure_level):
                self._record(call, self._failure_level, getattr(error, "status", None), error)
            raise
        level = self._level if response.status < 400 else self._failure_level
        if call.log.enabled(level):
            if not call.bare and response.status in _REDIRECTS and hdrs.LOCATION in response.headers:
                call.emit(logging.DEBUG, "http.redirect", status=response.status)
            else:
                self._record(call, level, response.status, None)
        return response

    def _record(self, call: Call, level: int, status: int | None, error: BaseException | None) -> None:
        fields: dict[str, object] = {
            "call_id": call.id,
            "endpoint": call.endpoint,
            "status": status,
            "attempts": call.attempts,
            "duration_s": round(call.time() - call.started, 6),
            "network_s": round(call.network, 6),
        }
        for kind, seconds in call.waits.items():
            fields[f"{kind}_s"] = round(seconds, 6)
        if error is not None:
            fields["error_type"] = type(error).__name__
            trace_id = getattr(error, "trace_id", None)
            if trace_id is not None:
                fields["trace_id"] = trace_id
        call.log.emit(level, "http.call", **fields)
