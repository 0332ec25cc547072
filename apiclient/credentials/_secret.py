"""A string that does not show itself."""


class Secret:
    """Keeps a secret out of reprs, logs and the locals that error reporters collect.

    Args:
        value: The secret.
    """

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "Secret(...)"
