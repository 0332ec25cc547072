"""What a status or an error means, and what to do about it, in the words of the errors themselves."""

import difflib
import inspect

from apiclient import errors
from apiclient._refused import Refused
from apiclient.middleware import Retry
from apiclient.middleware._guidance import hint_for, phrase
from apiclient.middleware.errors import ApiError, StatusError


def explanation(outcome: str) -> list[str]:
    """Return lines about *outcome*: a status, or the name of an error.

    Raises:
        Refused: It is neither.
    """
    if outcome.isascii() and outcome.isdecimal():
        return _of_status(int(outcome))
    known = _errors()
    found = next((kind for name, kind in known.items() if name.lower() == outcome.lower()), None)
    if found is None:
        near = difflib.get_close_matches(outcome, known, n=3, cutoff=0.5)
        meant = f"; perhaps {' or '.join(near)}" if near else f"; known are {', '.join(known)}"
        raise Refused(f"explain: {outcome!r} is neither a status from 100 to 599 nor an error of this library{meant}")
    return _of_error(found)


def _errors() -> dict[str, type[ApiError]]:
    named = {name: getattr(errors, name) for name in errors.__all__}
    return {name: kind for name, kind in named.items() if inspect.isclass(kind) and issubclass(kind, ApiError)}


def _of_error(kind: type[ApiError]) -> list[str]:
    lines = [f"{kind.__name__}: {_summary(kind)}"]
    if kind.hint:
        lines.append(f"  What to do: {kind.hint}.")
    lines.append(
        "  The same call may work later, unchanged."
        if kind.recoverable
        else "  The same call, unchanged, will end the same way."
    )
    return lines


def _of_status(status: int) -> list[str]:
    if not 100 <= status <= 599:
        raise Refused(f"explain: a status is from 100 to 599, got {status}")
    if status < 400:
        return [f"{status} is no failure: the response is returned to the caller."]
    kind = StatusError.for_status(status)
    lines = _of_error(kind)
    if kind is StatusError:
        lines[0] = f"{phrase(status)}, a {kind.__name__}: {_summary(kind)}"
        lines[1:1] = [f"  What to do: {hint}." for hint in (hint_for(status),) if hint]
    narrower = [each for each in _errors().values() if each is not kind and issubclass(each, kind)]
    if narrower:
        lines.append("Where the answer says so, more precisely:")
        lines += [f"  {line}" for each in narrower for line in _of_error(each)]
    return [*lines, "What the client does by itself:", *_by_itself(status)]


def _by_itself(status: int) -> list[str]:
    if status == 429:
        return ["  RateLimit pauses the endpoint for everybody, and sends the request again when the quota has room."]
    if status == 401:
        return ["  AuthRefresh has the rejected token replaced, once for everybody, and sends the request once more."]
    retry = Retry()
    said: dict[str, list[str]] = {}
    for shown, method, key in (("GET", "GET", False), ("POST", "POST", False), ("POST with a key", "POST", True)):
        text = retry.explain(method, "it", status, has_key=key)
        said.setdefault(text, []).append(shown)
    return [f"  {', '.join(methods)}: {text}." for text, methods in said.items()]


def _summary(kind: type[ApiError]) -> str:
    text = inspect.getdoc(kind)
    return text.partition("\n\n")[0].replace("\n", " ").replace("``", "") if text is not None else ""
