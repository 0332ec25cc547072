import asyncio
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientSession, FormData, MultipartWriter, web
from aiohttp.payload import JsonPayload

from apiclient import ApiClient
from apiclient.middleware import ContentType, RateLimit, StatusErrors
from apiclient.middleware.errors import ContentTypeMismatch, UnexpectedContentType, UnsupportedMediaType
from tests.conftest import Peer

JSON = "application/json"
MERGE = "application/merge-patch+json"
OCTETS = "application/octet-stream"


def session_of(*options: Any, **given: Any) -> ClientSession:
    return ClientSession(middlewares=(StatusErrors(), ContentType(*options, **given)))


def typed(peer: Peer) -> list[str | None]:
    return [headers.get("Content-Type") for headers in peer.headers]


def takes(peer: Peer, *accepted: str, **headers: str) -> None:
    """Answer 415 to every type but *accepted*, as an API of ASP.NET does."""

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Content-Type") in accepted:
            return web.json_response({"fine": True})
        problem = {"title": "Unsupported Media Type", "status": 415, "traceId": "00-7d0e-01"}
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.json_response(problem, status=415, content_type="application/problem+json", headers=fields)

    peer.handler = handler


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"json": {"a": 1}}, JSON),
        ({"json": None, "data": '{"a": 1}'}, JSON),
        ({"data": b' [\n 1, "x"]\n'}, JSON),
        ({"data": '{"a": 1}', "headers": {"Content-Type": "text/plain"}}, "text/plain"),
        ({"data": b"{}", "headers": {"Content-Type": "application/vnd.api+json"}}, "application/vnd.api+json"),
        ({"json": {}, "headers": {"Content-Type": MERGE}}, MERGE),
        ({"json": {}, "headers": {"Content-Type": "text/plain"}}, JSON),
        ({"json": {}, "headers": {"Content-Type": "application/x-www-form-urlencoded"}}, JSON),
        ({"json": "text"}, JSON),
        ({"data": "hello"}, "text/plain; charset=utf-8"),
        ({"data": b"\x89PNG"}, OCTETS),
        ({"data": "{not json"}, "text/plain; charset=utf-8"),
        ({"data": "[INFO] started]"}, "text/plain; charset=utf-8"),
        ({"data": {"a": "b"}}, "application/x-www-form-urlencoded"),
        ({"data": "3", "headers": {"Content-Type": JSON}}, JSON),
        ({"data": b"a,b", "headers": {"Content-Type": "text/csv"}}, "text/csv"),
        # A charset that lies.
        ({"json": {"a": "\u00e9"}, "headers": {"Content-Type": f"{JSON}; charset=iso-8859-1"}}, JSON),
        ({"data": b'{"a": 1}', "headers": {"Content-Type": f"{JSON}; charset=utf-16"}}, JSON),
        ({"data": b'{"a": 1}', "headers": {"Content-Type": f"{JSON}; charset=klingon"}}, JSON),
        ({"data": b'{"a": 1}', "headers": {"Content-Type": f"{JSON};charset=UTF-8"}}, f"{JSON};charset=UTF-8"),
        ({"data": "\u00e9", "headers": {"Content-Type": "text/csv; charset=latin-1; header=absent"}}, "text/csv; header=absent; charset=utf-8"),
        ({"data": b"\xe9", "headers": {"Content-Type": "text/csv; charset=latin-1"}}, "text/csv; charset=latin-1"),
    ],
)  # fmt: skip
async def test_a_body_leaves_with_the_type_that_it_has(peer: Peer, given: dict[str, Any], expected: str) -> None:
    """Before sending: what is missing or wrong is set right, and what the caller said and may be true stays."""
    async with session_of() as session:
        await session.post(peer.url, **given)
    assert typed(peer) == [expected]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"data": "a=1", "headers": {"Content-Type": JSON}}, "begins with nothing that JSON can begin with"),
        ({"data": b"<x/>", "headers": {"Content-Type": "application/vnd.x+json"}}, "begins with nothing"),
        ({"data": {"a": "1"}, "headers": {"Content-Type": JSON}}, "is a form"),
        ({"data": {"1": "1"}, "headers": {"Content-Type": JSON}}, "is a form"),
        ({"data": b"\xff\xfe\xfa", "headers": {"Content-Type": "text/csv; charset=utf-8"}}, "is not in that charset"),
    ],
)
async def test_a_contradiction_is_refused_before_anything_is_sent(
    peer: Peer, given: dict[str, Any], reason: str
) -> None:
    """What cannot be set right safely costs no request; the error names endpoint, declared and actual type."""
    async with session_of() as session:
        with pytest.raises(ContentTypeMismatch, match=reason) as caught:
            await session.post(peer.url + "/orders/7", **given)
    assert peer.count == 0
    assert caught.value.request is not None
    assert caught.value.request.endpoint == "POST /orders/{}"
    assert given["headers"]["Content-Type"] in str(caught.value)


