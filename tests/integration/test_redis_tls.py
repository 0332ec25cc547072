"""rediss:// to a real server with TLS, which must be one that was built with it: Debian's redis-server 7 is."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apiclient.middleware.errors import OutboxError
from apiclient.shared import Redis
from apiclient.stores import Draft
from apiclient.stores._redis_server import StoreUnavailable
from tests.apiclient.stores.outbox import intent
from tests.hostile.certificates import made
from tests.integration.test_redis_topologies import asked, works
from tests.valkey import Server, connections, free_port, listening, with_tls

__all__ = ["connections"]

pytestmark = [
    pytest.mark.usefixtures("connections"),
    pytest.mark.skipif(with_tls() is None, reason="no server that was built with TLS: install redis-server"),
]


def authority(folder: Path, address: str = "127.0.0.1") -> str:
    """Make an authority whose certificate is also that of the server; return the file of key and certificate."""
    folder.mkdir()
    made(folder, address=address)
    return str(next(folder.iterdir()))


def secured(pem: str) -> dict[str, str]:
    return {"tls-cert-file": pem, "tls-key-file": pem, "tls-ca-cert-file": pem, "tls-auth-clients": "no"}


class Secure(Server):
    """A server with a port for TLS beside the plain one, which starts and watches it."""

    def __init__(self, pem: str) -> None:
        self.tls_port = free_port()
        super().__init__(with_tls(), **{"tls-port": self.tls_port, **secured(pem)})


@pytest.fixture
def pem(tmp_path: Path) -> str:
    return authority(tmp_path / "ours")


@pytest.fixture
def server(pem: str) -> Iterator[Secure]:
    server = Secure(pem)
    yield server
    server.stop()


async def test_a_server_that_the_authority_vouches_for(server: Secure, pem: str) -> None:
    """Quota, token and outbox, over TLS."""
    await works(Redis(f"rediss://127.0.0.1:{server.tls_port}", timeout=5.0, ssl_ca_certs=pem))


async def test_a_user_of_its_own_over_tls(server: Secure, pem: str) -> None:
    """User and password of an ACL, with signs in it that a URL must quote; with a wrong one the error says so."""
    await asked(server, "ACL", "SETUSER", "worker", "on", ">pass:w/rd", "~apiclient:*", "+@all")
    await asked(server, "ACL", "SETUSER", "default", "off")
    address = f"127.0.0.1:{server.tls_port}"
    await works(Redis(f"rediss://worker:pass%3Aw%2Frd@{address}", timeout=5.0, ssl_ca_certs=pem))
    wrong = Redis(f"rediss://worker:guessed@{address}", timeout=5.0, ssl_ca_certs=pem)
    with pytest.raises(StoreUnavailable, match="look at user and password") as caught:
        await wrong.tokens.load("key")
    assert "guessed" not in str(caught.value)


async def test_an_authority_that_is_not_ours_is_refused(server: Secure, tmp_path: Path) -> None:
    """Nothing is sent; the error says which option to set; and the limiter goes on with its share."""
    address = f"rediss://worker:secret@127.0.0.1:{server.tls_port}"
    unknown: list[dict[str, Any]] = [{}, {"ssl_ca_certs": authority(tmp_path / "theirs")}]
    for options in unknown:
        shared = Redis(address, timeout=5.0, cooldown=0.001, **options)
        with pytest.raises(StoreUnavailable, match=r"not trusted \(.*pass ssl_ca_certs= with the file") as caught:
            await shared.tokens.load("key")
        assert "secret" not in str(caught.value)
        await asyncio.sleep(0.002)
        with pytest.raises(OutboxError, match="pass ssl_ca_certs="):
            await shared.outbox().put(Draft("a", intent()))


async def test_a_certificate_of_another_name_is_refused(tmp_path: Path) -> None:
    """Signed by the right authority, but for another machine."""
    pem = authority(tmp_path / "ours", address="127.0.0.2")
    server = Secure(pem)
    try:
        shared = Redis(f"rediss://127.0.0.1:{server.tls_port}", timeout=5.0, ssl_ca_certs=pem)
        with pytest.raises(StoreUnavailable, match="by a name that the certificate has"):
            await shared.tokens.load("key")
    finally:
        server.stop()


async def test_a_file_of_authorities_that_is_not_there_is_named(server: Secure) -> None:
    """A typing error in a path is no dead server."""
    shared = Redis(f"rediss://127.0.0.1:{server.tls_port}", timeout=5.0, ssl_ca_certs="/nowhere.pem")
    with pytest.raises(StoreUnavailable, match=r"ssl_ca_certs=\) is not there"):
        await shared.tokens.load("key")


async def test_sentinels_with_tls(server: Secure, pem: str, tmp_path: Path) -> None:
    """They are verified by the same authority as the primary that they name."""
    port, config = free_port(), tmp_path / "sentinel.conf"
    lines = [f"{name} {value}" for name, value in secured(pem).items()]
    lines += ["port 0", f"tls-port {port}", "tls-replication yes", "bind 127.0.0.1", f"dir {tmp_path}"]
    lines += [f"sentinel monitor orders 127.0.0.1 {server.tls_port} 1"]
    config.write_text("\n".join(lines) + "\n")
    process = subprocess.Popen([str(with_tls()), str(config), "--sentinel"], stdout=subprocess.DEVNULL)
    try:
        await listening(port)
        await works(Redis(f"rediss+sentinel://127.0.0.1:{port}/orders/0", timeout=5.0, ssl_ca_certs=pem))
    finally:
        process.terminate()
        process.wait(5)
