"""Where an issuer's token endpoint is: RFC 8414 and OpenID Connect Discovery, without I/O."""

import json
from ipaddress import ip_address
from typing import Any, cast

from yarl import URL


def metadata_urls(issuer: URL) -> tuple[URL, ...]:
    """Return the addresses of *issuer*'s metadata, in the order to try them.

    RFC 8414 section 3.1 puts the well-known part before the issuer's path, OpenID Connect Discovery
    section 4 behind it.
    """
    path = issuer.raw_path.rstrip("/")
    return (
        issuer.with_path(f"/.well-known/oauth-authorization-server{path}", encoded=True),
        issuer.with_path(f"{path}/.well-known/openid-configuration", encoded=True),
    )


def token_endpoint_in(body: bytes, issuer: URL) -> URL | str:
    """Return the token endpoint that the metadata names, or in words why there is none.

    The metadata must be the issuer's own (RFC 8414 section 3.3); a final slash makes no difference.
    """
    try:
        parsed: object = json.loads(body)
    except (ValueError, RecursionError):
        return "the metadata is not JSON"
    if not isinstance(parsed, dict):
        return "the metadata is not a JSON object"
    document = cast("dict[str, Any]", parsed)
    named = document.get("issuer")
    if not isinstance(named, str) or named.rstrip("/") != str(issuer).rstrip("/"):
        return "the metadata belongs to another issuer"
    endpoint = document.get("token_endpoint")
    if not isinstance(endpoint, str):
        return "the metadata names no token_endpoint"
    try:
        return URL(endpoint)
    except ValueError:
        return "the metadata's token_endpoint is not a URL"


def problem_with(url: URL, *, allow_http: bool) -> str | None:
    """Return in words why secrets must not be sent to *url*, or None where they may."""
    if url.scheme not in {"http", "https"} or not url.host:
        return "must be an absolute http or https URL"
    if url.raw_user is not None or url.raw_password is not None:
        return "must not carry a user or a password"
    if url.scheme == "http" and not allow_http and not is_loopback(url.host):
        return "must be https (or on loopback, or allow_http=True), because the client's secret goes there"
    return None


def is_loopback(host: str) -> bool:
    """Return whether *host* is this machine by its name or address alone, without asking a resolver."""
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761 section 6.3
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