async def test_a_multipart_form_declared_as_json_is_refused(peer: Peer) -> None:
    """A form with files is a form whatever its header says."""
    form = FormData({"a": io.BytesIO(b"1")})
    async with session_of() as session:
        with pytest.raises(ContentTypeMismatch, match="multipart"):
            await session.post(peer.url, data=form, headers={"Content-Type": JSON})
    assert peer.count == 0


async def test_forms_files_and_streams_are_left_alone(peer: Peer) -> None:
    """Their types are theirs, boundary included, and nothing of them is read."""

    async def blocks() -> AsyncIterator[bytes]:
        yield b'{"a": 1}'

    parts = MultipartWriter("mixed", boundary="xyz")
    parts.append("a")
    async with session_of() as session:
        for data, headers in [
            (parts, {}),
            (io.BytesIO(b"{}"), {}),
            (io.BytesIO(b""), {}),
            (blocks(), {"Content-Type": JSON}),
        ]:
            await session.post(peer.url, data=data, headers=headers)
    assert typed(peer) == ["multipart/mixed; boundary=xyz", OCTETS, OCTETS, JSON]
    assert peer.seen[3][2] == b'{"a": 1}'


async def test_a_payload_of_ones_own_is_what_it_derives_from(peer: Peer) -> None:
    """A subclass of aiohttp's payload for JSON is JSON."""

    class Mine(JsonPayload):
        pass

    async with session_of() as session:
        await session.post(peer.url, data=Mine({"a": 1}), headers={"Content-Type": "text/plain"})
    assert typed(peer) == [JSON]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_an_empty_body_is_no_octet_stream(peer: Peer, method: str) -> None:
    """A client leaves the type out; on a bare session, where aiohttp would add one, it is the default."""
    async with ApiClient(peer.url) as client:
        await client.request(method, "/x")
        await client.request(method, "/x", headers={"Content-Type": "text/plain"})
    async with session_of() as session:
        await session.request(method, peer.url)
        await session.request(method, peer.url, data=b"")
    async with session_of(default=MERGE) as session:
        await session.request(method, peer.url, headers={"Content-Type": "text/plain"})
    async with ClientSession(middlewares=(ContentType(),), skip_auto_headers={"Content-Type"}) as session:
        await session.request(method, peer.url)
    assert typed(peer) == [None, "text/plain", JSON, JSON, "text/plain", None]


async def test_a_call_without_a_body_is_not_touched(peer: Peer) -> None:
    """A GET has no type, and on a bare session prefers JSON unless it said what it wants."""
    async with session_of() as session:
        await session.get(peer.url)
        await session.get(peer.url, headers={"Accept": "image/png"})
        await session.delete(peer.url)
    assert typed(peer) == [None, None, None]
    assert [each["Accept"] for each in peer.headers[:2]] == [
        "application/json, application/problem+json;q=0.9, */*;q=0.1",
        "image/png",
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"json": {"a": 1}}, MERGE),
        ({"data": '{"a": 1}'}, MERGE),
        ({"json": {"a": 1}, "headers": {"Content-Type": "application/vnd.x+json"}}, "application/vnd.x+json"),
        ({"json": {"a": 1}, "headers": {"Content-Type": "text/plain"}}, MERGE),
        ({"data": b""}, MERGE),
        ({"data": io.BytesIO(b"x"), "headers": {"Content-Type": "image/png"}}, "image/png"),
    ],
)
async def test_an_endpoint_has_the_type_that_is_configured(peer: Peer, given: dict[str, Any], expected: str) -> None:
    """``expect`` goes before the default, and not before what the caller says in so many words."""
    async with ClientSession(middlewares=(ContentType(expect={"PUT /x": MERGE}),)) as session:
        await session.put(peer.url + "/x", **given)
        await session.patch(peer.url + "/x", json={})
    assert typed(peer) == [expected, JSON]


