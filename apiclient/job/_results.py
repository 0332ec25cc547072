"""What result files tell when there is no summary."""

from pathlib import Path
from typing import Any, cast

from apiclient._batch_model import BatchResult, Request
from apiclient._jsonl import key_of
from apiclient.job._checkpoint import object_in, whole_lines
from apiclient.job._histogram import Histogram
from apiclient.job._statistics import Statistics
from apiclient.middleware.errors import ApiError

_ENDPOINT = "(all)"


def statistics_of(path: Path) -> Statistics | None:
    """Return what the results in *path* say, or None where it is no file of results.

    Results do not say which endpoint they are of, nor what was waited for, nor how many answers were 429.

    Raises:
        OSError: It cannot be read.
    """
    statistics = Statistics(0.0)
    began = ended = 0.0
    kinds: dict[tuple[str, str], type[ApiError]] = {}
    for _, number, line in whole_lines(path):
        row = object_in(line)
        key = None if row is None else key_of(row.get("id"))
        if row is None or key is None or not isinstance(row.get("ok"), bool):
            return None
        seconds = float(row["duration_ms"]) / 1000
        start = float(row["started_at"])
        began = start if number == 1 else min(began, start)
        ended = max(ended, start + seconds)
        result = BatchResult(
            request=Request(path=""),
            ok=row["ok"],
            status=row["status"],
            attempts=row["attempts"],
            duration=seconds,
            endpoint=_ENDPOINT,
            error=_error(row.get("error"), kinds),
        )
        statistics.began = began
        statistics.add(result, key, start + seconds)
    statistics.ended = ended
    statistics.attempt_latency = Histogram()
    return statistics if statistics.calls else None


def _error(told: Any, kinds: dict[tuple[str, str], type[ApiError]]) -> Exception | None:
    if not isinstance(told, dict):
        return None
    told = cast("dict[str, Any]", told)
    name, hint = str(told.get("type")), str(told.get("hint", ""))
    kind = kinds.get((name, hint))
    if kind is None:
        kind = kinds[name, hint] = type(name, (ApiError,), {"hint": hint})
    return kind(str(told.get("message", "")))
