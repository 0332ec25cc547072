from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiclient.middleware._parsing.challenge import Challenge, parse_challenges

HUGE = 10_000_000


TABLE: list[tuple[list[str], list[tuple[str, dict[str, str], str | None]]]] = [
    ([], []),
    ([""], []),
    (["  ,, , "], []),
    (["Bearer"], [("Bearer", {}, None)]),
    (['Bearer error="invalid_token"'], [("Bearer", {"error": "invalid_token"}, None)]),
    (['Basic realm="simple"'], [("Basic", {"realm": "simple"}, None)]),
    (["Negotiate"], [("Negotiate", {}, None)]),
    (["Negotiate YWJjZA=="], [("Negotiate", {}, "YWJjZA==")]),
    (["NTLM TlRMTVNTUAAC-._~+/="], [("NTLM", {}, "TlRMTVNTUAAC-._~+/=")]),
    (["Bearer, Basic"], [("Bearer", {}, None), ("Basic", {}, None)]),
    (
        ['Basic realm="a", Bearer realm="b", error="invalid_token", error_description="expired, sorry"'],
        [
            ("Basic", {"realm": "a"}, None),
            ("Bearer", {"realm": "b", "error": "invalid_token", "error_description": "expired, sorry"}, None),
        ],
    ),
    (
        ['Newauth realm="apps", type=1, title="Login to \\"apps\\"", Basic realm="simple"'],
        [
            ("Newauth", {"realm": "apps", "type": "1", "title": 'Login to "apps"'}, None),
            ("Basic", {"realm": "simple"}, None),
        ],
    ),
    (
        ['Basic realm="a"', "Bearer", 'Digest nonce="n", qop="auth,auth-int"'],
        [
            ("Basic", {"realm": "a"}, None),
            ("Bearer", {}, None),
            ("Digest", {"nonce": "n", "qop": "auth,auth-int"}, None),
        ],
    ),
    (
        ["Negotiate, NTLM, Basic realm=x"],
        [("Negotiate", {}, None), ("NTLM", {}, None), ("Basic", {"realm": "x"}, None)],
    ),
    (["Negotiate abc=, Bearer"], [("Negotiate", {}, "abc="), ("Bearer", {}, None)]),
    (['Bearer scope="read write"'], [("Bearer", {"scope": "read write"}, None)]),
    (['Bearer  realm = "x" ,\tscope = "y"'], [("Bearer", {"realm": "x", "scope": "y"}, None)]),
    (['Bearer REALM="x"'], [("Bearer", {"realm": "x"}, None)]),
    (['Bearer realm="\\\\"'], [("Bearer", {"realm": "\\"}, None)]),
    (['Bearer realm=""'], [("Bearer", {"realm": ""}, None)]),
    (['Bearer realm="first", realm="second"'], [("Bearer", {"realm": "first"}, None)]),
    (
        ['DPoP algs="ES256 PS256", error="use_dpop_nonce"'],
        [("DPoP", {"algs": "ES256 PS256", "error": "use_dpop_nonce"}, None)],
    ),
    (
        ['Bearer error="insufficient_scope",scope="a:b"'],
        [("Bearer", {"error": "insufficient_scope", "scope": "a:b"}, None)],
    ),
    # What servers send although the grammar has it otherwise.
    (["Bearer scope=https://x/y:z"], [("Bearer", {"scope": "https://x/y:z"}, None)]),
    (['Bearer realm="x"; error="y"'], [("Bearer", {"realm": "x", "error": "y"}, None)]),
    (['Bearer realm="x" error="y"'], [("Bearer", {"realm": "x", "error": "y"}, None)]),
    (['Basic realm="a" Bearer realm="b"'], [("Basic", {"realm": "a"}, None), ("Bearer", {"realm": "b"}, None)]),
    (["Bearer; error=invalid_token"], [("Bearer", {"error": "invalid_token"}, None)]),
    (
        ["Bearer error_description=The token expired, error=invalid_token"],
        [("Bearer", {"error_description": "The", "error": "invalid_token"}, None)],
    ),
    (
        ['Bearer realm="open, error="invalid_token", Basic realm="b"'],
        [("Bearer", {"error": "invalid_token"}, None), ("Basic", {"realm": "b"}, None)],
    ),
    (['Bearer realm="never closed'], [("Bearer", {}, None)]),
    (['Bearer realm="x\\'], [("Bearer", {}, None)]),
    (['realm="of no scheme", Bearer error=x'], [("Bearer", {"error": "x"}, None)]),
    (["Bearer foo bar, Basic"], [("Bearer", {}, None), ("Basic", {}, None)]),
    (["@@@, Bearer"], [("Bearer", {}, None)]),
    (['Bearer , , realm="x"'], [("Bearer", {"realm": "x"}, None)]),
    (["Bearer =, error=x"], [("Bearer", {"error": "x"}, None)]),
    (["Bearer\r\n realm=x"], [("Bearer", {"realm": "x"}, None)]),
    (["\x00\x1b[31mBearer, Basic"], [("Basic", {}, None)]),
]


