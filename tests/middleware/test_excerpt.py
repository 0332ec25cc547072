import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiclient.middleware._excerpt import excerpt, hidden, secrets_of, without

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        (f"Bearer {TOKEN} was refused", TOKEN),
        ("Authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ('{"access_token": "abc", "x": 1}', "abc"),
        ("password=hunter2&x=1", "hunter2"),
        ("api_key: k1", "k1"),
        ("X-Api-Key: k1 ", "k1"),
        ("csrfToken='z9'", "z9"),
        ("Set-Cookie: sid=1", "sid=1"),
        ("see https://api.example.com/x?key=k1#f", "k1"),
        ("https://user:pw1@example.com/", "pw1"),
        ("id 0123456789abcdef0123456789abcdef ok", "0123456789abcdef"),
        ("AKIAIOSFODNN7EXAMPLE12345", "EXAMPLE12345"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, gone: str) -> None:
    """Values beside telling names, queries, userinfo and long random runs are not shown."""
    assert gone not in hidden(text)
    assert "[hidden]" in hidden(text)


@pytest.mark.parametrize(
    "text",
    ["Not found", "employee 7 has no manager", "maximum admitted 5 per 1 second.", "https://example.com/docs/errors"],
)
def test_plain_words_stay(text: str) -> None:
    """A message of an API is as it was, except for what is named."""
    assert hidden(text) == text
    assert hidden(text, [text]) == "[hidden]"


def test_of_markup_the_visible_words_are_shown() -> None:
    """No attribute, script, style or comment; entities read; one line of at most 200 characters."""
    page = (
        b"<title>A &amp; B</title><script>x</script ><style>y</style><!-- z --><a href='?k=1' title=t>link</a>\n<p>"
        + b"w " * 500
    )
    shown = excerpt(page, "text/html")
    assert shown.startswith("A & B link w w")
    assert len(shown) == 200
    assert excerpt(b"<script>never closed token=1") == ""
    assert excerpt(b"<!-- never closed") == ""
    assert excerpt(b"plain \x1b[31mred\r\n text") == "plain \\x1b[31mred text"
    assert excerpt(b"\n <p>after a blank</p>") == "after a blank"


@pytest.mark.parametrize(
    ("body", "content_type", "shown"),
    [
        (b"caf\xe9 is", "text/plain; charset=windows-1251", "caf\u0439 is"),
        (b"caf\xe9 is", "TEXT/PLAIN; CHARSET=WINDOWS-1251", "caf\u0439 is"),
        (b"caf\xe9 is", None, "caf\u00e9 is"),
        (b"." * 8191 + b"\xc3\xa9", None, "." * 197 + "..."),
        (b" " * 8190 + b"a\xc3\xa9", None, "a"),
    ],
)
def test_the_excerpt_is_read_in_the_charset_of_the_body(body: bytes, content_type: str | None, shown: str) -> None:
    """As declared, in any case; where the reading is cut within a character, that character is left out."""
    assert excerpt(body, content_type) == shown


@given(st.binary(max_size=400), st.none() | st.text(max_size=30))
@settings(max_examples=200, deadline=None)
def test_anything_is_one_safe_line(body: bytes, content_type: str | None) -> None:
    """Whatever came, the excerpt is printable and short."""
    shown = excerpt(body, content_type)
    assert len(shown) <= 200
    assert shown.isprintable()


@pytest.mark.parametrize(
    "unit", [b"<", b"<script", b"<!--", b"token=", b"https://", b"a1", b"://@", b"bearer ", b"token:" + b" " * 9]
)
def test_ten_megabytes_of_anything_are_read_in_no_time(unit: bytes) -> None:
    """A bounded part is read, by expressions that do not go back over it."""
    assert len(excerpt(unit * (10_000_000 // len(unit)), "text/html")) <= 200


def test_what_the_request_carried_is_taken_out_of_what_is_echoed() -> None:
    """As it is, as JSON escapes it and as a URL quotes it; harmless headers stay."""
    headers = {
        "Authorization": "Bearer a/b+c=d1",
        "X-Api-Key": "key-123456",
        "User-Agent": "me/1.0 test",
        "X-Request-Id": "req-1234",
        "X-Short": "abc",
    }
    secrets = secrets_of(headers, "tok/en=77", None)
    assert set(secrets) == {"Bearer a/b+c=d1", "a/b+c=d1", "key-123456", "tok/en=77"}
    body = b'{"m": "a\\/b+c=d1 key-123456 tok%2Fen%3D77 tok/en%3D77 me/1.0 test req-1234 abc"}'
    assert without(body, secrets) == b'{"m": "[hidden] [hidden] [hidden] [hidden] me/1.0 test req-1234 abc"}'


def test_a_secret_within_another_leaves_no_rest_of_it() -> None:
    """The longest goes first; from six characters on a value is one, and so is all that follows a scheme."""
    headers = {"Authorization": "Digest zz=abc nonce=1", "X-Key": "zz=abc", "X-Short": "12345"}
    secrets = secrets_of(headers)
    assert secrets == ("Digest zz=abc nonce=1", "zz=abc nonce=1", "zz=abc")
    assert without(b"<Digest zz=abc nonce=1> <zz=abc nonce=1> <zz=abc> 12345", secrets) == (
        b"<[hidden]> <[hidden]> <[hidden]> 12345"
    )


@pytest.mark.parametrize("blank", [" ", "  ", "\t"])
def test_the_blanks_after_a_scheme_are_no_part_of_the_secret(blank: str) -> None:
    """However it was written, the word is hidden where it stands alone."""
    assert "key-123456" in secrets_of({"Authorization": f"Bearer{blank}key-123456"})


def test_a_secret_that_no_charset_has_hides_the_others_still() -> None:
    """A lone surrogate raises nothing."""
    assert without(b"key-123456", ["a\ud800b-12345", "key-123456"]) == b"[hidden]"
