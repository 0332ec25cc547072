"""What left and what came back, header by header, without a secret in it."""

from typing import NamedTuple

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from apiclient._trace import Trace
from apiclient.middleware import current_call
from apiclient.middleware._body_shown import SECRET_NAMES, plain
from apiclient.middleware._parsing.text import one_line
from apiclient.middleware.credential import Token
from apiclient.middleware.errors import redacted

# Of the other headers of a request the name is shown and the value is not: an API may take its key in any of them.
SENT_PLAIN = frozenset(
    {"accept", "accept-encoding", "accept-language", "api-version", "cache-control", "content-encoding",
     "content-length", "content-type", "host", "if-match", "if-modified-since", "if-none-match", "prefer", "range",
     "traceparent", "transfer-encoding", "user-agent", "x-request-id"}
)  # fmt: skip
_NOT_SHOWN = SECRET_NAMES | {"setcookie", "setcookie2", "authenticationinfo", "proxyauthenticationinfo"}
_HIDDEN = "[hidden]"
_LONGEST = 120


class Exchange(NamedTuple):
    """One wire request and its answer.

    Attributes:
        request: Method and URL, without the values of the query.
        sent: Names and values of the request's headers.
        status: Of the answer, or None where none came.
        received: Names and values of the answer's headers.
    """

    request: str
    sent: tuple[tuple[str, str], ...]
    status: int | None = None
    received: tuple[tuple[str, str], ...] = ()

    def lines(self) -> list[str]:
        """Return it as lines: ``>`` for what left, ``<`` for what came back."""
        came = f"< {self.status}" if self.status is not None else "< no answer"
        return [
            f"> {self.request}",
            *(f"> {name}: {value}" for name, value in self.sent),
            came,
            *(f"< {name}: {value}" for name, value in self.received),
        ]


class Wire:
    """A middleware that keeps every exchange; list it innermost."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []

    def __repr__(self) -> str:
        return f"Wire({len(self.exchanges)} exchanges)"

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send *request*, and keep its headers and those of the answer."""
        sent = tuple(
            (name, one_line(value, _LONGEST) if name.lower() in SENT_PLAIN else _HIDDEN)
            for name, value in request.headers.items()
        )
        shown = Exchange(f"{request.method} {redacted(request.url)}", sent)
        number = len(self.exchanges)
        self.exchanges.append(shown)
        response = await handler(request)
        token = current_call().token
        received = tuple(
            (name, one_line(value, _LONGEST) if _harmless(name, value, token) else _HIDDEN)
            for name, value in response.headers.items()
        )
        self.exchanges[number] = shown._replace(status=response.status, received=received)
        return response


def _harmless(name: str, value: str, token: Token | None) -> bool:
    return not withheld(name) and (token is None or token.value not in value)


def withheld(name: str) -> bool:
    """Return whether the value of an answer's header called *name* is never shown."""
    return plain(name) in _NOT_SHOWN


class Tracing:
    """A middleware that traces the call from its beginning; list it outermost."""

    def __init__(self) -> None:
        self.trace: Trace | None = None

    def __repr__(self) -> str:
        return "Tracing()"

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send *request*, and trace its call."""
        if self.trace is None:
            self.trace = Trace(current_call())
        return await handler(request)
