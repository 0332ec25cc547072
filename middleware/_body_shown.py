"""A body as a log may show it: without values that stand under secret names, and cut. Pure."""

import json
import re
from collections.abc import Collection, Iterable
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from apiclient.middleware._excerpt import hidden
from apiclient.middleware._parsing.text import decoded, one_line

SECRET_NAMES: Final = frozenset(
    {"accesskey", "accesstoken", "apikey", "assertion", "authorization", "authtoken", "cardnumber", "clientassertion",
     "clientsecret", "codeverifier", "cookie", "credential", "credentials", "csrftoken", "cvc", "cvv", "iban",
     "idtoken", "jwt", "otp", "passphrase", "passwd", "password", "pin", "privatekey", "pwd", "refreshtoken", "secret",
     "sessionid", "signature", "ssn", "token", "xapikey"}
)  # fmt: skip
"""Names, in lower case and without separators, whose values are never shown."""

HIDDEN: Final = "[hidden]"
# More is not parsed: only its beginning could be shown, and a body may be of any size.
LONGEST: Final = 65536
_TEXTUAL: Final = re.compile(r"text/|application/(?:[\w.+-]*\+)?(?:json|xml)\b|application/x-www-form-urlencoded\b")


def plain(name: str) -> str:
    """Return *name* in lower case and without separators, as names are compared."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def body_shown(
    body: bytes,
    content_type: str | None,
    *,
    longest: int,
    names: Collection[str] = SECRET_NAMES,
    secrets: Iterable[str] = (),
) -> str:
    """Return *body* as one line of at most *longest* characters.

    Values under *names* become ``[hidden]`` in JSON at any depth and in forms; so do *secrets* wherever they stand,
    and whatever looks like a secret in any text. What is no text shows as its size and type.

    Args:
        body: The whole body.
        content_type: Its ``Content-Type``, or None.
        longest: Most characters.
        names: As ``plain`` returns them.
        secrets: Values that must not be shown.
    """
    declared = (content_type or "")[:256].lower()
    kind = declared.partition(";")[0].strip()
    if not body:
        return ""
    if not _TEXTUAL.match(kind):
        return f"<{len(body)} bytes of {kind or 'an unknown type'}>"
    text = decoded(body[:LONGEST], declared, cut=len(body) > LONGEST)
    if kind == "application/x-www-form-urlencoded":
        pairs = parse_qsl(text, keep_blank_values=True)
        text = urlencode([(name, HIDDEN if is_secret(name, names) else value) for name, value in pairs], safe="[]")
    elif kind.endswith("json") and len(body) <= LONGEST:
        try:
            text = json.dumps(masked(json.loads(text), names), ensure_ascii=False, separators=(",", ":"))
        except (ValueError, RecursionError):
            pass
        else:
            # Parsed, so that only strings inside can look like a secret, and none spans two members.
            return one_line(_cut(hidden(text, secrets), longest), longest)
    text = named_hidden(text, names)
    return one_line(_cut(hidden(text, secrets), longest), longest)


def named_hidden(text: str, names: Collection[str]) -> str:
    """Return *text* of any kind without what looks like a value of one of *names*: ``name: value``, ``name=value``."""
    value = r"(\"(?:[^\"\\]|\\.)*\"?|(?:(?:bearer|basic|digest|token)\s+)?[^\s&,;<]+)"
    return re.sub(rf"(?i)\b({_alternatives(names)})(\"?\s{{0,2}}[:=]\s{{0,2}}){value}", _named, text)


def is_secret(name: str, names: Collection[str]) -> bool:
    """Return whether *name*, or a part of a nested one, is among *names*."""
    # Forms nest by brackets or dots: user[pin], user.pin.
    return plain(name) in names or any(plain(part) in names for part in re.split(r"[\[\].]", name))


def _alternatives(names: Collection[str]) -> str:
    # Separators may stand between the letters: client_secret, client-secret, clientSecret.
    return "|".join("[-_. ]?".join(map(re.escape, name)) for name in sorted(names, key=len, reverse=True))


def _named(match: re.Match[str]) -> str:
    return f"{match[1]}{match[2]}{HIDDEN}"


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest + 1]


def masked(value: Any, names: Collection[str]) -> Any:
    """Return the JSON *value* without what stands under *names*, at any depth."""
    shape: Any = value
    if isinstance(value, dict):
        return {name: HIDDEN if plain(name) in names else masked(each, names) for name, each in shape.items()}
    if isinstance(value, list):
        return [masked(each, names) for each in shape]
    return value
