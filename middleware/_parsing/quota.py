"""What a server says about its limits: rates, and the quotas read from response headers and from error texts.

Pure: no I/O, the wall clock is an argument. All input is untrusted: bounded before it is looked at, clamped
afterwards, and ignored where it is malformed. Nothing here raises, except ``Rate`` for what its own caller wrote.
"""

import math
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from multidict import istr

from apiclient.middleware._parsing.rate import (
    AMOUNT,
    DURATION,
    MAX_LIMIT,
    UNIT,
    UNIT_SECONDS,
    YEAR,
    Rate,
    rate_in,
    seconds,
)
from apiclient.middleware._parsing.retry_after import Fields, any_case, field, moment, server_time
from apiclient.middleware._parsing.structured import Item, Value, dictionary, items

__all__ = ["MAX_LIMIT", "Quota", "Rate", "read_headers", "read_text"]

_MAX_QUOTAS: Final = 16
_MAX_FIELD: Final = 4096
_MAX_TEXT: Final = 1024

_COUNT: Final = r"[0-9]{1,3}(?:,[0-9]{3}){1,4}(?![0-9])|[0-9]{1,15}(?:\.[0-9]{1,9})?"
_NOUN: Final = r"(?:[a-z]{1,12}\s){0,2}(?:requests?|calls?|reqs?|queries|hits|operations|messages)(?:\(s\))?"
_ALONE: Final = r"(?<![\w.,/:+-])"

_number = re.compile(r"[0-9]{1,19}(?:\.[0-9]{0,9})?")
_used_of_limit = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")
# From the surest wording to the loosest: the first one found anywhere in the text states the limit.
_limit_wordings = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"maximum admitted\s(?P<limit>{_COUNT})\s?per\s(?P<period>{DURATION})",
        rf"{_ALONE}(?P<limit>{_COUNT})\s?(?:{_NOUN}\s?)?(?:/|per\s)\s?(?P<period>{DURATION})",
        rf"{_ALONE}(?P<limit>{_COUNT})\s?{_NOUN}\s(?:a|an|each|every)\s(?P<period>{DURATION})",
        rf"{_ALONE}(?P<limit>{_COUNT})\s?{_NOUN}\s(?:with)?in\s(?:(?:the|any|a)\s)?(?:last\s)?(?P<period>{DURATION})",
        rf"\b{_NOUN}\sper\s(?P<period>{UNIT})[^0-9\r\n]{{0,24}}\blimit(?:\sis|\sof|:|=)?\s?(?P<limit>{_COUNT})(?![0-9])",
    )
)
_again_wordings = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b(?:again|available|retry|resets?|wait)\s(?:in\s|after\s|for\s)?((?:{AMOUNT}\s?{UNIT}\s?){{1,4}})",
        rf"\bretry_?(?:after|delay)[\"']?\s?[:=]\s?[\"']?({AMOUNT})(?![0-9a-rt-z])",
    )
)

_NAMED: Final = (istr("RateLimit"), istr("RateLimit-Policy"))
_DRAFT_6: Final = (istr("RateLimit-Limit"), istr("RateLimit-Remaining"), istr("RateLimit-Reset"))
_X_RATELIMIT: Final = (istr("X-RateLimit-Limit"), istr("X-RateLimit-Remaining"), istr("X-RateLimit-Reset"))
_X_RATE_LIMIT: Final = (istr("X-Rate-Limit-Limit"), istr("X-Rate-Limit-Remaining"), istr("X-Rate-Limit-Reset"))
_REQUESTS: Final = tuple(istr(f"{name}-Requests") for name in _X_RATELIMIT)
_DRAFTS: Final = (*_NAMED, *_DRAFT_6[:2])
_RESET_AFTER: Final = istr("X-RateLimit-Reset-After")
_BUCKETS: Final = (istr("X-RateLimit-Bucket"), istr("X-RateLimit-Resource"))
_SHOPIFY: Final = istr("X-Shopify-Shop-Api-Call-Limit")
_KONG: Final = tuple(
    (istr(f"X-RateLimit-Limit-{unit}"), istr(f"X-RateLimit-Remaining-{unit}"), UNIT_SECONDS[unit.lower()])
    for unit in ("Second", "Minute", "Hour", "Day", "Month", "Year")
)
_SIGNS: Final = (
    *_DRAFTS,
    *_X_RATELIMIT[:2],
    *_X_RATE_LIMIT[:2],
    _REQUESTS[0],
    _SHOPIFY,
    *(limit for limit, _, _ in _KONG),
)


