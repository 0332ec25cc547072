"""Take out of aiohttp's errors what must not be in a log: they quote whole URLs, and raw bytes of the server."""

import re
from typing import Any, cast

import aiohttp
from aiohttp import RequestInfo
from multidict import CIMultiDict, CIMultiDictProxy

from apiclient.middleware._parsing.text import one_line

_LONGEST = 200
_MOST = 8
# Scheme, host and port stay; userinfo, path, query and fragment go.
_url = re.compile(r"\b(https?://)(?:[^\s/?#'\"]{0,500}@)?([^\s/?#'\"]{1,300})[^\s'\"]*")


def censored(error: BaseException) -> str:
    """Return what *error* says, fit for a log, and leave no more in it than that, nor in its causes.

    An error of ours is raised ``from`` it, and a traceback shows both.
    """
    seen: BaseException | None = error
    for _ in range(_MOST):
        if seen is None:
            break
        _censor(seen)
        seen = seen.__cause__ if seen.__cause__ is not None else seen.__context__
    if isinstance(error, aiohttp.ClientResponseError):
        return error.message
    return _clean(str(error))


def _censor(error: Any) -> None:
    if isinstance(error, aiohttp.ClientResponseError):
        place = error.request_info.url.origin()
        nothing: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())
        error.request_info = RequestInfo(place, error.request_info.method, nothing, place)
        error.headers = None
        error.args = (error.request_info, ())
    else:
        if isinstance(error, OSError) and isinstance(error.strerror, str):
            error.strerror = _clean(error.strerror)
        error.args = tuple(_clean(each) if isinstance(each, str) else each for each in error.args)
    message: Any = getattr(error, "message", None)
    if isinstance(message, str):
        # A parser's error goes on with the line that it did not like.
        cast("Any", error).message = _clean(message)


def _clean(text: str) -> str:
    return one_line(_url.sub(r"\1\2", text.partition("\n")[0]), _LONGEST)
