"""Has a limit that was learned long ago grown since?"""

from apiclient.middleware._pacing.meter import Meter

_FIRST_AFTER = 20
_AT_MOST_AFTER = 10_000


class Trial:
    """Tries one more than the limit after a long time without a refusal, then twice as much more each time.

    Attributes:
        raised: Units by which the limit is above what was learned.
    """

    __slots__ = ("_after", "_quiet", "raised")

    def __init__(self) -> None:
        self.raised = 0
        self._quiet = 0
        self._after = _FIRST_AFTER

    def __repr__(self) -> str:
        return f"Trial({self.raised} more)"

    def quiet(self, meter: Meter) -> None:
        """Note that five whole quotas of *meter* were used up without a refusal."""
        self._quiet += 1
        if self._quiet >= self._after and meter.learned:
            step = max(1, self.raised)
            meter.limit += step
            self.raised += step
            self._quiet = self._after - 1

    def restart(self) -> None:
        """Note a refusal, or news of the limit."""
        self._quiet = 0

    def end(self, meter: Meter) -> None:
        """Go back to what was learned."""
        meter.limit -= self.raised
        self.raised = 0

    def failed(self, meter: Meter) -> None:
        """Go back to what was learned, and wait longer before the next try."""
        self.end(meter)
        self._after = min(2 * self._after, _AT_MOST_AFTER)
