import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiclient.middleware._body_shown import SECRET_NAMES, body_shown, plain

CANARY = "c4n4ry-b1rd"


def shown(body: bytes | str, kind: str | None = "application/json", longest: int = 500, **options: object) -> str:
    data = body.encode() if isinstance(body, str) else body
    return body_shown(data, kind, longest=longest, **options)  # type: ignore[arg-type]


def test_values_under_secret_names_are_hidden_at_any_depth() -> None:
    """Names are compared without case and separators; the rest stays readable."""
    body = {
        "name": "Ann",
        "client-secret": CANARY,
        "list": [{"accessToken": CANARY, "age": 7}],
        "password": {"a": CANARY},
    }
    text = shown(json.dumps(body))
    assert CANARY not in text
    assert json.loads(text) == {
        "name": "Ann", "client-secret": "[hidden]", "list": [{"accessToken": "[hidden]", "age": 7}], "password": "[hidden]"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (f"user=ann&password={CANARY}&x=1", "application/x-www-form-urlencoded"),
        (f'{{"password": "{CANARY}", "broken": ', "application/json"),
        (f'{{"name": "x", "client_secret": "{CANARY}', "application/json"),
        (f"password: {CANARY}\nuser: ann", "text/plain"),
        (f"pin = {CANARY}, Card-Number={CANARY}", "text/plain"),
        (f"user[pin]={CANARY}&user.cvv={CANARY}&p%69n={CANARY}", "application/x-www-form-urlencoded"),
        (f"Authorization: Bearer {CANARY}", "text/plain"),
        (f"<a token='{CANARY}'/>", "text/xml"),
        (f'{{"secret": "{CANARY}", "much": "{"x " * 50000}"}}', "application/json; charset=utf-8"),
        (f"see https://ann:{CANARY}@example.com/?key={CANARY}", "text/plain"),
    ],
)
def test_other_texts_hide_what_stands_beside_such_a_name(body: str, kind: str) -> None:
    """Forms, broken and long JSON, and plain text: no value under the name of a secret."""
    assert CANARY not in shown(body, kind)


def test_given_secrets_are_hidden_wherever_they_stand() -> None:
    """The call's token and key, under whatever name the server echoes them."""
    assert CANARY not in shown(json.dumps({"echo": f"you sent {CANARY}"}), secrets=(CANARY,))


def test_further_names_are_the_users() -> None:
    """``redact`` adds to the names."""
    assert CANARY in shown(json.dumps({"shoe": CANARY}))
    assert CANARY not in shown(json.dumps({"Shoe": CANARY}), names=SECRET_NAMES | {plain("shoe")})


def test_it_is_one_line_and_cut() -> None:
    """No line break reaches a log, and no more than what was asked for."""
    assert shown("a\nb", "text/plain") == "a b" or "\n" not in shown("a\nb", "text/plain")
    assert len(shown(json.dumps({"a": "b " * 500}), longest=50)) == 50


def test_what_is_no_text_shows_as_its_size() -> None:
    """Bytes do not reach a log."""
    assert shown(b"\x89PNG", "image/png") == "<4 bytes of image/png>"
    assert shown(b"abc", None) == "<3 bytes of an unknown type>"
    assert shown(b"", "text/plain") == ""


@settings(max_examples=150, derandomize=True, deadline=None)
@given(
    st.recursive(
        st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from(sorted(SECRET_NAMES)),
    st.integers(1, 200),
)
def test_no_shape_lets_a_secret_through(rest: object, name: str, longest: int) -> None:
    """Whatever stands around it, and however short the cut."""
    text = shown(json.dumps([rest, {name.upper(): [rest, CANARY]}, {"and": {name: CANARY}}]), longest=longest)
    assert CANARY not in text
    assert len(text) <= longest


@settings(max_examples=150, derandomize=True, deadline=None)
@given(st.binary(max_size=80), st.text(max_size=30), st.integers(1, 100))
def test_it_never_raises(body: bytes, kind: str, longest: int) -> None:
    """A log must not break a call, whatever came."""
    for each in (kind, "application/json", "text/plain; charset=utf-7", "application/x-www-form-urlencoded"):
        assert len(shown(body, each, longest=longest)) <= max(longest, 60 + len(each))