class Quota(NamedTuple):
    """What one statement of a server says; None where it does not say.

    ``limit`` is at least 1, ``period`` above 0 and up to a year, ``remaining`` at least 0, ``reset`` from 0 up to a
    year. A stated limit of 0 is reported as no limit with nothing remaining; a reset further away than a year as none.
    """

    limit: int | None
    """Requests admitted in one period."""
    period: float | None
    """Seconds of the window."""
    remaining: int | None
    """Requests left in the present window."""
    reset: float | None
    """Seconds from now until the window is renewed."""
    name: str | None
    """The policy's or bucket's name, shared by the endpoints that it counts together."""
    partition: str | None
    """The partition key of the policy (base64 where it is a byte sequence)."""
    source: str
    """One of text, draft-8 (and later), draft-7, draft-6 (and earlier), x-ratelimit, x-rate-limit, aspnetcore, kong,
    requests, shopify."""


def read_text(text: str) -> Quota | None:
    """Return the limit or the wait that an error text states, or None; the first 1,024 characters are read.

    A limit that is not whole is rounded down (``2.5 per 1s`` admits 2); one below 1 becomes 1 in a longer period.
    """
    text = text[:_MAX_TEXT]
    limit = period = None
    for wording in _limit_wordings:
        if (match := wording.search(text)) is not None:
            count, stated = float(match["limit"].replace(",", "")), seconds(match["period"])
            period = _period(stated if count >= 1 else stated / count) if count > 0 else None
            if period is not None:
                limit = max(int(min(count, MAX_LIMIT)), 1)
                break
    reset = None
    for wording in _again_wordings:
        if (match := wording.search(text)) is not None:
            wait = match[1]
            reset = _within_a_year(float(wait) if _number.fullmatch(wait) else seconds(wait))
            break
    if limit is None and reset is None:
        return None
    return Quota(limit, period, None, reset, None, None, "text")


def read_headers(headers: Mapping[str, str], *, wall: float) -> tuple[Quota, ...]:
    """Return what the response *headers* say about limits, those with a period first; at most 16.

    Reads ``RateLimit`` and ``RateLimit-Policy`` of the IETF drafts (structured fields; the names r, t and a, w alike),
    ``RateLimit-*`` of the older ones, ``X-RateLimit-*`` with Kong's and OpenAI's suffixes, ``X-Rate-Limit-*`` with
    AspNetCoreRateLimit's period, and Shopify's bucket. Policies that count something other than requests are left
    out, malformed fields are ignored, and a field that repeats another's limit is folded into it.

    Args:
        headers: The response's headers; a plain dict may spell the names in any case.
        wall: Wall time now, in seconds since the epoch; the response's ``Date`` rules where it disagrees.
    """
    fields = any_case(headers)
    for sign in _SIGNS:
        if sign in fields:
            break
    else:
        return ()
    now = _Now(fields, wall)
    found = list(_extensions(fields, now))
    if any(name in fields for name in _DRAFTS):
        found = [*_drafts(fields, now), *found]
    return _folded(found)


class _Now:
    """The server's wall clock, worked out only when a field states a point in time."""

    __slots__ = ("_fields", "_now", "_wall")

    def __init__(self, fields: Fields, wall: float) -> None:
        self._fields = fields
        self._wall = wall
        self._now: float | None = None

    def __call__(self) -> float:
        if self._now is None:
            # Date is cut to whole seconds: the finer clock is kept where the two do not contradict each other.
            stated = server_time(self._fields, wall=self._wall)
            self._now = self._wall if stated <= self._wall < stated + 2.0 else stated
        return self._now


class _State(NamedTuple):
    """What a field says about the present window, its limit included."""

    limit: int | None
    remaining: int | None
    reset: float | None


def _drafts(fields: Fields, now: _Now) -> Iterator[Quota]:
    """Read RateLimit and RateLimit-Policy of drafts 7 and later, and the separate fields of the earlier ones."""
    policies = _stated_policies(field(fields, _NAMED[1], _MAX_FIELD) or "")
    text = field(fields, _NAMED[0], _MAX_FIELD)
    if text is not None and (named := items(text)) is not None:
        yield from _named(named, policies)
        return
    if text is not None and (members := dictionary(text)) is not None:
        values = [members[key].value if key in members else None for key in ("limit", "remaining", "reset")]
        yield from _bound(policies, _State(_whole(values[0]), _whole(values[1]), _left(values[2])), "draft-7")
        return
    limits = items(field(fields, _DRAFT_6[0], _MAX_FIELD) or "")
    if limits and not policies:
        policies = _policies(limits[1:])
    state = _state(fields, _DRAFT_6, now)
    if state is not None and limits:
        state = state._replace(limit=_whole(limits[0].value))
    yield from _bound(policies, state, "draft-6")


