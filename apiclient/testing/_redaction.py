"""What may be written to a cassette: texts, headers and bodies without the secrets in them. Pure."""

import base64
import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from apiclient._wire import SENT_PLAIN, withheld
from apiclient.middleware._body_shown import HIDDEN, SECRET_NAMES, is_secret, masked, named_hidden, plain
from apiclient.middleware._excerpt import secrets_of, without

Stored = dict[str, Any] | None
"""A body as JSON holds it: None, or one entry ``json``, ``compact_json``, ``text`` or ``base64``."""

FORM: Final = "application/x-www-form-urlencoded"
_BOUNDARY: Final = b"cassette-boundary"
_SHORTEST: Final = 8
_LONG: Final = 16
# Of a token request and its answer nothing else is kept (RFC 6749, RFC 7523, RFC 8693).
_GRANT: Final = frozenset(
    {"audience", "client_assertion_type", "client_id", "error", "error_description", "error_uri", "expires_in",
     "grant_type", "issued_token_type", "requested_token_type", "resource", "scope", "token_type"}
)  # fmt: skip
_STYLES: Final[dict[str, dict[str, Any]]] = {
    "json": {},
    "compact_json": {"separators": (",", ":"), "ensure_ascii": False},
}
_boundary = re.compile(r"boundary=(?:\"([^\"]{1,200})\"|([^\s;\"]{1,200}))", re.IGNORECASE)
_part_name = re.compile(rb"\bname=\"?([^\";\r\n]{0,200})", re.IGNORECASE)


