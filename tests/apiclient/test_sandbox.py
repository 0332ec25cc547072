"""The sandbox: what it answers, when, and what it remembers."""

import asyncio
import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote_plus

import aiohttp
import pytest

from apiclient.sandbox import Sandbox

virtual = pytest.mark.looptime

SECRET = "s3cret"
INTERNAL = {"error": "internal_server_error"}
KEYED = {"Idempotency-Key": "k1"}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def basic(client: str, secret: str) -> dict[str, str]:
    pair = f"{quote_plus(client)}:{quote_plus(secret)}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


@asynccontextmanager
async def visited(**options: Any) -> AsyncGenerator[tuple[Sandbox, aiohttp.ClientSession]]:
    """Run a sandbox, and a session that has a token for as long as any test takes."""
    async with Sandbox(**options) as sandbox:
        token = sandbox.issue_token(lifetime=1e6)
        async with aiohttp.ClientSession(sandbox.url, headers=bearer(token)) as session:
            yield sandbox, session


async def get(session: aiohttp.ClientSession, path: str, **options: Any) -> tuple[int, Any]:
    return await send(session, "GET", path, **options)


async def send(session: aiohttp.ClientSession, method: str, path: str, **options: Any) -> tuple[int, Any]:
    async with session.request(method, path, **options) as response:
        return response.status, await response.json(content_type=None)


async def statuses(session: aiohttp.ClientSession, *paths: str) -> list[int]:
    found: list[int] = []
    for path in paths:
        async with session.get(path) as response:
            found.append(response.status)
    return found


async def ask(sandbox: Sandbox, headers: dict[str, str] | None = None, **form: str) -> tuple[int, Any, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(sandbox.token_url, headers=headers, data=form) as response,
    ):
        return response.status, await response.json(), response.headers


@virtual
async def test_the_sixth_request_in_a_second_is_refused_in_the_api_s_own_words() -> None:
    """429, the quota text, Retry-After 1; and no limit headers unless asked for."""
    async with visited() as (sandbox, session):
        assert await statuses(session, *["/v1/employees"] * 5) == [200] * 5
        async with session.get("/v1/employees") as response:
            assert response.status == 429
            assert await response.text() == "API calls quota exceeded! maximum admitted 5 per 1 second."
            assert (response.headers["Retry-After"], response.content_type) == ("1", "text/plain")
            assert not [name for name in response.headers if name.lower().startswith("x-rate")]
        assert (sandbox.count("GET /v1/employees", 200), sandbox.count("GET /v1/employees", 429)) == (5, 1)


@virtual
async def test_a_quota_is_counted_on_the_loop_s_clock() -> None:
    """Exactly one period after its first request the window still holds; a millisecond later it is over."""
    async with visited(limit=1) as (_, session):
        start = asyncio.get_running_loop().time()
        found: list[int] = []
        for at in (0, 0.5, 1.0, 1.001, 2.001, 2.002):
            await asyncio.sleep(start + at - asyncio.get_running_loop().time())
            found += await statuses(session, "/v1/employees")
        assert found == [200, 429, 429, 200, 429, 200]


@virtual
async def test_quotas_are_counted_per_template_and_per_client() -> None:
    """All ids share one window; other endpoints, methods and clients have their own."""
    async with visited(limit=2) as (sandbox, session):
        assert await statuses(session, "/v1/employees/1", "/v1/employees/2", "/v1/employees/3") == [200, 200, 429]
        assert await statuses(session, "/v1/employees") == [200]
        assert (await send(session, "POST", "/v1/timesheets", json={"hours": 8}))[0] == 201
        other = bearer(sandbox.issue_token(client="other"))
        assert (await get(session, "/v1/employees/1", headers=other))[0] == 200
        again = bearer(sandbox.issue_token())
        async with session.get("/v1/employees/1", headers=again) as response:
            assert response.status == 429


@virtual
async def test_whatever_is_refused_after_the_quota_has_used_it_up() -> None:
    """A 401 and a 415 count, for the client whose token it was, even if revoked."""
    async with visited(limit=2) as (sandbox, session):
        async with session.post("/v1/timesheets", data="{}") as response:
            assert response.status == 415
        sandbox.revoke_tokens()
        assert (await send(session, "POST", "/v1/timesheets", json={}))[0] == 401
        async with session.post("/v1/timesheets", json={}) as response:
            assert response.status == 429


