"""Failures: those that a test switches on, and those that the seed decides."""

from collections import deque
from dataclasses import dataclass
from random import Random

from apiclient.sandbox._answers import NO_ANSWER, Answer, failure


@dataclass(frozen=True, slots=True)
class Fault:
    """An answer given in place of the endpoint's own.

    Attributes:
        answer: What is sent.
        late: Whether the endpoint does its work first, so that only its answer is lost.
    """

    answer: Answer
    late: bool = False


class Faults:
    """Outages and queued failures by endpoint name, `METHOD template`."""

    def __init__(self) -> None:
        self._outages: dict[str | None, Answer] = {}
        self._queued: dict[str, deque[Fault]] = {}

    def __repr__(self) -> str:
        return f"Faults(outages={list(self._outages)}, queued={sum(map(len, self._queued.values()))})"

    def outage(self, endpoint: str | None, answer: Answer | None) -> None:
        """Answer *endpoint*, or the whole API if it is None, with *answer* until None comes in its place."""
        if answer is None:
            self._outages.pop(endpoint, None)
        else:
            self._outages[endpoint] = answer

    def queue(self, endpoint: str, fault: Fault, times: int) -> None:
        """Answer the next *times* requests of *endpoint* with *fault*, after those already queued."""
        self._queued.setdefault(endpoint, deque()).extend([fault] * times)

    def early(self, endpoint: str, *, api: bool) -> Answer | None:
        """Take what meets a request of *endpoint* on arrival; *api* is False for the token endpoint."""
        for name in (endpoint, None) if api else (endpoint,):
            if name in self._outages:
                return self._outages[name]
        return self._take(endpoint, late=False)

    def late(self, endpoint: str) -> Answer | None:
        """Take what replaces the answer of *endpoint* after its work."""
        return self._take(endpoint, late=True)

    def _take(self, endpoint: str, *, late: bool) -> Answer | None:
        queue = self._queued.get(endpoint)
        if not queue or queue[0].late is not late:
            return None
        return queue.popleft().answer


def failing(status: int | None, *, retry_after: float | None = None) -> Answer:
    """Build the answer of a fault: *status*, or a closed connection if that is None."""
    if status is None:
        return NO_ANSWER
    return failure(status, {} if retry_after is None else {"Retry-After": f"{retry_after:g}"})


def failures(seed: int, key: str, *, rate: float, most: int) -> int:
    """Say how often the thing called *key* fails before it succeeds: each time with probability *rate*, *most* at most.

    It depends on the seed and the key alone, not on the order of requests.
    """
    chance = Random(f"{seed}/{key}")  # noqa: S311 - has to be repeatable
    return next((count for count in range(most) if chance.random() >= rate), most)
