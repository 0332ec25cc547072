"""What a 403 means: a scope, a permission, a path that is not there, or really a limit. Pure."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from apiclient.middleware._parsing.challenge import Challenge
from apiclient.middleware._parsing.problem import Problem
from apiclient.middleware._parsing.retry_after import any_case, field
from apiclient.middleware.errors import Banned, Forbidden, PermissionMissing, ScopeMissing, WrongEndpoint

_LONGEST: Final = 4096
_REMAINING: Final = ("x-ratelimit-remaining", "x-rate-limit-remaining", "ratelimit-remaining")
_SCOPES: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e ]{1,256}")  # RFC 6749 section 3.3
_SCOPE_NAMED: Final = re.compile(
    r"""\bscopes?\b[\s:='"`\[(]*(?:is |are |named )?['"`]?([a-z0-9_]+(?:[.:/-]+[a-z0-9_]+)+)"""
)
# In this order: a message about a path often names permissions too, and one about a scope nearly always does.
# One that could mean all three is left to the general hint, which names them all.
_WORDING: Final[tuple[tuple[type[Forbidden], re.Pattern[str]], ...]] = (
    (
        WrongEndpoint,
        re.compile(
            r"missing ?authentication ?token"  # an unknown path behind Amazon's API gateway
            r"|(?:unknown|invalid|wrong|no such|unrecogni[sz]ed|undefined) (?:api )?"
            r"(?:endpoint|url|uri|path|route|version)"
            r"|(?:endpoint|url|uri|path|route)(?: \S{1,200})? (?:is |was |does |could )?not (?:be )?"
            r"(?:found|exist|known|recogni[sz]ed|supported|valid)"
            r"|no (?:endpoint|route|resource) (?:found |matches |exists )?(?:at|for|with)"
            r"|(?:verify|check) the (?:endpoint )?url"
        ),
    ),
    (ScopeMissing, re.compile(r"insufficient[_ ]scope|\bscopes?\b")),
    (
        Banned,
        re.compile(
            r"rate.?limit|quota|too many|throttl|\bbann?ed\b|\bblocked for\b|abuse detection|try again (?:in|later)"
        ),
    ),
    (
        PermissionMissing,
        re.compile(
            r"permission|privilege|\broles?\b|\bgroups?\b|not (?:authori[sz]ed|allowed|entitled|a member)"
            r"|unauthori[sz]ed|access[ _]?(?:is |was )?denied|\bpolicy\b|\bacl\b|\badmin"
        ),
    ),
)
_VAGUE: Final = frozenset({WrongEndpoint, ScopeMissing, PermissionMissing})


def diagnose_403(
    challenges: Iterable[Challenge], headers: Mapping[str, str], problem: Problem | None
) -> tuple[type[Forbidden], dict[str, Any]]:
    """Return which error a 403 is, and the attributes that it gets.

    What a protocol defines goes before what the words suggest: a Bearer challenge with ``insufficient_scope``
    (RFC 6750 section 3.1), then ``Retry-After`` or a quota header at zero, then the wording of the body. It is a
    guess in the last case, and only changes the class and the hint: none of these is sent again as it is.

    Args:
        challenges: Of ``WWW-Authenticate``.
        headers: Of the response.
        problem: The parsed body, or None.

    Returns:
        The class, and ``{"scope": ...}`` where a scope is named.
    """
    for challenge in challenges:
        if challenge.params.get("error", "").lower() == "insufficient_scope":
            scope = challenge.params.get("scope", "")
            return ScopeMissing, {"scope": scope if _SCOPES.fullmatch(scope) else None}
    fields = any_case(headers)
    if "retry-after" in fields or any((field(fields, name, 64) or "").strip() == "0" for name in _REMAINING):
        return Banned, {}
    text = f"{_words(problem)} {field(fields, 'x-amzn-errortype', 256) or ''}".lower()
    kinds = [kind for kind, wording in _WORDING if wording.search(text)]
    kind = Forbidden if not kinds or _VAGUE.issubset(kinds) else kinds[0]
    if kind is not ScopeMissing:
        return kind, {}
    named = _SCOPE_NAMED.search(text)
    return kind, {"scope": named[1] if named is not None else None}


def _words(problem: Problem | None) -> str:
    if problem is None:
        return ""
    said = (problem.code, problem.title, problem.detail, problem.message, problem.type)
    return " ".join(text for text in said if text)[:_LONGEST]
