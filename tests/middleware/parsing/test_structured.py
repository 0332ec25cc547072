import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiclient.middleware._parsing.structured import Item, dictionary, items


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("   ", []),
        ("1", [Item(1, {})]),
        (" -7 ", [Item(-7, {})]),
        ("1.5", [Item(1.5, {})]),
        ("999999999999999", [Item(999_999_999_999_999, {})]),
        ('"a, b; c"', [Item("a, b; c", {})]),
        (r'"a \"b\" \\ c"', [Item(r'a "b" \ c', {})]),
        ("*foo/bar:baz", [Item("*foo/bar:baz", {})]),
        ("X;r=1, IX", [Item("X", {"r": 1}), Item("IX", {})]),
        (":aGk=:", [Item(b"hi", {})]),
        ("::", [Item(b"", {})]),
        ("?1, ?0", [Item(value=True, params={}), Item(value=False, params={})]),
        ("@1659578233", [Item(1_659_578_233, {})]),
        ('%"f%c3%bc"', [Item("f\u00fc", {})]),
        ("10;w=1,\t50;w=60", [Item(10, {"w": 1}), Item(50, {"w": 60})]),
        ('"d"; r=5;  t=1;x', [Item("d", {"r": 5, "t": 1, "x": True})]),
        ("a;k=1;k=2", [Item("a", {"k": 2})]),
        ("a;*k-_.1=?0", [Item("a", {"*k-_.1": False})]),
    ],
)
def test_lists_of_items(text: str, expected: list[Item]) -> None:
    """RFC 9651 3.1, 3.1.2 and 3.3: every bare type, parameters, white space."""
    assert items(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "1,",
        ",1",
        "1,,2",
        "1 2",
        "1;",
        "1;W=1",
        "1;w=",
        "1;w =1",
        "1 ;w=1",
        "1234567890123456",
        "1.",
        "1.2345",
        "1234567890123.1",
        "1.2.3",
        "--1",
        '"a',
        '"a\\b"',
        '"\u00e9"',
        '"a\tb"',
        ":a:",
        ":a b:",
        ":aGk",
        "?2",
        "@1.5",
        '%"%ff"',
        '%"%C3%BC"',
        '%"%"',
        "(1 2)",
        "=1",
        "a=1",
        "\x00",
        "\n1",
    ],
)
def test_a_malformed_list_is_refused_whole(text: str) -> None:
    """RFC 9651 4.2: a field that fails to parse is ignored entirely."""
    assert items(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("limit=100, remaining=50, reset=5", {"limit": Item(100, {}), "remaining": Item(50, {}), "reset": Item(5, {})}),
        (
            "a, b;x=1, c=?0",
            {
                "a": Item(value=True, params={}),
                "b": Item(value=True, params={"x": 1}),
                "c": Item(value=False, params={}),
            },
        ),
        ("a=1,a=2", {"a": Item(2, {})}),
        ("a=1,", None),
        ("A=1", None),
        ("\ta=1", None),
        ("  a=1 ", {"a": Item(1, {})}),
        ("a=X", {"a": Item("X", {})}),
        ("a=(1)", None),
        ("a = 1", None),
        ("a=1 b=2", None),
        ("1", None),
    ],
)
def test_dictionaries(text: str, expected: dict[str, Item] | None) -> None:
    """RFC 9651 3.2: members with and without value, the last of equal keys."""
    assert dictionary(text) == expected


UNITS = ["1,", "a;b=1;", '"', '\\"', "a=1,", ";", " ", "\t,", ":", "%", "((", "@", "aaaa", "1", "?1,"]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("prefix", ["", '"', "a=", '%"', ":"])
def test_ten_megabytes_and_the_longest_that_is_read_are_bounded(unit: str, prefix: str) -> None:
    """Above the cap nothing is looked at; at the cap every repetition ends within the test's time limit."""
    huge = prefix + unit * (10_000_000 // len(unit))
    assert not items(huge)
    assert not dictionary(huge)
    at_cap = huge[:8192]
    items(at_cap)
    dictionary(at_cap)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.text(max_size=60) | st.text('aw1-.,;="\\ \t:?@%()', max_size=60))
def test_any_text_parses_or_is_none(text: str) -> None:
    """Neither reader raises, whatever the text."""
    assert items(text) is None or isinstance(items(text), list)
    assert dictionary(text) is None or isinstance(dictionary(text), dict)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(-(10**14), 10**14)
            | st.text(st.characters(min_codepoint=32, max_codepoint=126))
            | st.booleans(),
            st.dictionaries(st.from_regex(r"[a-z*][a-z0-9_\-.*]{0,5}", fullmatch=True), st.integers(0, 99), max_size=3),
        ),
        max_size=5,
    )
)
def test_what_is_serialized_by_the_rfc_is_read_back(members: list[tuple[int | str | bool, dict[str, int]]]) -> None:
    """RFC 9651 4.1 written out and parsed again is the same list."""

    def bare(value: int | str | bool) -> str:  # noqa: FBT001
        if isinstance(value, bool):
            return f"?{int(value)}"
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' if isinstance(value, str) else str(value)

    text = ", ".join(bare(value) + "".join(f";{k}={v}" for k, v in params.items()) for value, params in members)
    assert items(text) == [(value, params) for value, params in members]
