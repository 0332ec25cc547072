"""Where processes tell one another that a circuit opened."""

from typing import Protocol


class HintStore(Protocol):
    """Passes on that a circuit opened in another process.

    Neither method waits or raises: a hint may come late, or never.
    """

    def publish(self, key: str, seconds: float) -> None:
        """Tell the others that the circuit called *key* opened here; the hint ends *seconds* from now."""
        ...

    def hinted(self, key: str) -> bool:
        """Return whether, as far as known here, another process's circuit *key* opened lately."""
        ...
