"""What a request to another origin is made of: nothing of the call's own."""

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

# An allow-list: whatever else a caller, a session or a policy put on the request stays here.
_HARMLESS = frozenset(
    {"accept", "accept-encoding", "accept-language", "connection", "content-encoding", "content-length", "content-type",
     "host", "range", "transfer-encoding", "user-agent"}
)  # fmt: skip


async def stripped(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Send *request* with its harmless headers only; the innermost middleware of a redirect to another origin."""
    for name in [name for name in request.headers if name.lower() not in _HARMLESS]:
        request.headers.popall(name, None)
    return await handler(request)