async def test_a_body_that_cannot_be_what_its_endpoint_expects_is_refused(peer: Peer) -> None:
    """Text, a form or multipart for an endpoint that takes JSON costs no request."""
    async with session_of(expect={"PUT /x": MERGE}) as session:
        for data in ("hello", {"a": "b"}, FormData({"a": io.BytesIO(b"1")})):
            with pytest.raises(ContentTypeMismatch):
                await session.put(peer.url + "/x", data=data)
    assert peer.count == 0


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"data": '{"a": 1}'}, "should go out as application/json|was given no type"),
        ({"data": "hello"}, "was given no type"),
        ({"data": b"\x00"}, "was given no type"),
        ({"json": {}, "headers": {"Content-Type": "text/plain"}}, "should go out as application/json"),
        ({"json": {}, "headers": {"Content-Type": f"{JSON}; charset=latin-1"}}, "should go out as application/json"),
        ({"data": io.BytesIO(b"x")}, "was given no type"),
    ],
)
async def test_strict_corrects_nothing(peer: Peer, given: dict[str, Any], reason: str) -> None:
    """Where it is on, what would be corrected is refused, for its endpoints only."""
    async with session_of(strict=["POST /x"]) as session:
        with pytest.raises(ContentTypeMismatch, match=reason):
            await session.post(peer.url + "/x", **given)
        assert peer.count == 0
        await session.post(peer.url + "/y", data='{"a": 1}')
    assert typed(peer) == [JSON]


async def test_strict_lets_pass_what_is_right(peer: Peer) -> None:
    """A type that was said or configured, an empty body and ``json=`` pass; a type other than expected does not."""
    options = {"strict": True, "expect": {"PUT /x": MERGE, "PUT /blob": OCTETS}}
    async with session_of(**options) as session:
        await session.post(peer.url, json={})
        await session.post(peer.url, data="a", headers={"Content-Type": "text/csv"})
        await session.post(peer.url)
        await session.put(peer.url + "/x", json={})
        await session.put(peer.url + "/blob", data=b"\x00")
        with pytest.raises(ContentTypeMismatch, match=r"should be application/merge-patch\+json here"):
            await session.put(peer.url + "/x", data=b"{}", headers={"Content-Type": "application/x+json"})
    assert typed(peer) == [JSON, "text/csv", JSON, MERGE, OCTETS]


@pytest.mark.parametrize(
    ("method", "headers", "given", "sent", "accepted"),
    [
        ("PATCH", {"Accept_Patch": f"text/x, {MERGE};q=0.5"}, {"json": {"a": 1}}, JSON, MERGE),
        ("POST", {"Accept_Post": "application/vnd.api+json"}, {"json": {"a": 1}}, JSON, "application/vnd.api+json"),
        ("POST", {"Accept": "application/json;charset=UTF-8"}, {"json": [1]}, JSON, "application/json;charset=UTF-8"),
        ("PATCH", {"Accept_Patch": f"{MERGE}, application/json-patch+json"}, {"json": [{"op": "test"}]}, JSON, "application/json-patch+json"),
        ("POST", {"Accept": JSON}, {"data": b"{}", "headers": {"Content-Type": "text/plain"}}, "text/plain", JSON),
        ("POST", {}, {"data": b"[1]", "headers": {"Content-Type": "text/plain"}}, "text/plain", JSON),
        ("POST", {"Accept": "*/*"}, {"data": b"[1]", "headers": {"Content-Type": "text/plain"}}, "text/plain", JSON),
    ],
)  # fmt: skip
async def test_a_415_is_corrected_once(
    peer: Peer, method: str, headers: dict[str, str], given: dict[str, Any], sent: str, accepted: str
) -> None:
    """The same bytes go out once more under a type that the server takes, and later ones do so at once."""
    takes(peer, accepted, **headers)
    async with session_of() as session:
        for _ in range(2):
            response = await session.request(method, peer.url + "/x/7", **given)
            assert response.status == 200
    assert typed(peer) == [sent, accepted, accepted]
    assert peer.seen[0][2] == peer.seen[1][2] != b""
    same = [{name: value for name, value in each.items() if name != "Content-Type"} for each in peer.headers[:2]]
    assert same[0] == same[1]


