"""What all OAuth 2.0 credentials share: one current token, replaced once for everybody."""

import asyncio
import copy
import hashlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from yarl import URL

from apiclient.credentials._grants import Granted, Outcome, Refused, Unavailable, WireRequest
from apiclient.credentials._options import OAuthOptions, Settings, sender_of
from apiclient.credentials._record import Kept, Known, Life, Phase, Record
from apiclient.credentials._single_flight import SingleFlight
from apiclient.credentials._tenure import Tenure
from apiclient.credentials._token_endpoint import TokenEndpoint
from apiclient.middleware._call import joined
from apiclient.middleware._events import EventLog
from apiclient.middleware.credential import Token
from apiclient.middleware.errors import ApiError, CredentialsRejected, TokenUnavailable
from apiclient.stores.memory_token_store import MemoryTokenStore
from apiclient.stores.token_store import TokenStore

_NO_LIFE = Life(-math.inf, -math.inf)
_POLL = 0.05
_AGAIN_AHEAD = 5.0
_MOST_SIBLINGS = 64

_HINTS: Mapping[str | None, str] = {
    "invalid_client": "Check client id and key, and the way of client authentication",
    "unauthorized_client": "Ask the API's operator to grant this client the grant type that it uses",
    "invalid_grant": "Sign in again for a new refresh token, or check the assertion's key, audience and clock",
    "invalid_scope": "Ask the API's operator to grant this client the scope, or correct its spelling",
    "unsupported_grant_type": "Use a grant type that this token endpoint offers",
    "invalid_request": "Check the extra parameters and the way of client authentication",
    "invalid_target": "Check the resource or audience parameter (RFC 8707)",
    "access_denied": "Ask the API's operator to let this client in",
}


class _Refusal(NamedTuple):
    """A final refusal, and how long it is remembered (on the loop's clock)."""

    outcome: Refused
    since: float
    until: float


class TokenStanding(NamedTuple):
    """How a credential stands.

    Attributes:
        credential: Its repr.
        age: Seconds since the current token was asked for, or None where there is none.
        expires_in: Seconds until it expires, or None where that is unknown or there is none.
        refreshes: Token requests so far by result: ``issued``, ``refused``, ``unavailable``.
    """

    credential: str
    age: float | None
    expires_in: float | None
    refreshes: Mapping[str, int]


