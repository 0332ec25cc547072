"""From a base URL, a path template and its parameters to a URL that cannot leave the base URL's origin."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NoReturn
from urllib.parse import quote, unquote

from yarl import URL

from apiclient.middleware._endpoint import Templates, parameters_of
from apiclient.middleware.errors import InvalidRequest

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_DEFAULT_PORTS = {"http": 80, "https": 443}
# Quoting would leave it as it is, and it is no dot segment.
_PLAIN = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*")
_SPLIT = re.compile(r"\{([^{}]*)\}")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,200}")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Target:
    """One method and path template, made ready once and expanded for each call.

    Attributes:
        endpoint: ``METHOD template``, or of a concrete path the endpoint that it belongs to.
        key: ``(origin, endpoint)``.
    """

    __slots__ = ("_head", "_names", "_origin", "_rest", "_template", "_url", "endpoint", "key")

    def __init__(self, base: URL, method: str, template: str, templates: Templates) -> None:
        if _TOKEN.fullmatch(method) is None:
            raise InvalidRequest("the method must be a token such as GET (value not shown)")
        path, _, query = template.partition("?")
        names = parameters_of(path)
        self._names = dict.fromkeys(names).keys()
        self._template = template
        literals = _SPLIT.split(path)[::2]
        _refuse_unsafe(template, path)
        if self._names:
            self.endpoint = f"{method} {path}"
            if query:
                raise InvalidRequest(f"path template {template!r} has a query; give it as params=")
        else:
            self.endpoint = templates.endpoint(method, path)
        self.key = (str(base.origin()), self.endpoint)
        prefix = base.raw_path.rstrip("/")
        if literals[0][:1] != "/":
            literals[0] = "/" + literals[0]
        # Scheme and authority are the base URL's by construction, whatever the path holds.
        self._origin = base.origin()
        # What the caller writes literally may hold spaces or letters beyond ASCII: quoted here, once.
        head, *rest = map(_quoted, literals)
        self._head = prefix + head
        self._rest = tuple(zip(names, rest, strict=True))
        self._url: URL | None = None
        if not self._names:
            self._url = URL.build(
                scheme=base.scheme,
                authority=base.raw_authority,
                path=self._head,
                query_string=_quoted(query),
                encoded=True,
            )

    def __repr__(self) -> str:
        return f"Target({self.endpoint!r})"

    def url(self, parameters: Mapping[str, Any] | None) -> URL:
        """Return the URL for *parameters*.

        Raises:
            InvalidRequest: A parameter is missing, unknown, empty, ``.`` or ``..``, or has control characters.
        """
        if self._url is not None and not parameters:
            return self._url
        given: Mapping[str, Any] = parameters if parameters is not None else {}
        if given.keys() != self._names:
            self._refuse(given)
        path = self._head
        for name, literal in self._rest:
            path += segment_of(name, given[name]) + literal
        return self._origin.with_path(path, encoded=True)

    def _refuse(self, given: Mapping[str, Any]) -> NoReturn:
        for name in given:
            if name not in self._names:
                known = ", ".join(self._names) if self._names else "none"
                raise InvalidRequest(f"path {self._template!r} has no parameter {name!r}; it has: {known}")
        name = next(name for name in self._names if name not in given)
        raise InvalidRequest(f"path {self._template!r} needs the parameter {name!r}; give it in path_params=")


def segment_of(name: str, value: Any) -> str:
    """Return *value* quoted as one path segment (RFC 3986 section 3.3).

    Raises:
        InvalidRequest: It is empty, None, ``.`` or ``..``, or has a control character; the value is not shown.
    """
    text = "" if value is None else str(value)
    if _PLAIN.fullmatch(text):
        return text
    if not text:
        raise InvalidRequest(f"path parameter {name!r} is empty")
    if unquote(text) in {".", ".."}:
        raise InvalidRequest(f"path parameter {name!r} is a dot segment, which would change the path")
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in text):
        raise InvalidRequest(f"path parameter {name!r} has a control character")
    try:
        return quote(text, safe="")
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"path parameter {name!r} is not valid text: {error.reason}") from error


def checked_headers(headers: Mapping[str, Any]) -> dict[str, str]:
    """Return *headers* as a dict.

    Raises:
        InvalidRequest: A name is no token, or a value has a control character (RFC 9110 sections 5.1 and 5.5); the
            value is not shown.
    """
    for name, value in headers.items():
        if not isinstance(value, str) or _CONTROL.search(value):
            raise InvalidRequest(f"header {name!r} must be text without control characters (value not shown)")
        if _TOKEN.fullmatch(name) is None:
            raise InvalidRequest(f"header {name!r} has a name with characters that no name may have")
    return dict(headers)


def base_of(base_url: str | URL) -> URL:
    """Return *base_url* parsed and checked.

    Raises:
        ValueError: It is not an absolute http or https URL without userinfo, query and fragment.
    """
    try:
        url = URL(base_url)
    except (TypeError, ValueError) as error:
        raise ValueError(f"base_url must be an http or https URL, got {base_url!r}") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError(f"base_url must be an absolute http or https URL, got {str(base_url)!r}")
    if url.user is not None or url.password is not None:
        raise ValueError("base_url must not contain a user or password; give credentials=Basic(user, password)")
    if url.query_string or url.fragment:
        raise ValueError(f"base_url must have neither query nor fragment, got {str(base_url)!r}")
    # yarl takes https://example.com:443 and https://example.com for two origins; they are one.
    return url.with_port(None) if url.explicit_port in {None, _DEFAULT_PORTS[url.scheme]} else url


class Targets:
    """The targets of one client, the recent ones kept ready."""

    def __init__(self, base: URL, templates: Templates) -> None:
        def target(method: str, template: str) -> Target:
            return Target(base, method, template, templates)

        self.get = lru_cache(maxsize=1024)(target)
        self.endpoint = templates.endpoint


def _refuse_unsafe(template: str, path: str) -> None:
    if _FORBIDDEN.search(template):
        raise InvalidRequest(f"path {template!r} has white space, a control character or a backslash")
    if _SCHEME.match(path) or path.startswith("//"):
        raise InvalidRequest(
            f"path {template!r} names an origin of its own; paths are relative to base_url",
            hint="Give a path, or make another ApiClient for the other origin",
        )
    if "#" in template:
        raise InvalidRequest(f"path {template!r} has a fragment, which is never sent")
    for segment in path.split("/"):
        if unquote(segment) in {".", ".."}:
            raise InvalidRequest(f"path {template!r} has a dot segment, which would change the path")


def _quoted(literal: str) -> str:
    return quote(literal, safe="/?:@!$&'()*+,;=-._~%")
