"""What is kept of a grant between refreshes, and when a token is due: pure, the wall clock is an argument."""

import enum
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from apiclient.middleware.credential import Token

_LEEWAY = 5.0
_VERSION = 1


class Phase(enum.Enum):
    """How a token stands at a moment."""

    FRESH = "fresh"
    AGEING = "ageing"
    """Still good, and due to be replaced in the background."""
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Life:
    """The moments at which a token changes its phase, in wall time (Unix seconds).

    Attributes:
        due: From here on it is ageing.
        end: From here on it is not used any more: somewhat before it expires, so that it is still valid
            when it arrives.
    """

    due: float
    end: float

    @classmethod
    def of(cls, issued_at: float, expires_at: float | None, *, ahead: float, chance: float) -> "Life":
        """Return the life of a token.

        Args:
            issued_at: When it was asked for.
            expires_at: When it expires, or None where that is unknown: it then stays fresh.
            ahead: Seconds before its expiry from which it is replaced; a fifth of its lifetime at most.
            chance: From 0 to 1: spreads the replacements of many processes over the second half of that time.
        """
        if expires_at is None:
            return cls(math.inf, math.inf)
        lifetime = max(0.0, expires_at - issued_at)
        end = expires_at - min(_LEEWAY, lifetime / 10)
        window = min(ahead, lifetime / 5)
        return cls(min(end, expires_at - window * (1.0 - chance / 2)), end)

    def phase(self, now: float) -> Phase:
        """Return how the token stands at *now*."""
        if now < self.due:
            return Phase.FRESH
        return Phase.AGEING if now < self.end else Phase.EXPIRED


@dataclass(frozen=True, slots=True)
class Kept:
    """One token as it is kept.

    Attributes:
        value: The secret.
        issued_at: Wall time at which it was asked for.
        expires_at: Wall time, or None where unknown.
        scope: Scopes granted, or None where unknown.
    """

    value: str = field(repr=False)
    issued_at: float
    expires_at: float | None = None
    scope: str | None = None

    def token(self) -> Token:
        """Return what is attached to a request."""
        return Token(self.value, expires_at=self.expires_at, scope=self.scope)


@dataclass(frozen=True, slots=True)
class Record:
    """All that is kept of one grant.

    Attributes:
        refresh_token: The one to use next, or None.
        tokens: The tokens by the scope that was asked for.
    """

    refresh_token: str | None = field(default=None, repr=False)
    tokens: Mapping[str, Kept] = field(default_factory=dict[str, Kept])

    def having(self, scope: str, kept: Kept, *, refresh_token: str | None, now: float) -> "Record":
        """Return a record with *kept* for *scope*, without tokens that have expired."""
        live = {
            each: other
            for each, other in self.tokens.items()
            if other.expires_at is not None and other.expires_at > now
        }
        return Record(self.refresh_token if refresh_token is None else refresh_token, {**live, scope: kept})

    def text(self) -> str:
        """Return it as text for a store. It is as secret as what is in it."""
        tokens = {
            scope: [kept.value, kept.issued_at, kept.expires_at, kept.scope] for scope, kept in self.tokens.items()
        }
        return json.dumps({"version": _VERSION, "refresh_token": self.refresh_token, "tokens": tokens})

    @classmethod
    def parse(cls, text: str | None) -> "Record":
        """Return the record in *text*, or an empty one where it is none: then a new token is asked for."""
        try:
            document = cast("dict[str, Any]", json.loads(text)) if text is not None else {}
            return cls._of(document) if document.get("version") == _VERSION else cls()
        except (ValueError, TypeError, AttributeError, RecursionError):
            return cls()

    @classmethod
    def _of(cls, document: dict[str, Any]) -> "Record":
        refresh_token = document["refresh_token"] if isinstance(document.get("refresh_token"), str) else None
        tokens: dict[str, Kept] = {}
        for wanted, (value, issued_at, expires_at, scope) in document.get("tokens", {}).items():
            if isinstance(value, str) and isinstance(scope, str | None):
                tokens[wanted] = Kept(value, float(issued_at), None if expires_at is None else float(expires_at), scope)
        return cls(refresh_token, tokens)


@dataclass(slots=True)
class Known:
    """What this process has had last of the token endpoint for one grant, whether or not it could be stored.

    Attributes:
        record: With the refresh token to use next; None before the first answer.
        spent: The refresh token that it was had for, or None for the first of the grant.
    """

    record: Record | None = field(default=None, repr=False)
    spent: str | None = field(default=None, repr=False)

    def latest(self, stored: Record) -> Record:
        """Return *stored*, unless the store has lost or never had what came after it: it is used up then."""
        known = self.record
        if known is None or stored.refresh_token == known.refresh_token:
            return stored
        return known if stored.refresh_token in {None, self.spent} else stored
