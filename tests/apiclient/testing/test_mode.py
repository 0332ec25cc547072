"""set_testing: fast tests of an application, and nothing of it left afterwards."""

import asyncio
from typing import Any

import aiohttp
import pytest

import apiclient.credentials._sender as senders
import apiclient.middleware._call as calls
import apiclient.pipeline as pipelines
from apiclient import ApiClient, Pipeline, errors
from apiclient.credentials import ClientCredentials
from apiclient.middleware import AttemptTimeout, Deadline, RateLimit, Retry, StatusErrors
from apiclient.testing import Chaos, MockTransport, set_testing

pytestmark = pytest.mark.looptime
URL = "https://api.example.com"


def standing() -> Any:
    return pipelines.stand_in


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_waits_take_no_time_and_attempts_are_capped() -> None:
    """Backoff and Retry-After pass at once, and two attempts are all; afterwards it is as it was."""
    transport = MockTransport()
    transport.get("/x").respond(status=503, headers={"Retry-After": "9"})
    async with ApiClient(URL) as client:
        with set_testing(innermost=[transport]):
            began = now()
            with pytest.raises(errors.ServerError) as caught:
                await client.get("/x")
            assert now() == began
            assert caught.value.attempts == len(transport.requests) == 2
        transport.reset()
        with set_testing(attempts=None, waits=True, innermost=[transport]):
            with pytest.raises(errors.ServerError):
                await client.get("/x")
            assert now() - began >= 27
            assert len(transport.requests) == 4


async def test_a_cap_raises_nothing() -> None:
    """A Retry of one attempt stays one, for an endpoint of its own too."""
    transport = MockTransport()
    transport.any().respond(status=503)
    chain = Pipeline([StatusErrors(), Retry(attempts=1, endpoints={"GET /slow": Retry(attempts=9)}), AttemptTimeout()])
    async with ApiClient(URL, pipeline=chain) as client:
        with set_testing(attempts=3, innermost=[transport]):
            for path, attempts in (("/x", 1), ("/slow", 3)):
                with pytest.raises(errors.ServerError) as caught:
                    await client.get(path)
                assert caught.value.attempts == attempts
        assert "attempts=1" in repr(chain)


async def test_a_429_is_met_again_at_once_and_quotas_are_not_paced() -> None:
    """A hundred calls at five a second take no time; one refused is sent again, within the cap."""
    transport = MockTransport()
    transport.get("/x").respond(json=1)
    transport.get("/busy").respond(status=429, headers={"Retry-After": "5"}).respond(json=2)
    transport.get("/full").respond(status=429, headers={"Retry-After": "5"})
    async with ApiClient(URL) as client:
        chain = client.pipeline.replace(RateLimit, RateLimit(default="5/1s"))
        with set_testing(innermost=[transport]):
            began = now()
            for _ in range(100):
                await client.get("/x", pipeline=chain)
            assert await (await client.get("/busy", pipeline=chain)).json() == 2
            with pytest.raises(errors.TooManyRequests) as caught:
                await client.get("/full", pipeline=chain)
            assert caught.value.attempts == 2
            assert now() == began


async def test_the_deadline_is_kept() -> None:
    """A wait that would not fit ends the call here as it would in production."""
    transport = MockTransport()
    transport.get("/x").respond(status=503, headers={"Retry-After": "30"}).respond()
    transport.get("/y").respond(status=429, headers={"Retry-After": "30"}).respond()
    async with ApiClient(URL, timeout=5) as client:
        with set_testing(innermost=[transport]):
            for path in ("/x", "/y"):
                with pytest.raises(errors.StatusError):
                    await client.get(path)
    assert len(transport.requests) == 2


async def test_a_body_that_can_be_read_once_is_not_sent_twice() -> None:
    """Law 2 holds for what stands in for RateLimit."""

    async def pieces() -> Any:
        yield b"once"

    transport = MockTransport()
    transport.put("/x").respond(status=429).respond()
    async with ApiClient(URL) as client:
        with set_testing(innermost=[transport]), pytest.raises(errors.TooManyRequests):
            await client.put("/x", data=pieces())
    assert len(transport.requests) == 1


async def test_modes_nest_and_each_restores_what_was() -> None:
    """A mock stands last, whichever mode brought it; False switches off for a while; leaving twice does no harm."""
    transport, chaos = MockTransport(), Chaos(seed=1, status=1.0, statuses=[502], enabled=True)
    transport.any().respond()
    async with ApiClient(URL, pipeline=Pipeline([StatusErrors(), Deadline(5)])) as client:
        with set_testing(innermost=[transport]) as outer:
            with set_testing(innermost=[chaos]) as inner:
                with pytest.raises(errors.ServerError):
                    await client.get("/x")
                assert not transport.requests
                with set_testing(False) as off:
                    assert standing() is None
                    assert calls.pause is asyncio.sleep
                assert standing() is not None
            inner.restore()
            assert (await client.get("/x")).status == 200
            shown = [repr(each) for each in (outer, inner, off)]
    assert shown == [
        "Testing(attempts=2, waits=False, innermost=1)",
        "Testing(attempts=2, waits=False, innermost=2)",
        "Testing(off)",
    ]
    assert standing() is None
    assert calls.pause is asyncio.sleep


async def test_a_pipeline_on_a_session_of_ones_own_is_in_it_too() -> None:
    """The mode reaches whatever runs through a Pipeline."""
    transport = MockTransport()
    transport.get("/x").respond(status=500).respond(text="fine")
    async with aiohttp.ClientSession(middlewares=(Pipeline([Retry()]),)) as session:
        with set_testing(innermost=[transport]):
            began = now()
            async with session.get(URL + "/x") as response:
                assert await response.text() == "fine"
            assert now() == began


def test_a_wrong_option_is_named() -> None:
    """The mode that it would have begun is not begun."""
    with pytest.raises(ValueError, match="attempts must be at least 1, got 0"):
        set_testing(attempts=0)
    assert standing() is None


async def test_requests_for_tokens_are_answered_where_that_is_asked_for() -> None:
    """``tokens`` stands around each of them, for as long as the mode lasts; modes nest."""
    transport = MockTransport()
    token = transport.post("https://login.test/token").respond(json={"access_token": "t-1", "token_type": "bearer"})
    transport.any().respond(json=1)
    credentials = ClientCredentials(token_url="https://login.test/token", client_id="id", client_secret="s")
    with set_testing(tokens=[transport]), set_testing(innermost=[transport]):
        async with ApiClient("https://api.test", credentials=credentials) as client:
            await client.get("/x")
    assert token.call_count == 1
    assert transport.requests[-1].headers["Authorization"] == "Bearer t-1"
    assert senders.innermost == ()