@pytest.mark.parametrize(("values", "expected"), TABLE)
def test_challenges_of_one_or_several_fields(
    values: list[str], expected: list[tuple[str, dict[str, str], str | None]]
) -> None:
    """RFC 9110 11.6.1: schemes, parameters, quoted commas and escapes, token68; junk costs only itself."""
    assert parse_challenges(values) == tuple(Challenge(*each) for each in expected)


UNITS = [
    "a",
    "a ",
    "a=",
    'a="',
    ',a="',
    'a="\\',
    ',a="\\",',
    '"',
    "\\",
    " ",
    ",",
    "a,",
    "a=b,",
    "a b,",
    "=",
    "a a ",
    "abc=,",
    ";",
    "\x00",
    ", a\t=",
]


@pytest.mark.parametrize("unit", UNITS)
def test_ten_megabytes_are_bounded(unit: str) -> None:
    """Only the head is read, no repetition makes the reading explode, and at most 32 challenges come out."""
    huge = unit * (HUGE // len(unit))
    assert len(parse_challenges([huge])) <= 32
    assert len(parse_challenges(['Bearer a="' + huge] * 100)) <= 32


def test_an_endless_iterable_of_values_ends() -> None:
    """At most 32 values are taken."""

    def endless() -> Iterator[str]:
        while True:
            yield ","

    assert parse_challenges(endless()) == ()


@settings(max_examples=250, derandomize=True, deadline=None)
@given(st.lists(st.text(max_size=50) | st.text('aB=", \\;\t\r\n', max_size=50), max_size=3))
def test_any_values_give_challenges_and_nothing_raises(values: list[str]) -> None:
    """Whatever the text: schemes are tokens, and a challenge has parameters or a token68."""
    for challenge in parse_challenges(values):
        assert challenge.scheme
        assert not set(challenge.scheme) & set(' ",;=\\\r\n\t')


TOKENS = st.text("abcXYZ019-._~", min_size=1, max_size=8)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(
    st.lists(st.tuples(TOKENS, st.dictionaries(TOKENS.map(str.lower), st.text(max_size=20), max_size=3)), max_size=4),
    st.booleans(),
)
def test_well_formed_challenges_are_read_back(challenges: list[tuple[str, dict[str, str]]], joined: bool) -> None:  # noqa: FBT001
    """Written by the grammar, joined in one field or one in each, they are read as they were."""
    quote = {ord("\\"): "\\\\", ord('"'): '\\"'}
    fields = [
        f"{scheme} " + ", ".join(f'{k}="{v.translate(quote)}"' for k, v in params.items())
        for scheme, params in challenges
    ]
    read = parse_challenges([", ".join(fields)] if joined else fields)
    assert read == tuple(Challenge(scheme, params, None) for scheme, params in challenges)
