"""An authorization server and an API beside it, on loopback, that do as they are told and count what arrives."""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote_plus

from aiohttp import ClientMiddlewareType, ClientSession, TCPConnector, web
from aiohttp.test_utils import TestServer

from apiclient.credentials import ClientCredentials

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
SECRET = "s3cr3t:/%+key"


class Authority:
    """Issues tokens at /token and answers everything else 200 to a valid one, 401 to any other.

    Attributes:
        lifetime: ``expires_in`` of the tokens; None leaves it out.
        delay: Seconds that the token endpoint takes.
        api_delay: Seconds that the API takes.
        script: Answers for the next token requests, before the usual ones.
        rotating: Whether refresh tokens are used once, and a second use revokes the whole grant.
        prefix: Goes before each token.
        scopes: Scope that a path needs.
        api: Answers for the API in place of the usual one.
    """

    def __init__(self) -> None:
        self.lifetime: Any = 3600
        self.delay = 0.0
        self.api_delay = 0.0
        self.script: list[Answer] = []
        self.rotating = False
        self.prefix = ""
        self.scopes: dict[str, str] = {}
        self.api: Answer | None = None
        self.forms: list[dict[str, str]] = []
        self.clients: list[tuple[str, str] | None] = []
        self.requests: list[tuple[str, str, str]] = []
        self.bodies: list[bytes] = []
        self.valid: dict[str, str] = {}
        self.refresh_token = "refresh-0"
        self.revoked = False
        self._used: set[str] = set()
        self._names: Iterator[int] = iter(range(1, 10**9))
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/token", self._token)
        app.router.add_route("*", "/{tail:.*}", self._call)
        self._server = TestServer(app)

    async def __aenter__(self) -> Self:
        await self._server.start_server(access_log=None)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.close()

    @property
    def url(self) -> str:
        return str(self._server.make_url("/")).rstrip("/")

    @property
    def token_requests(self) -> int:
        """Token requests, by the server's own count."""
        return len(self.forms)

    @property
    def calls(self) -> int:
        """Requests to the API, by the server's own count."""
        return len(self.requests)

    def revoke(self) -> None:
        """Make every access token that was issued so far invalid."""
        self.valid.clear()

    def client(self, **options: Any) -> ClientCredentials:
        """Return credentials for this server."""
        given: dict[str, Any] = {
            "token_url": f"{self.url}/token", "client_id": "the client", "client_secret": SECRET, "random": lambda: 0.5,
        }  # fmt: skip
        return ClientCredentials(**(given | options))

    def session(self, *middlewares: ClientMiddlewareType, limit: int = 0) -> ClientSession:
        """Return a session that starts at this server."""
        return ClientSession(self.url, middlewares=middlewares, connector=TCPConnector(limit=limit))

    async def _token(self, request: web.Request) -> web.StreamResponse:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.forms.append(form)
        self.clients.append(_basic(request.headers.get("Authorization")))
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.script:
            return await self.script.pop(0)(request)
        return self.issue(form)

    def issue(self, form: dict[str, str]) -> web.Response:
        """Return the answer to a token request, and remember the token."""
        answer: dict[str, Any] = {"token_type": "bearer"}
        if form.get("grant_type") == "refresh_token":
            if self.revoked or form.get("refresh_token") != self.refresh_token:
                self.revoked = self.revoked or form.get("refresh_token") in self._used
                if self.revoked:
                    self.revoke()
                return web.json_response({"error": "invalid_grant"}, status=400)
            if self.rotating:
                self._used.add(self.refresh_token)
                self.refresh_token = f"{self.prefix}refresh-{next(self._names)}"
                answer["refresh_token"] = self.refresh_token
        token = f"{self.prefix}token-{next(self._names)}"
        self.valid[token] = form.get("scope", "")
        answer["access_token"] = token
        if self.lifetime is not None:
            answer["expires_in"] = self.lifetime
        return web.json_response(answer)

    async def _call(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.read())
        sent = request.headers.get("Authorization", "")
        self.requests.append((request.method, request.path_qs, sent))
        if self.api_delay:
            await asyncio.sleep(self.api_delay)
        if self.api is not None:
            return await self.api(request)
        scheme, _, token = sent.partition(" ")
        if scheme != "Bearer" or token not in self.valid:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
        needed = self.scopes.get(request.path)
        if needed is not None and needed not in self.valid[token].split():
            challenge = f'Bearer error="insufficient_scope", scope="{needed}"'
            return web.Response(status=403, headers={"WWW-Authenticate": challenge})
        return web.Response(text=token)


def answer(status: int, body: Any = b"", **headers: str) -> Answer:
    """Return an answer for a script: JSON for a dict, bytes as they are."""

    async def answering(_: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, bytes):
            return web.Response(status=status, body=body, headers=named)
        return web.json_response(body, status=status, headers=named)

    return answering


async def hang(_: web.Request) -> web.StreamResponse:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


async def drop(request: web.Request) -> web.StreamResponse:
    """Close the connection without an answer."""
    assert request.transport is not None
    request.transport.close()
    return web.Response()


def _basic(header: str | None) -> tuple[str, str] | None:
    if header is None or not header.startswith("Basic "):
        return None
    name, _, secret = base64.b64decode(header[6:]).decode().partition(":")
    return unquote_plus(name), unquote_plus(secret)
