"""Follow the redirects of a call, each hop through the call's own chain."""

from collections.abc import Callable
from typing import Any

from aiohttp import ClientResponse, ClientSession

from apiclient._foreign import stripped
from apiclient.middleware._call import Call
from apiclient.middleware.errors import ApiError, BodyNotReplayable
from apiclient.redirects import Redirects, Trail

_REPEATABLE_DATA = (bytes, bytearray, str, dict, type(None))
# What is said of a body, which goes where the body goes (RFC 9110 section 15.4).
_OF_THE_BODY = frozenset({"data", "json", "chunked", "compress", "expect100"})
_HEADERS_OF_THE_BODY = frozenset({"expect", "trailer", "transfer-encoding"})


async def follow(
    session: ClientSession,
    call: Call,
    response: ClientResponse,
    request: dict[str, Any],
    *,
    chain: tuple[Any, ...],
    redirects: Redirects,
    endpoint: Callable[[str, str], str],
) -> ClientResponse:
    """Return the answer that the redirects of *response* lead to.

    Args:
        session: Sends the hops.
        call: Whose method, URL and key become those of each hop.
        response: A redirect; released, as is each further one.
        request: The arguments of the request just made.
        chain: Its middlewares.
        redirects: Which are followed.
        endpoint: From a method and a path to the endpoint.

    Raises:
        RedirectRefused: One leads where the client does not go.
        BodyNotReplayable: The body would have to be sent again, and cannot be.
    """
    trail = Trail(call.method, call.url, redirects.hops)
    while True:
        if not redirects.hops:
            return response
        try:
            hop = redirects.next_hop(
                response.status,
                response.headers.get("Location"),
                method=call.method,
                url=call.url,
                own=call.origin,
                body=request.get("data") is not None or request.get("json") is not None,
            )
            if hop is None:
                return response
            trail.add(hop)
            if hop.keep_body and call.body is not None:
                request = request | {"data": call.body()}
            elif hop.keep_body and not isinstance(request.get("data"), _REPEATABLE_DATA):
                raise BodyNotReplayable("The server redirects a request whose body can be sent only once")
        except ApiError:
            response.release()
            raise
        response.release()
        request = {key: value for key, value in request.items() if key != "params"}
        if not hop.keep_body:
            request = _without_body(request)
        call.method, call.url = hop.method, hop.url
        call.key = (str(hop.url.origin()), endpoint(hop.method, hop.url.raw_path))
        response = await session.request(
            hop.method, hop.url, middlewares=(*chain, stripped) if hop.foreign else chain, **request
        )


def _without_body(request: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in request.items() if key not in _OF_THE_BODY}
    if "headers" in kept:
        kept["headers"] = {name: value for name, value in kept["headers"].items() if not _of_the_body(name.lower())}
    return kept


def _of_the_body(header: str) -> bool:
    return header.startswith("content-") or header in _HEADERS_OF_THE_BODY
