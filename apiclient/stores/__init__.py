"""Stores: where state lives that outlasts a call."""

from apiclient.stores.memory_outbox_store import MemoryOutboxStore
from apiclient.stores.memory_token_store import MemoryTokenStore
from apiclient.stores.outbox_store import Draft, Entry, OutboxStore, Stats
from apiclient.stores.sqlite_outbox_store import SqliteOutboxStore
from apiclient.stores.sqlite_token_store import SqliteTokenStore
from apiclient.stores.token_store import TokenStore

__all__ = [
    "Draft",
    "Entry",
    "MemoryOutboxStore",
    "MemoryTokenStore",
    "OutboxStore",
    "SqliteOutboxStore",
    "SqliteTokenStore",
    "Stats",
    "TokenStore",
]
