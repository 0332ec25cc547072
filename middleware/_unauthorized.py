"""What a 401 that nothing could be done about means, and what to do. Pure."""

from collections.abc import Sequence

from apiclient.middleware._parsing.challenge import Challenge
from apiclient.middleware._parsing.problem import Problem
from apiclient.middleware.credential import Token


def hint_401(
    challenges: Sequence[Challenge], problem: Problem | None, *, token: Token | None, stopped: str | None
) -> str | None:
    """Return what to do about a 401 that became the call's outcome, or None for the general hint.

    Args:
        challenges: Of ``WWW-Authenticate``.
        problem: The parsed body, or None.
        token: What was sent last, or None where no credential was.
        stopped: The call's reason for not being sent again, or None.
    """
    asked = list(dict.fromkeys(challenge.scheme for challenge in challenges))
    if token is None:
        wanted = f" ({', '.join(asked[:3])})" if asked else ""
        return f"No credential was sent{wanted}: give credentials= to the client, or list Authorize in the pipeline"
    if problem is not None and problem.code == "invalid_client":
        return "Check client id and key"
    ours = {"bearer", (token.scheme or "bearer").lower()}
    if asked and ours.isdisjoint(scheme.lower() for scheme in asked):
        return (
            f"The server asks for {', '.join(asked[:3])}, but {token.scheme or token.header} was sent: give the other"
        )
    if stopped == "not_replayable":
        return "The next call gets a new token; this body can be read only once, so send it again yourself"
    return None
