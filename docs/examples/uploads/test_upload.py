"""The uploads, to a server that takes files and fails at first."""

import gc
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from upload import post, put

from apiclient import ApiClient

SIZE = 3 * 2**20


@pytest.fixture
def keys() -> list[str | None]:
    return []


@pytest.fixture
async def server(keys: list[str | None], virtual_time: Callable[[], float]) -> AsyncIterator[TestServer]:
    failures = [502, 503]

    async def take(request: web.Request) -> web.Response:
        keys.append(request.headers.get("Idempotency-Key"))
        digest = hashlib.sha256()
        if request.content_type.startswith("multipart/"):
            upload = (await request.post())["file"]
            assert isinstance(upload, web.FileField)
            digest.update(upload.file.read())
        else:
            async for piece in request.content.iter_chunked(65536):
                digest.update(piece)
        if failures:
            return web.Response(status=failures.pop())
        return web.json_response({"sha256": digest.hexdigest()})

    app = web.Application(client_max_size=2**30)
    app.add_routes([web.put("/files/{name}", take), web.post("/documents", take)])
    server = TestServer(app)
    async with server:
        yield server
    gc.collect()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "report.bin"
    path.write_bytes(bytes(range(256)) * (SIZE // 256))
    return path


async def test_a_file_arrives_whole_at_the_third_attempt(
    server: TestServer, keys: list[str | None], file: Path
) -> None:
    async with ApiClient(server.make_url("/")) as client:
        assert await put(client, file) == hashlib.sha256(file.read_bytes()).hexdigest()
    assert len(keys) == 3


async def test_a_form_goes_out_anew_under_one_key(server: TestServer, keys: list[str | None], file: Path) -> None:
    async with ApiClient(server.make_url("/")) as client:
        assert await post(client, file, title="Report") == hashlib.sha256(file.read_bytes()).hexdigest()
    assert len(keys) == 3
    assert len(set(keys)) == 1
