"""Turn a table of hours into requests, one a line: `python requests_of.py hours.csv > in.jsonl`."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def requests_of(rows: Iterable[dict[str, str]]) -> Iterator[dict[str, Any]]:
    """Yield a request for each row. The id is the row's own, so that a second run knows what is done."""
    for row in rows:
        body = {"employee": int(row["employee"]), "day": row["day"], "hours": float(row["hours"])}
        name = f"{row['employee']}-{row['day']}"
        yield {"id": name, "method": "POST", "path": "/timesheets", "json": body, "idempotency_key": f"hours-{name}"}


if __name__ == "__main__":
    with Path(sys.argv[1]).open(newline="") as file:
        for request in requests_of(csv.DictReader(file)):
            print(json.dumps(request))
