"""Real processes, a real Valkey server, a real API: one quota, and one token request, for all of them."""

import asyncio
import json
import sys
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from apiclient.sandbox import Sandbox, _api
from apiclient.sandbox._answers import Answer
from apiclient.sandbox._window import Hit
from tests.authority import Authority, hang
from tests.integration import farm
from tests.valkey import Server

ROOT = Path(__file__).parents[2]
LIMIT, WORKERS = 50, 8
LONG = pytest.mark.long


class SlidingLog:
    """Admit *limit* requests in any *period*, by the arrival of each; rejected requests do not count."""

    def __init__(self, limit: int, period: float) -> None:
        self._limit = limit
        self._period = period
        self._arrivals: deque[float] = deque()

    def hit(self, now: float) -> Hit:
        arrivals = self._arrivals
        while arrivals and arrivals[0] + self._period <= now:
            arrivals.popleft()
        admitted = len(arrivals) < self._limit
        if admitted:
            arrivals.append(now)
        return Hit(admitted, self._limit - len(arrivals), arrivals[0] + self._period - now)


async def farmed(**spec: Any) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.integration.farm", json.dumps(spec),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip


async def rows(process: asyncio.subprocess.Process) -> list[dict[str, Any]]:
    out, _ = await process.communicate(b"\n")
    return [json.loads(line) for line in out.splitlines()]


async def drawn(
    server: Server, seconds: float, *, outage: tuple[float, float] | None = None, strict: bool = True, **spec: Any
) -> None:
    """Let the workers draw from one quota for *seconds*, and check what the API saw.

    A machine that has no time for all the processes delays requests by more than the store can know of: short
    runs, on whatever machine, end after so many requests and only show that one quota is shared (each with one of
    its own would be refused seven times of eight). The figures are those of the long runs.
    """
    async with Sandbox(limits={"GET /v1/employees/{id}": (LIMIT, 1.0)}) as sandbox:
        process = await farmed(
            work="quota",
            workers=WORKERS,
            seconds=seconds,
            store=server.url,
            rate=f"{LIMIT}/1s",
            url=f"{sandbox.api_url}/employees/1",
            token=sandbox.issue_token(lifetime=3600.0),
            **spec,
        )
        if outage is not None:
            while not sandbox.ledger:
                await asyncio.sleep(0.05)
            await asyncio.sleep(outage[0])
            server.halt()
            await asyncio.sleep(outage[1])
            server.start()
        done = await rows(process)
        refused, served = sandbox.count(status=429), sandbox.count(status=200)
    assert len(done) == WORKERS - ("kill" in spec)
    assert not [row["errors"] for row in done if row["errors"]]
    each = [row["seen"].get("200", 0) for row in done]
    mean = sum(each) / len(each)
    told = f"{served} served, {refused} refused, {each}"
    if not strict:
        assert each == [spec["requests"]] * WORKERS, told
        assert refused <= 0.25 * (served + refused), told
        return
    used, spread = served / (LIMIT * seconds), (mean / min(each), max(each) / mean)
    print(f"{refused} of {served + refused} refused, {used:.1%} used, fairness {max(spread):.2f}")  # noqa: T201 - for -s
    assert refused <= 0.001 * (served + refused), told
    assert served >= 0.97 * LIMIT * seconds, told
    assert min(each) >= mean / 1.5, told
    assert max(each) <= mean * 1.5, told


@pytest.fixture
def server() -> Any:
    server = Server()
    yield server
    server.stop()


