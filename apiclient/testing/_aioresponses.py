"""``aioresponses`` made whole: for aiohttp 3.14 and later, and with the chain running."""

import asyncio
import inspect
import json
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

from aiohttp import (
    ClientConnectionError,
    ClientHandlerType,
    ClientMiddlewareType,
    ClientOSError,
    ClientRequest,
    ClientResponse,
    ClientSession,
    ServerDisconnectedError,
    hdrs,
)
from multidict import CIMultiDict
from yarl import URL

from apiclient.testing._received import Received
from apiclient.testing._response import build, stream, uploaded

try:
    from aioresponses import aioresponses as _Upstream  # noqa: N812 - upstream's class has a lower-case name
    from aioresponses import compat
except ImportError as missing:
    raise ImportError(
        "apiclient.testing.aioresponses needs aioresponses: pip install 'apiclient-middleware[test]'"
    ) from missing

merge_params = cast("Callable[[str | URL, Any], URL]", vars(compat)["merge_params"])
normalized = compat.normalize_url

Url = str | URL | re.Pattern[str]


class aioresponses(_Upstream):  # noqa: N801 - a drop-in has the name of what it replaces
    """A drop-in for ``aioresponses.aioresponses`` that lets the session's and the call's middlewares run.

    Upstream replaces ``ClientSession._request``, so that no middleware ever runs, and fails on aiohttp 3.14. Here
    the real one runs, with a last middleware that answers from the table of matches. What differs, therefore:

    - ``requests`` has an entry for each attempt on the URL asked for, with the arguments of the caller as ever;
      ``attempts`` lists what would have gone over the wire, redirects included, each with its headers and body.
    - A callback of a call that has middlewares gets the headers of the attempt as ``headers``.
    - Redirects are followed by aiohttp's rules: 307 and 308 keep method and body, the limit holds, and a target
      without a match is named in the error. Passthrough is decided for each hop.
    - Cookies reach the session's jar, responses carry the real ``request_info`` and URL, trace configs see the
      request, and arguments are checked: a relative URL on a session without ``base_url``, or a plain generator
      as ``data``, is an error.
    - A mocked ``ClientOSError`` or ``ServerDisconnectedError`` leaves the chain once, as upstream; a real one
      would make aiohttp run the chain of an idempotent request a second time (``MockTransport`` shows that).

    Args:
        **kwargs: Those of upstream: ``param``, the name of the argument that the decorated function gets it as;
            ``passthrough``, prefixes of URLs that are really requested; ``passthrough_unmatched``, whether requests
            without a match are really made.

    Attributes:
        attempts: Each attempt that was answered or refused here, in order.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.attempts: list[Received] = []

    if TYPE_CHECKING:
        # As they are, with the types that the original leaves out.
        requests: dict[tuple[str, URL], list[Any]]

        def __enter__(self) -> Self: ...
        def head(self, url: Url, **kwargs: Any) -> None: ...
        def get(self, url: Url, **kwargs: Any) -> None: ...
        def post(self, url: Url, **kwargs: Any) -> None: ...
        def put(self, url: Url, **kwargs: Any) -> None: ...
        def patch(self, url: Url, **kwargs: Any) -> None: ...
        def delete(self, url: Url, **kwargs: Any) -> None: ...
        def options(self, url: Url, **kwargs: Any) -> None: ...
        def assert_not_called(self) -> None: ...
        def assert_called(self) -> None: ...
        def assert_called_once(self) -> None: ...
        def assert_called_with(self, url: Url, *args: Any, **kwargs: Any) -> None: ...
        def assert_any_call(self, url: Url, *args: Any, **kwargs: Any) -> None: ...

    async def _request_mock(
        self, orig_self: ClientSession, method: str, url: str | URL, *args: Any, **kwargs: Any
    ) -> ClientResponse:
        given: Sequence[ClientMiddlewareType] | None = kwargs.pop("middlewares", None)
        # The session's own list has no public name.
        chain = tuple(cast("Any", orig_self)._middlewares if given is None else given)  # noqa: SLF001
        call = _Call(orig_self, url, args, kwargs, layered=bool(chain))

        async def answer(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
            return await self._answer(call, request, handler)

        response: ClientResponse = await self.patcher.temp_original(
            orig_self, method, url, *args, middlewares=(call.enter, *chain, answer), **kwargs
        )
        return response

    async def _answer(self, call: "_Call", request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Answer one attempt from the table, or let it through."""
        url = call.url(request)
        if any(str(url).startswith(prefix) for prefix in self._passthrough):
            return await handler(request)
        match = self._taken(request.method, url)
        if match is None and self.passthrough_unmatched:
            self._book(call, request.method, url, call.arguments())
            return await handler(request)
        received = Received(request, await uploaded(request), asyncio.get_running_loop().time())
        self.attempts.append(received)
        arguments = call.arguments(received.body)
        self._book(call, request.method, url, arguments)
        call.mocked = True
        try:
            response = await _matched(request, match, url, call.seen_by_callback(request, arguments))
        except BaseException as error:
            received.outcome = type(error).__name__
            raise
        received.route = repr(match)
        received.outcome = str(response.status)
        self._responses.append(response)
        return response

    def _taken(self, method: str, url: URL) -> Any:
        """Return the first match, one use of it spent, or None."""
        for key, match in self._matches.items():
            if match.match(method, url):
                if isinstance(match.repeat, bool):
                    spent = not match.repeat
                else:
                    spent = match.repeat == 1
                    match.repeat -= 1
                if spent:
                    del self._matches[key]
                return match
        return None

    def _book(self, call: "_Call", method: str, url: URL, arguments: dict[str, Any]) -> None:
        if call.hops == 0:
            booked = self._build_request_call(method, *call.args, **arguments)
            self.requests.setdefault((method, url), []).append(booked)


