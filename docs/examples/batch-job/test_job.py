"""What goes in, and what becomes of it."""

from collections.abc import Callable

import pytest
from api import make_client
from requests_of import requests_of

from apiclient import Request
from apiclient.sandbox import Sandbox

ROWS = [{"employee": "7", "day": "2026-11-16", "hours": "7.5"}, {"employee": "8", "day": "2026-11-16", "hours": "80"}]


def test_a_row_becomes_a_request_with_an_id_and_a_key_of_its_own() -> None:
    first, second = requests_of(ROWS)
    assert first["json"] == {"employee": 7, "day": "2026-11-16", "hours": 7.5}
    assert (first["id"], first["idempotency_key"]) == ("7-2026-11-16", "hours-7-2026-11-16")
    assert first["id"] != second["id"]


async def test_a_wrong_row_does_not_stop_the_others(
    api_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, virtual_time: Callable[[], float]
) -> None:
    for name, value in {"BASE": api_sandbox.api_url, "TOKEN": api_sandbox.token_url}.items():
        monkeypatch.setenv(f"APICLIENT_{name}_URL", value)
    monkeypatch.setenv("APICLIENT_CLIENT_ID", "demo")
    monkeypatch.setenv("APICLIENT_CLIENT_SECRET", "demo-secret")
    async with make_client() as client:
        results = {each.id: each async for each in client.batch(Request(**line) for line in requests_of(ROWS))}
    assert results["7-2026-11-16"].ok
    assert results["8-2026-11-16"].status == 422