@pytest.fixture(params=["fixed", "sliding"])
def window(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How the API counts."""
    if request.param == "sliding":
        monkeypatch.setattr(_api, "FixedWindow", SlidingLog)


@pytest.mark.timeout(90)
@pytest.mark.parametrize("requests", [20, pytest.param(None, marks=LONG)])
@pytest.mark.usefixtures("window")
async def test_eight_processes_draw_from_one_quota(server: Server, requests: int | None) -> None:
    """At most 0.1 % refused, at least 97 % used, and everybody has their part, whatever the API's windows are like."""
    if requests is None:
        await drawn(server, 30.0)
    else:
        await drawn(server, 60.0, strict=False, requests=requests)


@LONG
@pytest.mark.timeout(90)
@pytest.mark.usefixtures("window")
async def test_a_process_killed_with_its_leases_costs_nobody_much(server: Server) -> None:
    """What it held comes free by itself, and its turn is not waited for."""
    await drawn(server, 30.0, kill=10.3)


@LONG
@pytest.mark.timeout(90)
@pytest.mark.usefixtures("window")
async def test_clocks_that_disagree_do_not_matter(server: Server) -> None:
    """The wall clocks of first and last process are ten minutes apart, neighbours more than one."""
    await drawn(server, 30.0, skew=600 / (WORKERS - 1))


@LONG
@pytest.mark.timeout(90)
@pytest.mark.usefixtures("window")
async def test_a_store_that_is_killed_and_comes_back_empty(server: Server) -> None:
    """Meanwhile each goes by its share, and on return nobody bursts: the API sees neither."""
    await drawn(server, 30.0, outage=(12.0, 3.0))


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    ("learned", "seconds"),
    [("stated", 60.0), pytest.param("stated", 30.0, marks=LONG), pytest.param("counted", 30.0, marks=LONG)],
)
async def test_what_one_process_learned_all_keep_to(
    server: Server, learned: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four processes are told nothing: few are refused before the limit is known, and a fifth, started later, is not.

    Whether the API states its limit, or only that it is reached. Processes that kept it to themselves would be
    refused three times of four, and the fifth once more.
    """
    if learned == "counted":
        monkeypatch.setattr(_api, "quota_exceeded", lambda *_: Answer(429, b"", {"Retry-After": "1"}))
    async with Sandbox(limits={"GET /v1/employees/{id}": (10, 1.0)}) as sandbox:
        spec = {
            "work": "quota",
            "store": server.url,
            "url": f"{sandbox.api_url}/employees/1",
            "token": sandbox.issue_token(lifetime=3600.0),
            "tasks": 5,
        }
        short = {"requests": 10} if seconds > 30 else {}
        done = await rows(await farmed(**spec, workers=4, seconds=seconds, **short))
        refused, served = sandbox.count(status=429), sandbox.count(status=200)
        first = sandbox.ledger[0].time
        late = sum(entry.status == 429 and entry.time > first + 2.0 for entry in sandbox.ledger)
        fifth = await rows(await farmed(**spec, workers=1, seconds=2.0))
        more = sandbox.count(status=429) - refused
    told = f"{served} served, {refused} refused ({late} after two seconds, {more} later on), {done + fifth}"
    print(told)  # noqa: T201 - for -s
    assert not [row["errors"] for row in done + fifth if row["errors"]]
    # All that can be under way when the limit is reached.
    assert refused <= 4 * 5, told
    # One that two processes counted is found out after three refusals.
    assert late + more <= (1 if learned == "stated" else 6) + 0.01 * served, told
    assert served >= (4 * 10 if short else 0.9 * 10 * seconds), told
    if learned == "stated":
        assert {rate for row in done + fifth for rate in row["rates"]} == {"10/1s"}


async def test_sixteen_processes_replace_a_rotating_token_once(server: Server) -> None:
    """One expired token, one token request, and the refresh token that came with it is kept for the next time."""
    async with Authority() as authority:
        authority.rotating = True
        spec = {"work": "token", "workers": 16, "store": server.url, "token_url": f"{authority.url}/token"}
        first = await farm.token(0, spec)
        assert len(authority.forms) == 1
        authority.delay = 0.1
        done = await rows(await farmed(**spec, later=7200.0))
        assert len(done) == 16
        assert len(authority.forms) == 2
        assert {row["token"] for row in done}.isdisjoint({first["token"]})
        assert len({row["token"] for row in done}) == 1
        assert not authority.revoked


@pytest.mark.timeout(90)
@pytest.mark.parametrize("kept", ["server", "file"])
async def test_a_process_killed_while_it_refreshes_delays_the_others_by_its_lease(
    server: Server, tmp_path: Path, kept: str
) -> None:
    """Nobody gives its lease back: it ends by the store's clock, and the next one asks with the same refresh token."""
    async with Authority() as authority:
        spec = {"work": "token", "store": server.url, "token_url": f"{authority.url}/token", "lease": 1.0}
        if kept == "file":
            spec["file"] = str(tmp_path / "tokens.db")
        authority.script = [hang]
        holder = await farmed(**spec, workers=1, kill="told")
        while not authority.forms:
            await asyncio.sleep(0.01)
        assert await rows(holder) == []
        # Had it been lent for as long as a refresh can take, these would wait for most of a minute.
        async with asyncio.timeout(40.0):
            done = await rows(await farmed(**spec, workers=3))
        assert len({row["token"] for row in done}) == 1
        assert [form["refresh_token"] for form in authority.forms] == ["refresh-0"] * 2
