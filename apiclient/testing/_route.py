"""The routes of ``MockTransport``: which requests, and what they are answered with."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from json import dumps
from typing import Any, Self, TypedDict, Unpack
from urllib.parse import quote, unquote

from aiohttp import ClientPayloadError, ClientRequest, ClientResponse, hdrs
from multidict import CIMultiDict
from yarl import URL

from apiclient.testing._received import NOTHING, Received, counted, listed
from apiclient.testing._response import Drip, build, stream

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
# What yarl leaves as it is in a path.
_PATH_SAFE = "/:@!$&'()*+,;=~%-._"


class AnswerOptions(TypedDict, total=False):
    """What an ``Answer`` is made of; see there."""

    status: int
    json: Any
    text: str | None
    body: bytes | None
    headers: Mapping[str, str] | Iterable[tuple[str, str]] | None
    reason: str | None


class Answer:
    """What a mock route says.

    ``Content-Type`` follows from the kind of body and ``Content-Length`` from its size, unless *headers* say
    otherwise. Nothing is compressed: the body is what the caller reads. For HEAD, 204 and 304 none is sent.

    Args:
        status: A final status, 200 to 999.
        json: A value to be sent as JSON; None is one.
        text: Text, sent as UTF-8.
        body: Bytes.
        headers: Header fields; pairs where one occurs twice.
        reason: The reason phrase; by default the registered one.

    Raises:
        ValueError: *status* is out of its range.
        TypeError: More than one of *json*, *text* and *body* is given.
    """

    def __init__(
        self,
        *,
        status: int = 200,
        json: Any = NOTHING,
        text: str | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        reason: str | None = None,
    ) -> None:
        if not 200 <= status <= 999:
            raise ValueError(f"status must be from 200 to 999, got {status!r}")
        if (json is not NOTHING) + (text is not None) + (body is not None) > 1:
            raise TypeError("only one of json, text and body can be given")
        self.status = status
        self.reason = reason
        self.headers: CIMultiDict[str] = CIMultiDict(() if headers is None else headers)
        self.body = b"" if body is None else body
        if json is not NOTHING:
            self.body = dumps(json).encode()
            self.headers.setdefault(hdrs.CONTENT_TYPE, "application/json")
        elif text is not None:
            self.body = text.encode()
            self.headers.setdefault(hdrs.CONTENT_TYPE, "text/plain; charset=utf-8")
        if status not in {204, 304} and hdrs.TRANSFER_ENCODING not in self.headers:
            self.headers.setdefault(hdrs.CONTENT_LENGTH, str(len(self.body)))

    def __repr__(self) -> str:
        return f"Answer({self.status}, {counted(len(self.body), 'byte')})"


Answering = Callable[[ClientRequest], Answer | BaseException | Awaitable[Answer | BaseException]]


class Pattern:
    """Which requests a route is for.

    Args:
        method: Upper case, or None for any.
        path: ``/employees/{id}``, where a placeholder stands for one segment; with an origin before it, only there;
            with a query after it, only with these parameters. Or a compiled expression for the whole raw path.
        base: What a path without an origin is relative to, or None: then any origin will do.

    Raises:
        ValueError: The path begins with neither ``/`` nor an origin, or a placeholder is malformed.
    """

    def __init__(self, method: str | None, path: str | re.Pattern[str], base: URL | None = None) -> None:
        self._method = None if method is None else method.upper()
        self._origin: tuple[str, str | None, int | None] | None = None
        self._params: dict[str, str] = {}
        if isinstance(path, re.Pattern):
            self._expression = path
            self._text = f"{self._method or 'any method'} re.compile({path.pattern!r})"
            return
        self._text = f"{self._method or 'any method'} {path}"
        template, _, query = path.partition("?")
        if query:
            self._params = dict(URL.build(query_string=query).query)
        prefix = ""
        scheme, found, rest = template.partition("://")
        if found:
            host, slash, rest = rest.partition("/")
            self._origin = _origin(URL(f"{scheme}://{host}"))
            template = slash + rest if slash else "/"
        elif base is not None:
            self._origin = _origin(base)
            prefix = base.raw_path.rstrip("/")
        if not template.startswith("/"):
            raise ValueError(f"path must begin with '/' or an origin, got {path!r}")
        self._expression = _compiled(prefix, template)

    def __str__(self) -> str:
        return self._text

    def match(self, method: str, url: URL) -> dict[str, str] | None:
        """Return the values of the placeholders where the request is meant, else None."""
        if self._method not in {None, method} or (self._origin is not None and self._origin != _origin(url)):
            return None
        if any(value not in url.query.getall(name, []) for name, value in self._params.items()):
            return None
        found = self._expression.fullmatch(url.raw_path)
        return None if found is None else {name: unquote(value or "") for name, value in found.groupdict().items()}


def _origin(url: URL) -> tuple[str, str | None, int | None]:
    # URL.origin() takes http://a and http://a:80 for two.
    return url.scheme, url.host, url.port


def _compiled(prefix: str, template: str) -> re.Pattern[str]:
    parts = _PLACEHOLDER.split(template)
    if any("{" in part or "}" in part for part in parts[::2]):
        raise ValueError(f"path {template!r} has a brace without its partner")
    names = parts[1::2]
    if any(not name.isidentifier() for name in names) or len(set(names)) < len(names):
        raise ValueError(f"path {template!r} needs placeholders with names of their own, got {names!r}")
    expression = re.escape(prefix)
    for index, part in enumerate(parts):
        expression += f"(?P<{part}>[^/]+)" if index % 2 else re.escape(quote(part, safe=_PATH_SAFE))
    return re.compile(expression)


class _Step:
    """One link of a route's sequence."""

    def __init__(self, source: "Answer | Answering | BaseException") -> None:
        self.source = source
        self.times = 1
        self.delay = 0.0
        self.cut: int | None = None
        self.drip: Drip | None = None

    async def play(self, request: ClientRequest) -> ClientResponse:
        if self.delay:
            await asyncio.sleep(self.delay)
        said = self.source if isinstance(self.source, Answer | BaseException) else self.source(request)
        if not isinstance(said, Answer | BaseException):
            said = await said
        if isinstance(said, BaseException):
            raise said.with_traceback(None)
        return await self._sent(request, said)

    async def _sent(self, request: ClientRequest, answer: Answer) -> ClientResponse:
        body = b"" if request.method == hdrs.METH_HEAD or answer.status in {204, 304} else answer.body
        error: BaseException | None = None
        if self.cut is not None:
            _check_cut(self.cut, answer)
            error = ClientPayloadError(
                f"Response payload is not completed: the mock stopped after {self.cut} of {len(answer.body)} bytes"
            )
        return await build(
            request,
            status=answer.status,
            reason=answer.reason,
            headers=answer.headers.copy(),
            content=stream(request, body, cut=self.cut, error=error, drip=self.drip),
        )


