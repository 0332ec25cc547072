"""Follow the redirects of a call, each hop through the call's own chain."""

from collections.abc import Callable
from typing import Any

from aiohttp import ClientResponse, ClientSession

from apiclient._foreign import stripped
from apiclient.middleware._call import Call
from apiclient.middleware.errors import ApiError, BodyNotReplayable
from apiclient.redirects import Redirects, Trail

_REPEATABLE_DATA = (bytes, bytearray, str, dict, type(None))


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
        dropped = {"params"} if hop.keep_body else {"data", "json", "params"}
        request = {key: value for key, value in request.items() if key not in dropped}
        call.method, call.url = hop.method, hop.url
        call.key = (str(hop.url.origin()), endpoint(hop.method, hop.url.raw_path))
        response = await session.request(
            hop.method, hop.url, middlewares=(*chain, stripped) if hop.foreign else chain, **request
        )
