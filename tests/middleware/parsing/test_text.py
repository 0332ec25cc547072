import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiclient.middleware._parsing.text import decoded, one_line

HUGE = 10_000_000


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        ("plain caf\u00e9 \u30a8 \U0001f600", "plain caf\u00e9 \u30a8 \U0001f600"),
        ("a\r\nb\tc\x0b", "a\\r\\nb\\tc\\x0b"),
        ("\x1b[31m\x9b\x00\x7f\x85", "\\x1b[31m\\x9b\\x00\\x7f\\x85"),
        ("\u202e\u200b\ufeff\u2066", "\\u202e\\u200b\\ufeff\\u2066"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("a\u00a0b\u3000c", "a b c"),
        ("\ud800\ue000\U000e0001", "\\ud800\\ue000\\U000e0001"),
        ("back\\slash", "back\\slash"),
    ],
)
def test_what_is_not_printable_is_escaped(text: str, line: str) -> None:
    """No control, formatting, private or lone surrogate character is left; white space of other scripts is a blank."""
    assert one_line(text, 200) == line


@pytest.mark.parametrize(
    ("text", "longest", "line"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdefg", 6, "abc..."),
        ("\n" * 5, 6, "\\n\\..."),
        ("abcdef", 3, "..."),
        ("abcdef", 2, ".."),
        ("abc", 0, ""),
    ],
)
def test_the_length_is_a_hard_cap(text: str, longest: int, line: str) -> None:
    """Escapes count, and a cut shows."""
    assert one_line(text, longest) == line
    assert len(one_line("\U000e0001" * HUGE, longest)) <= longest


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.text(), st.integers(0, 50))
def test_any_text_is_one_printable_line_in_its_cap(text: str, longest: int) -> None:
    """Whatever the text."""
    line = one_line(text, longest)
    assert line.isprintable()
    assert len(line) <= longest


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        (b"", "", ""),
        (b"caf\xc3\xa9", "", "caf\u00e9"),
        (b"caf\xc3\xa9", "text/plain; charset=iso-8859-1", "caf\u00e9"),
        (b"\xef\xbb\xbfa", "", "a"),
        (b"caf\xe9", "", "caf\u00e9"),
        (b"caf\xe9 ", "text/plain; charset=windows-1251", "caf\u0439 "),
        (b"caf\xe9 ", "text/plain;charset='koi8-r'", "caf\u0418 "),
        ("caf\u00e9".encode("utf-16"), "", "caf\u00e9"),
        ("caf\u00e9".encode("utf-32-be"), "", "caf\u00e9"),
        (b"\xff\xfea\x00b", "", "a\ufffd"),
        (b"\xe9 ", "text/plain; charset=cp9999", "\u00e9 "),
        (b"\xe9 ", "text/plain; charset=", "\u00e9 "),
        (b"+AGE- \xe9", "text/plain; charset=utf-7", "+AGE- \u00e9"),
    ],
)
def test_bytes_are_decoded_whatever_they_claim(body: bytes, content_type: str, text: str) -> None:
    """Mark, then UTF-8, then the declared charset if it is a plain one, then Latin-1."""
    assert decoded(body, content_type) == text


def test_a_cut_body_loses_its_broken_last_character_only() -> None:
    """Said to be cut, it is still UTF-8; not said, the last byte counts."""
    assert decoded(b"caf\xc3\xa9 \xc3", cut=True) == "caf\u00e9 "
    assert decoded("caf\u00e9 \U0001f600".encode()[:-1], cut=True) == "caf\u00e9 "
    assert decoded(b"caf\xc3\xa9 \xc3") == "caf\u00c3\u00a9 \u00c3"
    assert decoded(b"\xe9" + b" " * 10, cut=True) == "\u00e9" + " " * 10


@pytest.mark.parametrize(
    "charset",
    ["punycode", "idna", "zlib", "unicode_escape", "raw_unicode_escape", "rot13", "undefined", "mbcs", "utf-7"],
)
def test_a_charset_that_is_none_is_not_tried(charset: str) -> None:
    """Codecs that are slow, that raise or that interpret escapes are never chosen by a server."""
    assert decoded(b"a\\x41-\xe9 ", f"text/plain; charset={charset}") == "a\\x41-\u00e9 "


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    st.binary(max_size=100),
    st.text(max_size=10) | st.sampled_from(["utf-8", "utf-16", "utf-32", "big5", "gb18030", "cp037", "euc-jp"]),
    st.booleans(),
)
def test_any_bytes_become_text(body: bytes, charset: str, cut: bool) -> None:  # noqa: FBT001
    """Nothing raises, under any declared charset."""
    assert isinstance(decoded(body, f"text/plain; charset={charset}", cut=cut), str)
