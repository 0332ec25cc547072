"""Where a redirect may lead: to the same origin, a few times, and by the method rules of RFC 9110."""

from typing import NamedTuple

from yarl import URL

from apiclient.middleware.errors import RedirectRefused, redacted

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_HOPS = 10


class Hop(NamedTuple):
    """The next request of a redirected call.

    Attributes:
        method: Upper case.
        url: On the same origin as before.
        keep_body: Whether the body is sent again.
    """

    method: str
    url: URL
    keep_body: bool


def next_hop(status: int, location: str | None, *, method: str, url: URL) -> Hop | None:
    """Return the request that a redirecting answer asks for, or None where it is not a redirect.

    301 and 302 turn POST into GET, 303 turns everything but HEAD into GET, 307 and 308 keep method and
    body (RFC 9110 section 15.4).

    Args:
        status: Of the answer.
        location: Its ``Location`` header.
        method: Of the request just made.
        url: Of the request just made.

    Raises:
        RedirectRefused: It leads to another origin, another scheme, or carries a user and password.
    """
    if status not in REDIRECTS or location is None:
        return None
    try:
        target = url.join(URL(location.strip()))
    except ValueError as error:
        raise RedirectRefused(f"The server redirects to something that is no URL (status {status})") from error
    if target.scheme not in {"http", "https"} or not target.host:
        raise RedirectRefused(f"The server redirects to a {target.scheme!r} address, which is not followed")
    if target.user is not None or target.password is not None:
        raise RedirectRefused("The server redirects to an address with a user or password in it")
    if target.origin() != url.origin():
        raise RedirectRefused(f"The server redirects to another origin: {redacted(target)}")
    if status == 303 or (status in {301, 302} and method == "POST"):
        return Hop("HEAD" if method == "HEAD" else "GET", target.with_fragment(None), keep_body=False)
    return Hop(method, target.with_fragment(None), keep_body=True)


class Trail:
    """The hops of one call so far."""

    def __init__(self, method: str, url: URL) -> None:
        self._seen = {(method, str(url))}

    def add(self, hop: Hop) -> None:
        """Take *hop*, unless the call has been there or has gone round too often.

        Raises:
            RedirectRefused: A loop, or more than 10 hops.
        """
        if (hop.method, str(hop.url)) in self._seen:
            raise RedirectRefused(f"The server redirects in a circle, back to {redacted(hop.url)}")
        if len(self._seen) > MAX_HOPS:
            raise RedirectRefused(f"The server redirected more than {MAX_HOPS} times")
        self._seen.add((hop.method, str(hop.url)))
