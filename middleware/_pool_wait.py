"""Whether a timeout struck while the request still waited for a connection of the local pool."""

_WAITING = "_wait_for_available_connection"
_DEPTH = 8


def in_pool_queue(error: BaseException) -> bool:
    """Return whether *error* arose while waiting for the local pool, and so says nothing about the host.

    aiohttp raises the same ConnectionTimeoutError for a full pool and for a host that swallows packets, and a time
    limit around the handler strikes in either. Only the traceback tells them apart: it is searched for the function
    of aiohttp's connector that waits. Should that be renamed, a full pool counts as a failure of the host.
    """
    link: BaseException | None = error
    for _ in range(_DEPTH):
        if link is None:
            return False
        frame = link.__traceback__
        while frame is not None:
            if frame.tb_frame.f_code.co_name == _WAITING:
                return True
            frame = frame.tb_next
        link = link.__cause__ if link.__cause__ is not None else link.__context__
    return False
