"""What a diagnosis says."""

from typing import NamedTuple


class Finding(NamedTuple):
    """One line of the diagnosis.

    Attributes:
        ok: Whether it is as it should be.
        text: What was found.
        remedy: What to do about it, or empty.
    """

    ok: bool
    text: str
    remedy: str = ""
