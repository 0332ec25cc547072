"""The endpoint of a request: what its limits, statistics and log lines are kept under."""

import re
from collections.abc import Iterable
from functools import lru_cache

from apiclient.middleware.errors import InvalidRequest

_PARAMETER = re.compile(r"\{([^{}]*)\}")
_FOLDED = re.compile(
    r"""(?x)
    [0-9]+                                                                   # a number
    | [0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}  # a UUID (RFC 9562)
    | (?=[0-9a-fA-F]*[0-9])[0-9a-fA-F]{8,}                                   # a hash or object id
    """
)


@lru_cache(maxsize=1024)
def endpoint_of(method: str, path: str) -> str:
    """Return ``METHOD path`` with number-, UUID- and hex-like segments folded to ``{}``.

    Args:
        method: Upper case.
        path: Without query; as it goes over the wire.
    """
    folded = "/".join("{}" if _FOLDED.fullmatch(segment) else segment for segment in path.split("/"))
    return f"{method} {folded}"


def parameters_of(template: str) -> tuple[str, ...]:
    """Return the names of the parameters of *template*, in order.

    Raises:
        InvalidRequest: A brace is not closed, or a parameter has no name or an odd one.
    """
    names = tuple(_PARAMETER.findall(template))
    rest = _PARAMETER.sub("", template)
    if "{" in rest or "}" in rest:
        raise InvalidRequest(f"path template {template!r} has a brace without its partner")
    for name in names:
        if not name.isidentifier():
            raise InvalidRequest(f"path template {template!r} has a parameter named {name!r}; use a plain identifier")
    return names


class Templates:
    """The registered templates, in order: the first that matches a concrete path names its endpoint.

    Args:
        templates: ``"/employees/{id}"`` for every method, or ``"GET /employees/{id}"`` for one.

    Raises:
        InvalidRequest: A template is malformed.
    """

    def __init__(self, templates: Iterable[str] = ()) -> None:
        self._templates = tuple(templates)
        self._patterns: list[tuple[str | None, str, re.Pattern[str]]] = []
        for text in self._templates:
            method, space, template = text.partition(" ")
            if not space:
                method, template = "", text
            parameters_of(template)
            literal = _PARAMETER.split(template)[::2]
            pattern = re.compile("[^/]+".join(re.escape(part) for part in literal))
            self._patterns.append((method.upper() if space else None, template, pattern))

    def __repr__(self) -> str:
        return f"Templates({list(self._templates)!r})"

    def endpoint(self, method: str, path: str) -> str:
        """Return ``METHOD template`` for the concrete *path*: a registered template's, else the folded path."""
        for registered, template, pattern in self._patterns:
            if registered in {None, method} and pattern.fullmatch(path):
                return f"{method} {template}"
        return endpoint_of(method, path)
