"""A body leaves with the Content-Type that it really has."""

from typing import Any

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, hdrs
from aiohttp.payload import BytesPayload, IOBasePayload, JsonPayload

from apiclient.middleware._call import joined, opened
from apiclient.middleware.errors import ContentTypeMismatch

_JSON = "application/json"
# What aiohttp puts on str, bytes and empty bodies by itself.
_GUESSED = ("text/plain", "application/octet-stream")
_SNIFFED = 64


class ContentType:
    """Make the Content-Type right before sending, so that 415 does not happen.

    A ``str`` or ``bytes`` body that looks like a JSON object or array goes out as JSON instead of
    aiohttp's text/plain or application/octet-stream; an empty body goes out without a type; a body made
    by ``json=`` keeps any JSON type (``application/merge-patch+json``) and loses any other. Forms,
    multipart, files and streams are left alone.

    Args:
        default: Type for ``str`` and ``bytes`` bodies that look like JSON.

    Raises:
        ValueError: ``default`` is not a media type.
        ContentTypeMismatch: (from a call) A JSON type is declared and the body cannot be JSON. Nothing was sent.
    """

    def __init__(self, *, default: str = _JSON) -> None:
        if default.count("/") != 1 or not default.isprintable():
            raise ValueError(f"default must be a media type such as application/json, got {default!r}")
        self._default = default

    def __repr__(self) -> str:
        return f"ContentType(default={self._default!r})"

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Correct the type of *request* and send it."""
        call = joined()
        if call is None:
            return await opened(self, request, handler)
        body: Any = request.body
        if body:
            await self._correct(request, body)
        elif request.headers.get(hdrs.CONTENT_TYPE) in _GUESSED:
            del request.headers[hdrs.CONTENT_TYPE]
        return await handler(request)

    async def _correct(self, request: ClientRequest, body: Any) -> None:
        declared = request.headers.get(hdrs.CONTENT_TYPE)
        bare = declared.partition(";")[0].strip().lower() if declared is not None else ""
        if isinstance(body, JsonPayload):
            if not _is_json(bare):
                request.headers[hdrs.CONTENT_TYPE] = _JSON
        elif isinstance(body, BytesPayload):
            if bare in _GUESSED or not bare:
                if _looks_like_json(await body.as_bytes()):
                    request.headers[hdrs.CONTENT_TYPE] = self._default
            elif _is_json(bare) and not _could_be_json(await body.as_bytes()):
                raise ContentTypeMismatch(
                    f"{request.method} {request.url.path} declares {bare}, but its body begins with nothing that JSON "
                    "can begin with"
                )
        elif _is_json(bare) and not isinstance(body, IOBasePayload) and body.content_type not in {bare, None, ""}:
            raise ContentTypeMismatch(
                f"{request.method} {request.url.path} declares {bare}, but its body is {body.content_type}"
            )


def _is_json(media_type: str) -> bool:
    return media_type == _JSON or media_type.endswith("+json") or media_type == "text/json"


def _looks_like_json(body: bytes) -> bool:
    return body[:_SNIFFED].lstrip()[:1] in {b"{", b"["}


def _could_be_json(body: bytes) -> bool:
    head = body[:_SNIFFED].lstrip()
    return not head or head[:1] in b'{["-0123456789tfn'
