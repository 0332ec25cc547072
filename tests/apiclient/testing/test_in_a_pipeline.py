"""Law 4 with a mock: a wire request is counted once, wherever the transport stands."""

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
from yarl import URL

from apiclient import ApiClient, errors
from apiclient.middleware._call import Call, calling
from apiclient.pipeline import Pipeline
from apiclient.testing import Cassette, Chaos, MockTransport, set_testing

from .conftest import BareRetry, OpenSession


def a_call() -> Call:
    loop = asyncio.get_running_loop()
    return Call(
        "GET", "GET /x", key=("http://a.test", "GET /x"), url=URL("http://a.test/x"), time=loop.time, buffered=True
    )


@pytest.mark.parametrize("inside", [True, False], ids=["last in the pipeline", "after the pipeline"])
async def test_a_wire_request_is_counted_once(open_session: OpenSession, *, inside: bool) -> None:
    """Inside the pipeline its end goes on counting around the mock; after it, the mock does not count again."""
    transport = MockTransport()
    transport.get("/x").respond(status=503).respond()
    chain = (Pipeline([BareRetry(), transport]),) if inside else (Pipeline([BareRetry()]), transport)
    call = a_call()
    with calling(call):
        await open_session(*chain).get("http://a.test/x")
    assert call.wire == len(transport.requests) == 2


async def test_on_a_bare_session_the_transport_counts(open_session: OpenSession) -> None:
    """Without a pipeline nobody else does."""
    transport, call = MockTransport(), a_call()
    transport.get("/x").respond()
    with calling(call):
        await open_session(transport).get("http://a.test/x")
    assert call.wire == 1


async def test_a_buffered_body_is_read_inside_the_chain(open_session: OpenSession) -> None:
    """A truncated body of a buffered call is a fault that the chain sees, as with a server."""
    transport, seen = MockTransport(), list[str]()
    transport.get("/x").respond(json=[1, 2, 3]).truncate(after=3)

    async def watching(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        try:
            return await handler(request)
        except aiohttp.ClientPayloadError as error:
            seen.append(str(error))
            raise

    with calling(a_call()), pytest.raises(aiohttp.ClientError):
        await open_session(Pipeline([watching, transport])).get("http://a.test/x")
    assert seen == ["Response payload is not completed: the mock stopped after 3 of 9 bytes"]


async def test_chaos_breaks_a_body_before_the_pipeline_reads_it(open_session: OpenSession) -> None:
    """The faults of a body happen where a network's would: inside the chain for a buffered call, counted once."""
    transport = MockTransport()
    transport.get("/x").respond(json=[1, 2, 3])
    chaos = Chaos(seed=1, truncation=1.0, enabled=True)
    call = a_call()
    with calling(call), pytest.raises(aiohttp.ClientError):
        await open_session(Pipeline([chaos]), transport).get("http://a.test/x")
    assert call.wire == len(transport.requests) == 1
    assert chaos.injected == {"truncation": 1}


async def test_chaos_breaks_what_a_mock_answers(tmp_path: Path) -> None:
    """Before a mock in one pipeline too: a buffered body is broken before it is read; a cassette between has the whole."""
    transport = MockTransport()
    transport.get("/x").respond(json=[1, 2, 3])
    chaos = Chaos(seed=1, truncation=1.0, enabled=True)
    path = tmp_path / "a.json"

    async def broken() -> int:
        async with ApiClient("http://a.test") as client:
            with pytest.raises(errors.ResponseBroken) as caught:
                await client.get("/x")
            return caught.value.attempts

    cassette = Cassette(path, mode="record")
    with set_testing(innermost=[transport]), set_testing(innermost=[chaos, cassette]):
        assert await broken() == 2
    cassette.save()
    bodies = [each["response"]["body"] for each in json.loads(path.read_text())["interactions"]]
    assert bodies == [{"json": [1, 2, 3]}] * 2
    cassette = Cassette(path)
    with set_testing(innermost=[cassette, chaos]):
        assert await broken() == 2
    cassette.assert_all_used()
    assert chaos.injected == {"truncation": 4}


@pytest.mark.looptime
async def test_each_attempt_is_spoilt_once(open_session: OpenSession) -> None:
    """What stands in for the network during one attempt is gone at the next."""
    transport = MockTransport()
    transport.get("/x").respond(status=503, text="no").times(2).respond(text="yes")
    chaos = Chaos(seed=1, slow_body=1.0, delay=10.0, enabled=True)
    call, seen = a_call(), list[object]()

    async def watching(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        before = call.transport
        response = await handler(request)
        seen.append(call.transport is before)
        return response

    with calling(call):
        await open_session(Pipeline([BareRetry(), watching, chaos]), transport).get("http://a.test/x")
    assert seen == [True, True, True]
    assert call.wire == 3
