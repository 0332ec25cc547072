"""What every error of the tree has: facts for a program, one line for a log, one block for a person."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import aiohttp
from aiohttp import RequestInfo
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from apiclient.middleware._parsing.text import one_line

_LONGEST_ROW = 500


class Attempt(NamedTuple):
    """One wire request that did not settle the call.

    Attributes:
        status: Status of the answer, or None where none arrived.
        error: Class name of the transport error, or None where an answer arrived.
        wait: Seconds waited before the next attempt.
        duration: Seconds from sending to the outcome.
    """

    status: int | None
    error: str | None
    wait: float
    duration: float


class RequestSummary(NamedTuple):
    """What was asked, with nothing secret in it.

    Attributes:
        method: Upper case.
        endpoint: ``METHOD template``.
        url: Origin, template and the names of the query's keys.
    """

    method: str
    endpoint: str
    url: str


def redacted(url: URL, endpoint: str | None = None) -> str:
    """Return *url* without userinfo, fragment, and the values of its query.

    Args:
        url: Any.
        endpoint: ``METHOD template`` whose template stands for the path, so that no path parameter is shown either.
    """
    if endpoint is not None:
        shown = (str(url.origin()) if url.absolute else "") + _templated(url.raw_path, endpoint.partition(" ")[2])
    else:
        shown = str(url.with_user(None).with_fragment(None).with_query(None)) if url.raw_host else url.raw_path
    keys = one_line("&".join(dict.fromkeys(url.query)), 200)
    return f"{shown}?{keys}" if keys else shown


def _templated(path: str, template: str) -> str:
    """Return *template* below what comes before it in *path*: the base URL's own path."""
    parts, wanted = path.strip("/").split("/"), template.strip("/").split("/")
    own = parts[-len(wanted) :]
    fits = len(own) == len(wanted) and all(name == part or "{" in name for name, part in zip(wanted, own, strict=True))
    return "/" + "/".join([*parts[: -len(wanted)], *wanted] if fits else wanted)


class ApiError(aiohttp.ClientError):
    """Root of everything that this library raises from a call.

    Attributes:
        message: What happened.
        hint: What to do about it, one sentence.
        recoverable: Whether the same call may work later, unchanged.
        retry_after: Seconds until then as the server or a policy says, or None.
        attempts: Wire requests that this call made, as the server would count them.
        trail: The attempts that failed, in order.
        stopped: Why no further attempt was made, or None: ``attempts``, ``budget``, ``deadline``,
            ``retry_after``, ``not_repeatable``, ``not_replayable``, ``verdict``.
        request: What was asked, redacted; None when the error arose before a request existed.
    """

    recoverable: bool = False
    hint: str = ""

    def __init__(
        self,
        message: str = "",
        *,
        hint: str | None = None,
        recoverable: bool | None = None,
        retry_after: float | None = None,
        attempts: int = 0,
        trail: tuple[Attempt, ...] = (),
        request: RequestSummary | None = None,
    ) -> None:
        Exception.__init__(self, message)
        self.message = message
        if hint is not None:
            self.hint = hint
        if recoverable is not None:
            self.recoverable = recoverable
        self.retry_after = retry_after
        self.attempts = attempts
        self.trail = trail
        self.stopped: str | None = None
        self.request = request

    def __str__(self) -> str:
        where = f"{self.request.endpoint}: " if self.request is not None else ""
        tried = f" (after {self.attempts} attempts)" if self.attempts > 1 else ""
        return f"{where}{self.message}{tried}" + (f". {self.hint}" if self.hint else "")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    def describe(self) -> str:
        """Return a block of lines for a person: what happened, where, and what to do about it."""
        rows = [("what", self.message), *self._facts()]
        if self.request is not None:
            rows.append(("request", f"{self.request.method} {self.request.url}"))
        if self.attempts > 1:
            rows.append(("attempts", "; ".join([str(self.attempts), *map(_told, self.trail[-5:])])))
        if self.stopped is not None:
            rows.append(("stopped", self.stopped))
        if self.retry_after is not None:
            rows.append(("again", f"in {self.retry_after:.3g} s at the earliest"))
        elif self.recoverable:
            rows.append(("again", "the same call may work later"))
        rows += [("do", self.hint)] if self.hint else []
        width = max(len(name) for name, _ in rows) + 2
        lines = (f"  {name:{width}}{one_line(text, _LONGEST_ROW)}" for name, text in rows if text)
        return "\n".join([type(self).__name__, *lines])

    def _facts(self) -> Iterator[tuple[str, str]]:
        """Yield the rows of the block that are particular to a class."""
        return iter(())

    def __reduce__(self) -> tuple[Callable[..., "ApiError"], tuple[Any, ...]]:
        return restored, (type(self), self._state())

    def _state(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def _restore(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def _told(attempt: Attempt) -> str:
    outcome = attempt.error if attempt.status is None else str(attempt.status)
    return f"{outcome} after {attempt.duration:.3g} s" + (f", waited {attempt.wait:.3g} s" if attempt.wait else "")


def restored(cls: type[ApiError], state: dict[str, Any]) -> ApiError:
    """Return the error that was pickled or copied as *state*."""
    error = cls.__new__(cls, state.get("message", ""))
    error._restore(dict(state))  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - half of __reduce__
    return error


class AnswerError(ApiError, aiohttp.ClientResponseError):
    """The server answered, and the answer is the trouble.

    Attributes:
        status: The status code.
        headers: The few response headers that help and tell no secret.
    """

    SHOWN_HEADERS: ClassVar[tuple[str, ...]] = (
        "Accept", "Accept-Patch", "Accept-Post", "Allow", "Content-Type", "Date", "RateLimit", "RateLimit-Policy",
        "Retry-After", "X-Request-Id",
    )  # fmt: skip

    def __init__(
        self,
        message: str = "",
        *,
        status: int,
        url: URL | None = None,
        method: str = "",
        endpoint: str | None = None,
        headers: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        ApiError.__init__(self, message, **kwargs)
        self.status = status
        given: Mapping[str, str] = headers if headers is not None else {}
        shown = ((name, given[name]) for name in self.SHOWN_HEADERS if name in given)
        self.headers: CIMultiDict[str] | None = CIMultiDict(shown)
        self._describe(method, URL(redacted(url, endpoint), encoded=True) if url is not None else URL())

    def _describe(self, method: str, url: URL) -> None:
        # aiohttp's own RequestInfo holds the Authorization value: ours has no headers and a redacted URL.
        nothing: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())
        self.request_info = RequestInfo(url, method, nothing, url)
        self.history = ()

    def _state(self) -> dict[str, Any]:
        state = {key: value for key, value in self.__dict__.items() if key not in {"request_info", "headers"}}
        return state | {
            "headers": tuple(self.headers.items()) if self.headers is not None else (),
            "request_info": (self.request_info.method, str(self.request_info.url)),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        method, url = state.pop("request_info")
        self.headers = CIMultiDict(state.pop("headers"))
        super()._restore(state)
        self._describe(method, URL(url, encoded=True))
