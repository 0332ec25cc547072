"""What authentication costs: per request with a valid token, and with 10,000 callers waiting for one refresh.

    python benchmarks/auth.py                      both tables
    python benchmarks/auth.py --rounds 30 --waiters 10000

The first table is CPU time that a policy adds to a request: real ``ClientRequest`` objects, a handler that does
nothing, the handler's own time taken off. The second is CPU time from the first caller to the last, per caller, with
a real token endpoint on loopback that takes 0.2 s; and the same where all but one caller give up while they wait.
"""

import argparse
import asyncio
import functools
import gc
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from aiohttp import ClientMiddlewareType, ClientRequest, ClientSession, web
from aiohttp.test_utils import TestServer
from yarl import URL

from apiclient.credentials import ClientCredentials, StaticToken
from apiclient.middleware import Authorize, AuthRefresh, ScopeStepUp
from apiclient.middleware._call import Call, calling

API = URL("https://api.example.com")
REQUESTS = 2000

Send = Callable[[ClientRequest], Awaitable[Any]]


class Response:
    """What the chain looks at of a response."""

    status = 200


async def nothing(_: ClientRequest) -> Any:
    return Response


def chain(*middlewares: ClientMiddlewareType) -> Send:
    send: Send = nothing
    for middleware in reversed(middlewares):
        send = functools.partial(_through, middleware, send)
    return send


def _through(middleware: Any, inner: Send, request: ClientRequest) -> Awaitable[Any]:
    called: Awaitable[Any] = middleware(request, inner)
    return called


async def plain(request: ClientRequest, handler: Any) -> Any:
    """The least that a middleware can do."""
    request.headers["Authorization"] = "Bearer " + "t" * 40
    return await handler(request)


def azure() -> Send | None:
    try:
        from azure.core.credentials import AccessToken
        from azure.core.pipeline import PipelineContext, PipelineRequest
        from azure.core.pipeline.policies import AsyncBearerTokenCredentialPolicy
        from azure.core.rest import HttpRequest
    except ImportError:
        return None

    class Credential:
        async def get_token(self, *_: str, **__: Any) -> AccessToken:
            return AccessToken("t" * 40, int(time.time()) + 36000)

    class Next:
        async def send(self, _: Any) -> Any:
            class Answer:
                class http_response:  # noqa: N801 - azure's name
                    status_code = 200

            return Answer

    policy: Any = AsyncBearerTokenCredentialPolicy(Credential(), "scope")  # type: ignore[arg-type]
    policy.next = Next()
    context: Any = PipelineContext(None)
    prepared: Any = PipelineRequest(HttpRequest("GET", str(API)), context)

    async def send(_: ClientRequest) -> Any:
        return await policy.send(prepared)

    return send


async def per_request(rounds: int) -> None:
    """Print the CPU microseconds that each chain adds to a request."""
    async with TestServer(_app()) as server, ClientSession() as session:
        credential = ClientCredentials(
            token_url=server.make_url("/token"), client_id="x", client_secret="y", allowed_scopes=["z"]
        )
        await credential.token()
        contenders: dict[str, Send] = {
            "handler alone": chain(),
            "a function that sets the header": chain(plain),
            "Authorize(StaticToken)": chain(Authorize(StaticToken("t" * 40))),
            "Authorize(ClientCredentials)": chain(Authorize(credential)),
            "AuthRefresh + Authorize": chain(AuthRefresh(credential), Authorize(credential)),
            "ScopeStepUp + AuthRefresh + Authorize": chain(
                ScopeStepUp(credential), AuthRefresh(credential), Authorize(credential)
            ),
        }
        if (peer := azure()) is not None:
            contenders["azure-core's AsyncBearerTokenCredentialPolicy"] = peer
        else:
            print("azure-core: not available")
        spent: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, send in contenders.items():
                spent[name].append(await _cpu(session, send))
    base = min(spent["handler alone"])
    least = min(spent["a function that sets the header"]) - base
    print(f"\nper request, valid token ({REQUESTS} requests a round, {rounds} rounds)\n")
    print(f"{'':48}{'least us':>10}{'median us':>11}{'ratio':>8}")
    for name, seconds in spent.items():
        added = min(seconds) - base
        middle = statistics.median(seconds) - statistics.median(spent["handler alone"])
        ratio = "" if name == "handler alone" else f"{added / least:8.1f}"
        print(f"{name:48}{added * 1e6:10.2f}{middle * 1e6:11.2f}{ratio}")


