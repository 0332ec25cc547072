"""Export a list that comes in pages to a file of JSON lines: `python export.py employees.jsonl`."""

import asyncio
import json
import os
import sys
from pathlib import Path

from apiclient import ApiClient
from apiclient.credentials import ClientCredentials


async def export(client: ApiClient, path: str, target: Path, *, items: str = "items") -> int:
    """Write each item of the list at *path* as a line of *target*, and return how many there were.

    A list that breaks off leaves *target* as it was: it is written beside it, and takes its place at the end.
    """
    partial = target.with_suffix(target.suffix + ".part")
    count = 0
    with partial.open("w", encoding="utf-8") as file:
        async for page in client.paginate(path):
            for item in (await page.json())[items]:
                file.write(json.dumps(item, ensure_ascii=False) + "\n")
                count += 1
    partial.replace(target)
    return count


async def main(target: Path) -> None:
    """Export the employees of the API that the environment names."""
    credentials = ClientCredentials(
        token_url=os.environ["APICLIENT_TOKEN_URL"],
        client_id=os.environ["APICLIENT_CLIENT_ID"],
        client_secret=os.environ["APICLIENT_CLIENT_SECRET"],
    )
    async with ApiClient(os.environ["APICLIENT_BASE_URL"], credentials=credentials) as client:
        print(await export(client, "/employees", target), "employees")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
