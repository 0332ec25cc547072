"""Ids in eight bytes each."""

from hypothesis import given, settings
from hypothesis import strategies as st

from apiclient.job import _ids
from apiclient.job._ids import Ids, digest_of


@given(st.lists(st.integers(min_value=0, max_value=2**64 - 1), max_size=60), st.integers(min_value=1, max_value=9))
@settings(max_examples=60, derandomize=True)
def test_it_is_a_set(digests: list[int], recent: int) -> None:
    """What was added is in it and nothing else, before and after any filing away."""
    before, _ids._RECENT = _ids._RECENT, recent
    try:
        ids = Ids()
        for number, digest in enumerate(digests):
            assert (digest in ids) == (digest in digests[:number])
            ids.add(digest)
        assert all(digest in ids for digest in digests)
        assert all((digest ^ 1) in ids if (digest ^ 1) in digests else (digest ^ 1) not in ids for digest in digests)
        assert ids.repeated() == {digest for digest in digests if digests.count(digest) > 1}
        assert len(ids) == len(digests)
    finally:
        _ids._RECENT = before


def test_a_digest_is_the_same_in_every_process() -> None:
    """Shards and resumptions in other processes must agree on it."""
    assert digest_of('"employee-1"') == 0x3E1449854E88187A
    assert digest_of("a") != digest_of("b")


def test_a_million_ids_take_less_than_twenty_megabytes() -> None:
    """Eight bytes an id and a bounded remainder, not the hundred of a set of texts."""
    ids = Ids()
    for number in range(200_000):
        ids.add(digest_of(str(number)))
    size = sum(part.buffer_info()[1] * part.itemsize for part in ids._parts)
    assert size <= 200_000 * 8
    assert len(ids._recent) < _ids._RECENT