@virtual
async def test_single_endpoints_can_have_another_quota_or_none() -> None:
    """`limits` goes before the common limit; ping has none of its own."""
    limits = {"GET /v1/employees": None, "GET /v1/ping": (1, 60.0)}
    async with visited(limits=limits) as (_, session):
        assert await statuses(session, *["/v1/employees"] * 7, "/v1/ping") == [200] * 8
        async with session.get("/v1/ping") as response:
            assert (await response.text()).endswith("1 per 1 minute.")
            assert response.headers["Retry-After"] == "60"
    async with visited() as (_, session):
        assert await statuses(session, *["/v1/ping"] * 20) == [200] * 20


@virtual
async def test_limit_headers_tell_the_period_the_rest_and_the_reset() -> None:
    """As AspNetCoreRateLimit sends them: on admitted requests only, the limit being the period."""
    async with visited(headers=True, limit=1, wall=lambda: 1_795_000_000.25) as (_, session):
        async with session.get("/v1/employees") as response:
            found = {name: response.headers[f"X-Rate-Limit-{name}"] for name in ("Limit", "Remaining", "Reset")}
        assert found == {"Limit": "1s", "Remaining": "0", "Reset": "2026-11-18T11:06:41.2500000Z"}
        async with session.get("/v1/employees") as response:
            assert (response.status, "X-Rate-Limit-Limit" in response.headers) == (429, False)


@virtual
@pytest.mark.parametrize("way", ["basic", "post"])
async def test_a_client_gets_a_token_in_both_ways(way: str) -> None:
    """client_secret_basic, form-encoded before base64 (RFC 6749 section 2.3.1), and client_secret_post."""
    client, secret = "a:b c", "p%+ä:/"
    async with Sandbox(client_id=client, client_secret=secret, token_lifetime=7.9) as sandbox:
        by_form = {} if way == "basic" else {"client_id": client, "client_secret": secret}
        by_header = basic(client, secret) if way == "basic" else None
        status, body, headers = await ask(sandbox, by_header, grant_type="client_credentials", **by_form)
        assert (status, body["token_type"], body["expires_in"]) == (200, "Bearer", 7)
        assert (body["scope"], headers["Cache-Control"]) == ("employees.read timesheets.write", "no-store")
        async with aiohttp.ClientSession(headers=bearer(body["access_token"])) as session:
            assert (await get(session, f"{sandbox.api_url}/ping"))[0] == 200
        assert [entry.client for entry in sandbox.ledger] == [client, client]


@virtual
@pytest.mark.parametrize(
    ("headers", "form", "status", "error"),
    [
        (basic("demo", "wrong"), {}, 401, "invalid_client"),
        (basic("other", SECRET), {}, 401, "invalid_client"),
        ({"Authorization": "Basic !"}, {}, 401, "invalid_client"),
        ({"Authorization": "Bearer x"}, {}, 401, "invalid_client"),
        ({}, {}, 401, "invalid_client"),
        ({}, {"client_id": "demo"}, 401, "invalid_client"),
        (basic("demo", SECRET), {"client_secret": SECRET}, 400, "invalid_request"),
        (basic("demo", SECRET), {"grant_type": "password"}, 400, "unsupported_grant_type"),
        (basic("demo", SECRET), {"scope": "employees.read root"}, 400, "invalid_scope"),
        (basic("demo", SECRET) | {"Content-Type": "application/json"}, {}, 400, "invalid_request"),
    ],
)
async def test_token_requests_are_refused_as_rfc_6749_says(
    headers: dict[str, str], form: dict[str, str], status: int, error: str
) -> None:
    """Section 5.2: the error code, and a Basic challenge with each 401."""
    async with Sandbox(client_secret=SECRET) as sandbox:
        found, body, answered = await ask(sandbox, headers, **{"grant_type": "client_credentials", **form})
        assert (found, body["error"]) == (status, error)
        assert answered.get("WWW-Authenticate") == ('Basic realm="sandbox"' if status == 401 else None)
        assert status != 401 or body == {"error": "invalid_client"}
        assert sandbox.count("POST /oauth/token", status) == 1


