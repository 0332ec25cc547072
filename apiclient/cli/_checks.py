"""Does the way to an API work? Name, connection, certificate, token, clock, and one harmless call."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from yarl import URL

from apiclient.cli._finding import Finding
from apiclient.client import ApiClient
from apiclient.middleware import Authorize
from apiclient.middleware.credential import Credential
from apiclient.middleware.errors import ApiError, StatusError

T = TypeVar("T")

_PATIENCE = 10.0
_SKEW = 5.0
_SOON = 14.0


async def examine(
    client: ApiClient,
    path: str,
    *,
    method: str = "GET",
    now: Callable[[], float] = time.time,
    replayed: bool = False,
) -> AsyncIterator[Finding]:
    """Yield what there is to say about the way to *client*'s API, and close the client.

    Args:
        client: Whose base URL, credentials and chain are tried.
        path: Of the harmless call.
        method: Of the harmless call.
        now: Wall clock, in Unix seconds.
        replayed: Whether answers come from a cassette: name, connection, certificate and clock are then left out.
    """
    url = client.base_url
    async with client:
        reached = True
        network = () if replayed else (_name, _connection, *((_certificate,) if url.scheme == "https" else ()))
        for check in network:
            finding = await check(url)
            yield finding
            reached = finding.ok
            if not reached:
                break
        authorize: Authorize | None = client.pipeline.find(Authorize)
        if authorize is not None:
            yield await _token(authorize.credential, now)
        if not reached:
            return
        finding, date, took = await _call(client, method, path)
        yield finding
        if date is not None and not replayed:
            yield skew(date, now(), took)


async def _name(url: URL) -> Finding:
    host = url.host or ""
    try:
        found, took = await _timed(asyncio.get_running_loop().getaddrinfo(host, url.port))
    except (OSError, UnicodeError, TimeoutError) as error:
        return Finding(
            ok=False,
            text=f"{host} has no address ({_said(error)})",
            remedy="check the spelling of the base URL, and the name server of this machine",
        )
    addresses = dict.fromkeys(str(each[4][0]) for each in found)
    return Finding(ok=True, text=f"{host} is {', '.join(addresses)} ({_ms(took)})")


async def _connection(url: URL) -> Finding:
    try:
        (_, writer), took = await _timed(asyncio.open_connection(url.host, url.port))
    except (OSError, TimeoutError) as error:
        return Finding(
            ok=False,
            text=f"no connection to {url.host}:{url.port} ({_said(error)})",
            remedy="a firewall may be in the way, or all traffic may have to go through a proxy: see ApiClient(proxy=)",
        )
    writer.close()
    return Finding(ok=True, text=f"connected to {url.host}:{url.port} ({_ms(took)})")


async def _certificate(url: URL) -> Finding:
    context = ssl.create_default_context()
    try:
        (_, writer), took = await _timed(asyncio.open_connection(url.host, url.port, ssl=context))
    except (OSError, TimeoutError) as error:
        return Finding(
            ok=False,
            text=f"no secure connection to {url.host} ({_said(error)})",
            remedy="a private authority, or a proxy that inspects traffic, needs ApiClient(tls=)",
        )
    connection: Any = writer.get_extra_info("ssl_object")
    ends = ssl.cert_time_to_seconds(connection.getpeercert()["notAfter"])
    version = connection.version()
    writer.close()
    days = (ends - time.time()) / 86400
    text = f"{version}, certificate good for {days:.0f} days ({_ms(took)} with the connection)"
    return Finding(ok=days > _SOON, text=text, remedy="" if days > _SOON else "tell the API's operator to renew it")


async def _token(credential: Credential, now: Callable[[], float]) -> Finding:
    try:
        token, took = await _timed(credential.token())
    except ApiError as error:
        return Finding(ok=False, text=error.message, remedy=error.hint)
    except TimeoutError:
        return Finding(ok=False, text=f"no token within {_PATIENCE:g} s", remedy="check the token URL")
    ends = "" if token.expires_at is None else f", good for {token.expires_at - now():.0f} s"
    return Finding(ok=True, text=f"{credential!r} has a token{ends} ({_ms(took)})")


async def _call(client: ApiClient, method: str, path: str) -> tuple[Finding, str | None, float]:
    began = asyncio.get_running_loop().time()
    name = f"{method} {path or '/'}"
    try:
        response = await client.request(method, path, timeout=_PATIENCE)
    except StatusError as error:
        took = asyncio.get_running_loop().time() - began
        shown: Any = getattr(error, "headers", None)
        date: str | None = None if shown is None else shown.get("Date")
        # A client error other than these only says that there is nothing at this path: the way works.
        ok = error.status < 500 and error.status not in {401, 403, 429}
        text = f"{name} answers {error.status} ({_ms(took)})"
        remedy = "" if ok else error.hint
        return Finding(ok, text + (", so the server is there; try --path" if ok else ""), remedy), date, took
    except ApiError as error:
        return Finding(ok=False, text=f"{name}: {error.message}", remedy=error.hint), None, 0.0
    took = asyncio.get_running_loop().time() - began
    return Finding(ok=True, text=f"{name} answers {response.status} ({_ms(took)})"), response.headers.get("Date"), took


def skew(date: str, now: float, took: float) -> Finding:
    """Return what the server's ``Date`` says about this machine's clock.

    Args:
        date: The header (RFC 9110 section 6.6.1); it has whole seconds.
        now: Unix seconds here, when the answer had arrived.
        took: Seconds that the exchange took.
    """
    try:
        there = parsedate_to_datetime(date)
    except (TypeError, ValueError):
        return Finding(ok=True, text="the server's Date makes no sense, so the clocks were not compared")
    stamp = (there if there.tzinfo is not None else there.replace(tzinfo=UTC)).timestamp()
    # It was written between the sending and the arrival, and its second may be nearly over.
    early, late = now - took - stamp - 1.0, now - stamp
    off = max(early, 0.0) + min(late, 0.0)
    if abs(off) <= _SKEW:
        return Finding(ok=True, text=f"this clock and the server's agree to within {max(1.0, abs(off)):.0f} s")
    there_says = datetime.fromtimestamp(stamp, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return Finding(
        ok=False,
        text=f"this clock is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} the server's ({there_says})",
        remedy="synchronise it (NTP): tokens, signed assertions and dates in Retry-After depend on it",
    )


async def _timed(work: Awaitable[T]) -> tuple[T, float]:
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(_PATIENCE):
        result = await work
    return result, loop.time() - began


def _said(error: BaseException) -> str:
    return "it takes too long" if isinstance(error, TimeoutError) else str(error) or type(error).__name__


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
