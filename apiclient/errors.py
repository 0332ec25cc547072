"""Every error that a call can end with; the tree is drawn in ``apiclient.middleware.errors``."""

from apiclient.middleware.errors import *  # noqa: F403 - the tree lives with the policies, which raise it
from apiclient.middleware.errors import __all__ as __all__  # noqa: PLC0414 - handed on as it is