@virtual
async def test_repeated_and_missing_parameters_are_invalid_requests() -> None:
    """RFC 6749 section 3.2: no parameter more than once."""
    async with Sandbox() as sandbox, aiohttp.ClientSession(sandbox.url) as session:
        for form in ("scope=a&scope=b", "client_id=demo&client_secret=demo-secret", "client_id=%ff%fe"):
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            status, body = await send(session, "POST", "/oauth/token", data=form, headers=kind)
            assert (status, body["error"]) in {(400, "invalid_request"), (401, "invalid_client")}
        assert sandbox.count("POST /oauth/token", 400) == 2


@virtual
async def test_a_token_expires_on_the_loop_s_clock() -> None:
    """Good until its lifetime has passed, then 401 with the Bearer challenge."""
    async with Sandbox() as sandbox, aiohttp.ClientSession(sandbox.url) as session:
        headers = bearer(sandbox.issue_token(lifetime=3))
        await asyncio.sleep(2.999)
        assert (await get(session, "/v1/ping", headers=headers))[0] == 200
        await asyncio.sleep(0.001)
        async with session.get("/v1/ping", headers=headers) as response:
            assert (response.status, (await response.json())["error"]) == (401, "token_expired")
            assert response.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token"')


@virtual
async def test_revoked_tokens_are_rejected_at_once_and_new_ones_are_not() -> None:
    """`revoke_tokens` hits what was issued before it."""
    async with visited() as (sandbox, session):
        assert (sandbox.revoke_tokens(), sandbox.revoke_tokens()) == (1, 0)
        status, body = await get(session, "/v1/ping")
        assert (status, body["error"]) == (401, "invalid_token")
        assert (await get(session, "/v1/ping", headers=bearer(sandbox.issue_token())))[0] == 200


@virtual
async def test_a_request_without_a_token_is_challenged_without_an_error_code() -> None:
    """RFC 6750 section 3.1."""
    async with (
        Sandbox() as sandbox,
        aiohttp.ClientSession() as session,
        session.get(f"{sandbox.api_url}/ping") as response,
    ):
        assert (response.status, response.headers["WWW-Authenticate"]) == (401, 'Bearer realm="sandbox"')
        assert sandbox.ledger[0].client is None


@virtual
async def test_the_three_kinds_of_403_can_be_told_apart() -> None:
    """A scope in the challenge, a user group in the text, or a wrong endpoint URL."""
    async with visited() as (sandbox, session):
        async with session.get("/v1/payroll/1") as response:
            assert (response.status, (await response.json())["error"]) == (403, "insufficient_scope")
            challenge = 'Bearer error="insufficient_scope", scope="payroll.read"'
            assert response.headers["WWW-Authenticate"] == challenge
        status, body = await get(session, "/v1/audit")
        assert (status, "user group" in body["message"]) == (403, True)
        status, body = await get(session, "/v1/nope")
        assert (status, "Wrong endpoint URL" in body["message"]) == (403, True)
        allowed = bearer(sandbox.issue_token(scopes=["payroll.read"]))
        assert (await get(session, "/v1/payroll/1", headers=allowed))[0] == 200
    async with visited(groups=["auditors"]) as (_, session):
        assert (await get(session, "/v1/audit"))[0] == 200


@virtual
async def test_outside_of_v1_and_with_a_wrong_method_the_answers_are_the_usual_ones() -> None:
    """404 and 405, the latter with Allow."""
    async with visited() as (sandbox, session):
        assert await get(session, "/elsewhere") == (404, {"error": "not_found"})
        for method, path, allow in (("DELETE", "/v1/employees/1", "GET, PATCH"), ("GET", "/oauth/token", "POST")):
            async with session.request(method, path) as response:
                assert (response.status, response.headers["Allow"]) == (405, allow)
        assert sandbox.count("DELETE *", 405) == 1