class OAuthCredential:
    """A token from a token endpoint: fetched when needed, replaced before it expires, shared by all callers.

    While a token is good everybody gets it at once. In the time before its expiry one background task
    replaces it and nobody waits. Without a good one everybody waits for the one request that is under way.

    Subclasses say what a token request looks like (``_request``) and what tells two credentials apart
    (``_identity``).

    Where the store fails, a process asks for a token of its own, unless that would use up what the store has.
    """

    # Whether a token request uses up something that only the store has the latest of.
    _used_up = False

    def __init__(self, token_url: str | URL | None, issuer: str | URL | None, options: OAuthOptions) -> None:
        self._settings = Settings.of(options)
        self._now = self._settings.now
        self._sender = sender_of(options, self._settings)
        self._endpoint = TokenEndpoint(token_url, issuer, allow_http=options.get("allow_http", False))
        store = options.get("store")
        self._store = MemoryTokenStore() if store is None else store
        self._own_store = store is None
        self._log = EventLog(options.get("logger"))
        self._siblings: dict[frozenset[str], Self] = {}
        self._known = Known()  # Siblings share it, as they share the grant.
        self._start(self._settings.scope)

    def _start(self, scopes: tuple[str, ...]) -> None:
        self._scopes = scopes
        self._flight: SingleFlight[Token | Refused | Unavailable] = SingleFlight()
        self._current: Token | None = None
        self._life = _NO_LIFE
        self._rejected: Token | None = None
        self._refusal: _Refusal | None = None
        self._again_ahead = -math.inf
        self._issued_at = math.nan
        self._refreshes = {"issued": 0, "refused": 0, "unavailable": 0}

    def __repr__(self) -> str:
        name = "" if self._settings.name is None else f"name={self._settings.name!r}, "
        scope = f", scope={' '.join(self._scopes)!r}" if self._scopes else ""
        return f"{type(self).__name__}({name}{self._shown()}{self._endpoint!r}{scope})"

    def current(self) -> Token | None:
        """Return the token at hand, or None where there is none or it is due to be replaced."""
        return self._current if self._now() < self._life.due else None

    async def token(self) -> Token:
        """Return a token that is valid now.

        Raises:
            CredentialsRejected: The token endpoint refuses for good, now or a short while ago.
            TokenUnavailable: The token endpoint cannot be reached, or answers nonsense.
        """
        current = self.current()
        return await self._due() if current is None else current

    def invalidate(self, token: Token) -> bool:
        """Forget *token* if it is still the current one; one that was replaced already changes nothing."""
        current = self._current
        if current is not None and (current is token or current.value == token.value):
            self._current, self._life = None, _NO_LIFE
            self._rejected = token
        return True

    def for_scope(self, scope: str) -> Self | None:
        """Return the credential that asks for *scope* (one or several) as well.

        Returns:
            None where this one asks for it already, or where it is not among ``allowed_scopes``.
        """
        missing = [each for each in scope.split() if each not in self._scopes]
        if not missing or not self._settings.allowed.issuperset(missing):
            return None
        scopes = tuple(dict.fromkeys((*self._scopes, *missing)))
        sibling = self._siblings.get(frozenset(scopes))
        if sibling is None:
            if len(self._siblings) >= _MOST_SIBLINGS:
                self._siblings.clear()
            sibling = self._siblings[frozenset(scopes)] = self._sibling(scopes)
        return sibling

    def _sibling(self, scopes: tuple[str, ...]) -> Self:
        sibling = copy.copy(self)
        sibling._start(scopes)  # noqa: SLF001 - of its own class
        return sibling

    def share(self, store: TokenStore) -> None:
        """Keep tokens in *store* from now on, unless a store of its own was given at first."""
        if self._own_store:
            self._own_store = False
            for each in self._family():
                each._store = store  # noqa: SLF001 - of its own class

    def standing(self) -> tuple[TokenStanding, ...]:
        """Return how this credential stands, and those for further scopes that came out of it."""
        return tuple(each._standing() for each in self._family())  # noqa: SLF001 - of its own class

    def _standing(self) -> TokenStanding:
        now, current = self._settings.now(), self._current
        left = None if current is None or current.expires_at is None else current.expires_at - now
        return TokenStanding(
            repr(self), None if current is None else now - self._issued_at, left, dict(self._refreshes)
        )

    def _family(self) -> "tuple[OAuthCredential, ...]":
        # All share one dict of siblings, so that each finds the others in it, and itself unless it is the first.
        return tuple(dict.fromkeys((self, *self._siblings.values())))

    async def aclose(self) -> None:
        """Wait for a refresh that is under way, so that a rotated refresh token is not lost."""
        for each in self._family():
            await each._flight.drained()  # noqa: SLF001 - of its own class

    async def _due(self) -> Token:
        current = self._current
        time = asyncio.get_running_loop().time
        if current is not None and self._life.phase(self._settings.now()) is Phase.AGEING:
            if time() >= self._again_ahead:
                self._again_ahead = time() + _AGAIN_AHEAD
                self._flight.start(self._renew)
            return current
        if self._refusal is not None and time() < self._refusal.until:
            raise self._error(self._refusal.outcome, ago=time() - self._refusal.since)
        call = joined()
        outcome = await self._flight.join(self._renew, deadline=None if call is None else call.deadline)
        if isinstance(outcome, Token):
            return outcome
        raise self._error(outcome)

    async def _renew(self) -> Token | Refused | Unavailable:
        time = asyncio.get_running_loop().time
        began = time()
        try:
            try:
                outcome = await self._shared()
            except Exception as error:
                if self._used_up:
                    raise
                self._store_failed(error)
                outcome = await self._alone()
        except Exception as error:  # noqa: BLE001 - a store is foreign code; every waiter is told
            outcome = Unavailable(f"the token store {self._store!r} failed ({type(error).__name__})")
        spent = time() - began
        if isinstance(outcome, Token):
            self._refusal = None
            self._refreshes["issued"] += 1
            self._log.emit(logging.INFO, "auth.token_issued", credential=repr(self), duration_s=spent)
        elif isinstance(outcome, Refused):
            self._refreshes["refused"] += 1
            self._refusal = _Refusal(outcome, time(), time() + self._settings.rejected_for)
            self._log.emit(
                logging.ERROR, "auth.token_refused", credential=repr(self), code=outcome.code, duration_s=spent
            )
        else:
            self._refreshes["unavailable"] += 1
            self._log.emit(
                logging.WARNING,
                "auth.token_unavailable",
                credential=repr(self),
                reason=outcome.reason,
                duration_s=spent,
            )
        return outcome

    async def _shared(self) -> Token | Refused | Unavailable:
        """Take the token that a sibling process has put into the store, or be the one that replaces it."""
        time = asyncio.get_running_loop().time
        key = self._key()
        # Longer than a refresh can take: its last attempt begins within the patience.
        seconds = self._sender.patience + 2 * self._sender.timeout + 5.0
        patience = time() + seconds
        tenure = Tenure(self._store, key, longest=seconds)
        while True:
            if (adopted := self._adopted(Record.parse(await self._store.load(key)))) is not None:
                return adopted
            if await tenure.acquire():
                break
            if time() >= min(patience, self._flight.latest):
                return Unavailable("another process has been refreshing this token for too long")
            await asyncio.sleep(_POLL * (0.5 + self._settings.random()))
        async with tenure:
            return await self._leased(key, tenure)

    async def _alone(self) -> Token | Refused | Unavailable:
        """Replace the token without the store."""
        asked, outcome = await self._exchanged(Record())
        return self._taken(self._kept(asked, outcome)) if isinstance(outcome, Granted) else outcome

    def _store_failed(self, error: Exception) -> None:
        self._log.emit(logging.WARNING, "auth.store_failed", credential=repr(self), error_type=type(error).__name__)

    async def _leased(self, key: str, tenure: Tenure) -> Token | Refused | Unavailable:
        text = await self._store.load(key)
        stored = Record.parse(text)
        if self._used_up and text is not None and stored == Record():
            remedy = "use the program and keys that wrote it, or sign in again"
            return Unavailable(f"what {self._store!r} has of it cannot be read; {remedy}", temporary=False)
        record = self._known.latest(stored)
        if record is not stored:
            await self._save(key, record, tenure.lease)
        if (adopted := self._adopted(record)) is not None:
            return adopted
        # A lease that was lost is harmless where nothing is used up.
        held = tenure if self._used_up else None
        asked, outcome = await self._exchanged(record, held)
        if isinstance(outcome, Refused) and outcome.code == "invalid_grant":
            newer = Record.parse(await self._store.load(key))
            if newer.refresh_token != record.refresh_token:
                record = newer
                asked, outcome = await self._exchanged(record, held)
        if not isinstance(outcome, Granted):
            return outcome
        kept = self._kept(asked, outcome)
        newest = record.having(" ".join(self._scopes), kept, refresh_token=outcome.refresh_token, now=asked)
        # Before it is stored, which may fail or be cancelled: its refresh token is the only one that is still good.
        self._known.record, self._known.spent = newest, record.refresh_token
        await self._save(key, newest, tenure.lease)
        return self._taken(kept)

    async def _save(self, key: str, record: Record, lease: str) -> None:
        try:
            if not await self._store.save(key, record.text(), lease):
                self._log.emit(logging.WARNING, "auth.lease_lost", credential=repr(self))
        except Exception as error:
            if self._used_up:
                raise
            self._store_failed(error)

    def _kept(self, asked: float, granted: Granted) -> Kept:
        return Kept(
            granted.access_token,
            asked,
            None if granted.lifetime is None else asked + granted.lifetime,
            granted.scope or " ".join(self._scopes) or None,
        )

    async def _exchanged(self, record: Record, tenure: Tenure | None = None) -> tuple[float, Outcome]:
        now = self._settings.now
        patience = asyncio.get_running_loop().time() + self._sender.patience

        def until() -> float:
            return min(patience, self._flight.latest, math.inf if tenure is None else tenure.until)

        endpoint = await self._endpoint.resolve(self._sender, until)
        if isinstance(endpoint, Unavailable):
            return now(), endpoint
        asked = now()
        if tenure is not None and asyncio.get_running_loop().time() >= tenure.until:
            return asked, Unavailable("this process was held up for so long that another may be refreshing it")

        def request() -> WireRequest:
            nonlocal asked
            asked = now()
            return self._request(endpoint, record, asked)

        outcome = await self._sender.exchange(request, until)
        return asked, outcome

    def _adopted(self, record: Record) -> Token | None:
        kept = record.tokens.get(" ".join(self._scopes))
        if kept is None or (self._rejected is not None and kept.value == self._rejected.value):
            return None
        if self._current is not None and kept.value == self._current.value:
            return None
        life = self._life_of(kept)
        phase = life.phase(self._settings.now())
        # Without a token of its own an ageing one will do: the next caller has it replaced in the background.
        good = phase is Phase.FRESH or (phase is Phase.AGEING and self._current is None)
        return self._taken(kept, life) if good else None

    def _taken(self, kept: Kept, life: Life | None = None) -> Token:
        self._life = self._life_of(kept) if life is None else life
        self._issued_at = kept.issued_at
        token = self._current = kept.token()
        return token

    def _life_of(self, kept: Kept) -> Life:
        settings = self._settings
        return Life.of(kept.issued_at, kept.expires_at, ahead=settings.refresh_ahead, chance=settings.random())

    def _error(self, outcome: Refused | Unavailable, *, ago: float | None = None) -> ApiError:
        # One error for each waiter: raising one object in many tasks would pile up their tracebacks on it.
        shown = repr(self)
        if isinstance(outcome, Refused):
            when = "" if ago is None else f" ({ago:.0f} s ago, and is not asked again yet)"
            hint = _HINTS.get(outcome.code, "Check the token URL, and client id and key")
            return CredentialsRejected(
                f"{shown} is refused: {outcome.reason}{when}", credential=shown, code=outcome.code, hint=hint
            )
        return TokenUnavailable(
            f"No token for {shown}: {outcome.reason}",
            credential=shown,
            recoverable=outcome.temporary,
            retry_after=outcome.retry_after,
            hint=None if outcome.temporary else "Check the token URL and what answers there",
        )

    def _key(self) -> str:
        identity = json.dumps([self._endpoint.identity, self._settings.parameters, *self._identity()])
        return f"{type(self).__name__}:{hashlib.sha256(identity.encode()).hexdigest()[:32]}"

    def _shown(self) -> str:
        """Return what the repr says first, ending in a comma and a space, or nothing."""
        raise NotImplementedError

    def _identity(self) -> Sequence[str | None]:
        """Return what tells this grant from others at the same endpoint."""
        raise NotImplementedError

    def _request(self, endpoint: URL, record: Record, now: float) -> WireRequest:
        """Return one token request."""
        raise NotImplementedError
