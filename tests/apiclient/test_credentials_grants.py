"""Token requests and answers as plain values."""

import json
from base64 import b64decode
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from apiclient.credentials._client_auth import Public, SecretBasic, SecretPost, client_auth_of
from apiclient.credentials._discovery import is_loopback, metadata_urls, problem_with, token_endpoint_in
from apiclient.credentials._grants import (
    Granted,
    Outcome,
    Refused,
    Unavailable,
    WireRequest,
    extra_parameters,
    lifetime_of,
    parse_answer,
)
from apiclient.credentials._record import Kept, Known, Life, Phase, Record
from apiclient.credentials._request import token_request
from apiclient.credentials._secret import Secret

ENDPOINT = URL("https://login.example.com/token")
ASKED = WireRequest(ENDPOINT, form=(), secrets=["hush plus", "hush"])


def parsed(status: int, document: Any) -> Outcome:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return parse_answer(ASKED, status, body)


@pytest.mark.parametrize(
    ("expires_in", "lifetime"),
    [
        (3600, 3600.0),
        (0.5, 0.5),
        ("3600", 3600.0),
        (" 60 ", 60.0),
        ("60.5", 60.5),
        (None, None),
        (0, None),
        ("0", None),
        (-1, None),
        ("-5", None),
        (315_360_000, 315_360_000.0),
        (315_360_001, None),
        (10**18, None),
        (10**400, None),
        ("1" + "0" * 400, None),
        ("9" * 5000, None),
        (float("inf"), None),
        (float("nan"), None),
        ("1e999", None),
        ("an hour", None),
        ("", None),
        (True, None),
        ([60], None),
        ({}, None),
    ],
)
def test_expires_in_counts_only_where_it_makes_sense(expires_in: object, lifetime: float | None) -> None:
    """Missing, zero, negative, huge and unreadable values leave the lifetime unknown; numeric text counts."""
    assert lifetime_of(expires_in) == lifetime


def test_a_token_answer_is_read_in_full() -> None:
    """RFC 6749 5.1: token, lifetime, refresh token and scope."""
    answer = {"access_token": "a", "token_type": "bEaReR", "expires_in": 60, "refresh_token": "r", "scope": "x y"}
    assert parsed(200, answer) == Granted("a", 60.0, "r", "x y")
    assert parsed(200, {"access_token": "a"}) == Granted("a")
    assert parsed(201, {"access_token": "a", "scope": 7, "refresh_token": ""}) == Granted("a")


