"""Media types: what one says, which of those accepted fits a body, and what is right for it. Pure."""

import codecs
import re
from collections.abc import Iterable, Mapping
from enum import Enum, auto
from functools import lru_cache
from typing import Final, NamedTuple

JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"
OCTETS: Final = "application/octet-stream"
# What aiohttp puts on str, bytes and empty bodies by itself, to the letter: anything else the caller said.
GUESSES: Final = frozenset({"text/plain; charset=utf-8", OCTETS})
HTML: Final = frozenset({"text/html", "application/xhtml+xml"})
SNIFFED: Final = 1024

_LONGEST: Final = 200
_MOST: Final = 20
_NAME: Final = r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,80}"
_full = re.compile(rf"({_NAME}/{_NAME})((?:\s{{0,3}};\s{{0,3}}{_NAME}=(?:{_NAME}|\"[^\"\\]{{0,80}}\"))*)", re.ASCII)
_quality = re.compile(r";\s{0,3}q=([0-9.]{1,5})\s{0,3}", re.IGNORECASE)
_charset = re.compile(r"\s{0,3};\s{0,3}charset\s{0,3}=\s{0,3}\"?([^\s;\"]{1,40})\"?", re.IGNORECASE)
_named = re.compile(r"\b(?:application|text|multipart|image|audio|video)/[A-Za-z0-9][A-Za-z0-9.+_-]{0,80}[A-Za-z0-9]")
_json_start = re.compile(rb"""\s*+(?:\{\s*+(?:["}]|\Z)|\[\s*+(?:[\[\]{"0-9-]|true|false|null|\Z))""")
_scalar_start = re.compile(rb"""\s*+(?:["\[{0-9-]|true|false|null|\Z)""")


class Shape(Enum):
    """What is known of a body without reading it in full."""

    EMPTY = auto()
    JSON = auto()  # made by ``json=``
    JSON_LIKE = auto()  # text that begins and ends as a JSON object or array
    FORM = auto()
    TEXT = auto()
    BYTES = auto()
    MULTIPART = auto()
    OPAQUE = auto()  # a file or a stream


# Tuples: a member's hash is a Python call, its identity is not.
_READABLE: Final = (Shape.JSON, Shape.JSON_LIKE, Shape.TEXT, Shape.BYTES)


class Action(Enum):
    """What to do with a request before it is sent."""

    KEEP = auto()
    SET = auto()
    CONVERT = auto()  # the form becomes JSON
    REFUSE = auto()


class Verdict(NamedTuple):
    """What to do, with the Content-Type to set or the reason to refuse."""

    action: Action
    value: str = ""


KEEP: Final = Verdict(Action.KEEP)


@lru_cache(maxsize=256)
def essence(value: str | None) -> str:
    """Return ``type/subtype`` in lower case, without parameters; empty for None."""
    return "" if value is None else value[:_LONGEST].partition(";")[0].strip().lower()


def is_media_type(value: str) -> bool:
    """Return whether *value* is a media type, with or without parameters (RFC 9110 8.3.1)."""
    return "*" not in value and _full.fullmatch(value) is not None


def is_json(media_type: str) -> bool:
    """Return whether *media_type* is ``application/json``, ``text/json`` or ends in ``+json`` (RFC 6839 3.1)."""
    bare = essence(media_type)
    return bare in {JSON, "text/json"} or bare.endswith("+json")


def looks_like_json(body: bytes) -> bool:
    """Return whether the first and the last bytes are those of a JSON object or array; nothing is parsed."""
    if _json_start.match(body, 0, SNIFFED) is None:
        return False
    first, last = body[:SNIFFED].lstrip()[:1], body[-SNIFFED:].rstrip()[-1:]
    return last == (b"}" if first == b"{" else b"]")


def may_be_json(body: bytes) -> bool:
    """Return whether *body* begins with something that JSON can begin with."""
    return _scalar_start.match(body, 0, SNIFFED) is not None


def demands_json(accept: str | None) -> bool:
    """Return whether an ``Accept`` field admits JSON and nothing else."""
    ranges = [each for each in (accept or "")[:1000].split(",") if each.strip()]
    return bool(ranges) and all(is_json(each) for each in ranges)


def accepted_types(headers: Mapping[str, str], method: str, said: str = "") -> tuple[str, ...]:
    """Return the types that an answer of 415 says it takes, in its order, at most 20.

    The field for the method comes first (``Accept-Post``, W3C LDP 7.1; ``Accept-Patch``, RFC 5789 3.1), then ``Accept``
    (RFC 9110 15.5.16), then those that the error's own words name. What is no media type, or has a quality of zero, is
    left out, so that a type of these is fit for a header.

    Args:
        headers: Of the answer.
        method: Of the request.
        said: What the error body says, in words.
    """
    fields = {"POST": ("Accept-Post",), "PATCH": ("Accept-Patch",)}.get(method, ())
    for name in (*fields, "Accept", "Accept-Post", "Accept-Patch"):
        found = _listed(headers.get(name, ""))
        if found:
            return found
    return tuple(dict.fromkeys(_named.findall(said[:4000])))[:_MOST]


def _listed(field: str) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for part in field[:4000].split(",")[:_MOST]:
        quality = _quality.search(part)
        if quality is not None and not quality[1].strip("0."):
            continue
        plain = _quality.sub("", part).strip()
        if _full.fullmatch(plain) is not None:
            found[plain] = None
    return tuple(found)


