import asyncio
import copy
import inspect
import json
import pickle
import traceback
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from yarl import URL

from apiclient.middleware import errors
from apiclient.middleware._error import AnswerError
from apiclient.middleware._parsing.problem import Problem
from apiclient.middleware.errors import ApiError, Attempt, RequestSummary, StatusError, redacted

KINDS = sorted(
    (kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, ApiError)),
    key=lambda kind: kind.__name__,
)
PROBLEM = Problem(
    title="T",
    detail="D",
    trace_id="00-1-01",
    errors=("age: too small",),
    extensions={"balance": 30, "deep": {"a": [1]}},
)
WHERE = RequestSummary("POST", "POST /orders/{id}", "https://api.example.com/orders/{id}?page")


def made(kind: type[ApiError], **given: Any) -> ApiError:
    """Return an error as the chain makes it, everything set."""
    if issubclass(kind, StatusError):
        given |= {"problem": PROBLEM, "method": "POST", "url": URL("https://u:p@api.example.com/orders/7?key=s3cret")}
        given |= {
            "endpoint": "POST /orders/{id}",
            "headers": {"Retry-After": "3", "Set-Cookie": "s3cret", "Allow": "GET"},
        }
    if issubclass(kind, AnswerError):
        given |= {"status": 415}
    error = kind(
        "What happened",
        retry_after=3.0,
        attempts=2,
        trail=(Attempt(503, None, 0.5, 0.1), Attempt(None, "ConnectionLost", 0.0, 2.0)),
        request=WHERE,
        **given,
    )
    error.stopped = "attempts"
    return error


def shown(error: ApiError) -> dict[str, Any]:
    state = dict(error.__dict__)
    if isinstance(error, AnswerError):
        info = state.pop("request_info")
        state |= {"info": (info.method, str(info.url), dict(info.headers)), "headers": dict(state.pop("headers"))}
    return state


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "again",
    [
        copy.copy,
        copy.deepcopy,
        *(lambda e, p=p: pickle.loads(pickle.dumps(e, p)) for p in (0, pickle.HIGHEST_PROTOCOL)),  # noqa: S301 - our own
    ],
)
def test_every_error_pickles_and_copies(kind: type[ApiError], again: Any) -> None:
    """Process pools and queues get the same error, notes included, with every attribute."""
    error = made(kind)
    error.add_note("seen by the worker")
    other = again(error)
    assert type(other) is kind
    assert (str(other), repr(other), other.describe(), shown(other)) == (
        str(error),
        repr(error),
        error.describe(),
        shown(error),
    )
    assert other.__notes__ == ["seen by the worker"]
    assert other.args == error.args == ("What happened",)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_survives_a_group(kind: type[ApiError]) -> None:
    """In an ExceptionGroup, split from it and shown by a traceback, it is what it was."""
    error = made(kind)
    group = ExceptionGroup("batch", [error, ExceptionGroup("inner", [KeyError("x"), made(kind)])])
    ours, rest = group.split(ApiError)
    assert ours is not None
    assert rest is not None
    assert len(ours.exceptions) == 2
    assert ours.exceptions[0] is error
    again = pickle.loads(pickle.dumps(group))  # noqa: S301 - our own
    found, _ = again.split(kind)
    assert str(error) in "".join(traceback.format_exception(found))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_is_in_the_tree_and_tells_what_to_do(kind: type[ApiError]) -> None:
    """Public, drawn in the docstring, with a documented meaning; a final one has a hint of one sentence."""
    public = kind.__name__ in errors.__all__
    assert public or kind is AnswerError
    if public:
        assert kind.__name__ in (errors.__doc__ or "")
    assert kind.__doc__
    assert not kind.hint.endswith(".")
    if not kind.__subclasses__():
        assert kind.hint


def test_the_tree_is_that_of_aiohttp_too() -> None:
    """Existing ``except`` clauses go on working; none is an OSError, which aiohttp would turn into its own."""
    assert issubclass(ApiError, aiohttp.ClientError)
    assert issubclass(StatusError, aiohttp.ClientResponseError)
    assert issubclass(errors.TransportError, aiohttp.ClientConnectionError)
    assert issubclass(errors.UnexpectedContentType, aiohttp.ContentTypeError)
    assert issubclass(errors.InvalidJson, json.JSONDecodeError)
    assert issubclass(errors.InvalidRequest, ValueError)
    for kind in KINDS:
        assert not issubclass(kind, OSError | aiohttp.ServerDisconnectedError | asyncio.CancelledError | TimeoutError)


