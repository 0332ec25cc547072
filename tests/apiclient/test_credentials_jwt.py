"""Signed assertions, checked with the public key as a server would."""

import asyncio
import subprocess
import sys
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from apiclient.credentials import ClientCredentials, JwtBearer, PrivateKeyJwt, SigningKey
from apiclient.middleware.errors import CredentialsRejected
from tests.authority import Authority, answer

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def pem(key: Any, password: bytes | None = None) -> bytes:
    sealed = NoEncryption() if password is None else BestAvailableEncryption(password)
    encoded: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealed)
    return encoded


def read(assertion: str, key: Any, algorithm: str, audience: str, now: float) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(
        assertion,
        key.public_key(),
        algorithms=[algorithm],
        audience=audience,
        options={"verify_exp": False, "verify_iat": False},
    )
    assert claims["iat"] == int(now)
    return claims


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("RS256", RSA),
        ("PS256", RSA),
        ("ES256", ec.generate_private_key(ec.SECP256R1())),
        ("EdDSA", ed25519.Ed25519PrivateKey.generate()),
    ],
)
async def test_a_client_proves_itself_with_a_key(algorithm: str, key: Any) -> None:
    """RFC 7523 2.2: iss and sub are the client, aud the token endpoint; no secret is sent."""
    async with Authority() as authority:
        proof = PrivateKeyJwt(SigningKey(pem(key), algorithm=algorithm, key_id="k1"))
        credential = authority.client(client_secret=None, client_auth=proof, now=lambda: 1_800_000_000.5)
        assert (await credential.token()).value == "token-1"
        form = authority.forms[0]
        assert (form["client_id"], form["client_assertion_type"]) == ("the client", ASSERTION)
        claims = read(form["client_assertion"], key, algorithm, f"{authority.url}/token", 1_800_000_000.5)
        assert (claims["iss"], claims["sub"], claims["exp"]) == ("the client", "the client", 1_800_000_060)
        assert jwt.get_unverified_header(form["client_assertion"])["kid"] == "k1"
        assert authority.clients == [None]


@pytest.mark.looptime
async def test_each_attempt_has_an_assertion_of_its_own() -> None:
    """RFC 7523 3: servers may refuse a jti that they have seen, so a retry is signed anew."""
    async with Authority() as authority:
        authority.script = [answer(503)]
        await authority.client(client_secret=None, client_auth=PrivateKeyJwt(SigningKey(pem(RSA)))).token()
        first, second = (form["client_assertion"] for form in authority.forms)
        options: Any = {"verify_signature": False}
        assert jwt.decode(first, options=options)["jti"] != jwt.decode(second, options=options)["jti"]


async def test_the_bearer_grant_sends_a_signed_assertion() -> None:
    """RFC 7523 2.1: grant type, claims of one's own, scope beside it."""
    async with Authority() as authority:
        credential = JwtBearer(
            token_url=f"{authority.url}/token", key=SigningKey(pem(RSA)), iss="robot", sub="jane",
            aud="https://login", claims={"tenant": 7}, scope="read", now=lambda: 1_800_000_000.0,
        )  # fmt: skip
        assert (await credential.token()).value == "token-1"
        form = authority.forms[0]
        assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
        assert form["scope"] == "read"
        claims = read(form["assertion"], RSA, "RS256", "https://login", 1_800_000_000.0)
        assert (claims["iss"], claims["sub"], claims["tenant"]) == ("robot", "jane", 7)
        assert claims["exp"] == 1_800_000_300
        assert "client_id" not in form


async def test_the_bearer_grant_with_client_authentication() -> None:
    """A confidential client proves itself besides."""
    async with Authority() as authority:
        await JwtBearer(
            token_url=f"{authority.url}/token", key=SigningKey(pem(RSA)), iss="robot", client_id="me", client_secret="s"
        ).token()
        assert authority.clients == [("me", "s")]


async def test_a_refusal_does_not_repeat_the_assertion() -> None:
    """A server that echoes what it got does not put it into our message."""
    async with Authority() as authority:

        async def echo(request: Any) -> Any:
            form = await request.post()
            return await answer(400, {"error": "invalid_grant", "error_description": f"bad {form['assertion']}"})(
                request
            )

        authority.script = [echo]
        credential = JwtBearer(token_url=f"{authority.url}/token", key=SigningKey(pem(RSA)), iss="robot")
        with pytest.raises(CredentialsRejected, match=r"\(bad \.\.\.\)"):
            await credential.token()


def test_an_encrypted_key_needs_its_password() -> None:
    """A wrong or missing password is told apart from nothing else, and not shown."""
    sealed = pem(RSA, b"hush")
    assert repr(SigningKey(sealed, password="hush", key_id="k")) == "SigningKey(algorithm='RS256', key_id='k')"
    for password in (None, "wrong"):
        with pytest.raises(ValueError, match="pem must be a private key in PEM form"):
            SigningKey(sealed, password=password)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SigningKey("no key"), "pem must be a private key"),
        (lambda: SigningKey(pem(RSA), algorithm="HS256"), "algorithm must be one of .* got 'HS256'"),
        (lambda: SigningKey(pem(RSA), algorithm="none"), "algorithm must be one of .* got 'none'"),
        (lambda: SigningKey(pem(RSA), algorithm="ES256"), "pem is a key that algorithm 'ES256' cannot sign with"),
        (lambda: PrivateKeyJwt(SigningKey(pem(RSA)), lifetime=0), "lifetime must be above 0, got 0"),
        (lambda: _bearer(lifetime=-1), "lifetime must be above 0, got -1"),
        (lambda: _bearer(claims={"aud": "x"}), "claims must not contain 'aud'"),
        (lambda: _bearer(client_secret="hush"), "client_id must be given"),
        (
            lambda: ClientCredentials(
                token_url="https://a/t",
                client_id="x",
                client_secret="hush",
                client_auth=PrivateKeyJwt(SigningKey(pem(RSA))),
            ),
            "exclude each other",
        ),
    ],
)
def test_wrong_options_fail_at_once(make: Any, message: str) -> None:
    """The message names option and value, and no secret."""
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "hush" not in str(caught.value)
    assert "PRIVATE KEY" not in str(caught.value)


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package works without the JOSE library until a key is wanted."""
    monkeypatch.setitem(sys.modules, "jwt", None)
    with pytest.raises(ImportError, match=r"apiclient-middleware\[jwt\]"):
        SigningKey(pem(RSA))


def test_without_the_extra_everything_else_is_there() -> None:
    """Importing the package loads no JOSE library."""
    code = "import sys; import apiclient.credentials; assert not {'jwt', 'cryptography'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_reprs_show_whose_it_is() -> None:
    """Issuer, subject and endpoint, no key."""
    assert repr(_bearer()) == "JwtBearer(iss='robot', sub='robot', token_url='https://a/t')"
    assert repr(PrivateKeyJwt(SigningKey(pem(RSA)))) == "PrivateKeyJwt(SigningKey(algorithm='RS256'))"


def _bearer(**options: Any) -> JwtBearer:
    return JwtBearer(token_url="https://a/t", key=SigningKey(pem(RSA)), iss="robot", **options)


async def test_different_assertions_are_different_grants_in_a_store() -> None:
    """Two subjects never share a token."""
    assert _bearer(sub="a")._key() != _bearer(sub="b")._key()
    assert _bearer(sub="a")._key() == _bearer(sub="a")._key()
    await asyncio.sleep(0)
