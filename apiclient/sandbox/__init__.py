"""A local API to try a client against: tokens, quotas per endpoint, strict content types, failures, and a ledger.

It is a real `aiohttp.web` server on the loopback interface. Time is the running loop's clock and chance is seeded, so
it works on virtual time, and two runs with one seed answer alike. It is no place for real secrets.
"""

from apiclient.sandbox._ledger import Entry
from apiclient.sandbox._server import Sandbox
from apiclient.sandbox._window import FixedWindow, Hit

__all__ = ["Entry", "FixedWindow", "Hit", "Sandbox"]
