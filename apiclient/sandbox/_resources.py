"""What the endpoints below /v1 do once a request is let in. Nothing here waits."""

import json
import math
from random import Random
from typing import Any, cast
from urllib.parse import urlsplit

from apiclient.sandbox._answers import Answer, failure, problem, reply
from apiclient.sandbox._endpoints import Endpoint, Visit
from apiclient.sandbox._faults import failures

PAGE = 20
MAINTENANCE = 1.0
REDIRECTS = frozenset({301, 302, 303, 307, 308})
SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})


class Resources:
    """The data and the handlers.

    Args:
        seed: Decides which keys of the flaky endpoints fail, and how often.
        chance: For trace ids.
        failure_rate: Probability of each failure of a flaky key.
        most_failures: Failures of one flaky key at most.
        employees: How many there are, with ids from 1.
    """

    def __init__(self, *, seed: int, chance: Random, failure_rate: float, most_failures: int, employees: int) -> None:
        self._seed = seed
        self._chance = chance
        self._failure_rate = failure_rate
        self._most_failures = most_failures
        self._total = employees
        self._changes: dict[int, tuple[int, dict[str, Any]]] = {}
        self._stored: dict[tuple[str | None, str], tuple[bytes, Answer]] = {}
        self._failed: dict[tuple[str | None, str, str], int] = {}
        self._back_at: dict[str, float] = {}
        self.timesheets: list[dict[str, Any]] = []

    def table(self) -> tuple[Endpoint, ...]:
        """List the endpoints."""
        return (
            Endpoint(
                "GET", "/v1/employees", "a page of employees (?page=), next one in Link", self._employees, quota=True
            ),
            Endpoint("GET", "/v1/employees/{id}", "one employee", self._employee, quota=True),
            Endpoint("PATCH", "/v1/employees/{id}", "change one; If-Match is honoured", self._change, quota=True),
            Endpoint("POST", "/v1/timesheets", "create one; Idempotency-Key is honoured", self._create, quota=True),
            Endpoint("GET", "/v1/payroll/{id}", "for those allowed to see it", self._payroll, scope="payroll.read"),
            Endpoint("GET", "/v1/audit", "for the group only", self._audit, group="auditors"),
            Endpoint("*", "/v1/ping", "no quota", self._ping),
            Endpoint("*", "/v1/echo", "what arrived, secrets left out", self._echo),
            Endpoint("GET", "/v1/reports/{id}", "a slow answer", self._report, slow=True),
            Endpoint("*", "/v1/flaky/{id}", "500 a few times per id or Idempotency-Key, then 200", self._flaky),
            Endpoint("GET", "/v1/maintenance/{id}", "503 with Retry-After until that has passed", self._maintenance),
            Endpoint("*", "/v1/broken", "500, always", self._broken),
            Endpoint("*", "/v1/moved/{n}", "n redirects (?status=) to itself", self._moved),
            Endpoint("*", "/v1/away", "one redirect (?status=) to ?to=URL", self._away),
        )

    def _employees(self, visit: Visit) -> Answer:
        page = visit.query.get("page", "1")
        if not (page.isascii() and page.isdecimal() and 1 <= len(page) <= 9 and int(page) > 0):
            return problem(400, self._chance, "page must be a whole number from 1.")
        first = (int(page) - 1) * PAGE + 1
        ids = range(first, min(first + PAGE, self._total + 1))
        more = first + PAGE <= self._total
        link = {"Link": f'</v1/employees?page={int(page) + 1}>; rel="next"'} if more else {}
        return reply(200, {"items": [self._read(number)[1] for number in ids], "total": self._total}, link)

    def _employee(self, visit: Visit) -> Answer:
        number = self._number(visit)
        if number is None:
            return problem(404, self._chance, "There is no such employee.")
        version, employee = self._read(number)
        return reply(200, employee, {"ETag": f'"{version}"'})

    def _change(self, visit: Visit) -> Answer:
        number = self._number(visit)
        if number is None:
            return problem(404, self._chance, "There is no such employee.")
        version, employee = self._read(number)
        if visit.headers.get("If-Match", "*") not in {"*", f'"{version}"'}:
            return problem(412, self._chance, "The employee was changed in the meantime.")
        patch = _object(visit.payload)
        if patch is None:
            return problem(422, self._chance, "A merge patch of an employee is an object.")
        merged: dict[str, Any] = {**employee, **patch, "id": number}
        changed = {name: value for name, value in merged.items() if value is not None}
        self._changes[number] = (version + 1, changed)
        return reply(200, changed, {"ETag": f'"{version + 1}"'})

    def _create(self, visit: Visit) -> Answer:
        key = visit.headers.get("Idempotency-Key")
        if key is not None and (visit.client, key) in self._stored:
            body, stored = self._stored[visit.client, key]
            if body != visit.body:
                return problem(422, self._chance, "This Idempotency-Key was used with another body.")
            return stored.having({"Idempotency-Replayed": "true"})
        fields = _object(visit.payload)
        hours = None if fields is None else fields.get("hours", 0)
        if fields is None or isinstance(hours, bool) or not isinstance(hours, int | float) or not 0 <= hours <= 24:
            errors = {"hours": ["The hours must be a number from 0 to 24."]}
            return problem(422, self._chance, "A timesheet is an object.", errors=errors)
        timesheet = {**fields, "id": len(self.timesheets) + 1}
        self.timesheets.append(timesheet)
        answer = reply(201, timesheet)
        if key is not None:
            self._stored[visit.client, key] = (visit.body, answer)
        return answer

    def _payroll(self, visit: Visit) -> Answer:
        return reply(200, {"id": visit.params["id"], "payslips": 12})

    def _audit(self, _visit: Visit) -> Answer:
        return reply(200, {"items": []})

    def _ping(self, _visit: Visit) -> Answer:
        return reply(200, {"pong": True})

    def _echo(self, visit: Visit) -> Answer:
        headers = {
            name: "(left out)" if name.lower() in SECRET_HEADERS else value for name, value in visit.headers.items()
        }
        value = {"method": visit.method, "path": visit.path, "query": dict(visit.query), "headers": headers}
        return reply(200, {**value, "body": visit.body.decode(errors="replace"), "length": len(visit.body)})

    def _report(self, visit: Visit) -> Answer:
        return reply(200, {"id": visit.params["id"], "rows": 1000})

    def _flaky(self, visit: Visit) -> Answer:
        key = visit.headers.get("Idempotency-Key")
        if key is None:
            key = visit.params["id"]
        spent = self._failed.get((visit.client, visit.name, key), 0)
        if spent < failures(self._seed, key, rate=self._failure_rate, most=self._most_failures):
            self._failed[visit.client, visit.name, key] = spent + 1
            return failure(500, {})
        return reply(200, {"id": visit.params["id"], "failures": spent})

    def _maintenance(self, visit: Visit) -> Answer:
        left = self._back_at.setdefault(visit.params["id"], visit.now + MAINTENANCE) - visit.now
        if left > 0:
            return failure(503, {"Retry-After": str(math.ceil(left))})
        return reply(200, {"id": visit.params["id"]})

    def _broken(self, _visit: Visit) -> Answer:
        return failure(500)

    def _moved(self, visit: Visit) -> Answer:
        hops = visit.params["n"]
        if not (hops.isascii() and hops.isdecimal() and len(hops) <= 3):
            return problem(404, self._chance, "The path ends in the number of redirects.")
        if int(hops) == 0:
            return self._echo(visit)
        return self._redirect(visit, f"/v1/moved/{int(hops) - 1}")

    def _away(self, visit: Visit) -> Answer:
        target = visit.query.get("to", "")
        if not target.isprintable() or not target.startswith(("http://", "https://")) or not urlsplit(target).netloc:
            return problem(400, self._chance, "to must be an absolute http or https URL.")
        return self._redirect(visit, target)

    def _redirect(self, visit: Visit, target: str) -> Answer:
        status = visit.query.get("status", "307")
        if status not in map(str, REDIRECTS):
            return problem(400, self._chance, f"status must be one of {', '.join(map(str, sorted(REDIRECTS)))}.")
        query = f"?status={status}" if target.startswith("/") else ""
        return Answer(int(status), b"", {"Location": f"{target}{query}"})

    def _number(self, visit: Visit) -> int | None:
        text = visit.params["id"]
        if not (text.isascii() and text.isdecimal() and len(text) <= 9):
            return None
        return int(text) if 1 <= int(text) <= self._total else None

    def _read(self, number: int) -> tuple[int, dict[str, Any]]:
        return self._changes.get(number, (1, {"id": number, "name": f"Employee {number}"}))


def _object(payload: Any) -> dict[str, Any] | None:
    return cast("dict[str, Any]", payload) if isinstance(payload, dict) else None


def parsed(body: bytes) -> Any:
    """Return the JSON value in *body*, or raise ValueError."""
    try:
        return json.loads(body, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