@virtual
@pytest.mark.parametrize(
    ("method", "content_type", "status", "told"),
    [
        ("POST", "application/json", 200, None),
        ("POST", "Application/JSON; charset=UTF-8", 200, None),
        ("POST", "application/json; charset=latin-1", 415, ("Accept-Post", "application/json")),
        ("POST", "text/plain", 415, ("Accept-Post", "application/json")),
        ("POST", "application/merge-patch+json", 415, ("Accept-Post", "application/json")),
        ("PUT", "text/json", 415, ("Accept", "application/json")),
        ("PATCH", "application/json", 415, ("Accept-Patch", "application/merge-patch+json")),
        ("PATCH", "application/merge-patch+json", 200, None),
    ],
)
async def test_content_types_are_strict(
    method: str, content_type: str, status: int, told: tuple[str, str] | None
) -> None:
    """415 as problem+json with a trace id, and the header that says what is accepted."""
    async with visited() as (_, session):
        headers = {"Content-Type": content_type}
        async with session.request(method, "/v1/echo", data=b"{}", headers=headers) as response:
            body = await response.json(content_type=None)
            assert response.status == status
            if told is not None:
                assert response.content_type == "application/problem+json"
                assert response.headers[told[0]] == told[1]
                assert (set(body), body["status"]) == ({"type", "title", "status", "traceId"}, 415)
                assert body["title"] == "Unsupported Media Type"


@virtual
async def test_a_missing_content_type_is_refused_too() -> None:
    """An empty POST goes out as application/octet-stream; one without the header at all is no better."""
    async with visited() as (_, session):
        assert (await send(session, "POST", "/v1/echo"))[0] == 415
        assert (await send(session, "POST", "/v1/echo", data=b"{}", skip_auto_headers=["Content-Type"]))[0] == 415


@virtual
@pytest.mark.parametrize("body", [b"", b"{", b'{"a": NaN}', b"\xff", b"[" * 100_000])
async def test_malformed_json_is_a_400_problem(body: bytes) -> None:
    """Never a 500, whatever the bytes."""
    async with visited() as (_, session):
        headers = {"Content-Type": "application/json"}
        status, problem = await send(session, "POST", "/v1/timesheets", data=body, headers=headers)
        assert (status, problem["status"], problem["title"]) == (400, 400, "Bad Request")


@virtual
async def test_a_body_that_cannot_be_decoded_is_in_the_ledger_as_a_400() -> None:
    """It says gzip and is not."""
    async with visited() as (sandbox, session):
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        assert (await send(session, "POST", "/v1/echo", data=b"{}", headers=headers))[0] == 400
        assert sandbox.count("POST /v1/echo", 400) == 1


@virtual
@pytest.mark.parametrize("body", [[], {"hours": 25}, {"hours": "8"}, {"hours": True}])
async def test_json_that_is_no_timesheet_is_a_422_problem(body: Any) -> None:
    """And nothing is created."""
    async with visited() as (sandbox, session):
        assert (await send(session, "POST", "/v1/timesheets", json=body))[0] == 422
        assert sandbox.created == 0


@virtual
async def test_employees_are_paged_read_and_changed() -> None:
    """Link leads to the next page; a merge patch changes one, unless If-Match names another version."""
    async with visited(employees=21) as (_, session):
        async with session.get("/v1/employees") as response:
            assert len((await response.json())["items"]) == 20
            following = response.links["next"]["url"]
        assert await get(session, str(following)) == (200, {"items": [{"id": 21, "name": "Employee 21"}], "total": 21})
        merge = {"headers": {"Content-Type": "application/merge-patch+json", "If-Match": '"1"'}}
        patch = {"json": {"name": None, "role": "lead"}, **merge}
        assert await send(session, "PATCH", "/v1/employees/7", **patch) == (200, {"id": 7, "role": "lead"})
        assert (await send(session, "PATCH", "/v1/employees/7", **patch))[0] == 412
        assert await get(session, "/v1/employees/7") == (200, {"id": 7, "role": "lead"})
        assert [(await get(session, f"/v1/employees/{n}"))[0] for n in ("0", "22", "x", "٣")] == [404] * 4


