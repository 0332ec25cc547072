"""The way out of a 401, as a table."""

import json
from typing import Any

import pytest

from apiclient.middleware._parsing.challenge import parse_challenges
from apiclient.middleware._parsing.problem import read_problem
from apiclient.middleware._unauthorized import hint_401
from apiclient.middleware.credential import Token

BEARER = Token("hush")
KEY = Token("hush", scheme=None, header="X-Api-Key")


@pytest.mark.parametrize(
    ("challenge", "body", "token", "stopped", "hint"),
    [
        ('Bearer error="invalid_token"', {}, BEARER, None, None),
        ("", {}, BEARER, None, None),
        ("", {"error": "invalid_client"}, BEARER, None, "Check client id and key"),
        ("Bearer", {}, None, None, "No credential was sent (Bearer): give credentials="),
        ("", {}, None, None, "No credential was sent: give credentials="),
        ('Digest realm="Bearer", nonce="x"', {}, BEARER, None, "asks for Digest, but Bearer was sent"),
        ('Basic realm="x", Digest nonce="x"', {}, KEY, None, "asks for Basic, Digest, but X-Api-Key was sent"),
        ('Digest nonce="x", bearer', {}, BEARER, None, None),
        ("Token", {}, Token("hush", scheme="token"), None, None),
        ("Bearer", {}, BEARER, "not_replayable", "this body can be read only once"),
    ],
)
def test_the_hint_says_what_to_do(
    challenge: str, body: Any, token: Token | None, stopped: str | None, hint: str | None
) -> None:
    """Nothing sent, a wrong scheme, a wrong client and a body of one use each have a way out; else the general hint."""
    problem = read_problem(json.dumps(body).encode(), "application/json")
    found = hint_401(parse_challenges([challenge]), problem, token=token, stopped=stopped)
    if hint is None:
        assert found is None
    else:
        assert found is not None
        assert hint in found
        assert "hush" not in found
