"""Authentication challenges: ``WWW-Authenticate`` and ``Proxy-Authenticate`` (RFC 9110 11.6.1).

Pure, linear in the length of the text, and forgiving: what is junk is skipped up to the next comma, and what can be
read around it is kept.
"""

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final, NamedTuple

_LONGEST: Final = 16_384
_MOST: Final = 32
_NAME: Final = r"[A-Za-z0-9!#$%&'*+\-.^_`|~]++"

# Possessive throughout: nothing is ever scanned twice.
_gap = re.compile(r"[\s,;]++")
_scheme = re.compile(rf"({_NAME})(?=[\s,;]|\Z)[ \t]*+")
_token68 = re.compile(r"([A-Za-z0-9\-._~+/]++=*+)[ \t]*+(?=,|\Z)")
_parameter = re.compile(rf"({_NAME})\s*+=\s*+(?:\"((?:[^\"\\]|\\.)*+)\"|([^\s\",;]++))(?=[\s,;]|\Z)", re.DOTALL)
_escape = re.compile(r"\\(.)", re.DOTALL)


class Challenge(NamedTuple):
    """One challenge: its scheme as it was written, and its parameters or its token68."""

    scheme: str
    params: Mapping[str, str]
    """By lower-cased name; of a repeated one the first. Untrusted text, unescaped but not cleaned."""
    token68: str | None


def parse_challenges(values: Iterable[str]) -> tuple[Challenge, ...]:
    """Return the challenges in the field *values*, several in one value or one in each, in their order.

    Quoted strings may hold commas and escapes; a parameter without quotes may hold what is no token (``scope=a:b``);
    semicolons or blanks may stand where commas should. Compare schemes case-insensitively (RFC 9110 11.1). At most 32
    values, 16,384 characters of each, and 32 challenges are read; nothing raises.

    Args:
        values: The values of every field line, as from ``response.headers.getall("WWW-Authenticate")``.
    """
    found: list[Challenge] = []
    for value in islice(values, _MOST):
        _read(value[:_LONGEST], found)
    return tuple(found[:_MOST])


def _read(text: str, found: list[Challenge]) -> None:
    """Append the challenges of one field value to *found*."""
    params: dict[str, str] | None = None
    at = 0
    may_begin = True
    while at < len(text) and len(found) <= _MOST:
        if (gap := _gap.match(text, at)) is not None:
            may_begin = may_begin or "," in gap[0]
            at = gap.end()
        elif (parameter := _parameter.match(text, at)) is not None:
            name, quoted, bare = parameter.groups()
            if params is not None:
                params.setdefault(name.lower(), bare if quoted is None else _escape.sub(r"\1", quoted))
            may_begin = quoted is not None
            at = parameter.end()
        elif may_begin and (scheme := _scheme.match(text, at)) is not None:
            params = {}
            token68 = _token68.match(text, scheme.end())
            found.append(Challenge(scheme[1], params, token68 and token68[1]))
            at = scheme.end() if token68 is None else token68.end()
            may_begin = False
        else:
            comma = text.find(",", at)
            at = comma if comma >= 0 else len(text)