@virtual
async def test_a_repeated_idempotency_key_gets_the_stored_answer_and_counts_once() -> None:
    """Also for another client's same key, which is another key; a changed body is refused."""
    async with visited() as (sandbox, session):
        first = await send(session, "POST", "/v1/timesheets", json={"hours": 8}, headers=KEYED)
        again = await send(session, "POST", "/v1/timesheets", json={"hours": 8}, headers=KEYED)
        assert (first, again) == ((201, {"hours": 8, "id": 1}),) * 2
        assert sandbox.created == 1
        assert (await send(session, "POST", "/v1/timesheets", json={"hours": 7}, headers=KEYED))[0] == 422
        other = bearer(sandbox.issue_token(client="other")) | KEYED
        assert await send(session, "POST", "/v1/timesheets", json={"hours": 7}, headers=other) == (
            201,
            {"hours": 7, "id": 2},
        )
        await send(session, "POST", "/v1/timesheets", json={"hours": 8})
        assert [sheet["hours"] for sheet in sandbox.timesheets] == [8, 7, 8]
        assert [entry.idempotency_key for entry in sandbox.ledger] == ["k1"] * 4 + [None]


@virtual
async def test_echo_tells_what_arrived_but_no_secret() -> None:
    """Method, query, headers and body; credentials and cookies are left out."""
    async with visited() as (_, session):
        headers = {"X-Api-Key": SECRET, "Cookie": SECRET, "X-Plain": "seen"}
        _, body = await send(session, "PUT", "/v1/echo?a=b", json={"c": "ä"}, headers=headers)
        assert (body["method"], body["query"], body["headers"]["X-Plain"]) == ("PUT", {"a": "b"}, "seen")
        assert (body["body"], body["length"]) == ('{"c": "\\u00e4"}', 15)
        assert not any(secret in str(body) for secret in (SECRET, session.headers["Authorization"]))


@virtual
async def test_redirects_lead_along_the_chain_and_away() -> None:
    """The status is the caller's choice and stays along the chain; the other origin is named in Location."""
    async with visited() as (sandbox, session):
        async with session.post("/v1/moved/3?status=308", json={}) as response:
            assert [hop.status for hop in response.history] == [308] * 3
            assert (await response.json())["method"] == "POST"
        assert [entry.path for entry in sandbox.ledger] == [f"/v1/moved/{n}" for n in (3, 2, 1, 0)]
        there = "http://127.0.0.1:1/x?y=z"
        async with session.get("/v1/away", params={"to": there}, allow_redirects=False) as response:
            assert (response.status, response.headers["Location"]) == (307, there)
        for wrong in ("to=/v1/ping", "to=http://", "to=ftp://x/", "to=http://x/%0d%0aA:b", f"to={there}&status=200"):
            async with session.get(f"/v1/away?{wrong}", allow_redirects=False) as response:
                assert response.status == 400


@virtual
async def test_flaky_keys_fail_as_the_seed_says_and_in_any_order() -> None:
    """The count of failures belongs to the id or to the Idempotency-Key, whenever its requests come."""

    async def failures(seed: int, ids: list[int]) -> dict[int, int]:
        async with visited(seed=seed, failure_rate=0.5) as (sandbox, session):
            for _ in range(3):
                await statuses(session, *[f"/v1/flaky/{n}" for n in ids])
            await session.close()
            return {n: sum(e.status == 500 and e.path == f"/v1/flaky/{n}" for e in sandbox.ledger) for n in sorted(ids)}

    counts = await failures(1, list(range(30)))
    assert counts == await failures(1, list(reversed(range(30)))) != await failures(2, list(range(30)))
    assert set(counts.values()) == {0, 1, 2}


@virtual
async def test_a_flaky_key_is_the_idempotency_key_if_there_is_one() -> None:
    """At a rate of 1 it fails most_failures times, in the API's own words, and never again."""
    async with visited(failure_rate=1, most_failures=1) as (_, session):
        put: dict[str, Any] = {"json": {}, "headers": KEYED}
        assert await send(session, "PUT", "/v1/flaky/1", **put) == (500, INTERNAL)
        assert [(await send(session, "PUT", f"/v1/flaky/{n}", **put))[0] for n in (1, 2)] == [200, 200]
        assert (await send(session, "PUT", "/v1/flaky/1", json={}))[0] == 500
    async with visited(failure_rate=0) as (_, session):
        assert await statuses(session, *[f"/v1/flaky/{n}" for n in range(20)], "/v1/broken") == [200] * 20 + [500]


