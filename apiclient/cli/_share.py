"""A share, as it is written on the command line."""

from apiclient._refused import Refused


def share_of(text: str, option: str) -> float:
    """Return the share that *text* means: a number from 0 to 1, or per cent.

    Raises:
        Refused: It is none; the message names *option*.
    """
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise Refused(f"{option} must be from 0 to 1, or from 0% to 100%, got {text!r}")
    return share
