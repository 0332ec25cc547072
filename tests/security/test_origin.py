"""Borders S8 to S12 and S27: nothing that a caller passes on can change the origin, the path, or the lines of a request."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

from apiclient import ApiClient
from apiclient._jsonl import parse_line
from apiclient.credentials import ApiKey, StaticToken
from apiclient.middleware import Idempotency
from apiclient.middleware.errors import InvalidRequest
from tests.security.conftest import CANARY, Origin

CONTROL = ["\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b", "a\x1bb", "a\x7fb"]


@pytest.mark.parametrize(
    "path",
    [
        "{evil}/x", "//127.0.0.1:{port}/x", "\\\\127.0.0.1:{port}\\x", "/\\127.0.0.1:{port}/x", "\t//127.0.0.1:{port}/x",
        " {evil}/x", "\n{evil}/x", "HTTP://127.0.0.1:{port}/x", "http:127.0.0.1:{port}", "http:/127.0.0.1:{port}/x",
        "/a/../../x", "/%2e%2e/x", "/%2E./x", "..", "/a#b", "file:///etc/passwd",
    ],
)  # fmt: skip
async def test_no_path_leaves_the_origin(good: Origin, evil: Origin, path: str) -> None:
    """S8, S9: absolute, scheme-relative, backslashed and padded paths are refused before anything is sent."""
    async with ApiClient(good.url + "/v1", credentials=StaticToken(CANARY)) as client:
        with pytest.raises(InvalidRequest) as caught:
            await client.get(path.format(evil=evil.url, port=evil.port))
    assert CANARY not in str(caught.value)
    assert (good.connections, evil.connections) == (0, 0)


@pytest.mark.parametrize("path", ["@127.0.0.1:{port}/x", "/@127.0.0.1:{port}", ":{port}/x", ".evil.invalid", "/x//y"])
async def test_what_could_be_glued_to_the_host_is_a_path(good: Origin, evil: Origin, path: str) -> None:
    """S9: an ``@``, a port or a dot in front stays behind the slash."""
    async with ApiClient(good.url, credentials=StaticToken(CANARY)) as client:
        await client.get(path.format(port=evil.port))
    assert good.requests[0].target == "/" + path.format(port=evil.port).removeprefix("/")
    assert evil.connections == 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.text(min_size=1, max_size=12) | st.sampled_from(["..", ".", "%2e%2e", "a/b", "?", "#", ";", "a%2Fb", "%"])
)
async def test_a_path_parameter_stays_one_segment_on_the_wire(good: Origin, value: str) -> None:
    """S10: what the server decodes from the segment is what was given, or nothing was sent."""
    good.requests.clear()
    async with ApiClient(good.url + "/v1") as client:
        try:
            await client.get("/employees/{id}/notes", path_params={"id": value})
        except InvalidRequest:
            assert good.requests == []
            return
    target = good.requests[0].target
    assert target.count("/") == 4
    assert URL(target, encoded=True).parts == ("/", "v1", "employees", value, "notes")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.text(max_size=12) | st.sampled_from(["a&b=c", "a\r\nHost: evil", "#", "%00", "+", " "]))
async def test_a_query_value_goes_there_and_nowhere_else(good: Origin, value: str) -> None:
    """S11: a query value round-trips, line breaks quoted, and never ends the line or begins another parameter."""
    good.requests.clear()
    async with ApiClient(good.url) as client:
        try:
            await client.get("/search", params={"q": value, "z": "1"})
        except InvalidRequest:
            assert good.requests == []
            return
    arrived = good.requests[0]
    assert dict(URL(arrived.target, encoded=True).query) == {"q": value, "z": "1"}
    assert arrived.all("host") == [good.url.removeprefix("http://")]


@pytest.mark.parametrize("value", CONTROL)
async def test_control_characters_never_reach_the_wire(good: Origin, value: str) -> None:
    """S12: in a header's value or name, a method, a path parameter or a key they are refused, the value not shown."""
    bad: list[dict[str, Any]] = [
        {"headers": {"X-A": f"{CANARY}{value}"}},
        {"headers": {f"X-A{value}": "a"}},
        {"path_params": {"id": f"{CANARY}{value}"}},
        {"idempotency_key": f"{CANARY}{value}"},
    ]
    async with ApiClient(good.url) as client:
        for options in bad:
            with pytest.raises(InvalidRequest) as caught:
                await client.get("/{id}" if "path_params" in options else "/x", **options)
            assert CANARY not in f"{caught.value!r} {caught.value.describe()}"
        with pytest.raises(InvalidRequest, match="method"):
            await client.request(f"GET{value}", "/x")
    for make in (StaticToken, ApiKey):
        with pytest.raises(ValueError, match="control characters") as refused:
            make(f"{CANARY}{value}")
        assert CANARY not in str(refused.value)
    with pytest.raises(InvalidRequest, match="control"):
        ApiClient(good.url, headers={"X-A": value})
    assert good.connections == 0


@pytest.mark.parametrize("name", ["", "a b", "a:b", "\u00e4", "a(b)"])
async def test_a_header_name_is_a_token(good: Origin, name: str) -> None:
    """S12: what is no token (RFC 9110 section 5.1) names no header."""
    async with ApiClient(good.url) as client:
        with pytest.raises(InvalidRequest):
            await client.get("/x", headers={name: "a"})
    assert good.connections == 0


async def test_a_key_from_the_chain_is_checked_too(good: Origin) -> None:
    """S12: a key that an application makes badly is refused, not sent."""
    pipeline_key = Idempotency(methods={"POST"}, make=lambda: "a\r\nX-Evil: 1")
    async with ApiClient(good.url) as client:
        with pytest.raises(InvalidRequest, match="not shown"):
            await client.post("/x", pipeline=client.pipeline.replace(Idempotency, pipeline_key))
    assert good.connections == 0


@pytest.mark.parametrize(
    "line",
    [
        {"path": "http://127.0.0.1:1/x"}, {"path": "//127.0.0.1/x"}, {"path": "/x", "headers": {"Authorization": "a"}},
        {"path": "/x", "headers": {"cookie": "a"}}, {"path": "/x", "headers": {"HOST": "evil"}}, {"path": "/x", "proxy": "http://e"},
        {"path": "/x", "headers": {"X-A": "a\r\nb"}}, {"path": "/x", "method": "GET\r\n"}, {"path": "/a/../b"},
    ],
)  # fmt: skip
async def test_a_line_of_a_batch_chooses_no_origin_and_no_credential(good: Origin, line: dict[str, Any]) -> None:
    """S27: what stands in a file is refused where it is read, or where it would be sent."""
    request = parse_line(json.dumps(line).encode(), 1).request
    if request is not None:
        async with ApiClient(good.url, credentials=StaticToken(CANARY)) as client:
            results = [result async for result in client.batch([request])]
        assert isinstance(results[0].error, InvalidRequest)
    assert good.connections == 0
