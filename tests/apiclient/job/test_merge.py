"""Many result files made one."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from apiclient._refused import Refused
from apiclient.cli._batch import merged, summary_lines
from apiclient.cli._queue import merged_lines
from apiclient.job._merge import merge_results
from tests.apiclient.job.runs import read, run, things, write
from tests.conftest import Peer


def row(number: int, *, ok: bool = True, began: float = 1.0, **more: Any) -> dict[str, Any]:
    outcome = {"body": None} if ok else {"error": {"type": "NotFound", "message": "gone", "hint": "look"}}
    status = 200 if ok else 404
    return {
        "id": number,
        "ok": ok,
        "status": status,
        "attempts": 1,
        "started_at": began,
        "duration_ms": 2.0,
    } | (outcome | more)


def test_each_id_has_one_row_whatever_the_order_of_the_files(tmp_path: Path) -> None:
    """A success goes before a failure, then what began first, then the text: in any order the same rows."""
    write(tmp_path / "a.jsonl", [row(1, ok=False, began=1), row(2, began=5), row(3, body="b"), row(4)])
    write(tmp_path / "b.jsonl", [row(1, began=9), row(2, began=4), row(3, body="a"), row(4)])
    write(tmp_path / "c.jsonl", [row(2, ok=False, began=3), row(5, ok=False), row(5, ok=False, began=0.5)])
    found: set[str] = set()
    for place, paths in enumerate(itertools.permutations(tmp_path / f"{name}.jsonl" for name in "abc")):
        target = tmp_path / f"all-{place}"
        told = merge_results(paths, target)
        assert (told.ok, told.failed, told.repeated, told.missing) == (4, 1, 6, None)
        found.add(json.dumps(sorted(read(target), key=lambda each: each["id"])))
    assert found == {
        json.dumps([row(1, began=9), row(2, began=4), row(3, body="a"), row(4), row(5, ok=False, began=0.5)])
    }


def test_what_a_kill_tore_off_is_passed_over(tmp_path: Path) -> None:
    """A last line without its end is no result; one in the middle that is none is refused with its number."""
    (tmp_path / "a.jsonl").write_text(json.dumps(row(1)) + "\n" + json.dumps(row(2))[:20])
    told = merge_results([tmp_path / "a.jsonl"], tmp_path / "all.jsonl")
    assert [each["id"] for each in read(tmp_path / "all.jsonl")] == [1]
    assert told.ok == 1
    write(tmp_path / "b.jsonl", [row(1), b"nonsense", row(2)])
    with pytest.raises(Refused, match=r"b\.jsonl: line 2 is no result of apiclient batch"):
        merge_results([tmp_path / "b.jsonl"], tmp_path / "other.jsonl")
    assert not list(tmp_path.glob("other*"))


def test_dead_letters_come_along(tmp_path: Path) -> None:
    """There is one for each failure that counts; naming the files of letters as well, as a pattern does, is harmless."""
    write(tmp_path / "a.jsonl", [row(1, ok=False), row(2, ok=False)])
    write(tmp_path / "a.dead.jsonl", [{"id": 1, "path": "/1"}, {"id": 2, "path": "/2"}])
    write(tmp_path / "b.jsonl", [row(1), row(2, ok=False)])
    write(tmp_path / "b.dead.jsonl", [{"id": 2, "path": "/2"}])
    paths = sorted(tmp_path.glob("*.jsonl"))
    assert len(paths) == 4
    code, said = merged_lines([*paths, *paths], tmp_path / "all.jsonl", None)
    assert read(tmp_path / "all.dead.jsonl") == [{"id": 2, "path": "/2"}]
    assert (code, said[0]) == (1, "2 results, 1 ok, 1 failed")


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    """With the input, the lines are written with their ids, to be fed in again; results that are of no line of it are refused before anything is written."""
    source = write(tmp_path / "in.jsonl", [*things(9), b"", {"path": "/without/id"}])
    write(tmp_path / "a.jsonl", [row(0), row(3), row(8)])
    code, said = merged_lines([tmp_path / "a.jsonl"], tmp_path / "all.jsonl", str(source))
    assert code == 1
    assert said == ["3 results, 3 ok, 0 failed", f"7 missing; {tmp_path / 'all.missing.jsonl'}"]
    rest = read(tmp_path / "all.missing.jsonl")
    assert rest[:6] == [line for line in things(9) if line["id"] not in {0, 3, 8}]
    assert rest[6]["id"].startswith("line:11:")
    _, said = merged_lines([tmp_path / "a.jsonl"], tmp_path / "unknown.jsonl", None)
    assert said[1] == "whether any are missing is not known; --input IN.JSONL tells"
    write(tmp_path / "strange.jsonl", [row(0), row(77)])
    with pytest.raises(Refused, match=r"1 of 2 results are of no line in it; is this their input\?"):
        merge_results([tmp_path / "strange.jsonl"], tmp_path / "no.jsonl", source=str(source))
    assert not list(tmp_path.glob("no.*"))


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    """The headers beside the results say which input and queue they are of, and how many lines there are."""
    for name, queue, number in (("a", "q 1", 1), ("b", "q 1", 2), ("c", "q 2", 3)):
        write(tmp_path / f"{name}.jsonl", [row(number)])
        header = {"version": 1, "input": "digest", "queue": queue, "lines": 4}
        (tmp_path / f"{name}.jsonl.run").write_text(json.dumps(header))
    a, b, c = (tmp_path / f"{name}.jsonl" for name in "abc")
    with pytest.raises(Refused, match=r"c\.jsonl: belongs to another input or queue than .*a\.jsonl"):
        merge_results([a, c], tmp_path / "all.jsonl")
    assert merge_results([a, b], tmp_path / "all.jsonl").missing == 2
    with pytest.raises(Refused, match=r"all\.jsonl: exists; give another -o"):
        merge_results([a, b], tmp_path / "all.jsonl")
    with pytest.raises(Refused, match=r"d\.jsonl: cannot be read: no such file"):
        merge_results([a, tmp_path / "d.jsonl"], tmp_path / "other.jsonl")
    with pytest.raises(Refused, match="cannot be written: no such file or directory"):
        merge_results([a], tmp_path / "nowhere" / "all.jsonl")


async def test_shards_merge_too(peer: Peer, tmp_path: Path) -> None:
    """The results of all shards are the results of the input."""
    source = write(tmp_path / "in.jsonl", things(40))
    paths = [tmp_path / f"{part}.jsonl" for part in (1, 2, 3)]
    for part, path in enumerate(paths, 1):
        await run(peer.url, source, path, shard=(part, 3))
    assert merge_results(paths, tmp_path / "all.jsonl", source=str(source))[:4] == (40, 0, 0, 0)


def test_results_are_reported_where_there_is_no_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Calls, outcomes, durations and errors are those of the rows; what rows do not tell is said."""
    path = write(tmp_path / "all.jsonl", [row(1, began=10), row(2, ok=False, began=7), row(3, ok=False, began=8)])
    statistics = merged([path])
    assert "all.jsonl: results tell nothing of endpoints, waits and 429" in capsys.readouterr().err
    assert (statistics.calls, statistics.ok, statistics.wire, statistics.began) == (3, 1, 3, 7.0)
    assert statistics.ended == pytest.approx(10.002)
    said = "\n".join(summary_lines(statistics))
    assert "3 calls in 3.0 s, 1 ok, 2 failed" in said
    assert "2 NotFound, as 2: gone. look" in said
    assert "attempts p50" not in said
