"""The client's own session: nothing of it comes from the environment, and nothing is kept, unless it was asked for."""

import ssl
from collections.abc import Mapping
from typing import Any

import aiohttp
from aiohttp import ClientSession, ClientTimeout
from yarl import URL

from apiclient.credentials._discovery import is_loopback
from apiclient.middleware._whole import WholeResponse


def open_session(
    *,
    headers: Mapping[str, str],
    timeout: ClientTimeout,
    connections: int,
    cookies: bool,
    trust_env: bool,
    proxy: str | None,
    tls: ssl.SSLContext | None,
) -> ClientSession:
    """Return a new session for one client; see ``ApiClient`` for the options."""
    verified: dict[str, Any] = {} if tls is None else {"ssl": tls}
    return ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, **verified),
        cookie_jar=aiohttp.CookieJar() if cookies else aiohttp.DummyCookieJar(),
        headers=headers,
        timeout=timeout,
        trust_env=trust_env,
        proxy=proxy,
        auto_decompress=False,
        response_class=WholeResponse,
    )


def check_encrypted(base: URL) -> None:
    """Check that credentials would not travel in clear text.

    Raises:
        ValueError: *base* is plain http to another machine.
    """
    if base.scheme == "http" and not is_loopback(base.host or ""):
        raise ValueError(
            "base_url must be https (or on loopback, or allow_http=True), because credentials go there, "
            f"got {str(base)!r}"
        )


def check_transport(*, session: object, proxy: str | None, tls: object, trust_env: bool) -> None:
    """Check the options that shape the client's own session.

    Raises:
        ValueError: ``proxy`` is no http or https URL, or an option is given beside a session, which would ignore it.
        TypeError: ``tls`` is no SSLContext: ``False`` in particular, by which aiohttp switches verification off.
    """
    if tls is not None and not isinstance(tls, ssl.SSLContext):
        raise TypeError(f"tls must be an ssl.SSLContext, got {tls!r}; verification is not switched off by a flag")
    if proxy is not None:
        url = URL(proxy)
        if url.scheme not in {"http", "https"} or not url.host:
            raise ValueError("proxy must be an http or https URL (value not shown)")
    if session is not None:
        for name, given in (("proxy", proxy is not None), ("tls", tls is not None), ("trust_env", trust_env)):
            if given:
                raise ValueError(f"{name} must be given to the session, which is your own, not to ApiClient")
