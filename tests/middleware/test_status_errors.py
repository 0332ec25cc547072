import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientSession, web

from apiclient import ApiClient
from apiclient.credentials import ApiKey
from apiclient.middleware import StatusErrors, errors
from apiclient.middleware.errors import StatusError
from tests.conftest import Peer
from tests.middleware.error_bodies import SAMPLES, Sample


def answer(peer: Peer, status: int, body: bytes = b"", **headers: str) -> None:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}

    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers=fields)

    peer.handler = handler


async def error_of(peer: Peer, method: str = "GET", path: str = "/x", **options: Any) -> StatusError:
    async with ClientSession(middlewares=(StatusErrors(**options),)) as session:
        with pytest.raises(StatusError) as caught:
            await session.request(method, peer.url + path)
    return caught.value


# Status, headers and body of the answer; class and words of the error.
SEED = [
    (401, {}, b'{"error": "invalid_client"}', errors.Unauthorized, ["401 Unauthorized: invalid_client", "redential"]),
    (403, {}, b'{"error": "forbidden", "message": "User group permission missing"}', errors.PermissionMissing, ["Adjust the user group's permissions"]),
    (403, {"WWW_Authenticate": 'Bearer error="insufficient_scope", scope="a.write"'}, b"", errors.ScopeMissing, ["missing scope a.write", "Include the missing scope"]),
    (403, {}, b'{"message": "Unknown endpoint"}', errors.WrongEndpoint, ["Verify the endpoint URL"]),
    (403, {"Retry_After": "9"}, b"", errors.Banned, ["lower the request rate"]),
    (415, {"Content_Type": "application/problem+json"}, b'{"title":"Unsupported Media Type","status":415,"traceId":"00-7d-01"}', errors.UnsupportedMediaType,
     ["sent no Content-Type", "trace id 00-7d-01", "Set the Content-Type"]),
    (429, {"Retry_After": "1"}, b"API calls quota exceeded! maximum admitted 5 per 1 second.", errors.TooManyRequests, ["maximum admitted 5 per 1 second", "Wait, lower the rate"]),
    (500, {}, b'{"error": "internal_server_error"}', errors.ServerError, ["internal_server_error", "Retry later, or queue it"]),
    (404, {}, b"<html><title>Not here</title>", errors.NotFound, ["404 Not Found: Not here"]),
    (405, {"Allow": "GET, PUT"}, b"", StatusError, ["allowed GET, PUT", "Use a method"]),
    (422, {}, b'{"errors": {"age": ["too small"]}}', errors.UnprocessableContent, ["age: too small"]),
    (499, {}, b"", StatusError, ["499"]),
]  # fmt: skip


@pytest.mark.parametrize(("status", "headers", "body", "kind", "words"), SEED)
async def test_each_answer_has_its_error_and_what_to_do(
    peer: Peer, status: int, headers: dict[str, str], body: bytes, kind: type[StatusError], words: list[str]
) -> None:
    """The answers of the API that this was made for, and of others, end as the right class with the right hint."""
    answer(peer, status, body, **headers)
    error = await error_of(peer)
    assert type(error) is kind
    assert (error.status, error.attempts) == (status, 1)
    for each in words:
        assert each in str(error)
        assert each in error.describe()


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
async def test_every_known_body_makes_one_line(peer: Peer, sample: Sample) -> None:
    """Over the wire as over the parser: the error says what the body says, in one printable line."""
    body = sample.body if isinstance(sample.body, bytes) else sample.body.encode()
    answer(peer, 400, body, Content_Type=sample.content_type)
    error = await error_of(peer)
    assert isinstance(error, errors.BadRequest)
    assert error.problem is not None
    expected = {name: getattr(error.problem, name) for name in sample.says}
    assert expected == sample.says
    assert str(error).isprintable()
    assert error.trace_id == error.problem.trace_id


@pytest.mark.parametrize("status", [200, 204, 304])
async def test_what_is_no_error_passes(peer: Peer, status: int) -> None:
    """Below 400 an answer is the caller's."""
    answer(peer, status)
    async with ClientSession(middlewares=(StatusErrors(),)) as session:
        assert (await session.get(peer.url)).status == status


@pytest.mark.parametrize(
    ("hints", "path", "expected"),
    [
        ({409: "Ask Bob"}, "/orders/7", "Ask Bob"),
        ({409: "Ask Bob", ("GET /orders/{}", 409): "Ask Eve"}, "/orders/7", "Ask Eve"),
        ({409: "Ask Bob", ("GET /orders/{}", 409): "Ask Eve"}, "/other", "Ask Bob"),
        ({("POST /orders/{}", 409): "Ask Eve"}, "/orders/7", "Read the resource again and decide anew"),
        ({400: "Ask Bob"}, "/orders/7", "Read the resource again and decide anew"),
    ],
)
async def test_hints_of_ones_own_win(peer: Peer, hints: dict[Any, str], path: str, expected: str) -> None:
    """By endpoint and status, else by status, else ours."""
    answer(peer, 409)
    assert (await error_of(peer, path=path, hints=hints)).hint == expected


