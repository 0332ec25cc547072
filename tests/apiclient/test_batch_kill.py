"""SIGKILL at any moment: every id once in the output, none lost, repeats only where they must be."""

import asyncio
import json
import random
import sys
from collections import Counter
from pathlib import Path

import pytest

from apiclient.job._checkpoint import FLUSH_LINES
from tests.conftest import Peer

CONCURRENCY = 8


async def _survives(peer: Peer, folder: Path, *, kills: int, lines: int, seed: int) -> None:
    """Run a batch of POSTs, kill it *kills* times at random points, resume each time, and check everything."""
    chance = random.Random(seed)
    requests = [{"id": f"t-{n}", "method": "POST", "path": "/timesheets", "body": {"n": n}} for n in range(lines)]
    (folder / "in.jsonl").write_text("".join(json.dumps(request) + "\n" for request in requests))
    command = [sys.executable, "-m", "apiclient.cli", "batch", "in.jsonl", "-o", "out.jsonl", "--resume", "-q"]
    command += ["--base-url", peer.url, "--concurrency", str(CONCURRENCY)]
    killed = 0
    while True:
        process = await asyncio.create_subprocess_exec(*command, cwd=folder, stderr=asyncio.subprocess.PIPE)
        target = peer.count + chance.randint(1, max(2, 2 * lines // (kills + 1)))
        waiting = asyncio.create_task(process.wait())
        while killed < kills and peer.count < target and not waiting.done():
            await asyncio.sleep(0.001)
        if killed < kills and not waiting.done():
            process.kill()
            killed += 1
            await waiting
            continue
        _, err = await process.communicate()
        if process.returncode == 0:
            break
        raise AssertionError(err.decode())
    results = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert Counter(line["id"] for line in results) == Counter(request["id"] for request in requests)
    assert all(line["ok"] for line in results)
    keys: dict[int, set[str | None]] = {}
    sent: Counter[int] = Counter()
    for (_, _, body), headers in zip(peer.seen, peer.headers, strict=True):
        number = json.loads(body)["n"]
        sent[number] += 1
        keys.setdefault(number, set()).add(headers.get("Idempotency-Key"))
    assert set(sent) == set(range(lines))
    assert all(len(each) == 1 and None not in each for each in keys.values())
    assert sum(sent.values()) - lines <= killed * (FLUSH_LINES + CONCURRENCY)


async def test_a_few_kills_lose_nothing(peer: Peer, tmp_path: Path) -> None:
    """Three kills at random moments; at most the unflushed lines of each are sent again, with the same keys."""
    await _survives(peer, tmp_path, kills=3, lines=600, seed=7)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_fifty_kills_lose_nothing(peer: Peer, tmp_path: Path) -> None:
    """Fifty kills at random moments of one batch."""
    await _survives(peer, tmp_path, kills=50, lines=15_000, seed=11)
