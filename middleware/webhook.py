"""A sink for alerts that posts them as JSON."""

from collections.abc import Awaitable, Callable
from typing import Any

from apiclient.middleware._call import calling
from apiclient.middleware._outlet import Notice


def _plain(notice: Notice) -> dict[str, Any]:
    return notice.as_dict() | {"text": str(notice)}


class Webhook:
    """Post each notice as JSON, through a client with its own chain of retries and limits.

    Use a client of its own, not the one that is watched: its circuit may be open when there is something to tell. Each
    notice has an ``Idempotency-Key`` of its own, so that a resend rings nobody twice. A failure is logged as
    ``alert.sink_failed``; it never reaches a call.

    Args:
        post: The method of an ``ApiClient`` or of an aiohttp session: ``client.post``.
        path: Path for the former, URL for the latter.
        shape: Turns a notice into the JSON value; by default its fields and a ``text`` that chat services show.
    """

    def __init__(
        self, post: Callable[..., Awaitable[Any]], path: str, *, shape: Callable[[Notice], Any] = _plain
    ) -> None:
        self._post = post
        self._path = path
        self._shape = shape

    def __repr__(self) -> str:
        # Not the path: a webhook's URL is often its secret.
        return f"Webhook({getattr(self._post, '__qualname__', type(self._post).__qualname__)})"

    async def __call__(self, notice: Notice) -> None:
        """Post *notice*."""
        key = f"{notice.kind}-{notice.scope}-{notice.at:.6f}".replace(" ", "-")
        key = key.encode("ascii", "backslashreplace").decode()
        with calling(None):
            response = await self._post(self._path, json=self._shape(notice), headers={"Idempotency-Key": key})
        try:
            response.raise_for_status()
        finally:
            response.release()
