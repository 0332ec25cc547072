"""Upload files so that an attempt that failed can be made again: `python upload.py report.pdf`."""

import asyncio
import hashlib
import os
import sys
from functools import partial
from pathlib import Path
from typing import IO

import aiohttp

from apiclient import ApiClient
from apiclient.credentials import StaticToken


def opened(path: Path) -> IO[bytes]:
    """Return *path*, open: aiohttp reads it piece by piece as it is sent, and closes it."""
    return path.open("rb")


def form(path: Path, title: str) -> aiohttp.FormData:
    """Return a multipart form with the file in it."""
    fields = aiohttp.FormData()
    fields.add_field("title", title)
    fields.add_field("file", path.open("rb"), filename=path.name, content_type="application/octet-stream")
    return fields


async def put(client: ApiClient, path: Path) -> str:
    """Store the file under its own name: a PUT may be sent twice as it is."""
    answer = await client.put("/files/{name}", path_params={"name": path.name}, body=partial(opened, path))
    return str((await answer.json())["sha256"])


async def post(client: ApiClient, path: Path, *, title: str) -> str:
    """Add the file as a document: a POST may be sent twice only with a key, here one that follows from the content."""
    key = hashlib.sha256(path.read_bytes()).hexdigest()
    answer = await client.post("/documents", body=partial(form, path, title), idempotency_key=key, timeout=600)
    return str((await answer.json())["sha256"])


async def main(path: Path) -> None:
    """Upload one file to the API that the environment names."""
    credentials = StaticToken(os.environ["APICLIENT_TOKEN"])
    async with ApiClient(os.environ["APICLIENT_BASE_URL"], credentials=credentials) as client:
        print(await post(client, path, title=path.stem))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
