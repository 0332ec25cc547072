"""Puts a token request together from its parts."""

from collections.abc import Sequence

from yarl import URL

from apiclient.credentials._client_auth import Proof
from apiclient.credentials._grants import Pairs, WireRequest


def token_request(
    endpoint: URL,
    grant: Pairs,
    scopes: Sequence[str],
    parameters: Pairs,
    proof: Proof | None,
    *,
    secrets: Sequence[str] = (),
) -> WireRequest:
    """Return the request that asks *endpoint* for a token.

    Args:
        endpoint: The token endpoint.
        grant: ``grant_type`` and the fields that belong to it.
        scopes: Scopes to ask for; none leaves it to the server.
        parameters: Extra fields.
        proof: The client's, or None where the grant needs none.
        secrets: What else must never appear in a message.
    """
    scope = (("scope", " ".join(scopes)),) if scopes else ()
    proven = proof.pairs() if proof is not None else ()
    headers = {"Authorization": proof.header.value} if proof is not None and proof.header is not None else None
    hidden = [*secrets, *(proof.secrets() if proof is not None else ())]
    return WireRequest(endpoint, form=[*grant, *scope, *parameters, *proven], headers=headers, secrets=hidden)
