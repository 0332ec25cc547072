"""The address of the token endpoint: given, or found through the issuer."""

from collections.abc import Callable
from functools import partial

from yarl import URL

from apiclient.credentials._discovery import metadata_urls, problem_with, token_endpoint_in
from apiclient.credentials._grants import Unavailable, WireRequest
from apiclient.credentials._sender import Sender
from apiclient.middleware.errors import redacted


class TokenEndpoint:
    """Knows the token endpoint, and finds it out once where only the issuer is known.

    Args:
        token_url: The endpoint, or None.
        issuer: The authorization server, or None.
        allow_http: Whether plain http is good enough for a host that is not this machine.

    Raises:
        ValueError: Both or neither were given, or a secret must not be sent there.
    """

    def __init__(self, token_url: str | URL | None, issuer: str | URL | None, *, allow_http: bool) -> None:
        if (token_url is None) == (issuer is None):
            raise ValueError("exactly one of token_url and issuer must be given")
        self._allow_http = allow_http
        self._url = None if token_url is None else self._checked("token_url", token_url)
        self._issuer = None if issuer is None else self._checked("issuer", issuer)

    def __repr__(self) -> str:
        return self._named(redacted)  # Its query may hold a key.

    @property
    def identity(self) -> str:
        """What tells it from others. Not to be shown."""
        return self._named(str)

    async def resolve(self, sender: Sender, until: Callable[[], float]) -> URL | Unavailable:
        """Return the endpoint's address, or why it is not known; *until* as for ``Sender.persist``."""
        issuer = self._issuer
        if self._url is not None or issuer is None:
            return self._url or URL()
        found: URL | Unavailable = Unavailable("the issuer has no metadata", temporary=False)
        for address in metadata_urls(issuer):
            found = await sender.persist(partial(self._ask, sender, address, issuer), until)
            if not isinstance(found, Unavailable):
                self._url = found
                break
            if found.temporary:
                break
        return found

    async def _ask(self, sender: Sender, address: URL, issuer: URL) -> URL | Unavailable:
        answer = await sender.fetch(WireRequest(address))
        if isinstance(answer, Unavailable):
            return answer
        if answer.status != 200 or answer.truncated:
            temporary = answer.status >= 500 or answer.status == 429
            return Unavailable(
                f"{address} answers {answer.status}", temporary=temporary, retry_after=answer.retry_after
            )
        endpoint = token_endpoint_in(answer.body, issuer)
        if isinstance(endpoint, str):
            return Unavailable(f"{address}: {endpoint}", temporary=False)
        trouble = problem_with(endpoint, allow_http=self._allow_http)
        if trouble is not None:
            return Unavailable(f"{address}: the token_endpoint {trouble}", temporary=False)
        return endpoint

    def _named(self, text: Callable[[URL], str]) -> str:
        if self._issuer is not None:
            return f"issuer={text(self._issuer)!r}"
        return f"token_url={text(self._url or URL())!r}"

    def _checked(self, option: str, value: str | URL) -> URL:
        url = URL(value)
        trouble = problem_with(url, allow_http=self._allow_http)
        if trouble is not None:
            raise ValueError(f"{option} {trouble}, got {redacted(url)!r}")
        return url.with_fragment(None)
