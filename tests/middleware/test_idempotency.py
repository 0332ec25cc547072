"""Idempotency on a bare session against a real server on loopback."""

from typing import Any

import aiohttp
import pytest
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, web
from yarl import URL

from apiclient import ApiClient, Pipeline
from apiclient.middleware import errors
from apiclient.middleware._call import joined, opened
from apiclient.middleware.idempotency import Idempotency
from apiclient.middleware.retry import Retry
from tests.conftest import Peer

pytestmark = pytest.mark.looptime
KEY = "Idempotency-Key"


async def send(subject: Any, method: str, url: str, *more: Any, **options: Any) -> None:
    async with (
        aiohttp.ClientSession(middlewares=(subject, *more)) as client,
        client.request(method, url, **options) as response,
    ):
        await response.read()


async def test_a_key_is_the_same_on_each_attempt_and_another_for_each_call(peer: Peer) -> None:
    """Law 3: with a key a POST is sent again, the same key every time."""
    peer.answers(503, 503, 200, 503, 200)
    subject = Idempotency(methods={"post"})
    await send(subject, "POST", peer.url, Retry(jitter=None), json={})
    await send(subject, "POST", peer.url, Retry(jitter=None), json={})
    keys = [headers[KEY] for headers in peer.headers]
    assert len(keys) == 5
    assert len(set(keys[:3])) == len(set(keys[3:])) == 1
    assert keys[0] != keys[3]
    assert len(keys[0]) >= 32


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST", "PATCH"])
async def test_no_key_is_made_by_default(peer: Peer, method: str) -> None:
    """Where the server ignores it a key would make a POST look safe that is not."""
    await send(Idempotency(), method, peer.url)
    assert KEY not in peer.headers[0]


async def test_only_the_methods_and_endpoints_named_get_one(peer: Peer) -> None:
    """``methods`` and ``endpoints`` narrow it down together."""
    subject = Idempotency(methods={"POST"}, endpoints={"POST /pay/{}"})
    for method, path in (("POST", "/pay/7"), ("POST", "/other"), ("PATCH", "/pay/7")):
        await send(subject, method, peer.url + path)
    assert [KEY in headers for headers in peer.headers] == [True, False, False]


async def test_a_key_of_the_callers_own_wins(peer: Peer) -> None:
    """For any method, and it makes the call repeatable."""
    peer.answers(503, 200)
    await send(Idempotency(methods={"POST"}), "POST", peer.url, Retry(jitter=None), headers={KEY: "mine"})
    assert [headers[KEY] for headers in peer.headers] == ["mine", "mine"]


@pytest.mark.parametrize(
    ("key", "line"),
    [("abc", '"abc"'), ('a"b\\c', '"a\\"b\\\\c"'), ('"done"', '"done"'), ("8e03978e-40d5", '"8e03978e-40d5"')],
)
async def test_it_can_be_quoted_as_the_draft_wants(peer: Peer, key: str, line: str) -> None:
    """Draft 07 section 2.1: a structured-field string; one already quoted stays as it is."""
    await send(Idempotency(quoted=True), "POST", peer.url, headers={KEY: key})
    assert peer.headers[0][KEY] == line


async def test_another_header_can_carry_it(peer: Peer) -> None:
    """Some APIs have a name of their own for it."""
    subject = Idempotency(methods={"POST"}, header="X-Request-Token", make=lambda: "made")
    await send(subject, "POST", peer.url)
    assert peer.headers[0]["X-Request-Token"] == "made"
    await send(subject, "POST", peer.url, headers={"X-Request-Token": "mine"})
    assert peer.headers[1]["X-Request-Token"] == "mine"


async def test_it_goes_to_the_clients_own_origin_only(peer: Peer) -> None:
    """Law 11: a request of the same call to another origin carries none, the caller's own neither."""

    class Elsewhere:
        async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
            call = joined()
            if call is None:
                return await opened(self, request, handler)
            call.origin = URL("https://api.example.com")
            return await handler(request)

    await send(Elsewhere(), "POST", peer.url, Idempotency(methods={"POST"}), headers={KEY: "mine"})
    assert KEY not in peer.headers[0]


async def test_a_key_is_the_same_across_redirects_and_retries_of_a_client(peer: Peer) -> None:
    """A 307 within the origin is part of the call, and so is what fails after it."""
    answers = [(307, {"Location": "/moved"}), (503, {}), (200, {})]

    async def handler(request: web.Request) -> web.Response:
        status, headers = answers[peer.count - 1]
        return web.Response(status=status, headers=headers)

    peer.handler = handler
    chain = Pipeline([Idempotency(methods={"POST"}), Retry(jitter=None)])
    async with ApiClient(peer.url, pipeline=chain) as client:
        response = await client.post("/orders", json={"a": 1})
    assert response.status == 200
    assert [path for _, path, _ in peer.seen] == ["/orders", "/moved", "/moved"]
    assert {body for _, _, body in peer.seen} == {b'{"a": 1}'}
    assert len({headers[KEY] for headers in peer.headers}) == 1


@pytest.mark.parametrize("key", ["", "zwölf", "a\tb"])
async def test_a_key_not_fit_for_a_header_is_refused(peer: Peer, key: str) -> None:
    """The message does not show it."""
    async with aiohttp.ClientSession(middlewares=(Idempotency(methods={"POST"}, make=lambda: key),)) as client:
        with pytest.raises(errors.InvalidRequest, match="idempotency_key must be printable ASCII") as caught:
            await client.post(peer.url)
    assert not key or key not in str(caught.value)
    assert peer.count == 0


def test_wrong_options_are_named() -> None:
    """A string is a collection of letters, and no collection of methods."""
    with pytest.raises(TypeError, match="methods must be a collection of methods, got the string 'POST'"):
        Idempotency(methods="POST")
    with pytest.raises(ValueError, match="header must be the name of a header, got 'a b'"):
        Idempotency(header="a b")


def test_the_repr_tells_the_options() -> None:
    """A person sees which methods get a key."""
    assert (
        repr(Idempotency(methods={"POST", "PATCH"}, quoted=True)) == "Idempotency(methods=[PATCH, POST], quoted=True)"
    )
    assert repr(Idempotency(endpoints={"POST /a"})) == "Idempotency(methods=[], endpoints=['POST /a'])"