def test_an_error_renders_in_one_readable_block() -> None:
    """What, the server's facts, where, how often, when again, and what to do: one line each."""
    error: Any = made(errors.UnsupportedMediaType)
    error.sent, error.accepted = "text/plain", ("application/json", "text/csv")
    assert error.describe() == (
        "UnsupportedMediaType\n"
        "  what      What happened\n"
        "  sent      text/plain\n"
        "  accepted  application/json, text/csv\n"
        "  allowed   GET\n"
        "  trace id  00-1-01\n"
        "  fault     age: too small\n"
        "  request   POST https://api.example.com/orders/{id}?page\n"
        "  attempts  2; 503 after 0.1 s, waited 0.5 s; ConnectionLost after 2 s\n"
        "  stopped   attempts\n"
        "  again     in 3 s at the earliest\n"
        "  do        Set the Content-Type to one that the endpoint accepts, or configure ContentType(expect=...)"
    )
    assert ApiError("x\n\x1b[31my").describe() == "ApiError\n  what  x\\n\\x1b[31my"
    assert "again  the same call may work later" in errors.CircuitOpen("Open").describe()
    page = errors.UnexpectedContentType("Page", content_type="text/html", excerpt="Sign in", status=200).describe()
    assert "  type    text/html\n  begins  Sign in\n" in page
    assert "  begins  [1," in errors.InvalidJson("Bad", excerpt="[1,").describe()
    assert all(len(line) < 520 for line in ApiError("x" * 10_000).describe().splitlines())


def test_one_line_says_it_for_a_log() -> None:
    """Endpoint, message, attempts and hint, in that order."""
    error = made(errors.NotFound)
    assert str(error) == "POST /orders/{id}: What happened (after 2 attempts). Verify the path and its parameters"
    assert repr(error) == f"<NotFound {error}>"


def test_an_error_holds_no_secret() -> None:
    """No header, query value, path parameter or userinfo, whichever attribute is looked at."""
    error = made(errors.NotFound)
    everything = f"{error} {error!r} {error.describe()} {shown(error)}"
    assert "s3cret" not in everything
    assert "u:p" not in everything
    assert "orders/7" not in everything
    assert isinstance(error, StatusError)
    assert error.headers is not None
    assert error.headers["retry-after"] == "3"
    assert str(error.request_info.real_url) == "https://api.example.com/orders/{id}?key"


@pytest.mark.parametrize(
    ("url", "endpoint", "expected"),
    [
        ("https://u:p@h:8443/a/b?x=1&y=2&x=3#f", None, "https://h:8443/a/b?x&y"),
        ("https://h/a/secret?x=1", "GET /a/{id}", "https://h/a/{id}?x"),
        ("/a?x=1", None, "/a?x"),
        ("/a/1", "GET /a/{id}", "/a/{id}"),
        ("https://h/v1/api/a/secret/b", "GET /a/{id}/b", "https://h/v1/api/a/{id}/b"),
        ("https://h/v1/a/secret", "GET a/{id}", "https://h/v1/a/{id}"),
        ("https://h/v1/secret", "GET /something/else", "https://h/something/else"),
        ("https://h/secret", "GET /a/b/c", "https://h/a/b/c"),
        ("https://h/v1/secret", "GET /named", "https://h/named"),
        ("https://h/?a%0Ab=1", None, "https://h/?a\\nb"),
        ("https://h/", None, "https://h/"),
    ],
)
def test_a_url_is_shown_without_values(url: str, endpoint: str | None, expected: str) -> None:
    """Origin, template, and the names of the query's keys, fit for one line of a log."""
    assert redacted(URL(url), endpoint) == expected


def test_a_ticket_travels_by_its_id() -> None:
    """A ticket is bound to its process."""
    error = errors.Deferred("Kept", ticket=SimpleNamespace(id="t-1"))
    assert pickle.loads(pickle.dumps(error)).ticket == "t-1"  # noqa: S301 - our own
    assert copy.copy(error) is error


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, errors.BadRequest), (401, errors.Unauthorized), (403, errors.Forbidden), (404, errors.NotFound), (409, errors.Conflict),
     (412, errors.PreconditionFailed), (415, errors.UnsupportedMediaType), (422, errors.UnprocessableContent), (429, errors.TooManyRequests),
     (418, StatusError), (500, errors.ServerError), (503, errors.ServerError), (599, errors.ServerError)],
)  # fmt: skip
def test_each_status_has_its_class(status: int, kind: type[StatusError]) -> None:
    """The table of the design."""
    assert StatusError.for_status(status) is kind
