"""No secret passes into a cassette, wherever it stands; what is none stays, so that the replay works."""

import base64
import gzip
import json
from typing import Any

import pytest

from apiclient.testing._redaction import Redaction, Stored, restored, unpacked

CANARY = "Zq7-s3cret/+ü&x"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJl"


def shown(stored: Stored) -> str:
    return unpacked(restored(stored)).decode("latin-1")


@pytest.mark.parametrize(
    "name",
    ["api_token", "newPassword", "webhook-secret", "X-Amz-Signature", "X-Amz-Credential", "sig", "user[api_token]",
     "JSESSIONID", "PHPSESSID", "Ocp-Apim-Subscription-Key", "SecretAccessKey", "X-CSRF-Token", "oauth.refresh_token"],
)  # fmt: skip
def test_a_longer_name_of_a_secret_is_one(name: str) -> None:
    """In a query, a form, JSON, a header of an answer, a URL in any text, plain text and XML."""
    secret = "Zq7-s3cretvalue"
    url = f"https://a.test/x?page=2&{name}={secret}"
    kept: dict[str, Any] = {
        "query": Redaction().query([(name, secret)]),
        "form": Redaction().body(f"a=1&{name}={secret}".encode(), "application/x-www-form-urlencoded"),
        "json": Redaction().body(json.dumps({"a": [{name: secret}]}).encode(), "application/json"),
        "header": Redaction().received([(name, secret)]),
        "location": Redaction().received([("Location", url), ("Link", f'<{url}>; rel="next"')]),
        "url in json": Redaction().body(json.dumps({"next": url}).encode(), "application/json"),
        "url in a query": Redaction().query([("next", url)]),
        "text": Redaction().body(f"It is {name}: {secret}".encode(), "text/plain"),
        "json in text": Redaction().body(json.dumps({"said": json.dumps({name: secret})}).encode(), "application/json"),
        "path": Redaction().text(f"/x;{name}={secret}"),
    }
    for where, each in kept.items():
        assert secret not in json.dumps(each), where
        assert "[hidden]" in json.dumps(each), where


@pytest.mark.parametrize(
    "name", ["nextPageToken", "continuation_token", "$skiptoken", "token_type", "max_tokens", "pinned", "design"]
)
def test_what_only_sounds_like_a_secret_stays(name: str) -> None:
    """Where a list goes on, and words that hold a shorter name: hidden, a replayed list would have no end."""
    assert Redaction().query([(name, "abc-123456")]) == [(name, "abc-123456")]
    assert Redaction().body(json.dumps({name: "abc-123456"}).encode(), None) == {"json": {name: "abc-123456"}}


def test_json_keeps_its_shape() -> None:
    """Each value under a secret's name is hidden by itself, also in objects and lists; what is empty says so."""
    value = {
        "token": {"value": "abc-12345678", "uses": 3, "old": ["x1", ""]},
        "secret": None,
        "password": False,
        "pin": "",
    }
    kept = Redaction().body(json.dumps(value).encode(), "application/json")
    assert kept == {
        "json": {
            "token": {"value": "[hidden]", "uses": "[hidden]", "old": ["[hidden]", ""]},
            "secret": None, "password": False, "pin": "",
        }
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"see Bearer {CANARY[:11]}123 there", "see Bearer [hidden] there"),
        (f"a JWT, {JWT}, alone", "a JWT, [hidden], alone"),
        ("redis://user:pa55-word@host/0", "redis://user:[hidden]@host/0"),
        ('{"say": "password=\\"a\\\\\\"b\\""}', '{"say": "password=\\"[hidden]\\""}'),
        ("<a><ns:Password>\n<![CDATA[a<b]]></ns:Password></a>", "<a><ns:Password>[hidden]</ns:Password></a>"),
        ("<Password><![CDATA[a<b]]></Password>", "<Password>[hidden]</Password>"),
        ("{'password': 'with a space', 'a': 1}", "{'password': '[hidden]', 'a': 1}"),
        ("password: 'cut off", "password: '[hidden]"),
        ("the api key = 7f, the PIN: 1234; client secret=abc", "the api key = [hidden], the PIN: [hidden]; client secret=[hidden]"),
        ('WWW-Authenticate: Bearer realm="api", error="invalid_token"', 'WWW-Authenticate: Bearer realm="api", error="invalid_token"'),
        ("basic authentication is refused; token: null", "basic authentication is refused; token: null"),
        ("http://a.test:8080/x@y and mail@a.test", "http://a.test:8080/x@y and mail@a.test"),
    ],
)  # fmt: skip
def test_texts(text: str, kept: str) -> None:
    """What stands beside a secret's name, or looks like a secret, is taken out, and no more than that."""
    assert Redaction().text(text) == kept


