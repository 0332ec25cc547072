"""What arrived over the wire, in the order of arrival."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload


@dataclass(frozen=True, slots=True)
class Entry:
    """One wire request that could be parsed. It holds no secret: neither credentials, nor query, nor body.

    Attributes:
        time: When its headers had arrived, in seconds of the loop's clock.
        method: As sent.
        path: As sent, still percent-encoded, without the query.
        endpoint: `METHOD template`, as in `GET /v1/employees/{id}`; `METHOD *` where no template matches.
        status: Of the answer. None while there is none, and for good if the client went away before it or the
            sandbox closed the connection instead of answering.
        idempotency_key: Of the request.
        content_type: As sent, parameters included.
        authorized: Whether it had an `Authorization` header.
        client: Whose token it carried, expired and revoked ones included; for a token request, who claims to ask.
        length: Bytes of the body after decompression; 0 until the body has arrived in full.
    """

    time: float
    method: str
    path: str
    endpoint: str
    status: int | None = None
    idempotency_key: str | None = None
    content_type: str | None = None
    authorized: bool = False
    client: str | None = None
    length: int = 0


class Ledger(Sequence[Entry]):
    """All entries so far. It grows for as long as the sandbox lives, so that no request is ever missing from it."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(tuple(self._entries))

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | Sequence[Entry]:
        return self._entries[index]

    def __repr__(self) -> str:
        return f"Ledger({len(self)} requests)"

    def open(self, entry: Entry) -> int:
        """Enter a request that has just arrived, and return its number for `amend`."""
        self._entries.append(entry)
        return len(self._entries) - 1

    def amend(self, number: int, **changes: Any) -> None:
        """Put *changes* into the entry called *number*."""
        self._entries[number] = replace(self._entries[number], **changes)

    def count(self, endpoint: str | None = None, status: int | None = None) -> int:
        """Count the entries of *endpoint* that ended with *status*; None means any."""
        return sum(
            (endpoint is None or entry.endpoint == endpoint) and (status is None or entry.status == status)
            for entry in self._entries
        )