@pytest.mark.parametrize(
    ("status", "document", "outcome"),
    [
        (401, {"error": "invalid_client"}, Refused("invalid_client", "the token endpoint answers 401 invalid_client")),
        (
            400,
            {"error": "invalid_grant", "error_description": "gone\n \x1b[31m hush"},
            Refused("invalid_grant", "the token endpoint answers 400 invalid_grant (gone [31m ...)"),
        ),
        (200, {"error": "invalid_client"}, Refused("invalid_client", "the token endpoint answers 200 invalid_client")),
        (
            200,
            {"access_token": None, "error": "invalid_client"},
            Refused("invalid_client", "the token endpoint answers 200 invalid_client"),
        ),
        (401, b"", Refused(None, "the token endpoint answers 401 without an OAuth error code")),
        (403, b"<html>", Refused(None, "the token endpoint answers 403 without an OAuth error code")),
        (400, {"error": {"code": 1}}, Refused(None, "the token endpoint answers 400 without an OAuth error code")),
        (429, {"error": "invalid_client"}, Unavailable("the token endpoint answers 429")),
        (503, b"", Unavailable("the token endpoint answers 503")),
        (500, {"error": "invalid_client"}, Unavailable("the token endpoint answers 500")),
        (408, b"", Unavailable("the token endpoint answers 408")),
        (400, {"error": "temporarily_unavailable"}, Unavailable("the token endpoint answers 400")),
        (404, b"", Unavailable("the token endpoint answers 404", temporary=False)),
        (302, b"", Unavailable("the token endpoint answers 302, a redirect, which is not followed", temporary=False)),
        (
            300,
            {"access_token": "a"},
            Unavailable("the token endpoint answers 300, a redirect, which is not followed", temporary=False),
        ),
        (300, b"", Unavailable("the token endpoint answers 300, a redirect, which is not followed", temporary=False)),
        (400, {"error": "no hush+plus"}, Refused("no ...", "the token endpoint answers 400 no ...")),
        (400, {"error": "x" * 500}, Refused("x" * 200, f"the token endpoint answers 400 {'x' * 200}")),
        (200, b"<HTML lang=en>", Unavailable("the token endpoint answers 200 with an HTML page", temporary=False)),
        (204, b"", Unavailable("the token endpoint answers 204 with an empty body", temporary=False)),
        (200, b"", Unavailable("the token endpoint answers 200 with an empty body", temporary=False)),
        (200, b"\n<!DOCTYPE html>", Unavailable("the token endpoint answers 200 with an HTML page", temporary=False)),
        (
            200,
            b"\xff\xfe\x00nonsense",
            Unavailable("the token endpoint answers 200 with something that is not a JSON object", temporary=False),
        ),
        (
            200,
            b"[" * 100_000,
            Unavailable("the token endpoint answers 200 with something that is not a JSON object", temporary=False),
        ),
        (
            200,
            ["access_token"],
            Unavailable("the token endpoint answers 200 with something that is not a JSON object", temporary=False),
        ),
        (
            200,
            {"token": "a"},
            Unavailable("the token endpoint answers 200 with JSON that has no access_token", temporary=False),
        ),
        (
            200,
            {"access_token": "a", "token_type": "mac"},
            Unavailable("the token endpoint issues a token_type other than Bearer", temporary=False),
        ),
    ],
)
def test_every_other_answer_says_what_it_is(status: int, document: Any, outcome: Outcome) -> None:
    """Final refusals, passing trouble and nonsense are told apart; the server's text is cleaned, our secret cut out."""
    assert parsed(status, document) == outcome


@pytest.mark.parametrize("value", ["", "a b", "a\r\nX-Injected: 1", "tok\u00e9n", 7, ["a"], "a\x00"])
def test_a_token_that_no_header_can_carry_is_refused(value: object) -> None:
    """A token with spaces, line breaks or foreign characters is an unusable answer, and is not shown."""
    outcome = parsed(200, {"access_token": value})
    assert outcome == Unavailable("the token endpoint's access_token cannot be sent in a header", temporary=False)


def test_a_cut_off_answer_is_no_token() -> None:
    """What was longer than the limit is not parsed, even if its start looks right."""
    outcome = parse_answer(ASKED, 200, b'{"access_token": "a"}', truncated=True)
    assert outcome == Unavailable("the token endpoint answers 200 with more than any token answer", temporary=False)


@settings(max_examples=200, derandomize=True)
@given(
    status=st.integers(100, 599),
    body=st.binary(max_size=200)
    | st.builds(
        lambda x: json.dumps(x).encode(),
        st.dictionaries(
            st.sampled_from(["access_token", "error", "expires_in", "token_type", "scope"]),
            st.none() | st.text(max_size=5) | st.floats() | st.integers(),
        ),
    ),
)
def test_no_answer_raises(status: int, body: bytes) -> None:
    """Whatever a server sends, there is an outcome."""
    assert isinstance(parse_answer(ASKED, status, body), Granted | Refused | Unavailable)


def test_client_secret_basic_is_form_encoded_before_base64() -> None:
    """RFC 6749 2.3.1: reserved characters of id and secret survive."""
    proof = SecretBasic(Secret("p:/%+ \u00e9")).prove("my client:1", endpoint=ENDPOINT, now=0.0)
    assert proof.header is not None
    assert proof.header.value.startswith("Basic ")
    name, _, secret = b64decode(proof.header.value[6:]).decode().partition(":")
    assert (unquote_plus(name), unquote_plus(secret)) == ("my client:1", "p:/%+ \u00e9")
    assert ":" not in name + secret
    assert proof.pairs() == ()