@pytest.mark.parametrize("content", ["data: {} \n\n", "{}\n{{}}", "  {}", "\ufeff{}"])
def test_json_in_other_things(content: str) -> None:
    """Server-sent events, lines of JSON, odd spacing, a byte order mark."""
    body = content.replace("{}", json.dumps({"password": "Zq7-s3cretvalue"})).encode()
    assert "Zq7" not in shown(Redaction().body(body, "text/event-stream"))


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16-le"])
@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
def test_a_body_stays_in_its_encoding(encoding: str, kind: str) -> None:
    """What has nothing to hide comes back byte by byte, and what has can still be read as what it says it is."""
    for text in ('{"name":"grüße"}', '{"name": "gr\\u00fc\\u00dfe"}'):
        assert restored(Redaction().body(text.encode(encoding), kind)) == text.encode(encoding)
    hidden = restored(Redaction().body('{"name":"grüße","password":"x1"}'.encode(encoding), kind))
    assert json.loads(hidden.decode(encoding)) == {"name": "grüße", "password": "[hidden]"}


def test_a_known_secret_is_found_as_others_write_it() -> None:
    """In URLs of either case, forms, JSON, HTML, bytes, and compressed; learned from a password's two places alike."""
    redaction = Redaction()
    redaction.learn({"aUTHORIZATION": "bAsIc " + base64.b64encode(f"ann:{CANARY}".encode()).decode()})
    for written in (
        CANARY, json.dumps(CANARY)[1:-1], "Zq7-s3cret%2F%2B%C3%BC%26x", "Zq7-s3cret%2f%2b%c3%bc%26x", "Zq7-s3cret/%2B%C3%BC%26x",
        "Zq7-s3cret\\/+ü&x", "Zq7-s3cret/+ü&amp;x",
    ):  # fmt: skip
        for body in (written.encode(), b"\xff\xfe\x00" + written.encode(), gzip.compress(b"it is " + written.encode())):
            kept = shown(redaction.body(body, None))
            assert "Zq7" not in kept, written
            assert "[hidden]" in kept, written


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"password=Zq7-s3cretvalue", "text/plain"),
        (b"<a><password>Zq7-s3cretvalue</password></a>", "application/xml"),
        (b'{"token": {"value": "Zq7-s3cretvalue"}}', "application/json"),
        (b'--b\r\nContent-Disposition: form-data; name="pin"\r\n\r\nZq7-s3cretvalue\r\n--b--', "multipart/form-data; boundary=b"),
        (gzip.compress(b"", mtime=0) + gzip.compress(b"password=Zq7-s3cretvalue", mtime=0), "text/plain"),
    ],
    ids=["text", "xml", "json", "multipart", "gzip"],
)  # fmt: skip
def test_what_was_hidden_in_one_place_is_hidden_in_others(body: bytes, kind: str) -> None:
    """However it became known."""
    redaction = Redaction()
    assert "Zq7" not in shown(redaction.body(body, kind))
    assert redaction.text("it was Zq7-s3cretvalue") == "it was [hidden]"


def test_compressed_bodies_without_a_secret_stay_as_they_are() -> None:
    """Byte by byte, as does what only begins as such."""
    for body in (gzip.compress(b"fine", mtime=7), b"\x1f\x8bnone", b"\x1f\x8b"):
        assert restored(Redaction().body(body, None)) == body


def test_a_token_request_in_json() -> None:
    """Known by its grant, as one that is a form."""
    kept = Redaction().body(b'{"grant_type": "x", "device_code": "abc"}', "application/json", grant=True)
    assert kept == {"json": {"grant_type": "x", "device_code": "[hidden]"}}


def test_looking_twice_changes_nothing() -> None:
    """What was redacted once is redacted again when it is written."""
    redaction = Redaction()
    bodies = (b'{"password": "abc", "x": "Bearer abc12345"}', b"a=1&password=b", b"<password>x</password>; token: 5")
    for body, kind in zip(bodies, ("application/json", "application/x-www-form-urlencoded", "text/xml"), strict=True):
        once = redaction.body(body, kind)
        assert redaction.body(restored(once), kind) == once
    headers = [("Set-Cookie", "a=b; Path=/"), ("Location", "https://u:p@x/?token=abc")]
    assert redaction.received(redaction.received(headers)) == redaction.received(headers)


def test_its_repr_is_silent() -> None:
    """Only how many secrets there are."""
    redaction = Redaction()
    redaction.learn({"X-Key": CANARY})
    assert repr(redaction) == "Redaction(1 secrets known)"
