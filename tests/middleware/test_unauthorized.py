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
        ("A x=y, B x=y, C x=y, D x=y", {}, None, None, "No credential was sent (A, B, C): give credentials="),
        ("", {}, None, None, "No credential was sent: give credentials="),
        ('Digest realm="Bearer", nonce="x"', {}, BEARER, None, "The server asks for Digest, but Bearer was sent"),
        (
            'Basic realm="x", Digest nonce="x"',
            {},
            KEY,
            None,
            "The server asks for Basic, Digest, but X-Api-Key was sent",
        ),
        ("A x=y, B x=y, C x=y, D x=y", {}, BEARER, None, "The server asks for A, B, C, but Bearer was sent"),
        ('Digest nonce="x", bearer', {}, BEARER, None, None),
        ("BEARER", {}, KEY, None, None),
        ("Bearer", {}, Token("hush", scheme="token"), None, None),
        ("Token", {}, Token("hush", scheme="token"), None, None),
        ("Bearer", {}, BEARER, "not_replayable", "The next call gets a new token; this body can be read only once"),
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
        assert found.startswith(hint)
        assert "hush" not in found
