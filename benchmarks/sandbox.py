"""The default pipeline, told nothing, against the sandbox: 300 requests over three endpoints of 5 per second.

    python benchmarks/sandbox.py

Prints the time beside the least that the quotas allow, and the refusals of each endpoint as the server counted them.
Real sockets and real time: about 20 seconds for each line.
"""

import asyncio
import itertools
from argparse import ArgumentParser

from apiclient import ApiClient, Request
from apiclient.credentials import ClientCredentials
from apiclient.sandbox import Sandbox

_EACH = 100
_LIMIT = 5
_ENDPOINTS: tuple[str, ...] = ("GET /v1/employees", "GET /v1/employees/{id}", "GET /v1/ping")


def _requests() -> list[Request]:
    return list(
        itertools.chain.from_iterable(
            (
                Request(path="/employees"),
                Request(path="/employees/{id}", path_params={"id": 1 + number % 9}),
                Request(path="/ping"),
            )
            for number in range(_EACH)
        )
    )


async def _measure(*, headers: bool) -> None:
    limits = dict.fromkeys(_ENDPOINTS, (_LIMIT, 1.0))
    async with Sandbox(headers=headers, limits=limits, token_lifetime=600) as sandbox:
        credentials = ClientCredentials(token_url=sandbox.token_url, client_id="demo", client_secret="demo-secret")
        async with ApiClient(sandbox.api_url, credentials=credentials, timeout=120.0, connections=300) as client:
            began = asyncio.get_running_loop().time()
            ok = sum([result.ok async for result in client.batch(_requests(), concurrency=300)])
            took = asyncio.get_running_loop().time() - began
        least = (_EACH - 1) // _LIMIT
        refused = {endpoint: sandbox.count(endpoint, 429) for endpoint in _ENDPOINTS}
    told = "headers on success" if headers else "the text of the 429"
    print(f"told by {told:20} {ok} of {3 * _EACH} ok in {took:.2f} s, {took / least:.3f} of the least {least} s")
    print(f"        429s: {refused}")


def main() -> None:
    """Measure with the limit's text alone, and with headers."""
    ArgumentParser(description=__doc__).parse_args()
    for headers in (False, True):
        asyncio.run(_measure(headers=headers))


if __name__ == "__main__":
    main()