@virtual
async def test_maintenance_lasts_as_long_as_retry_after_says() -> None:
    """503 until a second after the first request of that id, for whoever does not wait."""
    async with visited() as (_, session):
        async with session.get("/v1/maintenance/1") as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "1")
        await asyncio.sleep(0.9)
        assert await statuses(session, "/v1/maintenance/1", "/v1/maintenance/2") == [503, 503]
        await asyncio.sleep(0.1)
        assert await statuses(session, "/v1/maintenance/1", "/v1/maintenance/2") == [200, 503]


@virtual
async def test_an_outage_hits_the_api_or_one_endpoint_until_it_is_over() -> None:
    """Not the token endpoint, unless by name; and it uses up no quota."""
    token = {"grant_type": "client_credentials", "client_id": "demo", "client_secret": "demo-secret"}
    async with visited(limit=1) as (sandbox, session):
        sandbox.outage(retry_after=7)
        async with session.get("/v1/employees") as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "7")
        assert (await statuses(session, "/v1/nope"), (await ask(sandbox, None, **token))[0]) == ([503], 200)
        sandbox.outage(on=False)
        assert await statuses(session, "/v1/employees") == [200]
        sandbox.outage(endpoint="POST /oauth/token", status=500)
        assert ((await ask(sandbox, None, **token))[:2], await statuses(session, "/v1/ping")) == (
            (500, INTERNAL),
            [200],
        )
        sandbox.outage(on=False, endpoint="POST /oauth/token")
        assert (await ask(sandbox, None, **token))[0] == 200


@virtual
async def test_queued_failures_meet_their_endpoint_in_turn() -> None:
    """`fail_next` hits the named endpoint alone, in the order of the calls, then it works again."""
    async with visited() as (sandbox, session):
        sandbox.fail_next("GET /v1/ping", 500, 2)
        sandbox.fail_next("GET /v1/ping", 429, retry_after=3)
        assert await statuses(session, "/v1/echo", *["/v1/ping"] * 4) == [200, 500, 500, 429, 200]


@virtual
async def test_a_late_failure_loses_the_answer_but_not_the_work() -> None:
    """And it waits for a request that gets as far as the work."""
    async with visited(limit=2, headers=True) as (sandbox, session):
        sandbox.fail_next("POST /v1/timesheets", 500, late=True)
        sandbox.fail_next("POST /v1/timesheets", None, late=True)
        assert (await send(session, "POST", "/v1/timesheets", data="{}"))[0] == 415
        assert await send(session, "POST", "/v1/timesheets", json={}, headers=KEYED) == (500, INTERNAL)
        assert sandbox.created == 1
        await asyncio.sleep(2)
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await send(session, "POST", "/v1/timesheets", json={}, headers=KEYED)
        assert (await send(session, "POST", "/v1/timesheets", json={}, headers=KEYED))[0] == 201
        assert (sandbox.created, [entry.status for entry in sandbox.ledger]) == (1, [415, 500, None, 201])


@virtual
async def test_slow_answers_take_the_time_that_the_seed_or_the_caller_says() -> None:
    """Reports take 0.5 to 1.5 times the latency, the same for the same id; ?delay= goes before it."""
    loop = asyncio.get_running_loop()

    async def taken(path: str) -> float:
        start = loop.time()
        assert await statuses(session, path) == [200]
        return round(loop.time() - start, 3)

    async with visited(latency=10) as (_, session):
        times = [await taken(f"/v1/reports/{n}") for n in range(10)]
        assert all(5 <= time <= 15 for time in times)
        assert len(set(times)) == 10
        assert await taken("/v1/reports/3") == times[3]
        assert (await taken("/v1/reports/3?delay=2.5"), await taken("/v1/ping?delay=1")) == (2.5, 1)
        for wrong in ("-1", "nan", "inf", "x", "1e9"):
            assert await statuses(session, f"/v1/ping?delay={wrong}") == [400]