class Route:
    """Which requests are answered, with what, in which order; made by the methods of ``MockTransport``.

    Each ``respond`` and ``raises`` adds a link to a sequence; the last link repeats for ever. ``delay``,
    ``truncate``, ``drip`` and ``times`` change the link before them. All return the route, to be chained.
    """

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern
        self.requests: list[Received] = []
        self._steps: list[_Step] = []

    def __repr__(self) -> str:
        return (
            f"Route({self.pattern}, {counted(len(self._steps), 'answer')}, "
            f"{counted(len(self.requests), 'request')} so far)"
        )

    @property
    def call_count(self) -> int:
        """How many attempts the route has answered."""
        return len(self.requests)

    def respond(self, answer: "Answer | Answering | None" = None, /, **options: Unpack[AnswerOptions]) -> Self:
        """Answer with ``Answer(**options)``, or with *answer*.

        Args:
            answer: An answer; or a callable that is given the ``ClientRequest`` and returns an answer or an exception
                to raise, or an awaitable of one.
            options: As for ``Answer``.

        Raises:
            ValueError: An option is out of its range.
            TypeError: Both an answer and options are given, or *answer* is neither an ``Answer`` nor callable.
        """
        if answer is not None and options:
            raise TypeError(f"either an answer or options can be given, got both {answer!r} and {sorted(options)}")
        if answer is not None and not isinstance(answer, Answer) and not callable(answer):
            raise TypeError(f"answer must be an Answer or callable, got {answer!r}")
        self._steps.append(_Step(Answer(**options) if answer is None else answer))
        return self

    def raises(self, error: BaseException | type[BaseException]) -> Self:
        """Raise *error* instead of answering.

        aiohttp itself runs a whole chain again, once, when a ``ClientOSError`` that is no ``ClientConnectorError``,
        or a ``ServerDisconnectedError``, leaves it for an idempotent method: that is seen here as it is on the wire.
        """
        given: Any = error
        if isinstance(given, BaseException):
            self._steps.append(_Step(given))
        elif isinstance(given, type) and issubclass(given, BaseException):
            self._steps.append(_Step(lambda _: given()))
        else:
            raise TypeError(f"error must be an exception, got {error!r}")
        return self

    def times(self, count: int) -> Self:
        """Use the link before *count* times (at least 1) before going on to the next."""
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count!r}")
        self._last("times").times = count
        return self

    def delay(self, seconds: float) -> Self:
        """Wait *seconds* on the event loop, virtual or not, before the link before is played."""
        if not seconds >= 0:
            raise ValueError(f"seconds must not be negative, got {seconds!r}")
        self._last("delay").delay = seconds
        return self

    def truncate(self, *, after: int) -> Self:
        """Break the body off *after* so many bytes: reading on raises ``aiohttp.ClientPayloadError``.

        Raises:
            ValueError: *after* is negative, or not less than the size of the body.
        """
        if after < 0:
            raise ValueError(f"after must not be negative, got {after!r}")
        step = self._last("truncate")
        if isinstance(step.source, Answer):
            _check_cut(after, step.source)
        step.cut = after
        return self

    def drip(self, *, size: int, every: float) -> Self:
        """Send the body in pieces of *size* bytes, each *every* seconds after the reader began to wait for it."""
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size!r}")
        if not every >= 0:
            raise ValueError(f"every must not be negative, got {every!r}")
        self._last("drip").drip = Drip(size, every)
        return self

    def assert_called(self, *, times: int | None = None) -> None:
        """Fail unless the route was asked at least once, or exactly *times* times.

        Raises:
            AssertionError: It was not; the message lists what it received.
        """
        if not self.requests if times is None else len(self.requests) != times:
            wanted = "at least once" if times is None else counted(times, "time")
            raise AssertionError(f"Expected {self.pattern} to be called {wanted}.\n{listed(self.requests)}")

    def assert_not_called(self) -> None:
        """Fail if the route was asked.

        Raises:
            AssertionError: It was; the message lists what it received.
        """
        self.assert_called(times=0)

    def rewind(self) -> None:
        """Forget what was received and begin the sequence again."""
        self.requests.clear()

    def step(self, received: Received) -> Callable[[ClientRequest], Awaitable[ClientResponse]] | None:
        """Book *received* and return what plays its answer; None where the route has none."""
        self.requests.append(received)
        position = len(self.requests)
        for step in self._steps:
            position -= step.times
            if position <= 0:
                return step.play
        return self._steps[-1].play if self._steps else None

    def _last(self, method: str) -> _Step:
        if not self._steps:
            raise ValueError(f"{method}() changes the answer before it, and {self.pattern} has none yet")
        return self._steps[-1]


def _check_cut(cut: int, answer: Answer) -> None:
    if cut >= len(answer.body):
        raise ValueError(f"after must be less than the {counted(len(answer.body), 'byte')} of the body, got {cut!r}")