async def _cpu(session: ClientSession, send: Send) -> float:
    loop = asyncio.get_running_loop()
    requests = [ClientRequest("GET", API / "employees" / str(n), loop=loop, session=session) for n in range(REQUESTS)]
    call = Call("GET", "GET /employees/{}", key=("x", "y"), url=API, time=loop.time, origin=API)
    gc.collect()
    with calling(call):
        began = time.process_time()
        for request in requests:
            await send(request)
        return (time.process_time() - began) / REQUESTS


class Locked:
    """The usual way: a lock, and a second look inside it."""

    def __init__(self, renew: Callable[[], Awaitable[Any]]) -> None:
        self.renew = renew
        self.lock = asyncio.Lock()
        self.value: Any = None

    async def token(self) -> Any:
        """Return the token, with a lock around its first fetch."""
        if self.value is None:
            async with self.lock:
                if self.value is None:
                    self.value = await self.renew()
        return self.value


class Shielded:
    """The other usual way: one task, and everybody waits for it behind a shield."""

    def __init__(self, renew: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self.renew = renew
        self.task: asyncio.Task[Any] | None = None

    async def token(self) -> Any:
        """Return what the one task brings."""
        if self.task is None:
            self.task = asyncio.create_task(self.renew())
        return await asyncio.shield(self.task)


async def waiting(waiters: int, rounds: int) -> None:
    """Print the CPU time of a crowd that waits for one refresh, and the token requests that it made."""
    app = _app()
    async with TestServer(app) as server:

        def ours() -> ClientCredentials:
            return ClientCredentials(token_url=server.make_url("/token"), client_id="x", client_secret="y")

        contenders: dict[str, Callable[[], Any]] = {
            "ClientCredentials": ours,
            "asyncio.Lock and a second look": lambda: Locked(ours().token),
            "asyncio.shield around one task": lambda: Shielded(ours().token),
        }
        print(f"\n{waiters} callers waiting for one refresh ({rounds} rounds)\n")
        print(f"{'':34}{'us a caller':>12}{'ratio':>7}{'requests':>10}", end="")
        print(f"{'all but one leave':>19}{'ratio':>7}{'requests':>10}")
        spent: dict[tuple[str, bool], list[float]] = {
            (name, leave): [] for name in contenders for leave in (False, True)
        }
        asked = dict.fromkeys(spent, 0)
        for _ in range(rounds):
            for (name, leave), seconds in spent.items():
                before = app[COUNT][0]
                seconds.append(await _crowd(contenders[name](), waiters, leave=leave))
                asked[name, leave] += app[COUNT][0] - before
        for name in contenders:
            line = f"{name:34}"
            for leave, width in ((False, 12), (True, 19)):
                least = min(spent[name, leave])
                ratio = least / min(spent["ClientCredentials", leave])
                line += f"{least * 1e6:{width}.1f}{ratio:7.2f}{asked[name, leave] / rounds:10.1f}"
            print(line)


async def _crowd(credential: Any, waiters: int, *, leave: bool) -> float:
    gc.collect()
    began = time.process_time()
    tasks = [asyncio.create_task(credential.token()) for _ in range(waiters)]
    if leave:
        await asyncio.sleep(0.05)
        for task in tasks[1:]:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return (time.process_time() - began) / waiters


COUNT = web.AppKey("count", list[int])


async def _token(request: web.Request) -> web.Response:
    request.app[COUNT][0] += 1
    await asyncio.sleep(0.2)
    return web.json_response({"access_token": "t" * 40, "token_type": "Bearer", "expires_in": 36000})


def _app() -> web.Application:
    app = web.Application()
    app[COUNT] = [0]
    app.router.add_post("/token", _token)
    return app


def main() -> int:
    """Run both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each table")
    parser.add_argument("--waiters", type=int, default=10_000, help="callers that wait for one refresh")
    options = parser.parse_args()
    if options.rounds < 1 or options.waiters < 1:
        parser.error("--rounds and --waiters must be at least 1")
    asyncio.run(per_request(options.rounds))
    asyncio.run(waiting(options.waiters, max(1, options.rounds // 5)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
