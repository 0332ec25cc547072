"""What the user has to put right."""


class Refused(Exception):
    """One line for stderr that says what and where; the exit code is 2 unless said."""

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(message)
        self.code = code


def reason_of(error: OSError) -> str:
    """Return what the operating system says about *error*, in a few words."""
    return error.strerror.lower() if error.strerror is not None else str(error)