@lru_cache(maxsize=64)  # A server states the same policies with every response.
def _stated_policies(text: str) -> Sequence[Quota | str]:
    return _policies(items(text) or ())


def _policies(members: Sequence[Item]) -> Sequence[Quota | str]:
    """Return the policies among *members*; one that does not count requests only as its name."""
    found: list[Quota | str] = []
    for value, params in members[:_MAX_QUOTAS]:
        window = _period(params.get("w", params.get("window")))
        if type(value) is int:
            if (limit := _whole(value)) is not None:
                found.append(Quota(limit, window, None, None, None, None, "draft-6"))
        elif isinstance(value, str):
            if params.get("qu", "requests") != "requests":
                found.append(value)
            elif (limit := _whole(params.get("q"))) is not None:
                found.append(Quota(limit, window, None, None, value, _partition(params), "draft-8"))
    return found


def _named(members: Sequence[Item], policies: Sequence[Quota | str]) -> Iterator[Quota]:
    """Join the items of a draft 8 RateLimit with the policies of the same name and partition, and give those too."""
    for value, params in members[:_MAX_QUOTAS]:
        remaining, reset = _whole(params.get("r", params.get("a"))), _left(params.get("t", params.get("w")))
        if not isinstance(value, str) or remaining is None or value in policies:
            continue
        partition = _partition(params)
        quota = Quota(None, None, remaining, reset, value, partition, "draft-8")
        for policy in policies:
            if isinstance(policy, Quota) and policy.name == value and policy.partition in (None, partition):
                quota = quota._replace(limit=policy.limit, period=policy.period)
                break
        yield quota
    yield from (policy for policy in policies if isinstance(policy, Quota))


def _bound(policies: Sequence[Quota | str], state: _State | None, source: str) -> Iterator[Quota]:
    """Join the one window that older fields describe with the policy that has its limit."""
    for policy in policies:
        if isinstance(policy, str):
            continue
        bound = policy if policy.source == "draft-8" else policy._replace(source=source)
        if state is not None and (policy.limit == state.limit or (state.limit is None and len(policies) == 1)):
            bound = bound._replace(remaining=state.remaining, reset=state.reset)
            state = None
        yield bound
    if state is not None:
        yield Quota(state.limit, None, state.remaining, state.reset, None, None, source)


def _extensions(fields: Fields, now: _Now) -> Iterator[Quota]:
    """Read the fields that no draft has."""
    for limit_name, remaining_name, period in _KONG:
        if limit_name in fields and (limit := _count(fields, limit_name)) is not None:
            yield Quota(limit, period, _count(fields, remaining_name), None, None, None, "kong")
    yield from _x_ratelimit(fields, now)
    yield from _x_rate_limit(fields, now)
    if (state := _state(fields, _REQUESTS, now)) is not None:
        yield Quota(state.limit, None, state.remaining, state.reset, None, None, "requests")
    text = field(fields, _SHOPIFY, _MAX_FIELD)
    if text is not None and (match := _used_of_limit.fullmatch(text.strip())) is not None:
        limit = int(match[2])
        yield Quota(limit, None, max(limit - int(match[1]), 0), None, None, None, "shopify")


def _x_ratelimit(fields: Fields, now: _Now) -> Iterator[Quota]:
    """Read X-RateLimit-*: numbers, Envoy's list with windows, or a rate such as 5/1s."""
    state = _state(fields, _X_RATELIMIT, now)
    if state is None:
        return
    after = _reset(field(fields, _RESET_AFTER, 64), now)
    if after is not None:
        state = state._replace(reset=after)
    name = None
    for bucket in _BUCKETS:
        if bucket in fields and (text := field(fields, bucket, 128)) and text.isascii() and text.isprintable():
            name = text
    policies: Sequence[Quota | str] = ()
    text = "" if state.limit is not None else field(fields, _X_RATELIMIT[0], _MAX_FIELD) or ""
    if text and (rate := rate_in(text)) is not None:
        state = state._replace(limit=_whole(rate[0]))
        policies = [Quota(state.limit, _period(rate[1]), None, None, None, None, "")]
    elif text and (limits := items(text)):
        state = state._replace(limit=_whole(limits[0].value))
        policies = _policies([limit for limit in limits if limit.params])
    for quota in _bound(policies, state, "x-ratelimit"):
        yield quota._replace(name=name)


