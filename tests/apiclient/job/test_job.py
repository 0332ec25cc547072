"""Batches from file to file."""

import asyncio
import gzip
import importlib
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from apiclient import ApiClient, BatchResult, Request, default_pipeline
from apiclient._refused import Refused
from apiclient.credentials import ClientCredentials, StaticToken
from apiclient.job import _checkpoint, _source
from apiclient.middleware import RateLimit
from apiclient.sandbox import Sandbox
from tests.apiclient.job.runs import job, read, run, things, write
from tests.conftest import Peer


async def _picky(request: web.Request) -> web.Response:
    """Refuse each third thing."""
    return web.json_response({"n": request.path}, status=404 if int(request.path.rpartition("/")[2]) % 3 == 2 else 200)


async def test_each_id_has_one_line_and_failures_a_letter(peer: Peer, tmp_path: Path) -> None:
    """The output has one terminal line per id; each failure is among the dead letters as well; the code says so."""
    peer.handler = _picky
    source = write(tmp_path / "in.jsonl", things(30))
    assert await run(peer.url, source, tmp_path / "out.jsonl") == 1
    results = read(tmp_path / "out.jsonl")
    assert sorted(line["id"] for line in results) == list(range(30))
    letters = read(tmp_path / "out.dead.jsonl")
    assert sorted(line["id"] for line in letters) == list(range(2, 30, 3))
    assert letters[0]["path_params"] == {"n": letters[0]["id"]}
    assert letters[0]["error"]["type"] == "NotFound"


async def test_all_well_is_code_0_and_no_dead_letters(peer: Peer, tmp_path: Path) -> None:
    """Without failures there is no file of dead letters."""
    source = write(tmp_path / "in.jsonl", things(5))
    assert await run(peer.url, source, tmp_path / "out.jsonl") == 0
    assert not (tmp_path / "out.dead.jsonl").exists()


async def test_dead_letters_are_an_input(peer: Peer, tmp_path: Path) -> None:
    """The dead letters fed in as they are make the same requests with the same ids."""
    peer.handler = _picky
    source = write(tmp_path / "in.jsonl", [{"path": f"/things/{n}"} for n in range(6)])
    await run(peer.url, source, tmp_path / "out.jsonl")
    failed = {line["id"] for line in read(tmp_path / "out.jsonl") if not line["ok"]}
    peer.answers(200)
    assert await run(peer.url, tmp_path / "out.dead.jsonl", tmp_path / "again.jsonl") == 0
    assert {line["id"] for line in read(tmp_path / "again.jsonl")} == failed


