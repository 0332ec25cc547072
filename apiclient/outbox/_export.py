"""Items as lines that ``apiclient batch`` takes."""

import base64
import json
from typing import Any

from apiclient.stores.outbox_store import Entry


def line_of(entry: Entry) -> dict[str, Any]:
    """Return *entry* as a request of a batch, under its own id.

    A body that is not text stands under ``body_base64``, which ``batch`` refuses by name rather than sending it wrong.
    """
    intent = entry.intent
    line: dict[str, Any] = {"id": entry.id, "method": intent.method, "url": intent.origin + intent.path}
    if intent.headers:
        line["headers"] = dict(intent.headers)
    if intent.idempotency_key is not None:
        line["idempotency_key"] = intent.idempotency_key
    if not intent.body:
        return line
    # With a key the server may compare bodies byte by byte: JSON only where it would be written the same way.
    value = _json(intent.body)
    if value is not None:
        return line | {"json": value}
    try:
        return line | {"body": intent.body.decode()}
    except UnicodeDecodeError:
        return line | {"body_base64": base64.b64encode(intent.body).decode()}


def _json(body: bytes) -> Any:
    try:
        value = json.loads(body)
        return value if json.dumps(value).encode() == body else None
    except (ValueError, RecursionError):
        return None