@pytest.mark.parametrize(
    ("headers", "given"),
    [
        ({}, {"json": {"a": 1}}),
        ({"Accept": JSON}, {"json": {"a": 1}}),
        ({"Accept_Post": "text/csv, image/*"}, {"json": {"a": 1}}),
        ({"Accept": "application/problem+json"}, {"json": {"a": 1}}),
        ({"Accept": MERGE}, {"json": [1]}),
        ({"Accept": JSON}, {"data": "a=b"}),
        ({"Accept": JSON}, {"data": {"a": "b"}}),
        ({"Accept": f"{MERGE};q=0"}, {"json": {}}),
        ({"Accept": "application/x+json foo, b\u00e4d/x+json, application/*+json"}, {"json": {}}),
        ({"Accept": MERGE}, {"json": {"a": 1}, "compress": "gzip"}),
        ({"Accept": JSON}, {"data": io.BytesIO(b"{}")}),
        ({"Accept": MERGE}, {"json": {}, "expect100": True}),
    ],
)
async def test_a_415_that_nothing_safe_can_settle_is_final(
    peer: Peer, headers: dict[str, str], given: dict[str, Any]
) -> None:
    """The error says what was sent, what is accepted and the trace id; there was one request."""
    takes(peer, "nothing", **headers)
    async with session_of() as session:
        with pytest.raises(UnsupportedMediaType) as caught:
            await session.post(peer.url, **given)
    error = caught.value
    assert (peer.count, error.attempts, error.trace_id) == (1, 1, "00-7d0e-01")
    assert error.sent == typed(peer)[0]
    assert f"sent {error.sent}" in str(error)
    if headers.get("Accept") == JSON:
        assert error.accepted == (JSON,)
        assert "accepted application/json" in str(error)


async def test_a_second_415_is_the_answer(peer: Peer) -> None:
    """One correction per call, and none is remembered that did not help."""
    takes(peer, "nothing", Accept=MERGE)
    async with session_of() as session:
        for _ in range(2):
            with pytest.raises(UnsupportedMediaType) as caught:
                await session.post(peer.url, json={})
            assert (caught.value.attempts, caught.value.sent) == (2, MERGE)
    assert typed(peer) == [JSON, MERGE, JSON, MERGE]


async def test_the_words_of_the_problem_name_the_type(peer: Peer) -> None:
    """A server without Accept headers often says it in its error."""

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.headers["Content-Type"] == "application/vnd.acme+json":
            return web.json_response({})
        return web.json_response(
            {"message": f"Content type '{JSON}' not supported, use application/vnd.acme+json."}, status=415
        )

    peer.handler = handler
    async with session_of() as session:
        await session.post(peer.url, json={})
    assert typed(peer) == [JSON, "application/vnd.acme+json"]


async def test_a_correction_is_known_for_its_endpoint_and_for_what_was_refused(peer: Peer) -> None:
    """Another endpoint, another body and another type start afresh."""
    takes(peer, MERGE, "text/csv", Accept=MERGE)
    async with session_of() as session:
        await session.patch(peer.url + "/x/1", json={})
        await session.patch(peer.url + "/x/2", json={})
        await session.patch(peer.url + "/x/2", data="a", headers={"Content-Type": "text/csv"})
        await session.patch(peer.url + "/y", json={})
    assert typed(peer) == [JSON, MERGE, MERGE, "text/csv", JSON, MERGE]


async def test_a_form_becomes_json_where_that_was_asked_for(peer: Peer) -> None:
    """Texts in an object; several of a name become an array; the length is that of the new body."""
    takes(peer, JSON, Accept=JSON)
    form = FormData([("a", "1"), ("b", "x"), ("b", "y\u00e9"), ("empty", "")])
    async with session_of(form_as_json=True) as session:
        await session.post(peer.url, data=form)
        await session.post(peer.url, data={"a": "1"})
        await session.post(peer.url + "/other", data={"a": "1"}, headers={"Content-Type": JSON})
    assert typed(peer) == ["application/x-www-form-urlencoded", JSON, JSON, JSON]
    assert json.loads(peer.seen[1][2]) == {"a": "1", "b": ["x", "y\u00e9"], "empty": ""}
    assert peer.headers[1]["Content-Length"] == str(len(peer.seen[1][2]))
    assert [json.loads(seen[2]) for seen in peer.seen[2:]] == [{"a": "1"}] * 2


