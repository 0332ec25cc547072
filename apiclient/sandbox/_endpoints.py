"""The table of endpoints, and the request as they see it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from apiclient.sandbox._answers import Answer

BODY_TYPES = {"POST": "application/json", "PUT": "application/json", "PATCH": "application/merge-patch+json"}
ACCEPT = {"POST": "Accept-Post", "PUT": "Accept", "PATCH": "Accept-Patch"}


@dataclass(slots=True)
class Visit:
    """A request on its way through the sandbox.

    Attributes:
        now: When its headers had arrived, in seconds of the loop's clock.
        method: As sent.
        path: As sent, without the query.
        query: Decoded.
        headers: Looked up without regard to case.
        peer: Address that it came from.
        endpoint: None where no template matches.
        params: What the template's parameters stand for, decoded.
        client: Whose token it carries.
        body: In full, once it has arrived.
        payload: The JSON value in the body, if the method has one.
        refusal: The answer that its headers alone earned it.
        delay: Seconds to wait before the answer is sent.
        told: Headers for its answer.
    """

    now: float
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    peer: str = ""
    endpoint: "Endpoint | None" = None
    params: dict[str, str] = field(default_factory=dict[str, str])
    client: str | None = None
    body: bytes = b""
    payload: Any = None
    refusal: Answer | None = None
    delay: float = 0
    told: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def name(self) -> str:
        """The endpoint's name: `METHOD template`."""
        return f"{self.method} {'*' if self.endpoint is None else self.endpoint.template}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A row of the table.

    Attributes:
        method: `*` for any.
        template: With `{name}` for a segment that may be anything.
        summary: What it is for, a few words.
        answer: Its own work.
        quota: Whether requests are counted.
        public: Whether it reads its body itself, whatever the content type.
        scope: That the token must have.
        group: That the client must be in.
        slow: Whether it takes its time.
    """

    method: str
    template: str
    summary: str
    answer: Callable[[Visit], Answer]
    quota: bool = False
    public: bool = False
    scope: str | None = None
    group: str | None = None
    slow: bool = False

    def serves(self, name: str) -> bool:
        """Tell whether *name*, `METHOD template`, is a name of this endpoint."""
        method, _, template = name.partition(" ")
        return template == self.template and method.isalpha() and self.method in {method, "*"}

    def match(self, path: str) -> dict[str, str] | None:
        """Return the parameters in *path*, percent-decoded, or None if the template does not match."""
        parts, names = path.split("/"), self.template.split("/")
        if len(parts) != len(names):
            return None
        params: dict[str, str] = {}
        for part, name in zip(parts, names, strict=True):
            if name.startswith("{") and part:
                params[name[1:-1]] = unquote(part)
            elif part != name:
                return None
        return params


class Table(tuple[Endpoint, ...]):
    """All endpoints, in the order of the listing."""

    __slots__ = ()

    def find(self, visit: Visit) -> frozenset[str]:
        """Give *visit* its endpoint, and return the methods that its path knows."""
        methods: set[str] = set()
        for endpoint in self:
            params = endpoint.match(visit.path)
            if params is None:
                continue
            methods.add(endpoint.method)
            if visit.endpoint is None and endpoint.method in {visit.method, "*"}:
                visit.endpoint, visit.params = endpoint, params
        return frozenset(methods)

    def check(self, name: str) -> str:
        """Return *name* if it is that of an endpoint, else raise ValueError."""
        if any(endpoint.serves(name) for endpoint in self):
            return name
        known = ", ".join(f"{endpoint.method} {endpoint.template}" for endpoint in self)
        raise ValueError(f"endpoint must be one of {known}, got {name!r}")
