"""Many accounts of one API: a client for each, one pool of connections for all."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

import aiohttp

from apiclient import ApiClient, default_pipeline
from apiclient.credentials import StaticToken
from apiclient.middleware import CircuitBreaker


class Accounts:
    """The clients of several accounts, by name.

    What belongs to an account is its client's own: credentials, quotas, retry budget. What belongs to the server is
    shared: the connections, and the circuit breaker, since the server is up or down for all of them.

    Args:
        base_url: Of the API.
        tokens: By the name of the account.
    """

    def __init__(self, base_url: str, tokens: Mapping[str, str]) -> None:
        self._base_url = base_url
        self._tokens = tokens
        self._breaker = CircuitBreaker()
        self._session: aiohttp.ClientSession | None = None
        self._clients: dict[str, ApiClient] = {}

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients.values():
            await client.aclose()
        if self._session is not None:
            await self._session.close()

    def __getitem__(self, name: str) -> ApiClient:
        """Return the client of the account called *name*, made when it is first asked for."""
        client = self._clients.get(name)
        if client is None:
            pipeline = default_pipeline(credentials=StaticToken(self._tokens[name]))
            pipeline = pipeline.replace(CircuitBreaker, self._breaker)
            client = ApiClient(self._base_url, pipeline=pipeline, session=self._session)
            self._clients[name] = client
        return client
