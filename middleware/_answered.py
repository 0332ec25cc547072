"""A response whose ``json()`` says what is wrong instead of failing on it."""

import json
from typing import Any

import aiohttp
from aiohttp import ClientResponse, hdrs

from apiclient.middleware._endpoint import endpoint_of
from apiclient.middleware._excerpt import excerpt
from apiclient.middleware._parsing.media_type import essence
from apiclient.middleware.errors import InvalidJson, RequestSummary, UnexpectedContentType, redacted


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has the same name twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def strict_loads(text: str) -> Any:
    """Return the JSON value that *text* is (RFC 8259), with no name twice in an object (section 4) and no NaN.

    Raises:
        ValueError: It is something else, or too deep to be read.
    """
    try:
        return _decoder.decode(text)
    except RecursionError:
        pass
    raise ValueError("nested too deeply")


class CheckedResponse(ClientResponse):
    """``aiohttp.ClientResponse``, except that ``json()`` is strict and its failures are errors of ours.

    Attributes:
        endpoint: ``METHOD template`` of the call, so that its errors show no path parameter.
    """

    endpoint: str | None = None

    async def json(  # type: ignore[override, unused-ignore]
        self, *, loads: Any = strict_loads, content_type: str | None = "application/json", **options: Any
    ) -> Any:
        """Return the body as JSON, as aiohttp's ``json()`` does.

        Args:
            loads: Reads the text; the default refuses what RFC 8259 does not allow, and names that are there twice.
            content_type: The type that the answer must have; None for any.
            **options: ``encoding``, as in aiohttp.

        Raises:
            UnexpectedContentType: The answer has another type; also an ``aiohttp.ContentTypeError``.
            InvalidJson: It is no JSON; also a ``json.JSONDecodeError`` and so a ``ValueError``.
        """
        cause: Exception
        try:
            return await super().json(loads=loads, content_type=content_type, **options)
        except aiohttp.ContentTypeError as error:
            cause = error
        except (ValueError, RecursionError) as error:
            cause = error
        if isinstance(cause, aiohttp.ContentTypeError):
            raise unexpected(self, await self.read(), self.endpoint)
        # Raised outside of the handler: the first error holds the document, which a traceback may show.
        raise self._invalid(cause, await self.read())

    def _invalid(self, cause: Exception, body: bytes) -> InvalidJson:
        reason = cause.msg if isinstance(cause, json.JSONDecodeError) else str(cause)
        if isinstance(cause, UnicodeDecodeError):
            reason = f"it is not {cause.encoding}"
        pos = getattr(cause, "pos", 0)
        shown = excerpt(body, self.headers.get(hdrs.CONTENT_TYPE))
        begins = f"; it begins: {shown}" if shown else ""
        about = _about(self, self.endpoint)
        return InvalidJson(f"The answer is no valid JSON: {reason}{begins}", pos=pos, excerpt=shown, **about)


def unexpected(response: ClientResponse, body: bytes, endpoint: str | None = None) -> UnexpectedContentType:
    """Return the error for *response*, which is not JSON, with the beginning of its *body*."""
    declared = response.headers.get(hdrs.CONTENT_TYPE)
    shown = excerpt(body, declared)
    came = essence(declared) or "an answer without Content-Type"
    begins = f"; it begins: {shown}" if shown else ""
    return UnexpectedContentType(
        f"JSON was expected and {came} came (status {response.status}){begins}",
        content_type=declared,
        excerpt=shown,
        **_about(response, endpoint),
    )


def _about(response: ClientResponse, endpoint: str | None) -> dict[str, Any]:
    endpoint = endpoint_of(response.method, response.url.raw_path) if endpoint is None else endpoint
    return {
        "status": response.status,
        "url": response.url,
        "method": response.method,
        "headers": response.headers,
        "endpoint": endpoint,
        "request": RequestSummary(response.method, endpoint, redacted(response.url, endpoint)),
    }
