"""The diagnosis of a 403, as a table."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiclient.middleware._forbidden import diagnose_403
from apiclient.middleware._parsing.challenge import parse_challenges
from apiclient.middleware._parsing.problem import read_problem
from apiclient.middleware.errors import Banned, Forbidden, PermissionMissing, ScopeMissing, WrongEndpoint


def diagnosed(body: Any, headers: dict[str, str] | None = None, challenge: str = "") -> tuple[type[Forbidden], Any]:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {} if headers is None else headers
    return diagnose_403(parse_challenges([challenge]), given, read_problem(text, given.get("Content-Type")))


@pytest.mark.parametrize(
    ("challenge", "scope"),
    [
        ('Bearer realm="x", error="insufficient_scope", scope="pay admin"', "pay admin"),
        ('Bearer error="insufficient_scope"', None),
        ('Bearer error="insufficient_scope", scope="pay\x1b[31m"', None),
        (f'Bearer error="insufficient_scope", scope="{"x" * 300}"', None),
        ('Negotiate, bearer ERROR="Insufficient_Scope", SCOPE="pay"', "pay"),
    ],
)
def test_a_challenge_that_names_the_scope_decides(challenge: str, scope: str | None) -> None:
    """RFC 6750 3.1 goes before everything else, the wording of the body and a Retry-After included."""
    expected = ScopeMissing, {"scope": scope}
    assert diagnosed({"message": "You are banned"}, {"Retry-After": "5"}, challenge) == expected


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "60"},
        {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"},
        {"X-RateLimit-Remaining": "0"},
        {"x-ratelimit-remaining": " 0 "},
        {"RateLimit-Remaining": "0"},
        {"X-Rate-Limit-Remaining": "0"},
    ],
)
def test_a_limit_in_the_headers_is_a_ban(headers: dict[str, str]) -> None:
    """Retry-After or nothing remaining makes it the limiter's business."""
    assert diagnosed({"message": "Forbidden"}, headers) == (Banned, {})


@pytest.mark.parametrize("remaining", ["1", "00x", "", "none"])
def test_quota_that_is_left_is_no_ban(remaining: str) -> None:
    """Only zero counts."""
    assert diagnosed({"message": "Forbidden"}, {"x-ratelimit-remaining": remaining})[0] is Forbidden


@pytest.mark.parametrize(
    ("body", "kind", "scope"),
    [
        ({"error": "insufficient_scope", "scope": "pay"}, ScopeMissing, None),
        ({"message": "Insufficient scope: employees.write"}, ScopeMissing, "employees.write"),
        (
            {"message": 'The token lacks the scope "https://api.example.com/pay"'},
            ScopeMissing,
            "https://api.example.com/pay",
        ),
        ({"detail": "A required scope is missing"}, ScopeMissing, None),
        ({"message": "Request had insufficient authentication scopes."}, ScopeMissing, None),
        ({"message": "User group permission missing"}, PermissionMissing, None),
        ({"error": "forbidden", "message": "The user group of this client has no permission"}, PermissionMissing, None),
        ({"error": "access_denied"}, PermissionMissing, None),
        ({"message": "Access denied"}, PermissionMissing, None),
        ({"title": "Forbidden", "detail": "Your role may not do this"}, PermissionMissing, None),
        ({"message": "You are not authorized to perform this action"}, PermissionMissing, None),
        ({"message": "Missing Authentication Token"}, WrongEndpoint, None),
        ({"message": "Wrong endpoint URL: there is no /v1/x."}, WrongEndpoint, None),
        ({"message": "Unknown path /v2/employees"}, WrongEndpoint, None),
        ({"message": "The route /x does not exist"}, WrongEndpoint, None),
        ({"message": "The requested URL was not found"}, WrongEndpoint, None),
        ({"message": "No endpoint found for /x: check your permissions"}, WrongEndpoint, None),
        ({"message": "You have exceeded a secondary rate limit"}, Banned, None),
        ({"message": "API calls quota exceeded!"}, Banned, None),
        ({"message": "Your IP is banned"}, Banned, None),
        (
            {"message": "Adjust the user group's permissions, include the scope, or verify the endpoint URL"},
            Forbidden,
            None,
        ),
        ({"error": "x", "message": "Insufficient scope: one.two; SCOPE"}, ScopeMissing, "one.two"),
        ({"title": "You have no", "detail": "permission"}, PermissionMissing, None),
        ({"title": "too", "detail": "many"}, Banned, None),  # Read as one text, with a blank between.
        ({"message": "Forbidden"}, Forbidden, None),
        ({}, Forbidden, None),
        (b"", Forbidden, None),
        (b"<html><h1>403 Forbidden</h1></html>", Forbidden, None),
        (b"\xff\x00", Forbidden, None),
    ],
)
def test_the_wording_of_the_body_is_the_last_resort(body: Any, kind: type[Forbidden], scope: str | None) -> None:
    """Path, scope, limit and permission are told apart by what APIs say; a text that could mean all stays general."""
    found, details = diagnosed(body)
    assert found is kind
    assert details.get("scope") == scope


def test_an_amazon_gateway_says_it_in_a_header() -> None:
    """An unknown path behind Amazon's API gateway answers 403 with an error type of its own."""
    headers = {"x-amzn-ErrorType": "MissingAuthenticationTokenException"}
    assert diagnosed({"message": None}, headers) == (WrongEndpoint, {})
    assert diagnosed({"message": None}, {"x-amzn-ErrorType": "AccessDeniedException"}) == (PermissionMissing, {})


@pytest.mark.parametrize("kind", [Forbidden, ScopeMissing, PermissionMissing, WrongEndpoint, Banned])
def test_each_diagnosis_has_a_hint(kind: type[Forbidden]) -> None:
    """Whatever a 403 turns out to be, a person reads what to do."""
    assert kind.hint
    assert kind.recoverable is (kind is Banned)


@settings(max_examples=150, derandomize=True)
@given(st.text(max_size=300))
def test_no_text_raises(text: str) -> None:
    """Untrusted text only ever leads to one of the five."""
    assert issubclass(diagnosed({"message": text})[0], Forbidden)


def test_long_text_takes_no_long_time() -> None:
    """Only a bounded part of the text is looked at, and no pattern goes over it twice."""
    for text in ("path " * 100_000, "scope " * 100_000, "a" * 500_000, "endpoint x" + " " * 100_000):
        assert issubclass(diagnosed({"message": text})[0], Forbidden)