def test_client_secret_post_and_none_put_the_client_into_the_body() -> None:
    """RFC 6749 2.3.1 and 3.2.1: the fields are in the form, nothing in the header."""
    posted = SecretPost(Secret("hush")).prove("me", endpoint=ENDPOINT, now=0.0)
    assert (posted.header, posted.pairs()) == (None, (("client_id", "me"), ("client_secret", "hush")))
    assert Public().prove("me", endpoint=ENDPOINT, now=0.0).pairs() == (("client_id", "me"),)


def test_a_proof_names_what_no_message_may_show() -> None:
    """The secret, and what it was encoded to."""
    assert Public().prove("me", endpoint=ENDPOINT, now=0.0).secrets() == ()
    assert SecretPost(Secret("hush")).prove("me", endpoint=ENDPOINT, now=0.0).secrets() == ("hush",)
    basic = SecretBasic(Secret("hush")).prove("me", endpoint=ENDPOINT, now=0.0)
    assert basic.header is not None
    assert basic.secrets() == ("hush", basic.header.value.removeprefix("Basic "))


@pytest.mark.parametrize(
    ("method", "secret", "shown"),
    [
        (None, None, "none"),
        (None, "hush", "client_secret_basic"),
        ("none", None, "none"),
        ("client_secret_basic", "hush", "client_secret_basic"),
        ("client_secret_post", "hush", "client_secret_post"),
    ],
)
def test_a_way_of_client_authentication_is_shown_by_its_registered_name(
    method: Any, secret: str | None, shown: str
) -> None:
    """A person who reads the repr finds it in the server's documentation."""
    assert repr(client_auth_of(method, None if secret is None else Secret(secret))) == shown


def test_a_token_request_has_grant_scope_extras_and_proof() -> None:
    """The body is a form; the repr of the request shows none of it."""
    proof = SecretPost(Secret("hush")).prove("me", endpoint=ENDPOINT, now=0.0)
    extras = extra_parameters({"audience": "https://api", "resource": ["a", "b"]})
    request = token_request(ENDPOINT, (("grant_type", "client_credentials"),), ("x", "y"), extras, proof)
    assert request.body is not None
    assert parse_qsl(request.body.decode()) == [
        ("grant_type", "client_credentials"),
        ("scope", "x y"),
        ("audience", "https://api"),
        ("resource", "a"),
        ("resource", "b"),
        ("client_id", "me"),
        ("client_secret", "hush"),
    ]
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert repr(request) == "WireRequest(POST https://login.example.com/token)"


@pytest.mark.parametrize("name", ["grant_type", "client_secret", "scope", "refresh_token"])
def test_extra_parameters_cannot_replace_the_protocols_own(name: str) -> None:
    """A field that has an option of its own is refused by its name."""
    with pytest.raises(ValueError, match=f"parameters must not contain '{name}'"):
        extra_parameters({name: "x"})


@pytest.mark.parametrize(
    ("method", "secret", "message"),
    [
        ("client_secret_post", None, "needs a client_secret"),
        ("client_secret_basic", None, "needs a client_secret"),
        ("none", "hush", "^client_secret must not be given with client_auth='none'"),
        (
            "basic",
            "hush",
            "^client_auth must be 'client_secret_basic', 'client_secret_post', 'none' or a PrivateKeyJwt, got 'basic'",
        ),
        (Public(), "hush", "exclude each other"),
    ],
)
def test_client_authentication_must_fit_the_secret(method: Any, secret: str | None, message: str) -> None:
    """Contradicting options fail at once, and the secret is not in the message."""
    with pytest.raises(ValueError, match=message) as caught:
        client_auth_of(method, None if secret is None else Secret(secret))
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("issuer", "first", "second"),
    [
        (
            "https://login.example.com",
            "https://login.example.com/.well-known/oauth-authorization-server",
            "https://login.example.com/.well-known/openid-configuration",
        ),
        (
            "https://login.example.com/",
            "https://login.example.com/.well-known/oauth-authorization-server",
            "https://login.example.com/.well-known/openid-configuration",
        ),
        (
            "https://login.example.com/realms/a%2Fb",
            "https://login.example.com/.well-known/oauth-authorization-server/realms/a%2Fb",
            "https://login.example.com/realms/a%2Fb/.well-known/openid-configuration",
        ),
        (
            "https://login.example.com/X/",
            "https://login.example.com/.well-known/oauth-authorization-server/X",
            "https://login.example.com/X/.well-known/openid-configuration",
        ),
    ],
)
def test_metadata_addresses_follow_both_standards(issuer: str, first: str, second: str) -> None:
    """RFC 8414 3.1 puts the well-known part first, OpenID Connect last."""
    assert [str(url) for url in metadata_urls(URL(issuer))] == [first, second]