class Redaction:
    """Takes secrets out of requests and answers, and remembers them, to find them elsewhere as well.

    Args:
        names: Whose values are secrets, beside those that always are: of headers, query parameters, form fields and
            members of JSON.
        headers: Names of request headers whose values are none, beside those that never are.
    """

    def __init__(self, names: Iterable[str] = (), headers: Iterable[str] = ()) -> None:
        self._names = SECRET_NAMES | {plain(name) for name in names}
        self._plain = SENT_PLAIN | {name.lower() for name in headers}
        self._secrets: set[str] = set()

    def __repr__(self) -> str:
        return f"Redaction({len(self._secrets)} secrets known)"

    def learn(self, headers: Mapping[str, str], token: str | None = None, query: str | None = None) -> None:
        """Remember the secrets that a request's *headers* hold, its *token*, and the name of the *query* parameter."""
        if query is not None:
            self._names |= {plain(query)}
        # A key of idempotency is hidden in its header, but opens nothing, and each request has one.
        plain_here = self._plain | {"idempotency-key"}
        private = {name: value for name, value in headers.items() if name.lower() not in plain_here}
        self._secrets.update(secrets_of(private, token))
        for name, value in private.items():
            if name.lower() == "cookie":
                self._secrets.update(_worth(pair.partition("=")[2].strip() for pair in value.split(";")))
            elif value[:6].lower() == "basic ":
                self._secrets.update(_worth(_decoded(value[6:]).split(":", 1)))

    def text(self, text: str) -> str:
        """Return *text* without the secrets known so far."""
        return without(text.encode(errors="surrogatepass"), self._known()).decode(errors="surrogatepass")

    def everywhere(self, value: Any) -> Any:
        """Return a JSON value, all its texts without the secrets known by now."""
        shape: Any = value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.everywhere(each) for each in shape]
        if isinstance(value, dict):
            return {name: self.everywhere(each) for name, each in shape.items()}
        return value

    def query(self, pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return the parameters of a query without their secrets."""
        kept: list[tuple[str, str]] = []
        for name, value in pairs:
            hide = is_secret(name, self._names)
            self._secrets.update(_worth([value]) if hide else ())
            kept.append((name, HIDDEN if hide else self.text(value)))
        return kept

    def sent(self, headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return the headers of a request: of those not known to be harmless only the names."""
        return [
            (name, self._header(value) if name.lower() in self._plain and plain(name) not in self._names else HIDDEN)
            for name, value in headers
        ]

    def received(self, headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return the headers of an answer: all but those that hold secrets; of cookies the names and attributes."""
        kept: list[tuple[str, str]] = []
        for name, value in headers:
            if name.lower() == "set-cookie":
                pair, semicolon, attributes = value.partition(";")
                cookie, _, content = pair.partition("=")
                self._secrets.update(_worth([content.strip().strip('"')]))
                kept.append((name, f"{cookie}={HIDDEN}{semicolon}{attributes}"))
            else:
                hide = withheld(name) or plain(name) in self._names
                kept.append((name, HIDDEN if hide else self._header(value)))
        return kept

    def body(self, body: bytes, content_type: str | None, *, grant: bool = False) -> Stored:
        """Return *body* as it may be kept.

        Args:
            body: The whole of it, before compression.
            content_type: Its ``Content-Type``, or None.
            grant: Whether it belongs to a token request.
        """
        kind = (content_type or "").partition(";")[0].strip().lower()
        if kind.startswith("multipart/"):
            body = self._parts(body, content_type or "")
        body = without(body, self._known())
        if not body:
            return None
        encoding: str = json.detect_encoding(body).removesuffix("-sig")
        try:
            text = body.decode(encoding)
        except UnicodeDecodeError:
            encoding, text = "latin-1", body.decode("latin-1")
        if kind == FORM:
            text = self._form(text, grant=grant)
        elif (stored := self._json(text, grant=grant)) is not None:
            return stored
        else:
            text = self._marked_up(named_hidden(text, self._names))
        return {"text": text} if encoding == "utf-8" else {"base64": base64.b64encode(text.encode(encoding)).decode()}

    def _known(self) -> list[str]:
        return sorted(self._secrets, key=len, reverse=True)

    def _header(self, value: str) -> str:
        return self.text(named_hidden(value, self._names))

    def _form(self, text: str, *, grant: bool) -> str:
        pairs = parse_qsl(text, keep_blank_values=True)
        hide = [name not in _GRANT if grant else is_secret(name, self._names) for name, _ in pairs]
        if not any(hide):
            return text
        self._secrets.update(_worth(value for (_, value), secret in zip(pairs, hide, strict=True) if secret))
        kept = [(name, HIDDEN if secret else value) for (name, value), secret in zip(pairs, hide, strict=True)]
        return urlencode(kept, safe="[]")

    def _json(self, text: str, *, grant: bool) -> Stored:
        if text.lstrip()[:1] not in {"{", "["}:
            return None
        try:
            value: Any = json.loads(text)
            members: Any = value
            self._secrets.update(_worth(_under(value, self._names)))
            kept: Any = masked(value, self._names)
            if grant and isinstance(value, dict):
                self._secrets.update(_worth(str(each) for name, each in members.items() if name not in _GRANT))
                kept = {name: kept[name] if name in _GRANT else HIDDEN for name in members}
            for style, options in _STYLES.items():
                if json.dumps(value, **options) == text:
                    return {style: kept}
        except (ValueError, RecursionError):
            return None
        # Written in a way that cannot be told again exactly: as it is, unless something had to be taken out of it.
        return None if kept == value else {"json": kept}

    def _marked_up(self, text: str) -> str:
        def element(match: re.Match[str]) -> str:
            return f"{match[1]}{HIDDEN}" if plain(match[2].rpartition(":")[2]) in self._names else match[0]

        return re.sub(r"(<([\w:.-]{1,100})(?:\s[^<>]{0,2000})?>)[^<]+", element, text)

    def _parts(self, body: bytes, content_type: str) -> bytes:
        found = _boundary.search(content_type)
        if found is None:
            return body
        parts = body.split(b"--" + (found[1] or found[2]).encode())
        for index, part in enumerate(parts):
            head, blank, value = part.partition(b"\r\n\r\n")
            named = _part_name.search(head)
            if blank and named is not None and is_secret(named[1].decode("latin-1"), self._names):
                self._secrets.update(_worth([value.strip().decode("latin-1")]))
                parts[index] = head + blank + HIDDEN.encode() + b"\r\n"
        # Each request draws a boundary of its own.
        return (b"--" + _BOUNDARY).join(parts)


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


def _under(value: Any, names: Collection[str]) -> list[str]:
    """Return the texts that stand under *names* in a JSON value."""
    shape: Any = value
    if isinstance(value, dict):
        mine = [each for name, each in shape.items() if plain(name) in names and isinstance(each, str)]
        return mine + [text for each in shape.values() for text in _under(each, names)]
    return [text for each in shape for text in _under(each, names)] if isinstance(value, list) else []


def _worth(values: Iterable[str]) -> list[str]:
    """Return those that can be looked for elsewhere: a word or a short number would be found where it is none."""
    return [
        value
        for value in values
        if len(value) >= _SHORTEST and HIDDEN not in value and (len(value) >= _LONG or not value.isalpha())
    ]


def _decoded(coded: str) -> str:
    try:
        return base64.b64decode(coded.strip(), validate=True).decode()
    except ValueError:
        return ""
