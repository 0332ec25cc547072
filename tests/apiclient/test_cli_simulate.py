"""``apiclient simulate``: hours in seconds, and nothing is sent."""

import asyncio
import gzip
import json
import re
from pathlib import Path

import pytest

from apiclient.cli._app import run
from apiclient.cli._simulation import VirtualLoop


def written(folder: Path, count: int, path: str = "/employees/{}") -> str:
    source = folder / "in.jsonl"
    source.write_text("".join(json.dumps({"path": path.format(number)}) + "\n" for number in range(count)))
    return str(source)


def seconds_in(line: str) -> float:
    """Return the time in a line such as ``500 calls in 18 min 28 s``."""
    units = {"h": 3600, "min": 60, "s": 1}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([0-9.]+) (h|min|s)\b", line))


def test_an_hour_takes_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """1,800 calls at one in two seconds are an hour; the time is that of the quota and a little more."""
    assert run(["simulate", written(tmp_path, 1800), "--server", "1/2s", "--latency", "80ms±20"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("1,800 calls in 1 h")
    assert said[2] == "the quotas alone take 59 min 58 s"
    assert 3598 <= seconds_in(said[0].partition(" in ")[2]) <= 1.1 * 3598 + 60
    assert "the quotas of the server" in said[3]


def test_without_a_quota_the_concurrency_is_what_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two hundred calls of one second, ten at a time, are twenty seconds of network, and some of careful beginning."""
    source = written(tmp_path, 200)
    assert run(["simulate", source, "--server", "GET /other=1/1s", "--latency", "1s", "--concurrency", "10"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert 20 <= seconds_in(said[0].partition(" in ")[2]) <= 30
    assert said[2] == "no quota holds it up"
    assert "the network" in said[3]
    assert "a concurrency of 10 is enough" in said[4]


def test_failures_are_counted_and_the_same_each_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One seed, one story; a share of the requests fails and is made again."""
    arguments = ["simulate", written(tmp_path, 300), "--server", "100/1s", "--fail", "5%", "--seed", "3"]
    stories: list[list[str]] = []
    for _ in range(2):
        run(arguments)
        stories.append(capsys.readouterr().out.splitlines()[:2])
    assert "failed (503)" in stories[0][1]
    assert int(stories[0][1].split()[0]) > 300
    assert stories[0][1] == stories[1][1]


def test_two_endpoints_do_not_wait_for_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each has its own quota, and lines that are no requests are told of."""
    source = tmp_path / "in.jsonl"
    lines = [json.dumps({"path": f"/{'ab'[number % 2]}/{number}"}) for number in range(40)]
    source.write_text("\n".join([*lines, "nonsense"]))
    assert run(["simulate", str(source), "--server", "GET /a/{}=2/1s", "--server", "100/1s"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[2] == "the quotas alone take 9.0 s"
    assert said[-1] == "1 lines are no requests and were left out"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--server", "many"], "--server: rate must look like"),
        (["--server", "5/1s", "--latency", "soon"], "a time must look like 80ms"),
        (["--server", "5/1s", "--fail", "200%"], "--fail must be from 0 to 1"),
    ],
)
def test_a_wrong_option_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    """Exit code 2, and no traceback."""
    assert run(["simulate", written(tmp_path, 1), *options]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    """Likewise."""
    assert run(["simulate", "nowhere.jsonl", "--server", "5/1s"]) == 2
    assert "nowhere.jsonl: cannot be read" in capsys.readouterr().err


def test_a_compressed_file_is_read_as_batch_reads_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the one command takes, the other takes."""
    plain = Path(written(tmp_path, 3))
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    assert run(["simulate", str(tmp_path / "in.jsonl.gz"), "--server", "1/2s"]) == 0
    assert capsys.readouterr().out.startswith("3 calls in ")


def test_the_loops_clock_jumps() -> None:
    """A day of sleep takes no time, and a job in a thread is waited for all the same."""
    loop = VirtualLoop()
    try:

        async def work() -> float:
            await asyncio.sleep(86_400)
            assert await loop.run_in_executor(None, len, "abc") == 3
            return loop.time()

        assert loop.run_until_complete(work()) == 86_400
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