@virtual
async def test_the_ledger_tells_all_about_a_request_but_its_secrets() -> None:
    """Time, names, status and sizes; neither token nor query nor body."""
    async with visited() as (sandbox, session):
        await asyncio.sleep(5)
        now = asyncio.get_running_loop().time()
        await send(session, "PUT", f"/v1/flaky/%C3%A4?key={SECRET}", json=SECRET, headers=KEYED)
        await ask(sandbox, basic("demo", SECRET), grant_type="client_credentials")
        put, token = sandbox.ledger
        assert (put.time, put.method, put.path, put.endpoint) == (now, "PUT", "/v1/flaky/%C3%A4", "PUT /v1/flaky/{id}")
        assert (put.status, put.idempotency_key, put.content_type) == (200, "k1", "application/json")
        assert (put.authorized, put.client, put.length) == (True, "demo", len(SECRET) + 2)
        assert (token.endpoint, token.status, token.authorized, token.client) == (
            "POST /oauth/token",
            401,
            True,
            "demo",
        )
        told = f"{list(sandbox.ledger)} {sandbox.ledger!r} {sandbox!r} {sandbox.describe()} {vars(sandbox)}"
        assert not any(secret in told for secret in (SECRET, "demo-secret", session.headers["Authorization"][7:]))
        with pytest.raises(AttributeError):
            put.status = 500  # type: ignore[misc]


@virtual
async def test_a_client_that_goes_away_is_in_the_ledger_without_a_status() -> None:
    """Whether it waited for the answer or was still sending; what was done before stays done."""
    async with visited() as (sandbox, session):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await send(session, "POST", "/v1/timesheets?delay=60", json={})
        _, writer = await asyncio.open_connection(*sandbox.url.removeprefix("http://").split(":"))
        writer.write(b"PUT /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf")
        await asyncio.sleep(1)
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(100)
        assert [(entry.endpoint, entry.status) for entry in sandbox.ledger] == [
            ("POST /v1/timesheets", None),
            ("PUT /v1/echo", None),
        ]
        assert sandbox.created == 1


async def test_a_stopped_sandbox_comes_back_on_its_port_with_all_it_knew() -> None:
    """So that a test can take the server away."""
    async with Sandbox() as sandbox, aiohttp.ClientSession(headers=bearer(sandbox.issue_token())) as session:
        url = f"{sandbox.api_url}/ping"
        assert (await get(session, url))[0] == 200
        with pytest.raises(RuntimeError, match="already running"):
            await sandbox.start()
        await sandbox.stop()
        await sandbox.stop()
        with pytest.raises(aiohttp.ClientConnectorError):
            await get(session, url)
        with pytest.raises(RuntimeError, match="not running"):
            _ = sandbox.url
        await sandbox.start()
        assert (await get(session, url), sandbox.count("GET /v1/ping", 200)) == ((200, {"pong": True}), 2)


@virtual
async def test_stopping_breaks_off_what_is_being_answered() -> None:
    """The client sees a lost connection, not an answer, and does not wait for the delay."""
    async with visited() as (sandbox, session):
        start = asyncio.get_running_loop().time()
        waiting = asyncio.create_task(send(session, "POST", "/v1/timesheets?delay=60", json={}))
        while not sandbox.created:
            await asyncio.sleep(0)
        await sandbox.stop()
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await waiting
        assert asyncio.get_running_loop().time() - start < 1
        assert [entry.status for entry in sandbox.ledger] == [None]


async def test_a_port_in_use_is_one_clear_line() -> None:
    """It names host and port, and the sandbox that could not start can be stopped."""
    async with Sandbox() as sandbox:
        port = int(sandbox.url.rpartition(":")[2])
        second = Sandbox(port=port)
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1 port {port}: ") as caught:
            await second.start()
        assert "\n" not in str(caught.value)
        await second.stop()


async def test_a_host_that_cannot_be_is_one_clear_line() -> None:
    """As a port that somebody has; nothing of the attempt stays open."""
    with pytest.raises(OSError, match=r"cannot listen on a\.\.b port 0: no name of a host"):
        await Sandbox(host="a..b").start()