@pytest.mark.parametrize(
    ("document", "outcome"),
    [
        ({"issuer": "https://a/x", "token_endpoint": "https://b/t"}, URL("https://b/t")),
        ({"issuer": "https://a/x/", "token_endpoint": "https://b/t"}, URL("https://b/t")),
        ({"issuer": "https://evil/x", "token_endpoint": "https://b/t"}, "the metadata belongs to another issuer"),
        ({"token_endpoint": "https://b/t"}, "the metadata belongs to another issuer"),
        ({"issuer": "https://a/x"}, "the metadata names no token_endpoint"),
        ({"issuer": "https://a/x", "token_endpoint": "https://["}, "the metadata's token_endpoint is not a URL"),
        ([], "the metadata is not a JSON object"),
    ],
)
def test_metadata_must_be_the_issuers_own(document: Any, outcome: URL | str) -> None:
    """RFC 8414 3.3: the issuer in it must be the one asked for."""
    for issuer in ("https://a/x", "https://a/x/"):
        assert token_endpoint_in(json.dumps(document).encode(), URL(issuer)) == outcome
    assert token_endpoint_in(b"<html>", URL("https://a/x")) == "the metadata is not JSON"
    for issuer, named in (("https://a/x", "https://a/xX"), ("https://a/xX", "https://a/x")):
        body = json.dumps({"issuer": named, "token_endpoint": "https://b/t"}).encode()
        assert token_endpoint_in(body, URL(issuer)) == "the metadata belongs to another issuer"


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        ("https://login.example.com/t", True),
        ("http://127.0.0.1:8080/t", True),
        ("http://127.9.9.9/t", True),
        ("http://[::1]/t", True),
        ("http://localhost/t", True),
        ("http://a.localhost/t", True),
        ("http://login.example.com/t", False),
        ("http://localhost.example.com/t", False),
        ("http://10.0.0.1/t", False),
        ("https://user:pw@login.example.com/t", False),
        ("https://user@login.example.com/t", False),
        ("https://:pw@login.example.com/t", False),
        ("ftp://login.example.com/t", False),
        ("/token", False),
    ],
)
def test_secrets_go_over_https_or_loopback_only(url: str, fine: object) -> None:
    """Plain http to another machine is refused unless it is allowed."""
    assert (problem_with(URL(url), allow_http=False) is None) is fine


def test_plain_http_can_be_allowed() -> None:
    """allow_http is the way round it."""
    assert problem_with(URL("http://10.0.0.1/t"), allow_http=True) is None
    assert not is_loopback("127.0.0.1.example.com")
    assert problem_with(URL("http://10.0.0.1/t"), allow_http=False) == (
        "must be https (or on loopback, or allow_http=True), because the client's secret goes there"
    )


