"""Untrusted bytes and texts made fit to be shown: decoded whatever they claim to be, one line, nothing invisible."""

import json
import re
from typing import Final

_DECODABLE: Final = re.compile(
    r"utf[-_]?(?:8|16|32)(?:[-_]?(?:le|be|sig))?|us-ascii|ascii|latin[-_]?1|iso[-_]?8859[-_]\d{1,2}|(?:windows-|cp)\d{3,4}"
    r"|shift[-_]?jis|euc[-_](?:jp|kr)|gb(?:k|2312|18030)|big5|koi8[-_][ru]"
)
_charset = re.compile(r"charset\s{0,3}=\s{0,3}[\"']?([\w\-]{1,24})", re.ASCII)


def one_line(text: str, longest: int) -> str:
    r"""Return at most *longest* characters of *text*, all printable.

    Control, formatting (bidirectional ones too), private and unassigned characters and lone surrogates are escaped as
    Python writes them, such as ``\n`` and ``\x1b``; other white space becomes a blank. A cut shows as ``...``.
    """
    head = text[: longest + 1]
    if not head.isprintable():
        head = "".join(map(_shown, head))
    return head if len(head) <= longest else head[: max(longest - 3, 0)] + "..."[:longest]


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    # What is white space and neither control nor line or paragraph separator is in the category Zs.
    if character.isspace() and character > "\x85" and character not in "\u2028\u2029":
        return " "
    return character.encode("unicode_escape").decode("ascii")


def decoded(body: bytes, content_type: str = "", *, cut: bool = False) -> str:
    """Return *body* as text, whatever charset the lower-case *content_type* declares; never raises.

    A byte order mark or the zero bytes of UTF-16 and UTF-32 decide first, then UTF-8 if it fits (of a *cut* body
    without its broken last character), then the declared charset if it is a plain one, then Latin-1.
    """
    declared = _charset.search(content_type)
    name: str = json.detect_encoding(body)
    if name.startswith("utf-8"):
        try:
            return body.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            if cut and error.start >= len(body) - 3:
                return body[: error.start].decode("utf-8-sig")
        name = declared[1] if declared is not None and _DECODABLE.fullmatch(declared[1]) else "latin-1"
    try:
        return body.decode(name, "replace")
    except LookupError:
        return body.decode("latin-1")