def better_type(
    shape: Shape, sent: str | None, accepted: Iterable[str], *, default: str = JSON, array: bool = False
) -> str | None:
    """Return the type that a refused body can be sent as instead, its bytes unchanged, or None.

    JSON may go out as any JSON type that is accepted, a JSON Patch (RFC 6902) only if it is an array, a merge patch
    (RFC 7396) only if it is an object; where nothing is said, as the default if it went out as something else. An empty
    body may go out as any accepted JSON type.

    Args:
        shape: Of the body.
        sent: The Content-Type that was refused.
        accepted: The types that the server takes.
        default: Type of JSON.
        array: Whether the body is a JSON array.
    """
    if shape not in (Shape.EMPTY, Shape.JSON, Shape.JSON_LIKE):
        return None
    refused = _normal(sent)
    given = tuple(accepted)
    fitting = [each for each in given if _fits(each, array=array) and _normal(each) != refused]
    if any(essence(each) in {"*/*", "application/*"} for each in given):
        given = ()
    if not given and not is_json(essence(sent)):
        fitting.append(default)
    plain = [each for each in fitting if essence(each) == JSON]
    return next(iter([*plain, *fitting]), None)


def _fits(media_type: str, *, array: bool) -> bool:
    bare = essence(media_type)
    structured = {"application/json-patch+json": array, "application/merge-patch+json": not array}
    return is_json(bare) and "*" not in bare and structured.get(bare, bare != "application/problem+json")


def _normal(media_type: str | None) -> str:
    return "" if media_type is None else re.sub(r"[\s\"]", "", media_type).lower()


def prepared(
    shape: Shape,
    declared: str | None,
    head: bytes,
    *,
    encoding: str | None,
    default: str,
    wanted: str | None,
    convert: bool = False,
    strict: bool = False,
) -> Verdict:
    """Return what to do about the *declared* type of a body, before it is sent.

    Args:
        shape: Of the body.
        declared: The Content-Type, aiohttp's own guess included.
        head: The body, or its beginning.
        encoding: What aiohttp encoded a ``str`` in, or None for bytes.
        default: Type of JSON that has none.
        wanted: The type that this endpoint is configured for, or None.
        convert: Whether a form may be turned into JSON.
        strict: Whether to refuse what would be corrected, and a body that nobody gave a type.
    """
    verdict = _right_type(shape, declared, head, default=default, wanted=wanted, convert=convert)
    if verdict is KEEP and declared is not None and shape in _READABLE and "charset" in declared.lower():
        verdict = _right_charset(declared, head, encoding)
    if not strict or shape is Shape.EMPTY or verdict.action is Action.REFUSE:
        return verdict
    guessed = declared is None or declared in GUESSES
    if verdict is KEEP and guessed and (wanted is None or essence(wanted) != essence(declared)):
        return Verdict(Action.REFUSE, "was given no type by the caller")
    if verdict is KEEP and wanted is not None and essence(wanted) != essence(declared):
        return Verdict(Action.REFUSE, f"should be {wanted} here")
    if verdict is not KEEP and verdict.value != wanted:
        return Verdict(Action.REFUSE, f"should go out as {verdict.value}")
    return verdict


def _right_type(  # noqa: PLR0911 - a table of cases, from the surest down
    shape: Shape, declared: str | None, head: bytes, *, default: str, wanted: str | None, convert: bool
) -> Verdict:
    bare, guessed = essence(declared), declared is None or declared in GUESSES
    if shape is Shape.EMPTY:
        return Verdict(Action.SET, wanted if wanted is not None else default) if guessed else KEEP
    if shape is Shape.MULTIPART:
        if is_json(bare) or (wanted is not None and is_json(wanted)):
            return Verdict(Action.REFUSE, "is a multipart form")
        return KEEP
    if shape is Shape.FORM:
        if is_json(bare) or (wanted is not None and is_json(wanted)):
            as_json = wanted if wanted is not None else bare
            return Verdict(Action.CONVERT, as_json) if convert else Verdict(Action.REFUSE, "is a form")
        return KEEP
    target = wanted if wanted is not None and (guessed or (shape is Shape.JSON and bare == JSON)) else None
    if shape is Shape.JSON:
        if target is None and not is_json(bare):
            target = wanted if wanted is not None else default
        return KEEP if target is None or essence(target) == bare else Verdict(Action.SET, target)
    if target is None and shape is Shape.JSON_LIKE and guessed:
        target = default
    final = essence(target) if target is not None else bare
    if is_json(final) and shape in (Shape.TEXT, Shape.BYTES) and not may_be_json(head):
        return Verdict(Action.REFUSE, "begins with nothing that JSON can begin with")
    return KEEP if target is None or target == declared else Verdict(Action.SET, target)


def _right_charset(declared: str, head: bytes, encoding: str | None) -> Verdict:
    # JSON is UTF-8 (RFC 8259 8.1) and its type defines no charset: a false one is taken away.
    named = _charset.search(declared)
    if named is None or not _lies(named[1], head, encoding):
        return KEEP
    truth = encoding if encoding is not None else "utf-8"
    if not _decodes(head, truth):
        return Verdict(Action.REFUSE, "is not in that charset, and not UTF-8 either")
    rest = declared[: named.start()] + declared[named.end() :]
    return Verdict(Action.SET, rest if is_json(declared) else f"{rest}; charset={truth}")


def _lies(charset: str, head: bytes, encoding: str | None) -> bool:
    try:
        name = codecs.lookup(charset).name
    except LookupError:
        return True
    if encoding is not None:
        return name != codecs.lookup(encoding).name
    # Nearly any bytes of even number are UTF-16: the zero bytes of its Latin letters tell.
    if name.startswith(("utf-16", "utf-32")):
        return b"\0" not in head[:8]
    return not _decodes(head, name)


def _decodes(head: bytes, charset: str) -> bool:
    try:
        codecs.getincrementaldecoder(charset)().decode(head[:SNIFFED])
    except (UnicodeError, LookupError):
        return False
    return True
