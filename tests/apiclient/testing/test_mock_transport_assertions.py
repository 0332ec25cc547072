"""Failed assertions tell what was received, and how it differs."""

import pytest

from apiclient.testing import MockTransport

from .conftest import OpenSession


async def received(open_session: OpenSession) -> MockTransport:
    transport = MockTransport()
    transport.get("/employees/{id}").respond(status=404).respond()
    transport.post("/employees").respond(status=201)
    session = open_session(transport)
    await session.get("http://a.test/employees/7", params={"full": "1"}, headers={"Authorization": "Bearer secret"})
    await session.post("http://a.test/employees", json={"name": "Ada"})
    return transport


async def test_what_was_called_passes(open_session: OpenSession) -> None:
    """Each aspect may be named, all or none."""
    transport = await received(open_session)
    transport.assert_call_count(2)
    transport.assert_called()
    transport.assert_called("get", "/employees/{id}", times=1, params={"full": 1})
    transport.assert_called("GET", headers={"authorization": "Bearer secret"})
    transport.assert_called("POST", "/employees", json={"name": "Ada"}, body=b'{"name": "Ada"}')
    transport.assert_not_called("DELETE")
    transport.assert_all_routes_called()
    transport.get("/employees/{id}").assert_called(times=1)


async def test_a_call_count_that_differs(open_session: OpenSession) -> None:
    """The message lists each request with its outcome, and no header nobody asked about."""
    transport = await received(open_session)
    with pytest.raises(AssertionError) as caught:
        transport.assert_call_count(1)
    assert str(caught.value) == (
        "Expected 1 request.\n"
        "Received 2 requests:\n"
        "  1. GET http://a.test/employees/7?full=1 -> 404\n"
        "  2. POST http://a.test/employees -> 201"
    )


async def test_near_misses_say_how_they_differ(open_session: OpenSession) -> None:
    """A request on the right route says what about it was not as expected."""
    transport = await received(open_session)
    with pytest.raises(AssertionError) as caught:
        transport.assert_called(
            "GET", "/employees/{id}", params={"full": 2}, headers={"Authorization": "Bearer other"}, json=[]
        )
    assert str(caught.value) == (
        "Expected GET /employees/{id} with params {'full': '2'} and headers {'Authorization': 'Bearer other'} "
        "and JSON [] at least once, got it 0 times.\n"
        "Received 2 requests:\n"
        "  1. GET http://a.test/employees/7?full=1 -> 404\n"
        "       parameter full is ['1'], not '2'\n"
        "       header Authorization is ['Bearer secret'], not 'Bearer other'\n"
        "       body is b''\n"
        "  2. POST http://a.test/employees -> 201"
    )


async def test_a_body_that_differs_is_shown_in_part(open_session: OpenSession) -> None:
    """A long body is cut off in the message."""
    transport = MockTransport()
    transport.post("/x").respond()
    await open_session(transport).post("http://a.test/x", data=b"a" * 1000)
    with pytest.raises(AssertionError, match=r"body is b'a{200}'\.\.\. \(1000 bytes\)"):
        transport.assert_called("POST", body=b"b")


async def test_only_the_last_twenty_are_listed(open_session: OpenSession) -> None:
    """A long series keeps its numbers, and the message its length."""
    transport = MockTransport()
    transport.any().respond()
    session = open_session(transport)
    for number in range(25):
        await session.get(f"http://a.test/{number}")
    with pytest.raises(AssertionError) as caught:
        transport.assert_not_called()
    lines = str(caught.value).splitlines()
    assert lines[1:4] == [
        "Received 25 requests:",
        "  (5 earlier ones left out)",
        "  6. GET http://a.test/5 -> 200",
    ]
    assert lines[-1] == "  25. GET http://a.test/24 -> 200"


async def test_routes_have_assertions_of_their_own(open_session: OpenSession) -> None:
    """A route knows what it answered; one that nobody asked for is found."""
    transport = await received(open_session)
    transport.delete("/never")
    transport.delete("/never").assert_not_called()
    with pytest.raises(AssertionError, match=r"Expected DELETE /never to be called at least once\.\nReceived nothing"):
        transport.delete("/never").assert_called()
    with pytest.raises(AssertionError, match=r"Expected GET /employees/\{id\} to be called 2 times\.\nReceived 1 req"):
        transport.get("/employees/{id}").assert_called(times=2)
    with pytest.raises(AssertionError, match=r"these were not:\n  DELETE /never\n"):
        transport.assert_all_routes_called()