@pytest.mark.parametrize("options", [{"correct": False}, {"strict": True}])
async def test_a_correction_can_be_forbidden(peer: Peer, options: dict[str, Any]) -> None:
    """Without it, and where an endpoint is strict, a 415 is final."""
    takes(peer, MERGE, Accept=MERGE)
    async with session_of(**options) as session:
        with pytest.raises(UnsupportedMediaType):
            await session.post(peer.url, json={})
    assert peer.count == 1


async def test_a_correction_takes_a_slot_and_counts(peer: Peer) -> None:
    """Listed outside RateLimit, the resend waits for the quota as any wire request does."""
    takes(peer, MERGE, Accept=MERGE)
    async with ApiClient(peer.url) as client:
        pipeline = client.pipeline.replace(RateLimit, RateLimit(limits={"POST /x": "2/60s"}))
        pending = client.post("/x", json={}, pipeline=pipeline)
        await pending
        assert pending.call is not None
        assert pending.call.attempts == 2
        with pytest.raises(aiohttp.ClientError):
            await client.post("/x", json={}, pipeline=pipeline, timeout=0.5)
    assert peer.count == 2


async def test_a_refused_answer_gives_its_connection_back(peer: Peer) -> None:
    """Law 1: with one connection and 2 MB error bodies the resend still goes out."""

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.headers["Content-Type"] == MERGE:
            return web.json_response({})
        return web.Response(status=415, body=b"x" * 2**21, headers={"Accept": MERGE})

    peer.handler = handler
    connector = aiohttp.TCPConnector(limit=1)
    async with ClientSession(middlewares=(ContentType(),), connector=connector) as session:
        for path in range(3):
            assert (await session.post(f"{peer.url}/p{path}", json={})).status == 200


async def test_cancelled_while_it_reads_the_refusal_nothing_leaks(peer: Peer) -> None:
    """Law 9: cancelled there, the connection is closed and the next call gets through."""
    stalled = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/fine":
            return web.json_response({})
        response = web.StreamResponse(status=415, headers={"Content-Length": "100"})
        await response.prepare(request)
        stalled.set()
        await asyncio.sleep(30)
        return response

    peer.handler = handler
    connector = aiohttp.TCPConnector(limit=1)
    async with ClientSession(middlewares=(ContentType(),), connector=connector) as session:
        task = asyncio.create_task(session.post(peer.url, json={}))
        await stalled.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await session.get(peer.url + "/fine")).status == 200


LOGIN = """<!doctype html><html><head><title>Sign in</title><script>var token = "s3cr3t-in-script";</script>
<style>p {}</style></head><body><!-- build 1 --><h1>Welcome</h1><form action="/login?next=/x&sid=abc123">
<input type="hidden" name="csrf" value="hidden-value-1"></form>
<p>Your session=abcdef012345 Bearer abcdefgh12345678 https://x.example/y?key=1</p></body></html>"""


def serve_page(peer: Peer, status: int = 200, content_type: str = "text/html", body: str = LOGIN) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        echoed = body + f"<p>{request.headers.get('X-Api-Key', '')}</p>"
        return web.Response(status=status, text=echoed, content_type=content_type)

    peer.handler = handler


@pytest.mark.parametrize("buffered", [True, False])
async def test_a_page_in_place_of_json_is_an_error_that_shows_it(peer: Peer, *, buffered: bool) -> None:
    """Where a call admits JSON only, HTML raises at once, with the visible words and no secret of the page."""
    serve_page(peer)
    seen: list[UnexpectedContentType] = []
    async with ApiClient(peer.url, connections=1) as client:
        for _ in range(2):
            call = client.get("/x", headers={"Accept": JSON, "X-Api-Key": "my-key-7"})
            with pytest.raises(UnexpectedContentType, match=r"text/html came \(status 200\)") as caught:
                await (call if buffered else call.__aenter__())
            seen.append(caught.value)
    error = seen[-1]
    assert error.excerpt.startswith("Sign in Welcome Your session=[hidden]")
    assert len(error.excerpt) <= 200
    text = f"{error} {error!r} {error.describe()}"
    for secret in ("s3cr3t", "hidden-value-1", "abc123", "abcdef0", "abcdefgh", "key=1", "my-key-7"):
        assert secret not in text
    assert isinstance(error, aiohttp.ContentTypeError)
    assert (error.status, error.content_type, error.attempts) == (200, "text/html; charset=utf-8", 1)


