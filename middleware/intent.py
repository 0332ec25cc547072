"""What is kept of a request that is to be made later, and who keeps it."""

from dataclasses import dataclass
from typing import Any, Protocol

# Everything else stays behind: a credential, a cookie or a trace header of today is wrong tomorrow.
KEPT_HEADERS = ("Accept", "Accept-Language", "Content-Type", "If-Match", "If-None-Match", "Prefer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A request as it was meant, without any credential: those are attached again when it is sent.

    Attributes:
        method: Upper case.
        path: As it goes over the wire, with the query; relative to the origin.
        endpoint: ``METHOD template``.
        headers: Those of ``KEPT_HEADERS`` that the request had.
        body: Whole body.
        idempotency_key: The call's key, or None.
    """

    method: str
    path: str
    endpoint: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    idempotency_key: str | None = None

    def __repr__(self) -> str:
        return f"<Intent {self.endpoint}, {len(self.body)} bytes>"


class IntentStore(Protocol):
    """Keeps intents until they can be sent."""

    async def put(self, intent: Intent, *, error: str | None = None) -> Any:
        """Keep *intent* and return a ticket for it; once it returns, the intent is not lost.

        Args:
            intent: What to send later.
            error: Why it could not be sent now.
        """
        ...
