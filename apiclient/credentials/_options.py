"""The options that every OAuth 2.0 credential takes."""

import math
import random
import re
import ssl as tls
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

from apiclient.credentials._grants import extra_parameters
from apiclient.credentials._sender import Sender
from apiclient.stores.token_store import TokenStore

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 section 3.3


class OAuthOptions(TypedDict, total=False):
    """Options that every OAuth 2.0 credential takes.

    Attributes:
        scope: Scopes to ask for, separated by spaces or as a list; None leaves it to the server.
        allowed_scopes: Scopes that may be asked for in addition when an endpoint turns out to need them.
        parameters: Extra fields of the token request, such as ``audience`` or ``resource``.
        refresh_ahead: Seconds before its expiry from which a token is replaced in the background; a fifth of
            its lifetime at most. Default 60.
        rejected_for: Seconds for which a final refusal is remembered, so that calls fail without asking. Default 30.
        store: Where tokens are kept, for restarts and sibling processes. Default: memory of this object's own.
        name: What the credential is called in messages, besides its client id.
        timeout: Seconds for one request to the token endpoint. Default 10.
        attempts: Most requests per refresh, on 5xx, 429 and transport errors. Default 3.
        allow_http: Whether plain http is good enough for a token endpoint that is not on loopback. Default False.
        ssl: As for ``aiohttp``: True, or a context of one's own.
        proxy: URL of a proxy for the token endpoint.
        logger: For events; as for ``ApiClient``.
        now: Wall clock, Unix seconds.
        random: Gives numbers from 0 to 1 for the jitter.
    """

    scope: str | Sequence[str] | None
    allowed_scopes: Sequence[str]
    parameters: Mapping[str, str | Sequence[str]] | None
    refresh_ahead: float
    rejected_for: float
    store: TokenStore | None
    name: str | None
    timeout: float
    attempts: int
    allow_http: bool
    ssl: tls.SSLContext | bool
    proxy: str | None
    logger: Any
    now: Callable[[], float]
    random: Callable[[], float]


class Settings(NamedTuple):
    """The options above with their defaults, checked."""

    scope: tuple[str, ...]
    allowed: frozenset[str]
    parameters: Sequence[tuple[str, str]]
    refresh_ahead: float
    rejected_for: float
    name: str | None
    now: Callable[[], float]
    random: Callable[[], float]

    @classmethod
    def of(cls, options: OAuthOptions) -> "Settings":
        refresh_ahead = options.get("refresh_ahead", 60.0)
        rejected_for = options.get("rejected_for", 30.0)
        if not 0 <= refresh_ahead < math.inf:
            raise ValueError(f"refresh_ahead must be finite and at least 0, got {refresh_ahead!r}")
        if not 0 <= rejected_for < math.inf:
            raise ValueError(f"rejected_for must be finite and at least 0, got {rejected_for!r}")
        return cls(
            _scopes("scope", options.get("scope")),
            frozenset(_scopes("allowed_scopes", options.get("allowed_scopes", ()))),
            extra_parameters(options.get("parameters")),
            refresh_ahead,
            rejected_for,
            options.get("name"),
            options.get("now", time.time),
            options.get("random", random.random),
        )


def sender_of(options: OAuthOptions, settings: Settings) -> Sender:
    """Return the sender that *options* ask for.

    Raises:
        ValueError: An option is out of its range.
    """
    timeout = options.get("timeout", 10.0)
    attempts = options.get("attempts", 3)
    if not 0 < timeout < math.inf:
        raise ValueError(f"timeout must be finite and above 0, got {timeout!r}")
    if attempts < 1:
        raise ValueError(f"attempts must be at least 1, got {attempts!r}")
    return Sender(
        timeout=timeout,
        attempts=attempts,
        ssl=options.get("ssl", True),
        proxy=options.get("proxy"),
        random=settings.random,
        wall=settings.now,
    )


def _scopes(option: str, given: str | Sequence[str] | None) -> tuple[str, ...]:
    scopes = given.split() if isinstance(given, str) else list(given) if given is not None else []
    for scope in scopes:
        if not _SCOPE.fullmatch(scope):
            raise ValueError(f"{option} must be made of scope tokens (RFC 6749 section 3.3), got {scope!r}")
    return tuple(dict.fromkeys(scopes))
