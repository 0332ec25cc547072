"""The service, tested through its own port, with a local API behind it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from service import API, make_app

from apiclient.sandbox import Sandbox

Service = TestClient[web.Request, web.Application]


@pytest.fixture
async def service(api_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Service]:
    monkeypatch.setenv("APICLIENT_BASE_URL", api_sandbox.api_url)
    monkeypatch.setenv("APICLIENT_TOKEN_URL", api_sandbox.token_url)
    monkeypatch.setenv("APICLIENT_CLIENT_ID", "demo")
    monkeypatch.setenv("APICLIENT_CLIENT_SECRET", "demo-secret")
    monkeypatch.setenv("APICLIENT_OUTBOX", str(tmp_path / "outbox.db"))
    async with TestClient(TestServer(make_app())) as client:
        yield client


async def test_it_passes_an_employee_on(service: Service) -> None:
    answer = await service.get("/employees/7")
    assert (answer.status, await answer.json()) == (200, {"id": 7, "name": "Employee 7"})
    assert (await service.get("/employees/5000")).status == 404


async def test_hours_are_booked_once_though_an_answer_is_lost(service: Service, api_sandbox: Sandbox) -> None:
    api_sandbox.fail_next("POST /v1/timesheets", 502, late=True)
    answer = await service.post("/hours", json={"hours": 8}, headers={"Idempotency-Key": "a-1"})
    assert (answer.status, api_sandbox.created) == (201, 1)


async def test_wrong_hours_are_the_callers_to_put_right(service: Service) -> None:
    answer = await service.post("/hours", json={"hours": 25}, headers={"Idempotency-Key": "a-2"})
    assert answer.status == 422
    assert "hours" in (await answer.json())["fields"][0]


async def test_hours_are_accepted_while_the_api_is_away(service: Service, api_sandbox: Sandbox) -> None:
    api_sandbox.outage()
    answer = await service.post("/hours", json={"hours": 8}, headers={"Idempotency-Key": "a-3"})
    assert answer.status == 202
    api_sandbox.outage(on=False)
    outbox = service.app[API].outbox
    assert outbox is not None
    await outbox.drain(timeout=120)
    assert api_sandbox.created == 1


async def test_health_is_about_this_process(service: Service, api_sandbox: Sandbox) -> None:
    api_sandbox.outage()
    assert (await service.get("/employees/7")).status == 503
    assert (await service.get("/health")).status == 200
