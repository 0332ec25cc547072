"""Limits that were learned, kept beyond the life of a pacer and across restarts."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, cast

from apiclient.middleware._pacing.lesson import Lesson
from apiclient.middleware._parsing.rate import Rate

_LARGEST_ROUND = 1000


class Recalled(NamedTuple):
    """What is known about a key before its first request.

    Attributes:
        lessons: Limits learned there not long ago.
        first: Requests to begin with where there are none: what a sibling, or an old lesson, allowed.
    """

    lessons: tuple[Lesson, ...] = ()
    first: int = 1


class Memory:
    """What was learned, by the name of a quota; bounded in number, and believed for a time.

    Args:
        now: Wall clock, so that ages survive a restart.
        capacity: Most names and most origins.
        fresh: Seconds for which a lesson holds; after that it only says how large a first round may be.
    """

    def __init__(self, now: Callable[[], float], *, capacity: int = 10_000, fresh: float = 3600.0) -> None:
        self._now = now
        self._capacity = capacity
        self._fresh = fresh
        self._lessons: OrderedDict[str, tuple[tuple[Lesson, ...], float]] = OrderedDict()
        self._origins: OrderedDict[str, int] = OrderedDict()

    def __repr__(self) -> str:
        return f"Memory({len(self._lessons)} of {self._capacity})"

    def learn(self, name: str, origin: str, lessons: Iterable[Lesson]) -> None:
        """Keep *lessons* under *name*, and as a hint for its siblings at *origin*."""
        kept = tuple(lessons)
        if not kept:
            return
        self._lessons[name] = kept, self._now()
        self._lessons.move_to_end(name)
        self._origins[origin] = min(_LARGEST_ROUND, *(each.limit for each in kept))
        self._origins.move_to_end(origin)
        for store in (self._lessons, self._origins):
            while len(store) > self._capacity:
                store.popitem(last=False)

    def recall(self, name: str, origin: str) -> Recalled:
        """Return what is known about *name*."""
        entry = self._lessons.get(name)
        if entry is None:
            return Recalled(first=self._origins.get(origin, 1))
        lessons, at = entry
        if self._now() - at <= self._fresh:
            return Recalled(lessons)
        return Recalled(first=min(_LARGEST_ROUND, *(each.limit for each in lessons)))

    def export(self) -> dict[str, Any]:
        """Return everything as plain data that JSON can hold."""
        return {
            name: {
                "at": at,
                "limits": [
                    {"rate": str(Rate(each.limit, each.period)), "fixed": each.fixed, "exact": each.exact}
                    for each in lessons
                ],
            }
            for name, (lessons, at) in self._lessons.items()
        }

    def load(self, exported: Mapping[str, Any]) -> None:
        """Take over what ``export`` returned, here or elsewhere.

        Raises:
            ValueError: Something in it is not what ``export`` writes; the message names the entry.
        """
        for name, entry in exported.items():
            try:
                at = float(entry["at"])
                lessons = tuple(_loaded(cast("Mapping[str, Any]", each)) for each in entry["limits"])
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"learned[{name!r}] is not what learned() returns: {entry!r}") from error
            self.learn(name, name.partition(" ")[0], lessons)
            if name in self._lessons:
                self._lessons[name] = self._lessons[name][0], min(at, self._now())


def _loaded(entry: Mapping[str, Any]) -> Lesson:
    rate = Rate.parse(entry["rate"])
    return Lesson(rate.limit, rate.per, bool(entry.get("fixed")), bool(entry.get("exact", True)))
