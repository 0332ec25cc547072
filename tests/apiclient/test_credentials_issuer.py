"""The token endpoint found through its issuer."""

import json
from typing import Any

import pytest
from aiohttp import web

from apiclient.credentials import ClientCredentials
from apiclient.middleware.errors import TokenUnavailable
from tests.authority import Authority
from tests.conftest import Peer


def metadata(peer: Peer, path: str, **document: Any) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path != path:
            return web.Response(status=404)
        return web.Response(body=json.dumps(document).encode())

    peer.handler = handler


def credential(issuer: str, **options: Any) -> ClientCredentials:
    return ClientCredentials(issuer=issuer, client_id="x", client_secret="hush", **options)


@pytest.mark.parametrize(
    "path", ["/.well-known/oauth-authorization-server/realm", "/realm/.well-known/openid-configuration"]
)
async def test_both_kinds_of_metadata_are_found_and_asked_for_once(peer: Peer, path: str) -> None:
    """RFC 8414 first, OpenID Connect second; the answer is kept for later refreshes."""
    async with Authority() as authority:
        issuer = f"{peer.url}/realm"
        metadata(peer, path, issuer=issuer, token_endpoint=f"{authority.url}/token")
        found = credential(issuer)
        found.invalidate(await found.token())
        asked = peer.count
        assert (await found.token()).value == "token-2"
        assert peer.count == asked
        assert not any("Authorization" in headers for headers in peer.headers)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"issuer": "https://evil.example.com", "token_endpoint": "https://evil.example.com/t"}, "another issuer"),
        ({"token_endpoint": "http://login.example.com/t"}, "the token_endpoint must be https"),
        ({}, "names no token_endpoint"),
    ],
)
async def test_metadata_that_must_not_be_trusted_is_refused(peer: Peer, document: dict[str, str], message: str) -> None:
    """No secret goes to an endpoint of another issuer's, or over plain http."""
    metadata(peer, "/.well-known/openid-configuration", **({"issuer": peer.url} | document))
    with pytest.raises(TokenUnavailable, match=message) as caught:
        await credential(peer.url).token()
    assert not caught.value.recoverable


async def test_an_issuer_that_is_down_is_trouble_that_may_pass(peer: Peer) -> None:
    """A 503 is told as such, and the next call looks again."""
    peer.answers(503)
    issuer = credential(peer.url)
    with pytest.raises(TokenUnavailable, match="answers 503") as caught:
        await issuer.token()
    assert caught.value.recoverable
    async with Authority() as authority:
        metadata(
            peer, "/.well-known/oauth-authorization-server", issuer=peer.url, token_endpoint=f"{authority.url}/token"
        )
        assert (await issuer.token()).value == "token-1"


async def test_an_issuer_without_metadata_says_so(peer: Peer) -> None:
    """404 at both addresses is final for this call."""
    peer.answers(404)
    with pytest.raises(TokenUnavailable, match="answers 404") as caught:
        await credential(peer.url).token()
    assert not caught.value.recoverable
    assert peer.count == 2


def test_the_issuer_must_be_https_too() -> None:
    """Who can forge the metadata can name the endpoint that gets the secret."""
    with pytest.raises(ValueError, match="issuer must be https"):
        credential("http://login.example.com")
    assert "issuer='http://login.example.com/'" in repr(credential("http://login.example.com/", allow_http=True))
