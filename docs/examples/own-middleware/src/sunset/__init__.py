"""An aiohttp middleware that tells when an API announces the end of an endpoint."""

from sunset._watch import Ending, SunsetWatch

__all__ = ["Ending", "SunsetWatch"]
