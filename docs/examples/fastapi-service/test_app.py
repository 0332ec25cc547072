"""The service, tested without a port: in its own event loop, with a mock in place of the API."""

from collections.abc import AsyncIterator

import httpx
import pytest
from app import api, app

from apiclient import ApiClient
from apiclient.outbox import MemoryOutbox
from apiclient.testing import MockTransport


@pytest.fixture
async def service(mock_api: MockTransport) -> AsyncIterator[httpx.AsyncClient]:
    async with ApiClient("https://api.example.com/v1", outbox=MemoryOutbox()) as client:
        app.dependency_overrides[api] = lambda: client
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as caller:
            yield caller
    app.dependency_overrides.clear()


async def test_it_passes_an_employee_on(service: httpx.AsyncClient, mock_api: MockTransport) -> None:
    mock_api.get("/v1/employees/{id}").respond(json={"id": 7, "name": "Ada"})
    answer = await service.get("/employees/7")
    assert (answer.status_code, answer.json()) == (200, {"id": 7, "name": "Ada"})


async def test_hours_go_out_under_the_callers_key(service: httpx.AsyncClient, mock_api: MockTransport) -> None:
    mock_api.post("/v1/timesheets").respond(status=502).respond(status=201, json={"id": 1})
    answer = await service.post("/hours", json={"employee": 7, "hours": 8}, headers={"Idempotency-Key": "a-1"})
    assert answer.status_code == 201
    assert [each.headers["Idempotency-Key"] for each in mock_api.requests] == ["a-1", "a-1"]


async def test_what_the_api_calls_wrong_is_the_callers_to_put_right(
    service: httpx.AsyncClient, mock_api: MockTransport
) -> None:
    mock_api.post("/v1/timesheets").respond(status=422, json={"errors": {"hours": ["at most 24"]}})
    answer = await service.post("/hours", json={"employee": 7, "hours": 25}, headers={"Idempotency-Key": "a-2"})
    assert (answer.status_code, answer.json()["fields"]) == (422, ["hours: at most 24"])


async def test_an_api_that_is_away_is_503_with_a_time(service: httpx.AsyncClient, mock_api: MockTransport) -> None:
    mock_api.any().respond(status=503, headers={"Retry-After": "7"})
    answer = await service.get("/employees/7")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")


async def test_hours_are_accepted_while_the_api_is_away(service: httpx.AsyncClient, mock_api: MockTransport) -> None:
    mock_api.any().respond(status=503)
    answer = await service.post("/hours", json={"employee": 7, "hours": 8}, headers={"Idempotency-Key": "a-3"})
    assert answer.status_code == 202
    assert answer.json()["accepted"]
