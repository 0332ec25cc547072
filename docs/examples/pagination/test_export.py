"""The export, against the local API and against one that breaks off."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from export import export

from apiclient import ApiClient, errors
from apiclient.credentials import StaticToken
from apiclient.sandbox import Sandbox
from apiclient.testing import MockTransport


@pytest.mark.api_sandbox(employees=130)
async def test_every_item_is_there_once(
    api_sandbox: Sandbox, tmp_path: Path, virtual_time: Callable[[], float]
) -> None:
    token = StaticToken(api_sandbox.issue_token(lifetime=600))
    async with ApiClient(api_sandbox.api_url, credentials=token) as client:
        assert await export(client, "/employees", tmp_path / "all.jsonl") == 130
    lines = (tmp_path / "all.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == list(range(1, 131))


async def test_a_list_that_breaks_off_leaves_the_last_export(mock_api: MockTransport, tmp_path: Path) -> None:
    target = tmp_path / "all.jsonl"
    target.write_text("the last one\n")
    link = {"Link": '</v1/list?page=2>; rel="next"'}
    mock_api.get("/v1/list?page=2").respond(status=500)
    mock_api.get("/v1/list").respond(json={"items": [1]}, headers=link)
    async with ApiClient("https://api.example.com/v1") as client:
        with pytest.raises(errors.ServerError):
            await export(client, "/list", target)
    assert target.read_text() == "the last one\n"
