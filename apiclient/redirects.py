"""Where a redirect may lead: to the same origin, a few times, and by the method rules of RFC 9110."""

from collections.abc import Iterable
from typing import NamedTuple

from yarl import URL

from apiclient.middleware._parsing.text import one_line
from apiclient.middleware.errors import RedirectRefused

__all__ = ["Redirects"]

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_HOPS = 10


class Hop(NamedTuple):
    """The next request of a redirected call.

    Attributes:
        method: Upper case.
        url: Where it goes.
        keep_body: Whether the body is sent again.
        foreign: Whether it goes to another origin than the call's own.
    """

    method: str
    url: URL
    keep_body: bool
    foreign: bool = False


class Redirects:
    """Which redirects a client follows: those to its own origin, and to origins that are listed.

    Another scheme, host or port is another origin. What goes to a listed one has none of the call's credentials, keys,
    cookies and headers beyond Accept, User-Agent and the like, and no body; from there it never leads back to the
    client's own origin. From https to http no redirect is followed.

    Args:
        to: Other origins that a redirect may lead to: ``["https://files.example.com"]``.
        bodies: Whether a 307 or 308 may take the body to one of them; otherwise it is refused.
        hops: Most redirects of one call; 0 for none at all.

    Raises:
        ValueError: An option is out of its range, or an origin is not an absolute http or https URL.
    """

    def __init__(self, *, to: Iterable[str] = (), bodies: bool = False, hops: int = MAX_HOPS) -> None:
        if isinstance(to, str):
            raise TypeError(f"to must be a collection of origins, got the string {to!r}")
        if hops < 0:
            raise ValueError(f"hops must be at least 0, got {hops!r}")
        self._to = tuple(_origin_of(each) for each in to)
        self._bodies = bodies
        self._hops = hops

    def __repr__(self) -> str:
        to = f"to={[str(each) for each in self._to]!r}, " if self._to else ""
        return f"Redirects({to}{'bodies=True, ' if self._bodies else ''}hops={self._hops})"

    @property
    def hops(self) -> int:
        """Most redirects of one call."""
        return self._hops

    def next_hop(
        self, status: int, location: str | None, *, method: str, url: URL, own: URL | None = None, body: bool = True
    ) -> Hop | None:
        """Return the request that a redirecting answer asks for, or None where it is not a redirect.

        301 and 302 turn POST into GET, 303 turns everything but HEAD into GET, 307 and 308 keep method and
        body (RFC 9110 section 15.4).

        Args:
            status: Of the answer.
            location: Its ``Location`` header.
            method: Of the request just made.
            url: Of the request just made.
            own: The client's own origin; None means that of *url*.
            body: Whether the request had a body.

        Raises:
            RedirectRefused: It leads to another origin that is not listed, from https to http, back from another
                origin, would take a body there, or carries a user and password.
        """
        if status not in REDIRECTS or location is None:
            return None
        try:
            target = url.join(URL(location.strip())).with_fragment(None)
            origin = target.origin() if target.absolute and target.scheme in {"http", "https"} else None
        except ValueError as error:
            raise RedirectRefused(f"The server redirects to something that is no URL (status {status})") from error
        if origin is None or not target.host:
            raise RedirectRefused(f"The server redirects to a {one_line(target.scheme, 30)!r} address: not followed")
        if target.user is not None or target.password is not None:
            raise RedirectRefused("The server redirects to an address with a user or password in it")
        here, home, there = url.origin(), url.origin() if own is None else own, one_line(str(origin), 200)
        if url.scheme == "https" and target.scheme == "http":
            raise RedirectRefused(f"The server redirects from https to http: {there}")
        foreign = origin != home
        if foreign and origin not in self._to:
            raise RedirectRefused(
                f"The server redirects to another origin: {there}",
                hint=f"If it is to be trusted: redirects=Redirects(to=[{there!r}])",
            )
        if here != home and not foreign:
            raise RedirectRefused(f"{here} redirects back to the client's own origin: not followed")
        if status == 303 or (status in {301, 302} and method == "POST"):
            return Hop("HEAD" if method == "HEAD" else "GET", target, keep_body=False, foreign=foreign)
        if foreign and body and not self._bodies:
            raise RedirectRefused(
                f"The server redirects a request with its body to another origin: {there}",
                hint="If it may have the body: redirects=Redirects(to=[...], bodies=True)",
            )
        return Hop(method, target, keep_body=True, foreign=foreign)


SAME_ORIGIN = Redirects()


class Trail:
    """The hops of one call so far."""

    def __init__(self, method: str, url: URL, hops: int = MAX_HOPS) -> None:
        self._seen = {(method, str(url))}
        self._hops = hops

    def add(self, hop: Hop) -> None:
        """Take *hop*, unless the call has been there or has gone round too often.

        Raises:
            RedirectRefused: A loop, or too many hops.
        """
        if (hop.method, str(hop.url)) in self._seen:
            raise RedirectRefused("The server redirects in a circle")
        if len(self._seen) > self._hops:
            raise RedirectRefused(f"The server redirected more than {self._hops} times")
        self._seen.add((hop.method, str(hop.url)))


def _origin_of(text: str) -> URL:
    try:
        url = URL(text)
        if url.scheme in {"http", "https"} and url.host and url.user is None and url.raw_path == "/":
            return url.origin()
    except (TypeError, ValueError):
        pass
    raise ValueError(f"to must list origins such as https://files.example.com, got {text!r}")
