"""Sets of ids in eight bytes each, since a set of a million texts takes a hundred times that."""

import hashlib
from array import array
from bisect import bisect_left

_PARTS = 256
_RECENT = 65_536


def digest_of(key: str) -> int:
    """Return 64 bits of *key*, the same in every process."""
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


class Ids:
    """Digests of ids; adding and asking may alternate.

    Two of a million different ids have the same digest with a probability of 3 in 100 million.
    """

    def __init__(self) -> None:
        self._parts = [array("Q") for _ in range(_PARTS)]
        self._recent: list[int] = []
        self._recently: set[int] = set()
        self._count = 0

    def __repr__(self) -> str:
        return f"Ids({len(self)})"

    def __len__(self) -> int:
        return self._count

    def add(self, digest: int) -> None:
        """Take *digest* in, whether or not it is there."""
        self._recent.append(digest)
        self._recently.add(digest)
        self._count += 1
        if len(self._recent) >= _RECENT:
            self._file()

    def __contains__(self, digest: int) -> bool:
        if digest in self._recently:
            return True
        part = self._parts[digest & (_PARTS - 1)]
        place = bisect_left(part, digest)
        return place < len(part) and part[place] == digest

    def repeated(self) -> set[int]:
        """Return the digests that were added more than once."""
        self._file()
        return {part[n] for part in self._parts for n in range(1, len(part)) if part[n] == part[n - 1]}

    def _file(self) -> None:
        for digest in self._recent:
            self._parts[digest & (_PARTS - 1)].append(digest)
        # One part at a time, so that no list of all of them ever exists.
        for number, part in enumerate(self._parts):
            self._parts[number] = array("Q", sorted(part))
        self._recent.clear()
        self._recently.clear()
