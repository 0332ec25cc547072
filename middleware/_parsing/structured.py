"""Structured field values (RFC 9651): strict readers of a List of Items and of a Dictionary of Items.

Pure, linear in the length of the text, and silent: what is malformed, or above 8,192 characters, is None as a whole,
as the RFC wants it. Inner lists are not needed by any field read here and count as malformed.
"""

import re
from base64 import b64decode
from typing import Final, NamedTuple

Value = int | float | str | bytes

_LONGEST: Final = 8192
_KEY: Final = re.compile(r"[a-z*][a-z0-9_\-.*]*")
_BARE: Final = re.compile(
    r"""(?P<decimal>-?[0-9]{1,12}\.[0-9]{1,3}(?![0-9.]))
    |(?P<integer>@?-?[0-9]{1,15}(?![0-9.]))
    |"(?P<string>(?:[ !#-\[\]-~]|\\["\\])*)"
    |(?P<token>[A-Za-z*][A-Za-z0-9!#$%&'*+\-.^_`|~:/]*)
    |:(?P<bytes>[A-Za-z0-9+/]*={0,2}):
    |\?(?P<boolean>[01])
    |%"(?P<display>(?:[ !#$&-~]|%[0-9a-f]{2})*)"
    """,
    re.VERBOSE,
)
_PARAMETER: Final = re.compile(r";[ ]*")
_COMMA: Final = re.compile(r"[ \t]*,[ \t]*")


class Item(NamedTuple):
    """One item: its value (a token is a str, a date an int, a boolean a bool) and its parameters, the last of each."""

    value: Value
    params: dict[str, Value]


def items(text: str) -> list[Item] | None:
    """Return the members of a List of Items (RFC 9651 3.1), none for an empty text; None if it is malformed."""
    text = text.strip(" ")
    if not text:
        return []
    found: list[Item] = []
    at = 0 if len(text) <= _LONGEST else -1
    while at >= 0:
        read = _item(text, at)
        if read is None:
            return None
        found.append(read[0])
        at = _next_member(text, read[1])
        if at == len(text):
            return found
    return None


def dictionary(text: str) -> dict[str, Item] | None:
    """Return the members of a Dictionary of Items (RFC 9651 3.2), the last of each key; None if it is malformed."""
    text = text.strip(" ")
    found: dict[str, Item] = {}
    if not text:
        return found
    at = 0 if len(text) <= _LONGEST else -1
    while at >= 0:
        key = _KEY.match(text, at)
        if key is None:
            return None
        at = key.end()
        read = _item(text, at + 1) if text.startswith("=", at) else _parameters(text, at, value=True)
        if read is None:
            return None
        found[key[0]] = read[0]
        at = _next_member(text, read[1])
        if at == len(text):
            return found
    return None


def _next_member(text: str, at: int) -> int:
    """Return where the next member begins, the length of *text* at its end, or -1 where neither stands at *at*."""
    if at == len(text):
        return at
    comma = _COMMA.match(text, at)
    return comma.end() if comma is not None and comma.end() < len(text) else -1


def _item(text: str, at: int) -> tuple[Item, int] | None:
    read = _bare(text, at)
    return _parameters(text, read[1], value=read[0]) if read is not None else None


def _parameters(text: str, at: int, *, value: Value) -> tuple[Item, int] | None:
    """Return *value* with the parameters that stand at *at*, and where they end."""
    params: dict[str, Value] = {}
    while (semicolon := _PARAMETER.match(text, at)) is not None:
        key = _KEY.match(text, semicolon.end())
        if key is None:
            return None
        at = key.end()
        if text.startswith("=", at):
            read = _bare(text, at + 1)
            if read is None:
                return None
            params[key[0]], at = read
        else:
            params[key[0]] = True
    return Item(value, params), at


def _bare(text: str, at: int) -> tuple[Value, int] | None:
    """Return the bare item (RFC 9651 3.3) that stands at *at*, and where it ends."""
    match = _BARE.match(text, at)
    if match is None:
        return None
    kind = match.lastgroup
    raw = match[kind] if kind is not None else ""
    value: Value = raw
    try:
        if kind == "integer":
            value = int(raw.removeprefix("@"))
        elif kind == "decimal":
            value = float(raw)
        elif kind == "string":
            value = re.sub(r"\\(.)", r"\1", raw) if "\\" in raw else raw
        elif kind == "bytes":
            value = b64decode(raw)
        elif kind == "boolean":
            value = raw == "1"
        elif kind == "display":
            value = _percent(raw)
    except ValueError:
        return None
    return value, match.end()


def _percent(raw: str) -> str:
    """Return a display string (RFC 9651 3.3.8); ValueError where its bytes are not UTF-8."""
    return re.sub(rb"%([0-9a-f]{2})", lambda code: bytes.fromhex(code[1].decode()), raw.encode("ascii")).decode()
