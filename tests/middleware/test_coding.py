"""A content coding, undone step by step."""

import gzip
import importlib
import random
import zlib
from collections.abc import Callable

import pytest

from apiclient.middleware._coding import STEP, Decoding

BODY = b"the same words, " * 40 + random.Random(1).randbytes(5000)


def brotli(data: bytes) -> bytes:
    return bytes(pytest.importorskip("brotli").compress(data))


def zstd(data: bytes) -> bytes:
    try:
        module = importlib.import_module("compression.zstd")
    except ImportError:
        module = pytest.importorskip("backports.zstd")
    return bytes(module.compress(data))


PACK: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "deflate without its header": ("deflate", lambda data: zlib.compress(data)[2:-4]),
    "br": ("br", brotli),
    "zstd": ("zstd", zstd),
}
each = pytest.mark.parametrize(("coding", "pack"), PACK.values(), ids=PACK)


def taken(decoding: Decoding) -> bytes:
    """All that can be taken now."""
    blocks = []
    while block := decoding.take():
        assert len(block) <= STEP
        blocks.append(block)
    return b"".join(blocks)


@each
@pytest.mark.parametrize("size", [1, 7, 8192, 10**9])
def test_a_body_comes_out_as_it_went_in(coding: str, pack: Callable[[bytes], bytes], size: int) -> None:
    """In pieces of any size; it is whole with its last byte, and not before."""
    packed, decoding, out = pack(BODY), Decoding(coding), b""
    for start in range(0, len(packed), size):
        assert decoding.whole == (start == 0)
        decoding.feed(packed[start : start + size])
        out += taken(decoding)
    assert out == BODY
    assert decoding.whole


@each
@pytest.mark.parametrize("missing", [1, 2, 100, 4000])
def test_a_body_that_is_cut_off_is_not_whole(coding: str, pack: Callable[[bytes], bytes], missing: int) -> None:
    """Wherever it is cut."""
    cut = pack(BODY)[:-missing]
    decoding = Decoding(coding)
    decoding.feed(cut)
    assert BODY.startswith(taken(decoding))
    assert not decoding.whole


@each
def test_nothing_is_whole(coding: str, pack: Callable[[bytes], bytes]) -> None:
    """An answer without a body may have a coding."""
    pack(b"")
    decoding = Decoding(coding)
    assert decoding.take() == b""
    assert decoding.whole


@each
def test_a_bomb_comes_out_step_by_step(coding: str, pack: Callable[[bytes], bytes]) -> None:
    """However far it unpacks, one step is bounded."""
    bomb = pack(bytes(20 * STEP))
    decoding = Decoding(coding)
    decoding.feed(bomb)
    sizes = []
    while block := decoding.take():
        sizes.append(len(block))
    assert sum(sizes) == 20 * STEP
    # Of brotli's library this is about how much it may unpack.
    assert max(sizes) <= (2 * STEP if coding == "br" else STEP)
    assert decoding.whole


@pytest.mark.parametrize("name", ["gzip", "deflate", "zstd"])
@pytest.mark.parametrize("size", [1, 10, 10**9])
def test_members_that_follow_one_another_are_one_body(name: str, size: int) -> None:
    """Also empty ones, and ones that are cut anywhere."""
    coding, pack = PACK[name]
    packed = pack(b"one") + pack(b"") + pack(b"two") + pack(b"x" * 20_000)
    decoding, out = Decoding(coding), b""
    for start in range(0, len(packed), size):
        decoding.feed(packed[start : start + size])
        out += taken(decoding)
    assert out == b"onetwo" + b"x" * 20_000
    assert decoding.whole


def test_very_many_members_are_no_way_to_keep_a_client_busy() -> None:
    """A member's rest is copied within its slice only: ten times as many cost ten times as much."""
    copied: list[int] = []

    class Counted:
        """One member of ten bytes."""

        eof = True
        unused_data = b""

        def decompress(self, data: bytes, _: int) -> bytes:
            self.unused_data = data[10:]
            copied.append(len(self.unused_data))
            return b""

    decoding = Decoding("gzip")
    decoding._make = lambda _: Counted()
    decoding.feed(bytes(10 * 100_000))
    assert decoding.take() == b""
    assert decoding.whole
    assert sum(copied) / len(copied) < 8192


@each
def test_what_is_in_no_coding_is_refused(coding: str, pack: Callable[[bytes], bytes]) -> None:
    """The message names the coding."""
    garbage = b"\xff" * 3 + pack(BODY)[50:]
    decoding = Decoding(coding)
    decoding.feed(garbage)
    with pytest.raises(ValueError, match=f"not {coding}"):
        taken(decoding)


def test_rubbish_after_the_end_is_refused() -> None:
    """A body is its coding and nothing else."""
    decoding = Decoding("gzip")
    decoding.feed(gzip.compress(b"fine") + b"<html>")
    with pytest.raises(ValueError, match="not gzip"):
        taken(decoding)


def test_a_coding_that_nothing_installed_undoes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names what would."""

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(LookupError, match="brotlicffi, brotli"):
        Decoding("br")


def test_it_says_where_it_is() -> None:
    """What a person sees in a debugger."""
    decoding = Decoding("gzip")
    assert repr(decoding) == "<Decoding gzip>"
    decoding.feed(gzip.compress(b"fine")[:5])
    assert repr(decoding) == "<Decoding gzip, within a member>"
