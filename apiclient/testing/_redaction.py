"""What may be written to a cassette: texts, headers and bodies without the secrets in them. Pure."""

import base64
import gzip
import html
import json
import re
import zlib
from bisect import insort
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, quote, quote_plus, urlencode

from apiclient._wire import SENT_PLAIN, withheld
from apiclient.middleware._body_shown import HIDDEN, SECRET_NAMES, is_secret, plain
from apiclient.middleware._excerpt import secrets_of

Stored = dict[str, Any] | None
"""A body as JSON holds it: None, or one entry ``json``, ``compact_json``, ``text`` or ``base64``."""

FORM: Final = "application/x-www-form-urlencoded"
LARGEST: Final = 64 * 1024 * 1024
_SHORTEST: Final = 8
_LONG: Final = 16
_MOST_NAMES: Final = 10_000
# Of a token request and its answer nothing else is kept (RFC 6749, RFC 7523, RFC 8693).
_GRANT: Final = frozenset(
    {"audience", "client_assertion_type", "client_id", "error", "error_description", "error_uri", "expires_in",
     "grant_type", "issued_token_type", "requested_token_type", "resource", "scope", "token_type"}
)  # fmt: skip
_ALWAYS: Final = SECRET_NAMES | {"authkey", "secretkey", "sessid", "sig", "subscriptionkey"}
# Also at the end of a longer name, such as new_password; shorter ones are the end of many a word.
_ENDINGS: Final = tuple(name for name in _ALWAYS if len(name) >= 5)
# Where a list goes on: it opens nothing, and two that look alike would be taken for a loop.
_CURSORS: Final = ("continuationtoken", "deltatoken", "nexttoken", "pagetoken", "skiptoken", "synctoken")
# Hidden where they stand, but not looked for elsewhere: they open nothing, and are in many places.
_COMMON: Final = frozenset({"idempotency-key", "referer", "x-http-method-override", "x-requested-with"})
_STYLES: Final[dict[str, dict[str, Any]]] = {
    "json": {},
    "compact_json": {"separators": (",", ":"), "ensure_ascii": False},
}
_PACKED: Final = b"\x1f\x8b"
_boundary = re.compile(r"boundary=(?:\"([^\"]{1,200})\"|([^\s;\"]{1,200}))", re.IGNORECASE)
_part_name = re.compile(rb"\bname=\"?([^\";\r\n]{0,200})", re.IGNORECASE)
_SCHEME: Final = r"(?:(?:bearer|basic|digest|token)\s+)?"
# Read backwards from what stands between a name and its value, so that only there is anything looked at.
_name = re.compile(r"[:=]\s{0,2}[\"']?\\?([\w.\[\]-]{1,100}+(?: [\w-]{1,30})?)")
_value = re.compile(
    rf"\s{{0,2}}(?:\\\"{_SCHEME}((?:\\{{3}}.|[^\"\\]|\\[^\"])*+)|\"{_SCHEME}((?:[^\"\\]|\\.)*+)|'{_SCHEME}([^']*+)"
    rf"|{_SCHEME}([^\s&,;<>]*+))",
    re.IGNORECASE | re.DOTALL,
)
_element = re.compile(r"(<([\w:.-]{1,100})(?:\s[^<>]{0,2000})?>)(\s*<!\[CDATA\[.*?\]\]>|[^<]+)", re.DOTALL)
# What shows by its form that it is a secret: after a scheme, a JSON Web Token, the password in a URL.
_FORMED: Final = (
    ("a", re.compile(r"\b([Bb](?:earer|EARER|asic|ASIC)\s+)(?=[\w.~+/=-]*\d)([\w.~+/=-]{8,})")),
    ("eyJ", re.compile(r"\b()(eyJ[\w-]{6,}+\.[\w-]{6,}+\.[\w-]*)")),
    ("@", re.compile(r"(://[^\s/@:\"'<>]{0,200}:)([^\s/@\"'<>]{1,500})(?=@)")),
)


class _Names(frozenset[str]):
    """Names, as ``plain`` returns them, and those that end as one that always is a secret's."""

    def __contains__(self, name: object) -> bool:
        if super().__contains__(name):
            return True
        return isinstance(name, str) and name.endswith(_ENDINGS) and not name.endswith(_CURSORS)


