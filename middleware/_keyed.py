"""State per key that is bounded in number and in age."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Keyed(Generic[K, V]):
    """A mapping that makes missing values, and forgets those not used for long or beyond its capacity.

    A value whose attribute ``busy`` is true is never forgotten, so that live state survives any pressure.

    Args:
        factory: Makes the value for a new key.
        capacity: Most keys kept, those busy aside.
        idle: Seconds without use after which a key may be forgotten.

    Raises:
        ValueError: An option is out of its range.
    """

    def __init__(self, factory: Callable[[], V], *, capacity: int = 1024, idle: float = 600.0) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity!r}")
        if not idle > 0:
            raise ValueError(f"idle must be above 0, got {idle!r}")
        self._factory = factory
        self._capacity = capacity
        self._idle = idle
        self._entries: OrderedDict[K, tuple[V, list[float]]] = OrderedDict()
        self._next_sweep = float("-inf")

    def __repr__(self) -> str:
        return f"Keyed({len(self)} of {self._capacity}, idle={self._idle:g})"

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def get(self, key: K, now: float) -> V:
        """Return the value of *key*, made where there is none, and note its use at *now* (seconds)."""
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = (self._factory(), [now])
            self._forget(now)
        else:
            entry[1][0] = now
            self._entries.move_to_end(key)
            if now >= self._next_sweep:
                self._forget(now)
        return entry[0]

    def peek(self, key: K) -> V | None:
        """Return the value of *key* without noting a use, or None."""
        entry = self._entries.get(key)
        return None if entry is None else entry[0]

    def items(self) -> Iterator[tuple[K, V]]:
        """Iterate over keys and values, the least recently used first."""
        for key, (value, _) in list(self._entries.items()):
            yield key, value

    def pop(self, key: K) -> V | None:
        """Forget *key* and return its value, or None."""
        entry = self._entries.pop(key, None)
        return None if entry is None else entry[0]

    def _forget(self, now: float) -> None:
        # An insertion looks at a few of the oldest only, so that many busy keys never make it slow.
        sweep = now >= self._next_sweep
        if sweep:
            self._next_sweep = now + self._idle / 4
        for _ in range(len(self._entries) - 1 if sweep else min(4, len(self._entries) - 1)):
            key, (value, used) = next(iter(self._entries.items()))
            if len(self._entries) <= self._capacity and now - used[0] < self._idle:
                break
            if getattr(value, "busy", False):
                self._entries.move_to_end(key)
            else:
                del self._entries[key]
