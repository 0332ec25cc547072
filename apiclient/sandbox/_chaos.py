"""Answers that come late, in part, or not at all."""

import asyncio
import socket
import struct
from collections.abc import Mapping

from aiohttp import web

from apiclient.sandbox._answers import NO_ANSWER, Answer, failure
from apiclient.sandbox._dice import Dice, Plan, even

_STATUSES = (500, 502, 503)
_DELAY = (0.05, 0.5)
_NO_LINGER = struct.pack("ii", 1, 0)
CALM = Plan(frozenset(), 0.0, 0.0)


def dice(seed: int, chaos: float | Mapping[str, float]) -> Dice | None:
    """Return what draws the faults; None where there are none.

    Raises:
        ValueError: A rate is not from 0 to 1, or there is no such fault.
    """
    rates = chaos if isinstance(chaos, Mapping) else even(chaos)
    made = Dice(f"{seed}/chaos", rates, _DELAY)
    return made if any(rates.values()) else None


def refusal(plan: Plan) -> Answer | None:
    """Return what is answered before anything is done, or None."""
    if plan.fault == "error":
        return NO_ANSWER
    return failure(_STATUSES[int(plan.place * len(_STATUSES))]) if plan.fault == "status" else None


async def send(request: web.Request, answer: Answer, plan: Plan) -> web.StreamResponse:
    """Send *answer* as *plan* has it.

    Args:
        request: To be answered.
        answer: Not ``NO_ANSWER``.
        plan: Without ``reset``.
    """
    body = answer.body
    if plan.fault not in {"truncation", "slow_body"} or not body or request.method == "HEAD":
        return web.Response(status=answer.status, body=body, headers=answer.headers)
    response = web.StreamResponse(status=answer.status, headers={**answer.headers, "Content-Length": str(len(body))})
    await response.prepare(request)
    if plan.fault == "truncation":
        await response.write(body[: plan.cut(len(body))])
        if request.transport is not None:
            request.transport.close()
        return response
    size, pause = plan.piece(len(body))
    for start in range(0, len(body), size):
        await asyncio.sleep(pause)
        await response.write(body[start : start + size])
    return response


def reset(request: web.Request) -> web.StreamResponse:
    """Answer with a RST."""
    transport = request.transport
    if transport is not None:
        plug: socket.socket | None = transport.get_extra_info("socket")
        if plug is not None:
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        transport.abort()
    return web.Response()