@pytest.mark.parametrize(
    ("options", "accept", "status", "content_type", "method", "raises"),
    [
        ({}, None, 200, "text/html", "GET", False),
        ({}, "application/json, */*;q=0.1", 200, "text/html", "GET", False),
        ({}, "application/vnd.x+json, application/json", 200, "text/html", "GET", True),
        ({}, JSON, 200, "application/xhtml+xml", "GET", True),
        ({}, JSON, 200, "TEXT/HTML", "POST", True),
        ({}, JSON, 200, "text/csv", "GET", False),
        ({}, JSON, 200, "text/html", "HEAD", False),
        ({"json_answers": True}, None, 200, "text/html", "GET", True),
        ({"json_answers": ["GET /x"]}, None, 200, "text/html", "GET", True),
        ({"json_answers": ["GET /y"]}, None, 200, "text/html", "GET", False),
    ],
)
async def test_only_a_call_that_says_so_expects_json(
    peer: Peer,
    options: dict[str, Any],
    accept: str | None,
    status: int,
    content_type: str,
    method: str,
    *,
    raises: bool,
) -> None:
    """Downloads of pages stay possible: by default an answer may be anything."""
    serve_page(peer, status, content_type)
    async with ClientSession(middlewares=(ContentType(**options),)) as session:
        call = session.request(method, peer.url + "/x", headers={"Accept": accept} if accept else {})
        if raises:
            with pytest.raises(UnexpectedContentType):
                await call
        else:
            assert (await call).status == 200


async def test_an_error_page_is_the_status_error_that_it_is(peer: Peer) -> None:
    """HTML with 502 is no matter of types: the status tells more."""
    serve_page(peer, 502)
    async with ClientSession(middlewares=(ContentType(),)) as session:
        assert (await session.get(peer.url, headers={"Accept": JSON})).status == 502


async def test_json_says_what_came(peer: Peer) -> None:
    """``json()`` of a page raises what aiohttp raises and says more; other readers are as they were."""
    serve_page(peer)
    async with ClientSession(middlewares=(ContentType(),)) as session:
        response = await session.get(peer.url)
        with pytest.raises(UnexpectedContentType, match="Sign in") as caught:
            await response.json()
        assert isinstance(caught.value, aiohttp.ContentTypeError)
        assert "Sign in" in await response.text()
        with pytest.raises(ValueError, match="no valid JSON"):
            await response.json(content_type=None)


async def test_json_is_read_as_asked(peer: Peer) -> None:
    """A reader of one's own reads as it does, NaN included; a response class of one's own is kept."""

    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(text='{"a": NaN, "a": 1}', content_type=JSON)

    class Mine(aiohttp.ClientResponse):
        pass

    peer.handler = handler
    async with ClientSession(middlewares=(ContentType(),)) as session:
        assert await (await session.get(peer.url)).json(loads=json.loads) == {"a": 1}
    async with ClientSession(middlewares=(ContentType(),), response_class=Mine) as session:
        response = await session.get(peer.url)
        assert type(response) is Mine


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"default": "json"}, ValueError, "default must be a media type .*, got 'json'"),
        ({"default": "a/b\r\nX: y"}, ValueError, "default must be a media type"),
        ({"default": "*/*"}, ValueError, "default must be a media type"),
        ({"expect": {"PUT /x": "x"}}, ValueError, "expect must map endpoints to media types, got 'x' for 'PUT /x'"),
        ({"strict": "PUT /x"}, TypeError, "strict must be .* got the string 'PUT /x'"),
        ({"json_answers": "PUT /x"}, TypeError, "json_answers must be"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], error: type[Exception], message: str) -> None:
    """The constructor names option and value."""
    with pytest.raises(error, match=message):
        ContentType(**options)


def test_the_repr_shows_what_is_set() -> None:
    """A reader of a pipeline sees the options that differ."""
    assert repr(ContentType()) == "ContentType(default='application/json')"
    everything = ContentType(
        default=MERGE,
        expect={"PUT /x": JSON},
        strict=["B /b", "A /a"],
        json_answers=True,
        form_as_json=True,
        correct=False,
    )
    assert repr(everything) == (
        "ContentType(default='application/merge-patch+json', expect={'PUT /x': 'application/json'}, "
        "strict=['A /a', 'B /b'], json_answers=True, form_as_json=True, correct=False)"
    )
