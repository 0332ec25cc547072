from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import ClientHandlerType, ClientMiddlewareType, ClientRequest, ClientResponse, ClientSession

OpenSession = Callable[..., ClientSession]


@pytest.fixture
async def open_session() -> AsyncIterator[OpenSession]:
    opened: list[ClientSession] = []

    def make(*middlewares: ClientMiddlewareType, **options: Any) -> ClientSession:
        session = ClientSession(middlewares=middlewares, **options)
        opened.append(session)
        return session

    yield make
    for session in opened:
        await session.close()


class BareRetry:
    """As somebody would write it by hand: again after a 5xx, at most so often, each attempt numbered."""

    def __init__(self, attempts: int = 3) -> None:
        self.attempts = attempts
        self.seen: list[int] = []

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        for attempt in range(1, self.attempts):
            request.headers["X-Attempt"] = str(attempt)
            response = await handler(request)
            self.seen.append(response.status)
            if response.status < 500:
                return response
            response.release()
        request.headers["X-Attempt"] = str(self.attempts)
        response = await handler(request)
        self.seen.append(response.status)
        return response