class _Call:
    """One call on a patched session."""

    def __init__(
        self, session: ClientSession, url: str | URL, args: tuple[Any, ...], kwargs: dict[str, Any], *, layered: bool
    ) -> None:
        self.args = args
        self.hops = -1
        self.mocked = False
        patched: Any = session
        # Private, but upstream reads the same two; the request that they make has lost what its table is keyed by.
        self._built: Callable[[str | URL], URL] = patched._build_url  # noqa: SLF001
        self._prepared: Callable[[Any], Any] = patched._prepare_headers  # noqa: SLF001
        self._session = session
        self._asked = url
        self._kwargs = kwargs
        self._layered = layered
        self._began_as: URL | None = None
        self._fault: Exception | None = None

    async def enter(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Begin the call, or one hop of its redirects: the first middleware."""
        if self._fault is not None:
            # aiohttp runs the chain again after such an error; what was mocked is to happen once.
            raise self._fault
        self.hops += 1
        self._began_as = request.url
        try:
            return await handler(request)
        except (ClientOSError, ServerDisconnectedError) as error:
            if self.mocked:
                self._fault = error
            raise

    def url(self, request: ClientRequest) -> URL:
        """Return what *request* is looked up by: as upstream has it, with the fragment that no request has."""
        if request.url != self._began_as:
            return normalized(request.url)
        if self.hops:
            return normalized(request.original_url)
        return normalized(merge_params(self._built(self._asked), self._kwargs.get("params")))

    def arguments(self, body: bytes | None = None) -> dict[str, Any]:
        """Return the caller's arguments as upstream records them: headers of the session, streams read."""
        arguments = dict(self._kwargs)
        if self._session.headers:
            arguments["headers"] = self._prepared(arguments.get("headers"))
        if body is not None and hasattr(arguments.get("data"), "__aiter__"):
            arguments["data"] = body
        return arguments

    def seen_by_callback(self, request: ClientRequest, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of a callback."""
        headers = {"headers": request.headers.copy()} if self._layered else {}
        return {"allow_redirects": True, **arguments, **headers}


async def _matched(request: ClientRequest, match: Any, url: URL, arguments: dict[str, Any]) -> ClientResponse:
    if match is None:
        raise ClientConnectionError(f"Connection refused: {request.method} {url}")
    said: Any = None
    if callable(match.callback):
        said = match.callback(url, **arguments)
        if inspect.isawaitable(said):
            said = await said
    if match.exception is not None:
        raise match.exception
    if said is None:
        said = match
    headers: CIMultiDict[str] = CIMultiDict({hdrs.CONTENT_TYPE: said.content_type})
    headers.update(said.headers or {})
    body: str | bytes = said.body if said.payload is None else json.dumps(said.payload)
    return await build(
        request,
        status=said.status,
        reason=said.reason,
        headers=headers,
        content=stream(request, body if isinstance(body, bytes) else str.encode(body)),
        response_class=said.response_class,
    )
