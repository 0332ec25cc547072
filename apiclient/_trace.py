"""The life of one call as a waterfall: its waits, attempts and events on one time scale."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from apiclient.middleware._call import Call
from apiclient.middleware._ending import ending
from apiclient.middleware._parsing.text import one_line

_WIDTH = 30
_NOTE = 60
# A call that goes on for hours must not keep all that ever happened to it.
_MOST = 200


class Step(NamedTuple):
    """Something that happened.

    Attributes:
        kind: ``attempt``, ``wait`` or ``event``.
        what: Its name.
        began: Seconds from the beginning of the call.
        took: Seconds; 0 for an event.
        note: What else there is to say, or empty.
    """

    kind: str
    what: str
    began: float
    took: float
    note: str = ""


class Trace:
    """Watches one call from now on, and draws what happened to it.

    Args:
        call: Not yet under way.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._lost = 0
        self.steps: list[Step] = []
        call.watchers = (*call.watchers, self)

    def __call__(self, event: str, fields: Mapping[str, Any]) -> None:
        """Take an event of the call."""
        if len(self.steps) >= _MOST:
            self._lost += 1
            return
        now = self._call.time() - self._call.started
        if event == "wait":
            self.steps.append(Step("wait", fields["kind"], now - fields["seconds"], fields["seconds"]))
        elif event == "http.attempt":
            said = fields["error_type"] if fields["status"] is None else f"{fields['status']}"
            also = f" {fields['error_type']}" if fields["status"] is not None and fields["error_type"] else ""
            took = fields["duration_s"]
            self.steps.append(Step("attempt", f"attempt {fields['attempt']}", now - took, took, f"{said}{also}"))
        else:
            self.steps.append(Step("event", event, now, 0.0, _note(fields)))

    def text(self, status: int | None = None, failure: BaseException | None = None) -> str:
        """Return the waterfall.

        Args:
            status: Of the response that the call returned, or None.
            failure: What it raised, or None.
        """
        return "\n".join(self._lines(status, failure))

    def _lines(self, status: int | None, failure: BaseException | None) -> Iterator[str]:
        call = self._call
        total = call.time() - call.started
        end = ending(status, failure)
        answered = getattr(failure, "status", status)
        said = " ".join(str(part) for part in (answered, type(failure).__name__ if failure else None) if part)
        requests = f"{call.attempts} wire request{'' if call.attempts == 1 else 's'}"
        yield f"{call.endpoint}  {end.outcome}: {said}  in {total:.3f} s, {requests}, call {call.id}"
        # An event stands where it happened; a wait or attempt is told when it is over, and stands where it began.
        for step in sorted(self.steps, key=lambda step: step.began):
            took = f"{step.took:8.3f} s" if step.kind != "event" else " " * 10
            bar = _bar(step, total)
            yield f"  {max(0.0, step.began):8.3f} s {took}  {step.what:<22} |{bar}|  {step.note}".rstrip()
        if self._lost:
            yield f"  and {self._lost} more"
        unseen = total - sum(step.took for step in self.steps)
        if not self._lost and self.steps and unseen > max(0.01, 0.05 * total):
            yield f"  {unseen:.3f} s of it in the client itself, or in waits that nobody booked"
        hint = getattr(failure, "hint", "")
        if hint:
            yield f"  {one_line(str(hint), 200)}"


def _bar(step: Step, total: float) -> str:
    if total <= 0:
        return " " * _WIDTH
    first = min(_WIDTH - 1, max(0, int(step.began / total * _WIDTH)))
    length = max(1, min(_WIDTH - first, round(step.took / total * _WIDTH)))
    sign = {"attempt": "=", "wait": ".", "event": "*"}[step.kind]
    return " " * first + sign * (1 if step.kind == "event" else length) + " " * (_WIDTH - first - length)


def _note(fields: Mapping[str, Any]) -> str:
    if fields.get("why"):
        return one_line(str(fields["why"]), _NOTE)
    told = [f"{name}={_shown(value)}" for name, value in fields.items() if value is not None]
    return one_line(", ".join(told), _NOTE)


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