async def test_dead_letters_of_lines_whose_id_is_null_outlive_a_resumption(peer: Peer, tmp_path: Path) -> None:
    """They are found again by the id that their line was given."""
    peer.answers(404)
    lines = [{"path": "/a"}, {"id": None, "path": "/b"}, {"id": None, "custom_id": "c", "path": "/c"}]
    source, output = write(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
    await run(peer.url, source, output, canary=False)
    letters = read(tmp_path / "out.dead.jsonl")
    await run(peer.url, source, output, resume=True)
    assert read(tmp_path / "out.dead.jsonl") == letters
    assert len(letters) == 3


async def test_a_bad_line_is_reported_with_its_number_and_stops_nothing(peer: Peer, tmp_path: Path) -> None:
    """A line that is no request gets a result, a letter and a notice; all the others are made."""
    notices: list[str] = []
    source = write(tmp_path / "in.jsonl", [*things(2), b"nonsense", b"", *[{"id": "x", "path": "/things/9"}]])
    assert await run(peer.url, source, tmp_path / "out.jsonl", notices=notices) == 1
    assert peer.count == 3
    (bad,) = [line for line in read(tmp_path / "out.jsonl") if not line["ok"]]
    assert bad["error"]["message"].startswith("line 3: not JSON")
    assert bad["id"].startswith("line:3:")
    assert notices == ["line 3: not JSON: Expecting value: line 1 column 1 (char 0)"]
    assert read(tmp_path / "out.dead.jsonl")[0]["line"] == "nonsense"


async def test_a_file_that_is_no_batch_is_refused_before_anything_is_sent(peer: Peer, tmp_path: Path) -> None:
    """Where none of the first lines is a request, one line says so."""
    source = write(tmp_path / "in.jsonl", [b"name,age", b"Ada,36"])
    with pytest.raises(Refused, match=r"none of the first 2 lines is a request; line 1: not JSON"):
        job(peer.url, source, tmp_path / "out.jsonl")
    assert peer.count == 0
    assert not (tmp_path / "out.jsonl").exists()


async def test_repeated_ids_are_refused_up_front(peer: Peer, tmp_path: Path) -> None:
    """Two lines with one id end it before anything is sent, and both lines are named."""
    source = write(tmp_path / "in.jsonl", [*things(3), {"id": 1, "path": "/other"}])
    with pytest.raises(Refused, match=r"in\.jsonl: ids must be unique: 1 in lines 2 and 4"):
        job(peer.url, source, tmp_path / "out.jsonl")
    assert peer.count == 0


async def test_existing_output_is_never_overwritten(peer: Peer, tmp_path: Path) -> None:
    """A second run without ``resume`` is refused, and what is there stays as it is; so do dead letters."""
    source = write(tmp_path / "in.jsonl", things(3))
    write(tmp_path / "out.jsonl", [b"precious"])
    with pytest.raises(Refused, match="exists; --resume goes on with it"):
        job(peer.url, source, tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_bytes() == b"precious\n"
    write(tmp_path / "other.dead.jsonl", [b"precious"])
    with pytest.raises(Refused, match=r"other\.dead\.jsonl: exists"):
        job(peer.url, source, tmp_path / "other.jsonl")


async def test_resuming_sends_only_what_has_no_result(peer: Peer, tmp_path: Path) -> None:
    """Finished ids are skipped, successes and failures alike, and a torn last line is cut off and sent again."""
    peer.handler = _picky
    source, output = write(tmp_path / "in.jsonl", things(30)), tmp_path / "out.jsonl"
    await run(peer.url, source, output)
    whole = output.read_bytes().splitlines(keepends=True)
    output.write_bytes(b"".join(whole[:20]) + whole[20][:15])
    before = peer.count
    assert await run(peer.url, source, output, resume=True) == 1
    assert peer.count == before + 10
    assert sorted(line["id"] for line in read(output)) == list(range(30))
    failed = {line["id"] for line in read(output) if not line["ok"]}
    assert {line["id"] for line in read(tmp_path / "out.dead.jsonl")} == failed
    assert len(read(tmp_path / "out.dead.jsonl")) == len(failed)


async def test_resuming_what_is_done_sends_nothing(peer: Peer, tmp_path: Path) -> None:
    """A finished run resumed makes no request, and ends with the same code."""
    peer.handler = _picky
    source, output = write(tmp_path / "in.jsonl", things(6)), tmp_path / "out.jsonl"
    await run(peer.url, source, output)
    before, text = peer.count, output.read_bytes()
    assert await run(peer.url, source, output, resume=True) == 1
    assert (peer.count, output.read_bytes()) == (before, text)


async def test_failures_are_tried_again_where_that_is_asked_for(peer: Peer, tmp_path: Path) -> None:
    """``retry_failed`` forgets the failures and their letters, and leaves one line per id."""
    peer.handler = _picky
    source, output = write(tmp_path / "in.jsonl", things(9)), tmp_path / "out.jsonl"
    await run(peer.url, source, output)
    peer.answers(200)
    before = peer.count
    assert await run(peer.url, source, output, resume=True, retry_failed=True) == 0
    assert peer.count == before + 3
    assert sorted(line["id"] for line in read(output)) == list(range(9))
    assert all(line["ok"] for line in read(output))
    assert read(tmp_path / "out.dead.jsonl") == []


async def test_something_else_is_not_resumed(peer: Peer, tmp_path: Path) -> None:
    """Another input, another target or another shard is refused, unless forced; the message says which."""
    source, output = write(tmp_path / "in.jsonl", things(4)), tmp_path / "out.jsonl"
    await run(peer.url, source, output)
    other = write(tmp_path / "other.jsonl", things(5))
    with pytest.raises(Refused, match="belongs to another input"):
        job(peer.url, other, output, resume=True)
    with pytest.raises(Refused, match=r"belongs to another shard \(None, now 1/2\)"):
        job(peer.url, source, output, resume=True, shard=(1, 2))
    with pytest.raises(Refused, match="belongs to another target"):
        job(f"{peer.url}/v2", source, output, resume=True)
    assert await run(peer.url, other, output, resume=True, force=True) == 0
    assert len(read(output)) == 5


async def test_an_output_of_something_else_is_not_resumed(peer: Peer, tmp_path: Path) -> None:
    """A file that holds no results is refused with the line, and stays as it is."""
    source = write(tmp_path / "in.jsonl", things(4))
    output = write(tmp_path / "out.jsonl", [b'{"a": 1}', b'{"b": 2}'])
    with pytest.raises(Refused, match=r"out\.jsonl\.run: is missing"):
        job(peer.url, source, output, resume=True)
    with pytest.raises(Refused, match="line 1 is no result"):
        job(peer.url, source, output, resume=True, force=True)
    assert len(read(output)) == 2


async def test_two_runners_do_not_share_an_output(peer: Peer, tmp_path: Path) -> None:
    """While one run has the output, another is refused; afterwards it is free."""
    source, output = write(tmp_path / "in.jsonl", things(4)), tmp_path / "out.jsonl"
    first = job(peer.url, source, output)
    with pytest.raises(Refused, match="another run is writing it"):
        job(peer.url, source, output, resume=True)
    assert await first.run() == 0
    assert await run(peer.url, source, output, resume=True) == 0


async def test_a_wrong_token_costs_one_request(peer: Peer, tmp_path: Path) -> None:
    """The first request goes alone: a 401 that no refresh cures ends the run with 4, and nothing counts as done."""
    peer.answers(401)
    source, output = write(tmp_path / "in.jsonl", things(1000)), tmp_path / "out.jsonl"
    token = StaticToken("wrong")
    chain = default_pipeline(credentials=token).without(RateLimit)  # which goes carefully at first by itself
    client = ApiClient(peer.url, credentials=token, pipeline=chain)
    running = job(peer.url, source, output, client=client, concurrency=50)
    assert await running.run() == 4
    assert peer.count == 1
    assert output.read_bytes() == b""
    assert running.stopped is not None
    peer.answers(200)
    assert await run(peer.url, source, output, resume=True) == 0
    assert len(read(output)) == 1000


async def test_a_refused_client_secret_costs_no_request(tmp_path: Path) -> None:
    """``invalid_client`` ends the run with 4 before a request is made."""
    async with Sandbox() as sandbox:
        credentials = ClientCredentials(token_url=sandbox.token_url, client_id="demo", client_secret="wrong")
        client = ApiClient(sandbox.api_url, credentials=credentials)
        source = write(tmp_path / "in.jsonl", things(100))
        assert await run(sandbox.api_url, source, tmp_path / "out.jsonl", client=client) == 4
        assert len(sandbox.ledger) == 1


async def test_a_host_that_is_not_there_costs_one_call(tmp_path: Path, unused_tcp_port: int) -> None:
    """Where the first request cannot be sent at all, the run ends with 4."""
    url = f"http://127.0.0.1:{unused_tcp_port}"
    source, output = write(tmp_path / "in.jsonl", things(100)), tmp_path / "out.jsonl"
    assert await run(url, source, output) == 4
    assert output.read_bytes() == b""


async def test_a_wrong_base_url_costs_three_requests(peer: Peer, tmp_path: Path) -> None:
    """Three times the same 404 at the start ends the run with 4, unless the canary is off."""
    peer.answers(404)
    source = write(tmp_path / "in.jsonl", things(100))
    assert await run(peer.url, source, tmp_path / "out.jsonl") == 4
    assert peer.count == 3
    assert await run(peer.url, source, tmp_path / "all.jsonl", canary=False) == 1
    assert len(read(tmp_path / "all.jsonl")) == 100


async def test_one_404_at_the_start_is_no_reason_to_stop(peer: Peer, tmp_path: Path) -> None:
    """A first request that fails for its own sake is a failure, and the others are made."""
    peer.answers(404, 200)
    source = write(tmp_path / "in.jsonl", things(10))
    assert await run(peer.url, source, tmp_path / "out.jsonl") == 1
    assert sum(line["ok"] for line in read(tmp_path / "out.jsonl")) == 9


async def test_credentials_that_die_midway_end_it_resumably(peer: Peer, tmp_path: Path) -> None:
    """401 from the 20th request on: code 4, what was done stays, the rest is done by a resumption."""

    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=401 if peer.count > 20 else 200)

    peer.handler = handler
    source, output = write(tmp_path / "in.jsonl", things(500)), tmp_path / "out.jsonl"
    assert await run(peer.url, source, output) == 4
    assert len(read(output)) == 20
    assert peer.count <= 26
    peer.answers(200)
    assert await run(peer.url, source, output, resume=True) == 0
    assert sorted(line["id"] for line in read(output)) == list(range(500))


async def test_too_many_failures_end_it_with_3(peer: Peer, tmp_path: Path) -> None:
    """``max_failures`` and ``fail_rate`` stop the run, and everything done is kept."""
    peer.handler = _picky
    source = write(tmp_path / "in.jsonl", things(600))
    assert await run(peer.url, source, tmp_path / "a.jsonl", max_failures=5) == 3
    assert 6 <= sum(not line["ok"] for line in read(tmp_path / "a.jsonl")) <= 10
    assert await run(peer.url, source, tmp_path / "b.jsonl", fail_rate=0.2) == 3
    assert 100 <= len(read(tmp_path / "b.jsonl")) <= 110
    assert await run(peer.url, source, tmp_path / "c.jsonl", fail_rate=0.4) == 1


async def test_shards_divide_the_input(peer: Peer, tmp_path: Path) -> None:
    """Each request is made by exactly one of three shards, and totals are known."""
    source = write(tmp_path / "in.jsonl", things(60))
    seen: list[int] = []
    for part in (1, 2, 3):
        running = job(peer.url, source, tmp_path / f"{part}.jsonl", shard=(part, 3))
        await running.run()
        lines = read(tmp_path / f"{part}.jsonl")
        assert running.total == len(lines) > 5
        seen += [line["id"] for line in lines]
    assert sorted(seen) == list(range(60))


@pytest.mark.looptime
async def test_order_is_kept_where_that_is_asked_for(peer: Peer, tmp_path: Path) -> None:
    """``keep_order``: results stand in the order of the input, bad lines included."""

    async def handler(request: web.Request) -> web.Response:
        await asyncio.sleep(0.02 if request.path.endswith("/3") else 0)
        return web.Response()

    peer.handler = handler
    source = write(tmp_path / "in.jsonl", [*things(12), b"nonsense", {"id": 12, "path": "/things/12"}])
    await run(peer.url, source, tmp_path / "out.jsonl", keep_order=True)
    ids = [line["id"] for line in read(tmp_path / "out.jsonl")]
    assert [each for each in ids if isinstance(each, int)] == list(range(13))
    assert str(ids[12]).startswith("line:13:")


async def test_posts_get_keys_that_stay_the_same_when_resumed(peer: Peer, tmp_path: Path) -> None:
    """POST and PATCH without a key get one made of run and id; a resumption makes the same, a new run others."""
    source, output = write(tmp_path / "in.jsonl", things(3, method="POST", body={"a": 1})), tmp_path / "out.jsonl"
    await run(peer.url, source, output)
    keys = {headers["Idempotency-Key"] for headers in peer.headers}
    assert len(keys) == 3
    output.write_bytes(b"")
    await run(peer.url, source, output, resume=True)
    assert {headers["Idempotency-Key"] for headers in peer.headers} == keys
    await run(peer.url, source, tmp_path / "new.jsonl")
    assert len({headers["Idempotency-Key"] for headers in peer.headers}) == 6


async def test_a_key_of_the_line_wins_and_keys_can_be_left_out(peer: Peer, tmp_path: Path) -> None:
    """The line's own key is sent; with ``keys`` off the others have none; GET never gets one."""
    lines: list[Any] = [
        {"method": "POST", "path": "/a", "idempotency_key": "mine"},
        {"method": "POST", "path": "/b"},
        {"path": "/c"},
    ]
    source = write(tmp_path / "in.jsonl", lines)
    await run(peer.url, source, tmp_path / "out.jsonl", keys=False)
    keys = {path: headers.get("Idempotency-Key") for (_, path, _), headers in zip(peer.seen, peer.headers, strict=True)}
    assert keys == {"/a": "mine", "/b": None, "/c": None}


async def test_compressed_input_is_read(peer: Peer, tmp_path: Path) -> None:
    """``.gz`` is decompressed as it is read; a damaged one ends in one clear line, and what was done is kept."""
    text = b"".join(json.dumps(line).encode() + b"\n" for line in things(200))
    whole = tmp_path / "in.jsonl.gz"
    whole.write_bytes(gzip.compress(text))
    assert await run(peer.url, whole, tmp_path / "out.jsonl") == 0
    assert len(read(tmp_path / "out.jsonl")) == 200
    broken = tmp_path / "broken.jsonl.gz"
    broken.write_bytes(gzip.compress(text)[:-40])
    with pytest.raises(Refused, match=r"broken\.jsonl\.gz: is damaged after line \d+"):
        job(peer.url, broken, tmp_path / "b.jsonl")


async def test_a_zst_file_is_read(peer: Peer, tmp_path: Path) -> None:
    """As it arrives, by whichever of the packages for it is there."""
    zstd = importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    source = tmp_path / "in.jsonl.zst"
    source.write_bytes(zstd.compress(b"".join(json.dumps(line).encode() + b"\n" for line in things(20))))
    assert await run(peer.url, source, tmp_path / "out.jsonl") == 0
    assert len(read(tmp_path / "out.jsonl")) == 20


def test_zst_needs_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a decompressor the message says what to install."""
    monkeypatch.setattr(_source, "_MODULES_FOR_ZSTD", ())
    source = tmp_path / "in.jsonl.zst"
    source.write_bytes(b"anything")
    with pytest.raises(Refused, match="pip install zstandard"):
        job("http://127.0.0.1:1", source, tmp_path / "out.jsonl")


async def test_a_file_that_is_not_there_is_refused(peer: Peer, tmp_path: Path) -> None:
    """The message names the file and what the system says; the same for an output that cannot be written."""
    with pytest.raises(Refused, match=r"none\.jsonl: cannot be read: no such file or directory"):
        job(peer.url, tmp_path / "none.jsonl", tmp_path / "out.jsonl")
    source = write(tmp_path / "in.jsonl", things(1))
    with pytest.raises(Refused, match="cannot be written: no such file or directory"):
        job(peer.url, source, tmp_path / "nowhere" / "out.jsonl")


async def test_a_disk_that_is_full_loses_nothing_written(
    peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When results cannot be written any more the run ends with 2, and a resumption completes it."""
    source, output = write(tmp_path / "in.jsonl", things(600)), tmp_path / "out.jsonl"
    real, calls = _checkpoint._write, 0

    def full(descriptor: int, data: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            real(descriptor, data[:100])
            raise OSError(28, "No space left on device")
        real(descriptor, data)

    monkeypatch.setattr(_checkpoint, "_write", full)
    assert await run(peer.url, source, output) == 2
    assert 0 < output.read_bytes().count(b"\n") < 600
    monkeypatch.undo()
    assert await run(peer.url, source, output, resume=True) == 0
    assert sorted(line["id"] for line in read(output)) == list(range(600))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the platform has no /dev/full")
async def test_a_full_disk_behind_standard_output_ends_the_run_with_2(
    peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a file: nothing more is begun, and the reason is kept."""
    running = job(peer.url, write(tmp_path / "in.jsonl", things(500)), "-")
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert await running.run() == 2
    assert isinstance(running.output.error, OSError)
    assert peer.count < 20


@pytest.mark.parametrize("calls", [1, 2])
async def test_a_disk_that_fails_to_keep_results_ends_the_run_with_2(
    peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    """An error of ``fsync`` is told once by the system, and so is never passed over: neither midway nor at the end."""
    real, count = os.fsync, 0

    def broken(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count == calls:
            raise OSError(5, "Input/output error")
        real(descriptor)

    source, output = write(tmp_path / "in.jsonl", things(20)), tmp_path / "out.jsonl"
    running = job(peer.url, source, output)
    monkeypatch.setattr("apiclient.job._checkpoint.os.fsync", broken)
    assert await running.run() == 2
    assert isinstance(running.output.error, OSError)
    monkeypatch.undo()
    assert await run(peer.url, source, output, resume=True) == 0
    assert sorted(line["id"] for line in read(output)) == list(range(20))


async def test_the_folder_is_told_of_dead_letters_too(
    peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each new file is there for good only once its folder says so: synced after the last one was made."""
    taken = _checkpoint.Checkpoint(
        tmp_path / "out.jsonl",
        render=lambda result, _: (b"{}\n", None if result.ok else b"{}\n"),
        on_error=lambda: None,
    )
    taken.open({}, resume=False, retry_failed=False, force=False)
    synced: list[bool] = []
    real = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        real(descriptor)

    monkeypatch.setattr("apiclient.job._checkpoint.os.fsync", noted)
    told: list[int] = []
    for ok in (True, True, False, False):
        taken.add(BatchResult(request=Request(path="/"), ok=ok), 0.0)
        assert await taken.settle()
        told.append(sum(synced))
    taken.close()
    assert told == [1, 1, 2, 2]


@pytest.mark.looptime
async def test_an_interruption_finishes_what_is_under_way(peer: Peer, tmp_path: Path) -> None:
    """The first interruption begins nothing more; calls under way end, and their results are written."""
    started = asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        if peer.count > 4:
            started.set()
            await asyncio.sleep(0.05)
        return web.Response()

    peer.handler = handler
    source, output = write(tmp_path / "in.jsonl", things(500)), tmp_path / "out.jsonl"
    running = job(peer.url, source, output)
    task = asyncio.create_task(running.run())
    await started.wait()
    running.interrupt()
    assert await task == 0
    assert running.interrupted
    assert len(read(output)) == peer.count < 20
    peer.answers(200)
    assert await run(peer.url, source, output, resume=True) == 0
    assert sorted(line["id"] for line in read(output)) == list(range(500))


@pytest.mark.looptime
async def test_an_interruption_before_the_first_line_ends_at_once(
    peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While standard input is silent and nothing is under way, there is nothing to wait for."""

    async def silent(_: object) -> bytes:
        waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        return await waiting

    monkeypatch.setattr(_source.StandardInput, "read", silent)
    running = job(peer.url, "-", tmp_path / "out.jsonl")
    task = asyncio.create_task(running.run())
    await asyncio.sleep(0.02)
    running.interrupt()
    await asyncio.wait_for(task, 5)
    assert running.interrupted


@pytest.mark.looptime
async def test_a_second_interruption_ends_at_once(peer: Peer, tmp_path: Path) -> None:
    """Calls under way are cancelled by the second interruption, and by the end of the grace."""
    started = asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        if peer.count > 2:
            started.set()
            await asyncio.sleep(30)
        return web.Response()

    peer.handler = handler
    source = write(tmp_path / "in.jsonl", things(50))
    for name, grace in (("twice", 25.0), ("grace", 0.01)):
        peer.seen.clear()
        started.clear()
        running = job(peer.url, source, tmp_path / f"{name}.jsonl", grace=grace)
        task = asyncio.create_task(running.run())
        await started.wait()
        running.interrupt()
        if name == "twice":
            running.interrupt()
        await asyncio.wait_for(task, 5)
        assert len(read(tmp_path / f"{name}.jsonl")) == 2


@pytest.mark.looptime
async def test_a_cancellation_after_an_interruption_passes_through(peer: Peer, tmp_path: Path) -> None:
    """Whoever cancels the task that runs the job sees it cancelled, though it was ending already."""
    started = asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        started.set()
        await asyncio.sleep(1.0)
        return web.Response()

    peer.handler = handler
    running = job(peer.url, write(tmp_path / "in.jsonl", things(5)), tmp_path / "out.jsonl")
    task = asyncio.create_task(running.run())
    await started.wait()
    running.interrupt()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.looptime
async def test_a_disk_that_is_full_before_the_throttle_opens_ends_the_run_with_2(
    peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first requests are sent alone, results are written and can fail already."""

    async def handler(_: web.Request) -> web.Response:
        await asyncio.sleep(0.0 if peer.count == 1 else 5.0)
        return web.Response(status=404)

    def full(_descriptor: int, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    peer.handler = handler
    monkeypatch.setattr(_checkpoint, "_write", full)
    assert await run(peer.url, write(tmp_path / "in.jsonl", things(5)), tmp_path / "out.jsonl") == 2
    assert peer.count == 2


async def test_progress_says_how_far_it_is(peer: Peer, tmp_path: Path) -> None:
    """Done of total, successes and failures, those of earlier runs included, and an estimate of the rest."""
    peer.handler = _picky
    source, output = write(tmp_path / "in.jsonl", things(30)), tmp_path / "out.jsonl"
    await run(peer.url, source, output)
    output.write_bytes(b"".join(output.read_bytes().splitlines(keepends=True)[:10]))
    running = job(peer.url, source, output, resume=True)
    assert (running.progress().done, running.progress().total) == (10, 30)
    assert running.progress().eta is None
    await running.run()
    progress = running.progress()
    assert (progress.done, progress.ok, progress.failed, progress.eta) == (30, 20, 10, 0.0)
    assert progress.p95 >= progress.p50 > 0