async def test_a_hint_belongs_to_the_template_of_a_client(peer: Peer) -> None:
    """Through an ApiClient the endpoint is the template that was given."""
    answer(peer, 409)
    async with ApiClient(peer.url) as client:
        mine = client.pipeline.replace(StatusErrors, StatusErrors(hints={("POST /orders/{id}", 409): "Ask Eve"}))
        with pytest.raises(errors.Conflict, match="Ask Eve") as caught:
            await client.post("/orders/{id}", path_params={"id": "secret-7"}, pipeline=mine, json={})
    assert caught.value.request == ("POST", "POST /orders/{id}", f"{peer.url}/orders/{{id}}")
    assert "secret-7" not in f"{caught.value} {caught.value.describe()} {caught.value.request_info}"


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
async def test_a_post_that_may_have_been_carried_out_says_so(peer: Peer, status: int) -> None:
    """Law 3: without a key its outcome is unknown; 501 and a GET are plain errors."""
    answer(peer, status)
    unknown = await error_of(peer, "POST")
    assert isinstance(unknown, errors.ServerOutcomeUnknown)
    assert not unknown.recoverable
    assert (await error_of(peer)).recoverable
    answer(peer, 501)
    assert not isinstance(await error_of(peer, "POST"), errors.OutcomeUnknown)


async def test_what_the_request_authenticated_itself_with_never_comes_back(peer: Peer) -> None:
    """A server that quotes the key, the idempotency key or a header of the request does so to nobody."""

    async def handler(request: web.Request) -> web.StreamResponse:
        quoted = {name: request.headers[name] for name in ("X-Api-Key", "Idempotency-Key", "X-Mine", "User-Agent")}
        return web.json_response({"message": f"No such key: {quoted['X-Api-Key']}", "you": quoted}, status=400)

    peer.handler = handler
    async with ApiClient(peer.url, credentials=ApiKey("key-s3cret/1")) as client:
        with pytest.raises(errors.BadRequest) as caught:
            await client.post("/x", idempotency_key="key-idem", headers={"X-Mine": "mine-s3cret"})
    text = f"{caught.value} {caught.value.problem!r} {caught.value.describe()}"
    assert "No such key: [hidden]" in text
    assert "aiohttp/" in text
    for secret in ("s3cret", "key-idem"):
        assert secret not in text


async def test_text_of_a_server_formats_nothing(peer: Peer) -> None:
    """S26: braces, percent signs, escape codes and line breaks are shown, not obeyed."""
    answer(peer, 400, b'{"message": "%s {0.__class__} \\u001b[31m\\r\\nX", "traceId": "{}\\n%d"}')
    error = await error_of(peer)
    assert "%s {0.__class__} \\x1b[31m\\r\\nX" in str(error)
    assert error.trace_id == "{}\\n%d"
    assert error.describe().count("\n") == 4


async def test_an_error_body_is_read_within_bounds(peer: Peer) -> None:
    """Only its beginning, and of one that stalls what there is time for; the connection serves the next call."""
    answer(peer, 404, b'{"error": "gone"}' + b" " * 2**21)
    connector = aiohttp.TCPConnector(limit=1)
    async with ClientSession(middlewares=(StatusErrors(max_body=100),), connector=connector) as session:
        for _ in range(3):
            with pytest.raises(errors.NotFound, match="gone"):
                await session.get(peer.url)


@pytest.mark.looptime
async def test_an_error_body_that_stalls_costs_two_seconds(peer: Peer) -> None:
    """The status is known: its words are not waited for any longer."""
    over = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=500, headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b'{"error"')
        await over.wait()
        return response

    peer.handler = handler
    began = asyncio.get_running_loop().time()
    error = await error_of(peer)
    over.set()
    assert asyncio.get_running_loop().time() - began == pytest.approx(2, abs=0.1)
    assert isinstance(error, errors.ServerError)


async def test_cancelled_while_it_reads_the_body_nothing_leaks(peer: Peer) -> None:
    """Law 9: the cancellation passes, and the one connection is free again."""
    stalled, over = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=500 if request.path == "/x" else 200, headers={"Content-Length": "2"})
        await response.prepare(request)
        if request.path == "/x":
            stalled.set()
            await over.wait()
        await response.write(b"{}")
        return response

    peer.handler = handler
    async with ClientSession(middlewares=(StatusErrors(),), connector=aiohttp.TCPConnector(limit=1)) as session:
        task = asyncio.create_task(session.get(peer.url + "/x"))
        await stalled.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await session.get(peer.url + "/y")).status == 200
        over.set()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_body": 0}, "max_body must be at least 1 byte, got 0"),
        ({"hints": {200: "x"}}, "hints must be for statuses from 400 to 599, got 200"),
        ({"hints": {("GET /x", 9): "x"}}, r"got \('GET /x', 9\)"),
        ({"hints": {404: ""}}, "hints must be sentences, got '' for 404"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    """The constructor names option and value."""
    with pytest.raises(ValueError, match=message):
        StatusErrors(**options)


def test_the_repr_counts_the_hints() -> None:
    """A reader of a pipeline sees that there are some."""
    assert repr(StatusErrors(hints={404: "x"}, max_body=10)) == "StatusErrors(hints=1, max_body=10)"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            b'{"title": "Not Found", "status": 404, "detail": "There is no such employee."}',
            "404 Not Found: There is no such employee.",
        ),
        (b'{"title": "Not Found", "status": 404}', "404 Not Found"),
        (b'{"message": "Not Found in the index"}', "404 Not Found: Not Found in the index"),
    ],
)
async def test_the_status_in_words_is_said_once(peer: Peer, body: bytes, message: str) -> None:
    """A problem whose title repeats the status does not make the line stutter."""
    answer(peer, 404, body, Content_Type="application/problem+json")
    assert (await error_of(peer)).message == message
