"""What is kept of a request that is to be made later, and who keeps it."""

import base64
import json
from dataclasses import dataclass
from typing import Any, Protocol

# Everything else stays behind: a credential, a cookie or a trace header of today is wrong tomorrow.
KEPT_HEADERS = (
    "Accept",
    "Accept-Language",
    "Content-Encoding",
    "Content-Language",
    "Content-Type",
    "If-Match",
    "If-Modified-Since",
    "If-None-Match",
    "If-Unmodified-Since",
    "Prefer",
    "Range",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A request as it was meant, without any credential: those are attached again when it is sent.

    Attributes:
        method: Upper case.
        origin: Scheme, host and port that it is for; it is sent nowhere else.
        path: As it goes over the wire, with the query; relative to the origin.
        endpoint: ``METHOD template``.
        headers: Those that ``Defer`` keeps.
        body: Whole body.
        idempotency_key: The call's key, or None.
    """

    method: str
    path: str
    endpoint: str
    origin: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    idempotency_key: str | None = None

    def __repr__(self) -> str:
        return f"<Intent {self.endpoint}, {len(self.body)} bytes>"

    def to_json(self) -> str:
        """Return it as JSON text: ASCII, the body as text where it is UTF-8 and as base64 where not."""
        given: dict[str, Any] = {
            "method": self.method,
            "origin": self.origin,
            "path": self.path,
            "endpoint": self.endpoint,
        }
        if self.headers:
            given["headers"] = self.headers
        if self.idempotency_key is not None:
            given["idempotency_key"] = self.idempotency_key
        if self.body:
            try:
                given["body"] = self.body.decode()
            except UnicodeDecodeError:
                given["body_base64"] = base64.b64encode(self.body).decode()
        return json.dumps(given)

    @classmethod
    def from_json(cls, text: str) -> "Intent":
        """Return what ``to_json`` made *text* of.

        Raises:
            ValueError: It did not.
        """
        given = json.loads(text)
        try:
            body = given["body"].encode() if "body" in given else base64.b64decode(given.get("body_base64", ""))
            return cls(
                method=given["method"],
                origin=given["origin"],
                path=given["path"],
                endpoint=given["endpoint"],
                headers=tuple((name, value) for name, value in given.get("headers", ())),
                body=body,
                idempotency_key=given.get("idempotency_key"),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not an intent: {type(error).__name__}: {error}") from error


class IntentStore(Protocol):
    """Keeps intents until they can be sent."""

    async def put(self, intent: Intent, *, error: str | None = None) -> Any:
        """Keep *intent* and return a ticket for it; once it returns, the intent is not lost.

        Args:
            intent: What to send later.
            error: Why it could not be sent now.

        Raises:
            ApiError: It is not kept.
        """
        ...
