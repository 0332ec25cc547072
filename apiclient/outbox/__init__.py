"""The outbox: calls that could not be made now are kept, and made later."""

from apiclient.outbox._memory import MemoryOutbox
from apiclient.outbox._outbox import Drained, Outbox
from apiclient.outbox._ticket import Outcome, Ticket

__all__ = ["Drained", "MemoryOutbox", "Outbox", "Outcome", "Ticket"]