def _x_rate_limit(fields: Fields, now: _Now) -> Iterator[Quota]:
    """Read X-Rate-Limit-*: numbers, or AspNetCoreRateLimit's, whose limit is the text of the period."""
    state = _state(fields, _X_RATE_LIMIT, now)
    if state is None:
        return
    period = None
    if state.limit is None:
        period = _period(seconds((field(fields, _X_RATE_LIMIT[0], 64) or "").strip()))
    if period is None:
        yield Quota(state.limit, None, state.remaining, state.reset, None, None, "x-rate-limit")
    else:
        reset = min(state.reset, period) if state.reset is not None else None
        yield Quota(None, period, state.remaining, reset, None, None, "aspnetcore")


def _state(fields: Fields, names: Sequence[str], now: _Now) -> _State | None:
    """Read a trio of separate fields; None where neither limit nor remainder is there."""
    if names[0] not in fields and names[1] not in fields:
        return None
    limit, remaining = _count(fields, names[0]), _count(fields, names[1])
    return _State(limit, remaining, _reset(field(fields, names[2], 64), now))


def _folded(quotas: Sequence[Quota]) -> tuple[Quota, ...]:
    """Put those with a period first, fold repeats of a limit into them, and turn a limit of 0 into nothing left."""
    kept: list[Quota] = []
    for quota in quotas if len(quotas) == 1 else sorted(quotas, key=lambda quota: quota.period is None):
        if quota.limit is None and quota.period is None and quota.remaining is None:
            continue
        twin = next((i for i, other in enumerate(kept) if quota.limit is not None and _repeats(quota, other)), None)
        if twin is None:
            kept.append(quota)
        else:
            other = kept[twin]
            kept[twin] = other._replace(
                remaining=quota.remaining if other.remaining is None else other.remaining,
                reset=quota.reset if other.reset is None else other.reset,
            )
    return tuple(q._replace(limit=None, remaining=0) if q.limit == 0 else q for q in kept[:_MAX_QUOTAS])


def _repeats(quota: Quota, other: Quota) -> bool:
    """Whether *quota* says nothing of limit, period, name and partition that *other* does not."""
    return (
        quota.limit == other.limit
        and quota.period in (None, other.period)
        and quota.name in (None, other.name)
        and quota.partition in (None, other.partition)
    )


def _count(fields: Fields, name: str) -> int | None:
    """Return a field that is a number, or several of which the least holds; None for anything else."""
    text = field(fields, name, 64)
    if text is None:
        return None
    if len(text) < 10 and text.isdigit() and text.isascii():
        return int(text)
    counts = [int(float(part)) if _number.fullmatch(part) else -1 for part in map(str.strip, text.split(","))]
    least = min(counts)
    return min(least, MAX_LIMIT) if least >= 0 else None


def _reset(text: str | None, now: _Now) -> float | None:
    """Return the seconds left that *text* states as a number, an epoch, a duration or a date."""
    if text is None:
        return None
    text = text.strip()
    if not _number.fullmatch(text):
        left = seconds(text)
        if math.isnan(left) and (date := moment(text)) is not None:
            left = max(date - now(), 0.0)
        return _within_a_year(left)
    value = float(text)
    # No wait is as long as 5e8 s (15 years), and each finer unit of an epoch is a thousand times the last.
    for threshold, unit in ((1e17, 1e-9), (1e14, 1e-6), (1e11, 1e-3), (5e8, 1.0)):
        if value >= threshold:
            return _within_a_year(max(value * unit - now(), 0.0))
    return _within_a_year(value)


def _whole(value: object) -> int | None:
    """Return a structured field's integer, clamped; None if it is negative or something else."""
    return min(value, MAX_LIMIT) if type(value) is int and value >= 0 else None


def _period(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 < value <= YEAR else None


def _left(value: object) -> float | None:
    return _within_a_year(float(value)) if isinstance(value, int | float) else None


def _within_a_year(seconds: float) -> float | None:
    return seconds if 0 <= seconds <= YEAR else None


def _partition(params: Mapping[str, Value]) -> str | None:
    key = params.get("pk")
    return b64encode(key).decode() if isinstance(key, bytes) else key if isinstance(key, str) else None
