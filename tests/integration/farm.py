"""Many worker processes: one interpreter that imports everything once, and forks as many as are asked for.

``python -m tests.integration.farm JSON`` prints one JSON line for each worker that lived to its end.
"""

import asyncio
import contextlib
import json
import math
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp

from apiclient.credentials import RefreshToken, _tenure
from apiclient.middleware.rate_limit import RateLimit
from apiclient.shared import Redis
from apiclient.stores import SqliteTokenStore


async def quota(number: int, spec: dict[str, Any]) -> dict[str, Any]:
    """Send as fast as the quota lets, for so many seconds or requests; return what the wire saw."""
    skew = spec.get("skew", 0.0) * (number - (spec["workers"] - 1) / 2)
    if skew:
        true = time.time
        time.time = lambda: true() + skew
    seen: Counter[str] = Counter()
    loop = asyncio.get_running_loop()
    end, left = loop.time() + spec["seconds"], spec.get("requests", math.inf)

    async def count(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        response = await handler(request)
        seen[str(response.status)] += 1
        return response

    shared = Redis(spec["store"])
    limit = RateLimit(default=spec.get("rate"), store=shared.quotas)
    async with aiohttp.ClientSession(
        middlewares=(limit, count), headers={"Authorization": f"Bearer {spec['token']}"}
    ) as session:

        async def work() -> None:
            nonlocal left
            while loop.time() < end and left > 0:
                left -= 1
                async with session.get(spec["url"]) as response:
                    await response.read()

        tasks = [loop.create_task(work()) for _ in range(spec.get("tasks", 20))]
        await asyncio.wait(tasks, timeout=spec["seconds"])
        for task in tasks:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        errors = [repr(each) for each in done if isinstance(each, Exception)]
    await shared.aclose()
    rates = [str(rate) for standing in limit.standing() for rate in standing.rates]
    return {"worker": number, "seen": dict(seen), "errors": errors[:3], "rates": rates}


async def token(number: int, spec: dict[str, Any]) -> dict[str, Any]:
    """Ask for a token at the same moment as all others; return it."""
    _tenure.LEASE = spec.get("lease", _tenure.LEASE)
    shared = Redis(spec["store"])
    store = SqliteTokenStore(spec["file"]) if "file" in spec else shared.tokens
    credential = RefreshToken(
        refresh_token="refresh-0",
        client_id="id",
        token_url=spec["token_url"],
        store=store,
        now=lambda: time.time() + spec.get("later", 0.0),
    )
    found = await credential.token()
    await credential.aclose()
    await shared.aclose()
    return {"worker": number, "token": found.value}


WORK: dict[str, Callable[[int, dict[str, Any]], Coroutine[Any, Any, dict[str, Any]]]] = {"quota": quota, "token": token}


def main() -> None:
    """Fork the workers and wait for them."""
    spec = json.loads(sys.argv[1])
    Redis(spec["store"])  # imports redis-py, once for all
    children: list[int] = []
    for number in range(spec["workers"]):
        child = os.fork()
        if child == 0:
            result = asyncio.run(WORK[spec["work"]](number, spec))
            os.write(1, (json.dumps(result) + "\n").encode())
            os._exit(0)
        children.append(child)
    kill = spec.get("kill")
    if kill is not None:
        if kill == "told":
            sys.stdin.readline()
        else:
            time.sleep(kill)
        os.kill(children[0], signal.SIGKILL)
    for child in children:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)


if __name__ == "__main__":
    main()