@pytest.mark.parametrize(
    ("now", "chance", "phase"),
    [
        (1000.0, 0.0, Phase.FRESH),
        (1539.0, 0.0, Phase.FRESH),
        (1540.0, 0.0, Phase.AGEING),
        (1569.0, 1.0, Phase.FRESH),
        (1570.0, 1.0, Phase.AGEING),
        (1594.0, 0.5, Phase.AGEING),
        (1595.0, 0.5, Phase.EXPIRED),
        (9999.0, 0.5, Phase.EXPIRED),
    ],
)
def test_a_token_ages_before_it_expires(now: float, chance: float, phase: Phase) -> None:
    """600 s from 1000: due 60 to 30 s before the end by chance, unused for the last 5 s."""
    assert Life.of(1000.0, 1600.0, ahead=60.0, chance=chance).phase(now) is phase


def test_a_short_life_is_not_all_refreshing() -> None:
    """A token of 10 s is replaced in its last fifth, and used until a tenth is left."""
    life = Life.of(1000.0, 1010.0, ahead=60.0, chance=0.0)
    assert (life.due, life.end) == (1008.0, 1009.0)
    assert Life.of(1000.0, 1000.0, ahead=60.0, chance=0.0) == Life(1000.0, 1000.0)
    assert Life.of(0.0, None, ahead=60.0, chance=0.0).phase(1e12) is Phase.FRESH
    assert Life.of(0.0, 600.0, ahead=0.0, chance=0.0).due == 595.0


def test_a_record_survives_the_store_and_drops_what_expired() -> None:
    """What is written is what is read; expired tokens of other scopes go."""
    record = Record().having("a", Kept("t1", 0.0, 10.0, "a"), refresh_token="r1", now=0.0)
    record = record.having("b", Kept("t2", 5.0, 50.0, None), refresh_token=None, now=5.0)
    record = record.having("d", Kept("t4", 5.0), refresh_token=None, now=5.0).having(
        "e", Kept("t5", 5.0), refresh_token=None, now=5.0
    )
    assert set(record.tokens) == {"a", "b", "e"}
    assert Record.parse(record.text()) == record
    assert record.refresh_token == "r1"
    assert set(record.having("c", Kept("t3", 20.0), refresh_token="r2", now=20.0).tokens) == {"b", "c"}
    assert set(record.having("c", Kept("t3", 20.0), refresh_token="r2", now=50.0).tokens) == {"c"}


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{",
        "[]",
        "7",
        '{"version": 2, "refresh_token": "r"}',
        '{"version": 1, "tokens": {"a": [1]}}',
        '{"version": 1, "tokens": 3}',
        '{"version": 1, "tokens": {"a": [7, 0, null, null]}}',
        '{"version": 1, "tokens": {"a": ["t", 0, null, 7]}}',
    ],
)
def test_an_unreadable_record_is_an_empty_one(text: str | None) -> None:
    """A store's rubbish leads to a new token request, not to an error."""
    assert Record.parse(text) == Record()


def test_nothing_secret_shows_itself() -> None:
    """Reprs of everything that holds a secret."""
    held = [
        Secret("hush"),
        Granted("hush", 1.0, "hush"),
        Kept("hush", 0.0),
        Record("hush", {"": Kept("hush", 0.0)}),
        WireRequest(ENDPOINT, form=(("client_secret", "hush"),), headers={"Authorization": "hush"}, secrets=["hush"]),
        SecretPost(Secret("hush")).prove("me", endpoint=ENDPOINT, now=0.0),
    ]
    assert "hush" not in repr(held)


@pytest.mark.parametrize(
    ("stored", "spent", "latest"),
    [
        ("r1", "r1", "r2"),
        (None, None, "r2"),
        (None, "r1", "r2"),
        ("r2", "r1", "r2"),
        ("r3", "r1", "r3"),
        ("r1", None, "r1"),
    ],
)
def test_what_the_store_has_counts_unless_this_process_has_used_it_up(
    stored: str | None, spent: str | None, latest: str
) -> None:
    """Behind, or empty: what came after it is known here. Anything else in it is as new or newer."""
    known = Known(Record("r2"), spent)
    assert known.latest(Record(stored)).refresh_token == latest
    assert Known().latest(Record(stored)).refresh_token == stored
    assert "r2" not in repr(known)
