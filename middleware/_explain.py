"""The retry decision in words, for people."""

from apiclient.middleware._attempts import Plan
from apiclient.middleware._transport import fault_of
from apiclient.middleware._verdict import Outcome, decide
from apiclient.middleware.errors import StatusError

_SETTLED_ELSEWHERE = {
    401: "AuthRefresh replaces a rejected token and sends it once more",
    403: "ScopeStepUp sends it once more where a scope is missing that the credential may ask for",
    415: "ContentType corrects the type and sends it once more where that is safe",
    429: "RateLimit pauses the endpoint and sends it again",
}


def explained(
    plan: Plan,
    method: str,
    endpoint: str,
    outcome: int | BaseException,
    *,
    repeatable: bool,
    replayable: bool,
    attempt: int,
) -> str:
    """Say in words whether a call that ended in *outcome* is made again, and why; see ``Retry.explain``."""
    told: Outcome | None = None
    if isinstance(outcome, int):
        name = str(outcome)
        if outcome < 400:
            return f"{endpoint} is not retried after {name}: it succeeded"
        told = Outcome(outcome)
    else:
        name = type(outcome).__name__
        status = getattr(outcome, "status", None)
        fault = fault_of(outcome)
        if isinstance(outcome, StatusError) and status is not None:
            told = Outcome(status, retry_after=outcome.retry_after)
        elif fault is not None:
            told = Outcome(None, error=name, nothing_sent=fault.nothing_sent, permanent=fault.permanent)
        elif isinstance(outcome, plan.exceptions):
            told = Outcome(None, error=name)
    if told is None:
        return f"{endpoint} is not retried after {name}: it is no failure of the server or of the network"
    body = replayable or told.nothing_sent
    decision = decide(
        plan.rules, told, method=method, attempt=attempt, repeatable=repeatable, replayable=body, delay=0.0
    )
    if decision.wait is None:
        elsewhere = _SETTLED_ELSEWHERE.get(told.status) if told.status is not None and decision.stop is None else None
        return f"{endpoint} is not retried after {name}: {decision.why}" + (f"; {elsewhere}" if elsewhere else "")
    wait = f"at least {decision.wait:.3g} s later" if decision.wait > 0 else "after a backoff"
    return (
        f"{endpoint} is retried after {name}, {wait}: {decision.why}; "
        f"attempt {attempt + 1} of at most {plan.rules.attempts}, if the retry budget and the deadline allow it"
    )
