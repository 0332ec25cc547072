"""A chain that ends here instead of at the network."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, hdrs
from yarl import URL

from apiclient.testing._end import answered_by
from apiclient.testing._received import NOTHING, Expectation, Received, counted, listed
from apiclient.testing._response import uploaded
from apiclient.testing._route import Pattern, Route

_ANYTHING = re.compile(".*", re.DOTALL)


class UnmatchedRequest(AssertionError):
    """A request that no route of the mock is for.

    Neither a ``ClientError`` nor an ``OSError``, so that no retry policy takes it for a fault of the network.
    """


class MockTransport:
    """Answer from routes instead of the network: a native middleware, to be listed last.

    Whatever stands before it runs as it does in production, each attempt is recorded with the headers it really
    had, and bodies are consumed as sending them does. Routes are tried in the order of their making, ``any()`` last;
    asking for a route that exists gives that route, to add to its sequence or to look at.

    Args:
        base_url: What paths without an origin are relative to: an origin and perhaps a path. By default they are
            whole paths on any origin.

    Raises:
        ValueError: *base_url* is not absolute.
        UnmatchedRequest: (from a call) No route is for the request, or the one that is has no answer.

    Attributes:
        requests: Each attempt so far, unmatched ones included.
    """

    innermost = True

    def __init__(self, *, base_url: str | URL | None = None) -> None:
        self._base = None if base_url is None else URL(base_url)
        if self._base is not None and not self._base.absolute:
            raise ValueError(f"base_url must be absolute, got {base_url!r}")
        self._routes: dict[tuple[str | None, str | re.Pattern[str]], Route] = {}
        self._otherwise: Route | None = None
        self.requests: list[Received] = []

    def __repr__(self) -> str:
        number = len(self._routes) + (self._otherwise is not None)
        return f"MockTransport({counted(number, 'route')}, {counted(len(self.requests), 'request')} so far)"

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Answer *request*; nothing is sent."""
        return await answered_by(self._answer, request, handler)

    def get(self, path: str | re.Pattern[str]) -> Route:
        """Return the route for GET requests to *path*; see ``route``."""
        return self.route(hdrs.METH_GET, path)

    def post(self, path: str | re.Pattern[str]) -> Route:
        """Return the route for POST requests to *path*; see ``route``."""
        return self.route(hdrs.METH_POST, path)

    def put(self, path: str | re.Pattern[str]) -> Route:
        """Return the route for PUT requests to *path*; see ``route``."""
        return self.route(hdrs.METH_PUT, path)

    def patch(self, path: str | re.Pattern[str]) -> Route:
        """Return the route for PATCH requests to *path*; see ``route``."""
        return self.route(hdrs.METH_PATCH, path)

    def delete(self, path: str | re.Pattern[str]) -> Route:
        """Return the route for DELETE requests to *path*; see ``route``."""
        return self.route(hdrs.METH_DELETE, path)

    def head(self, path: str | re.Pattern[str]) -> Route:
        """Return the route for HEAD requests to *path*; see ``route``."""
        return self.route(hdrs.METH_HEAD, path)

    def options(self, path: str | re.Pattern[str]) -> Route:
        """Return the route for OPTIONS requests to *path*; see ``route``."""
        return self.route(hdrs.METH_OPTIONS, path)

    def route(self, method: str | None, path: str | re.Pattern[str]) -> Route:
        """Return the route for *method* and *path*, making it where there is none yet.

        Args:
            method: Any case; None for every method.
            path: ``/employees/{id}``, where a placeholder stands for one segment; with an origin before it, only
                there; with a query after it, only with these parameters. Or a compiled expression for the whole raw
                path.

        Raises:
            ValueError: The path begins with neither ``/`` nor an origin, or a placeholder is malformed.
        """
        key = (None if method is None else method.upper(), path)
        route = self._routes.get(key)
        if route is None:
            route = self._routes[key] = Route(Pattern(method, path, self._base))
        return route

    def any(self) -> Route:
        """Return the route for what no other route is for."""
        if self._otherwise is None:
            self._otherwise = Route(Pattern(None, _ANYTHING))
        return self._otherwise

    def reset(self) -> None:
        """Forget what was received and begin each route's sequence again; the routes stay."""
        self.requests.clear()
        for route in self._all():
            route.rewind()

    def assert_called(
        self,
        method: str | None = None,
        path: str | re.Pattern[str] | None = None,
        *,
        times: int | None = None,
        params: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = NOTHING,
        body: bytes | None = None,
    ) -> None:
        """Fail unless a request like this was received, at least once or exactly *times* times.

        Args:
            method: By default any.
            path: As for ``route``; by default any.
            times: How often; None for at least once.
            params: Query parameters that must be there; others may be too.
            headers: Header fields that must be there; others may be too.
            json: The body must be JSON equal to this.
            body: The body must be these bytes.

        Raises:
            AssertionError: It was not; the message lists what was received, and how that differs.
        """
        pattern = Pattern(method, _ANYTHING if path is None else path, self._base)
        expectation = Expectation(params=params, headers=headers, json=json, body=body)
        notes: dict[int, list[str]] = {}
        for index, received in enumerate(self.requests):
            if pattern.match(received.method, received.url) is not None:
                notes[index] = expectation.differences(received)
        count = sum(not differences for differences in notes.values())
        if count == 0 if times is None else count != times:
            what = f"{method or 'any method'} {'any path' if path is None else path}"
            wanted = "at least once" if times is None else counted(times, "time")
            _fail(f"Expected {what}{expectation} {wanted}, got it {counted(count, 'time')}.", self.requests, notes)

    def assert_not_called(self, method: str | None = None, path: str | re.Pattern[str] | None = None) -> None:
        """Fail if any request was received, or one for *method* and *path*.

        Raises:
            AssertionError: It was; the message lists what was received.
        """
        self.assert_called(method, path, times=0)

    def assert_call_count(self, count: int) -> None:
        """Fail unless *count* requests were received, unmatched ones included.

        Raises:
            AssertionError: They were not; the message lists what was received.
        """
        if len(self.requests) != count:
            _fail(f"Expected {counted(count, 'request')}.", self.requests)

    def assert_all_routes_called(self) -> None:
        """Fail if there is a route that nothing asked for.

        Raises:
            AssertionError: There is; the message names them and lists what was received.
        """
        idle = [f"  {route.pattern}" for route in self._all() if not route.requests]
        if idle:
            _fail("\n".join(["Expected each route to be called; these were not:", *idle]), self.requests)

    async def _answer(self, request: ClientRequest) -> ClientResponse:
        time = asyncio.get_running_loop().time
        try:
            body = await uploaded(request)
        except BaseException as error:
            broken = Received(request, b"", time())
            broken.outcome = type(error).__name__
            self.requests.append(broken)
            raise
        received = Received(request, body, time())
        self.requests.append(received)
        route = self._routed(received)
        received.route = str(route.pattern)
        play = route.step(received)
        if play is None:
            received.outcome = "no answer"
            raise UnmatchedRequest(f"{route.pattern} has no answer: give it one with .respond(...)")
        try:
            response = await play(request)
        except BaseException as error:
            received.outcome = type(error).__name__
            raise
        received.outcome = str(response.status)
        return response

    def _all(self) -> list[Route]:
        return [*self._routes.values(), *([] if self._otherwise is None else [self._otherwise])]

    def _routed(self, received: Received) -> Route:
        for route in self._all():
            found = route.pattern.match(received.method, received.url)
            if found is not None:
                received.path_params = found
                return route
        received.outcome = "unmatched"
        routes = "\n".join(f"  {route.pattern}" for route in self._all()) or "  (none)"
        raise UnmatchedRequest(f"No route is for {received.method} {received.url}.\nRoutes:\n{routes}")


def _fail(message: str, received: list[Received], notes: Mapping[int, list[str]] | None = None) -> NoReturn:
    raise AssertionError(f"{message}\n{listed(received, notes)}")