class Redaction:
    """Takes secrets out of requests and answers, and remembers them, to find them elsewhere as well.

    Args:
        names: Whose values are secrets, beside those that always are: of headers, query parameters, form fields and
            members of JSON.
        headers: Names of request headers whose values are none, beside those that never are.
    """

    def __init__(self, names: Iterable[str] = (), headers: Iterable[str] = ()) -> None:
        self._names = _Names(_ALWAYS | {plain(name) for name in names})
        self._plain = SENT_PLAIN | {name.lower() for name in headers}
        self._judged: dict[str, bool] = {}
        self._secrets: set[str] = set()
        # As they are written here and there, the longest first: a secret may be a part of another.
        self._written: list[str] = []

    def __repr__(self) -> str:
        return f"Redaction({len(self._secrets)} secrets known)"

    def learn(self, headers: Mapping[str, str], token: str | None = None, query: str | None = None) -> None:
        """Remember the secrets that a request's *headers* hold, its *token*, and the name of the *query* parameter."""
        if query is not None and plain(query) not in self._names:
            self._names = _Names({*self._names, plain(query)})
            self._judged.clear()
        private = {name: value for name, value in headers.items() if name.lower() not in self._plain | _COMMON}
        self._remember(secrets_of(private, token))
        for name, value in private.items():
            if name.lower() == "cookie":
                self._notice(*(pair.partition("=")[2] for pair in value.split(";")))
            elif value[:6].lower() == "basic ":
                self._notice(*_decoded(value[6:]).split(":", 1))

    def text(self, text: str) -> str:
        """Return *text* without what stands beside a secret's name, what looks like a secret, and those known."""
        if ":" in text or "=" in text:
            text = self._named(text)
        if "</" in text:
            text = _element.sub(self._in_element, text)
        for written in self._written:
            text = text.replace(written, HIDDEN)
        for hint, formed in _FORMED:
            if hint in text:
                text = formed.sub(self._by_form, text)
        return text

    def query(self, pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return the parameters of a query, or the fields of a form, without their secrets."""
        return [(self.text(name), self._under(name, value)) for name, value in pairs]

    def sent(self, headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return the headers of a request: of those not known to be harmless only the names."""
        return [(name, self._under(name, value) if name.lower() in self._plain else HIDDEN) for name, value in headers]

    def received(self, headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return the headers of an answer: all but those that hold secrets; of cookies the names and attributes."""
        kept: list[tuple[str, str]] = []
        for name, value in headers:
            if name.lower() == "set-cookie":
                pair, semicolon, attributes = value.partition(";")
                cookie, _, content = pair.partition("=")
                self._notice(content)
                kept.append((name, f"{cookie}={HIDDEN}{semicolon}{attributes}"))
            else:
                kept.append((name, HIDDEN if withheld(name) else self._under(name, value)))
        return kept

    def body(self, body: bytes, content_type: str | None, *, grant: bool = False) -> Stored:
        """Return *body* as it may be kept.

        Args:
            body: The whole of it, as the application has it.
            content_type: Its ``Content-Type``, or None.
            grant: Whether it belongs to a token request.
        """
        inside = unpacked(body)
        if inside is not body:
            kept = restored(self.body(inside, content_type, grant=grant))
            return _coded(body if kept == inside else gzip.compress(kept, mtime=0))
        kind = (content_type or "").partition(";")[0].strip().lower()
        if kind.startswith("multipart/"):
            body = self._parts(body, content_type or "")
        if not body:
            return None
        encoding: str = json.detect_encoding(body).removesuffix("-sig")
        try:
            text = body.decode(encoding)
        except UnicodeDecodeError:
            encoding, text = "latin-1", body.decode("latin-1")
        if kind == FORM:
            text = self._form(text, grant=grant)
        else:
            style, value = self._json(text, grant=grant)
            if style is not None and encoding == "utf-8":
                return {style: value}
            text = self.text(text if style is None or json.loads(text) == value else json.dumps(value))
        if encoding == "utf-8":
            return {"text": text}
        # Bytes may only look like that encoding.
        return _coded(self.text(text.encode(encoding).decode("latin-1")).encode("latin-1"))

    def _is_secret(self, name: str) -> bool:
        judged = self._judged.get(name)
        if judged is None:
            if len(self._judged) >= _MOST_NAMES:
                self._judged.clear()
            judged = self._judged[name] = is_secret(name, self._names)
        return judged

    def _remember(self, values: Iterable[str]) -> None:
        for secret in {*values} - self._secrets:
            self._secrets.add(secret)
            for written in _ways(secret):
                insort(self._written, written, key=_shortness)

    def _notice(self, *values: str) -> None:
        """Remember those that can be looked for: a word or a short number would be found where it is none."""
        bare = (value.strip().strip("\"'") for value in values)
        self._remember(
            value
            for value in bare
            if len(value) >= _SHORTEST and HIDDEN not in value and (len(value) >= _LONG or not value.isalpha())
        )

    def _under(self, name: str, value: str) -> str:
        if self._is_secret(name):
            self._notice(value)
            return HIDDEN
        return self.text(value)

    def _named(self, text: str) -> str:
        """Return *text* without what stands beside a secret's name: ``name: value``, ``name=value``."""
        ends = [
            len(text) - match.start()
            for match in _name.finditer(text[::-1])
            # Of two words the second alone may be the name.
            if self._is_secret(match[1][::-1]) or self._is_secret(match[1].partition(" ")[0][::-1])
        ]
        kept: list[str] = []
        done = 0
        for end in reversed(ends):
            found = _value.match(text, end)
            value = "" if found is None or found.lastindex is None else found[found.lastindex]
            if found is not None and end >= done and value not in {"", "null", "true", "false"}:
                self._notice(value.rstrip(")]}\"'"))
                kept += text[done : found.end() - len(value)], HIDDEN
                done = found.end()
        return "".join([*kept, text[done:]])

    def _by_form(self, match: re.Match[str]) -> str:
        self._notice(match[2])
        return f"{match[1]}{HIDDEN}"

    def _in_element(self, match: re.Match[str]) -> str:
        if not match[3].strip() or not self._is_secret(match[2].rpartition(":")[2]):
            return match[0]
        self._notice(match[3].strip().removeprefix("<![CDATA[").removesuffix("]]>"))
        return f"{match[1]}{HIDDEN}"

    def _form(self, text: str, *, grant: bool) -> str:
        pairs = parse_qsl(text, keep_blank_values=True)
        kept = self.query(pairs)
        if grant:
            self._notice(*(value for name, value in pairs if name not in _GRANT))
            kept = [(name, value if name in _GRANT else HIDDEN) for name, value in kept]
        return self.text(text) if kept == pairs else urlencode(kept, safe="[]")

    def _json(self, text: str, *, grant: bool) -> tuple[str | None, Any]:
        """Return how to write what *text* says, and that without secrets; None where it is to be kept as text."""
        if text.lstrip()[:1] not in {"{", "["}:
            return None, None
        try:
            value: Any = json.loads(text)
            kept = self._member(value, grant=grant)
            style = next((each for each, options in _STYLES.items() if json.dumps(value, **options) == text), None)
        except (ValueError, RecursionError):
            return None, None
        # Written in a way that cannot be told again exactly: as it is, unless something had to be taken out of it.
        return style or (None if kept == value else "json"), kept

    def _member(self, value: Any, *, secret: bool = False, grant: bool = False) -> Any:
        shape: Any = value
        if isinstance(value, dict):
            return {
                self.text(name): self._member(
                    each, secret=secret or (grant and name not in _GRANT) or self._is_secret(name)
                )
                for name, each in shape.items()
            }
        if isinstance(value, list):
            return [self._member(each, secret=secret) for each in shape]
        # An empty one is none, and says so.
        if secret and value is not None and value is not True and value is not False and value != "":
            self._notice(str(shape))
            return HIDDEN
        return self.text(value) if isinstance(value, str) else value

    def _parts(self, body: bytes, content_type: str) -> bytes:
        mark = boundary_of(content_type)
        if mark is None:
            return body
        parts = body.split(mark)
        for index, part in enumerate(parts):
            head, blank, value = part.partition(b"\r\n\r\n")
            named = _part_name.search(head)
            if blank and named is not None and self._is_secret(named[1].decode("latin-1")):
                self._notice(value.decode("utf-8", "replace"))
                parts[index] = head + blank + HIDDEN.encode() + b"\r\n"
        return mark.join(parts)


def restored(stored: Stored) -> bytes:
    """Return the bytes that *stored* is kept for.

    Raises:
        ValueError: It is no stored body.
    """
    if stored is None:
        return b""
    for style, options in _STYLES.items():
        if style in stored:
            return json.dumps(stored[style], **options).encode(errors="surrogatepass")
    if isinstance(text := stored.get("text"), str):
        return text.encode(errors="surrogatepass")
    if isinstance(coded := stored.get("base64"), str):
        return base64.b64decode(coded, validate=True)
    raise ValueError(f"a body is one of {', '.join(_STYLES)}, text and base64, got {sorted(stored)!r}")


def unpacked(body: bytes) -> bytes:
    """Return what is inside *body* where that is gzip, at most 64 MiB of it; else *body* itself."""
    rest, inside = body, b""
    try:
        while rest.startswith(_PACKED) and len(inside) < LARGEST:
            member = zlib.decompressobj(31)
            inside += member.decompress(rest, LARGEST - len(inside))
            rest = member.unused_data
    except zlib.error:
        return body
    return body if rest is body else inside


def boundary_of(content_type: str) -> bytes | None:
    """Return what stands between the parts of a multipart body (RFC 2046 section 5.1.1), or None."""
    found = _boundary.search(content_type)
    return None if found is None else b"--" + (found[1] or found[2]).encode()


def _coded(body: bytes) -> Stored:
    return {"base64": base64.b64encode(body).decode()}


def _ways(secret: str) -> set[str]:
    """Return how *secret* is written: as it is, in URLs and forms, JSON and HTML, and read as another encoding."""
    raw = secret.encode(errors="replace")
    escaped = json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]
    coded = quote(raw, safe=""), quote(raw), quote_plus(raw)
    lower = (re.sub("%..", lambda each: each[0].lower(), way) for way in coded)
    ways = {secret, *escaped, *(way.replace("/", "\\/") for way in escaped), *coded, *lower, html.escape(secret)}
    return ways | {way.encode(errors="replace").decode("latin-1") for way in ways}


def _shortness(written: str) -> int:
    return -len(written)


def _decoded(coded: str) -> str:
    try:
        return base64.b64decode(coded.strip(), validate=True).decode()
    except ValueError:
        return ""
