"""An outbox that lives as long as the process."""

import time
from collections.abc import Callable
from typing import Any

from apiclient.outbox._outbox import Outbox
from apiclient.stores.memory_outbox_store import MemoryOutboxStore


class MemoryOutbox(Outbox):
    """Keeps calls in memory: it survives an outage of the API, not the end of the process.

    Args:
        capacity: Most items kept.
        now: Wall clock, in Unix seconds.
        **options: Of ``Outbox``.

    Raises:
        ValueError: An option is out of its range.
    """

    def __init__(self, *, capacity: int = 10_000, now: Callable[[], float] = time.time, **options: Any) -> None:
        self._kept = MemoryOutboxStore(capacity=capacity, now=now)
        super().__init__(self._kept, **options)
        self._capacity = capacity

    def __repr__(self) -> str:
        return f"MemoryOutbox({len(self._kept)} of {self._capacity})"

    def __len__(self) -> int:
        return len(self._kept)
