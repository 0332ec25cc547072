"""Borders S18 to S22, S25 and S28: nothing is taken from the environment, kept, or left unverified, without being asked for."""

import asyncio
import datetime as dt
import inspect
import ipaddress
import socket
import ssl
import tomllib
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from apiclient import ApiClient
from apiclient.credentials import StaticToken
from apiclient.middleware import Retry
from apiclient.middleware.errors import ApiError, ConnectFailed, Deferred
from apiclient.options import CallOptions
from apiclient.outbox import Outbox
from apiclient.redirects import Redirects
from tests.security.conftest import CANARY, Origin


@pytest.fixture
def environment(evil: Origin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Proxies and a netrc file such as a developer's machine has; ``evil`` is the proxy."""
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, evil.url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login me password {CANARY}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    return evil.url


async def test_nothing_of_the_environment_is_used(good: Origin, evil: Origin, environment: str) -> None:
    """S18: with proxies and a netrc file at hand, a request goes straight there and carries neither."""
    async with ApiClient(good.url) as client:
        await client.get("/x")
    assert evil.connections == 0
    assert good.requests[0].all("authorization") == []


async def test_the_environment_is_used_where_that_is_asked_for(
    good: Origin, evil: Origin, environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S18: ``trust_env=True`` takes both, and NO_PROXY holds."""
    async with ApiClient(good.url, trust_env=True) as client:
        await client.get("/x")
        assert evil.requests[0].line == f"GET {good.url}/x HTTP/1.1"
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        await client.get("/y")
    assert good.requests[0].line == "GET /y HTTP/1.1"
    assert good.requests[0].all("authorization")[0].startswith("Basic ")


async def test_a_credential_wins_over_netrc(good: Origin, environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S18: one credential goes out, and it is the client's."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    async with ApiClient(good.url, trust_env=True, credentials=StaticToken("mine")) as client:
        await client.get("/x")
    assert good.requests[0].all("authorization") == ["Bearer mine"]


async def test_a_redirect_gets_no_netrc_either(
    good: Origin, evil: Origin, environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S18: aiohttp looks netrc up again for each hop; on another origin it is taken off."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    good.handler = good.reply(302, Location=f"{evil.url}/x")
    async with ApiClient(good.url, trust_env=True, redirects=Redirects(to=[evil.url])) as client:
        await client.get("/x")
    assert len(evil.requests) == 1
    assert evil.requests[0].all("authorization") == []


async def test_an_explicit_proxy_keeps_its_password_to_itself(good: Origin, evil: Origin) -> None:
    """S19: the proxy's user and password go to the proxy, in their own header, and not into the request's."""
    proxy = evil.url.replace("http://", f"http://user:{CANARY}@")
    async with ApiClient(good.url, proxy=proxy, credentials=StaticToken("mine")) as client:
        await client.get("/x")
        assert CANARY not in repr(client)
    assert good.connections == 0
    assert evil.requests[0].all("authorization") == ["Bearer mine"]
    assert len(evil.requests[0].all("proxy-authorization")) == 1


async def test_cookies_are_not_kept_unless_asked_for(good: Origin) -> None:
    """S20: no jar by default; with one, cookies go back to their host."""
    good.url = good.url.replace("127.0.0.1", "localhost")  # a jar keeps no cookie of an address
    good.handler = good.reply(Set_Cookie="session=abc; Path=/")
    for wanted in (False, True):
        good.requests.clear()
        async with ApiClient(good.url, cookies=wanted) as client:
            await client.get("/a")
            await client.get("/b")
        assert good.requests[1].all("cookie") == (["session=abc"] if wanted else [])


@pytest.fixture
async def unverified(tmp_path: Path) -> AsyncIterator[tuple[str, Path, Origin]]:
    """A TLS server whose certificate no authority has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    plain = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(plain + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    origin = Origin()
    server = await asyncio.start_server(origin._serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    yield f"https://127.0.0.1:{port}", pem, origin
    server.close()


async def test_servers_are_verified(unverified: tuple[str, Path, Origin], good: Origin) -> None:
    """S21: an unknown authority is a permanent failure, and not a byte was sent. S3: from https to http nothing leads."""
    url, pem, origin = unverified
    async with ApiClient(url, credentials=StaticToken(CANARY)) as client:
        with pytest.raises(ConnectFailed, match="secure") as caught:
            await client.get("/x")
    assert (caught.value.recoverable, caught.value.attempts) == (False, 1)
    assert origin.received == b""
    trusted = ssl.create_default_context(cafile=pem)
    origin.handler = origin.reply(302, Location=f"{good.url}/x")
    async with ApiClient(url, tls=trusted, redirects=Redirects(to=[good.url])) as client:
        with pytest.raises(ApiError, match="from https to http"):
            await client.get("/x")
    assert len(origin.requests) == 1
    assert good.connections == 0


@pytest.mark.parametrize(
    "option", ["ssl", "verify", "verify_ssl", "ssl_context", "fingerprint", "proxy", "auth", "cookies"]
)
async def test_no_call_can_switch_verification_off(good: Origin, option: str) -> None:
    """S21: there is no option of a call that reaches the TLS layer, the proxy or the jar."""
    assert option not in CallOptions.__annotations__
    options: dict[str, Any] = {option: False}
    async with ApiClient(good.url) as client:
        with pytest.raises(TypeError, match=option):
            await client.get("/x", **options)
    assert good.connections == 0


@pytest.mark.parametrize("value", [False, True, "no", 0])
def test_no_flag_switches_verification_off(value: object) -> None:
    """S21: only a context of one's own says how servers are verified; there is no ``verify=``."""
    tls: Any = value
    with pytest.raises(TypeError, match="SSLContext"):
        ApiClient("https://api.example.com", tls=tls)
    assert not {"verify", "ssl", "verify_ssl", "insecure"} & set(inspect.signature(ApiClient).parameters)


@pytest.mark.parametrize(
    "options", [{"proxy": "http://127.0.0.1:1"}, {"tls": ssl.create_default_context()}, {"trust_env": True}]
)
async def test_what_a_given_session_would_ignore_is_refused(options: dict[str, Any]) -> None:
    """An option that would silently do nothing is an error that names it."""
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ValueError, match=next(iter(options))):
            ApiClient("http://127.0.0.1", session=session, **options)


@pytest.mark.parametrize("proxy", ["127.0.0.1:3128", f"socks5://user:{CANARY}@127.0.0.1", "/x"])
def test_a_bad_proxy_is_refused_and_not_shown(proxy: str) -> None:
    """Its password would be in the message."""
    with pytest.raises(ValueError, match="proxy") as caught:
        ApiClient("http://127.0.0.1", proxy=proxy)
    assert CANARY not in str(caught.value)


def test_the_floor_of_aiohttp_has_the_fixes() -> None:
    """S28: 3.14.3 is the first release without the known leaks; what is required and what runs are above it."""
    project = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())
    floor = next(each for each in project["project"]["dependencies"] if each.startswith("aiohttp>="))
    assert tuple(int(part) for part in floor.removeprefix("aiohttp>=").split(".")) >= (3, 14, 3)
    assert tuple(int(part) for part in version("aiohttp").split(".")[:3] if part.isdigit()) >= (3, 14, 3)


@pytest.mark.parametrize(
    ("base", "options", "fine"),
    [
        ("http://api.example.com", {}, False),
        ("http://127.0.0.1.example.com", {}, False),
        ("http://10.0.0.1", {}, False),
        ("http://api.example.com", {"allow_http": True}, True),
        ("https://api.example.com", {}, True),
        ("http://127.0.0.1:8080", {}, True),
        ("http://localhost", {}, True),
        ("http://[::1]", {}, True),
    ],
)
def test_credentials_do_not_travel_in_clear_text(base: str, options: dict[str, Any], *, fine: bool) -> None:
    """S21: plain http to another machine takes a word of the caller's; without credentials it needs none."""
    ApiClient(base)
    if fine:
        ApiClient(base, credentials=StaticToken(CANARY), **options)
    else:
        with pytest.raises(ValueError, match="base_url must be https") as caught:
            ApiClient(base, credentials=StaticToken(CANARY), **options)
        assert CANARY not in str(caught.value)


async def test_what_is_kept_on_disk_has_no_credential_and_is_the_owners(good: Origin, tmp_path: Path) -> None:
    """S25: a deferred call's file, in a folder of its own, has neither token, key nor cookie in it, and mode 0600."""
    good.handler = good.reply(503)
    folder = tmp_path / "new"
    headers = {"X-Api-Key": CANARY, "Cookie": f"a={CANARY}", "X-Mine": CANARY}
    outbox = Outbox(folder / "outbox.db")
    async with ApiClient(
        good.url, credentials=StaticToken(CANARY), headers=headers, outbox=outbox, timeout=5
    ) as client:
        pipeline = client.pipeline.replace(Retry, Retry(attempts=1))
        with pytest.raises(Deferred):
            await client.put("/x", json={"a": 1}, defer=True, headers=headers, pipeline=pipeline)
    assert good.received.count(CANARY.encode()) >= 4
    files = [path for path in folder.iterdir() if path.is_file()]
    assert files
    for path in files:
        assert CANARY.encode() not in path.read_bytes()
        assert path.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


async def test_a_resolver_of_ones_own_guards_where_connections_go(good: Origin) -> None:
    """S22: the guard against private addresses is the caller's, and sits in the session; nothing gets past it."""

    class Guard(aiohttp.ThreadedResolver):
        async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[Any]:
            found = await super().resolve(host, port, family)
            if any(ipaddress.ip_address(each["host"]).is_loopback for each in found):
                raise OSError(f"{host} is not to be reached")
            return [*found]

    connector = aiohttp.TCPConnector(resolver=Guard(), use_dns_cache=False)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        ApiClient(f"http://localhost:{good.port}", session=session) as client,
    ):
        with pytest.raises(ConnectFailed):
            await client.get("/x", pipeline=client.pipeline.without(Retry))
    assert good.connections == 0
