import pytest

from apiclient.cli._explain import explanation
from apiclient.middleware._guidance import hint_for, phrase


def test_every_status_in_use_has_a_hint() -> None:
    """Whether or not a status has a class of its own, there is something to do about it."""
    used = (
        400,
        401,
        402,
        403,
        404,
        405,
        406,
        408,
        409,
        410,
        411,
        412,
        413,
        414,
        415,
        416,
        422,
        423,
        428,
        429,
        431,
        451,
    )
    assert all(map(hint_for, (*used, 500, 501, 502, 503, 504, 599)))
    assert not any(hint_for(status).endswith(".") for status in range(400, 600))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, ["client id and key", "refresh"]),
        (403, ["user group's permissions", "include the scope", "verify the endpoint URL", "ScopeMissing", "Banned"]),
        (405, ["Use a method that the endpoint allows"]),
        (415, ["Set the Content-Type"]),
        (429, ["Wait", "lower the rate"]),
        (500, ["Retry later", "queue it"]),
    ],
)
def test_the_resolution_is_in_the_apis_own_words(status: int, words: list[str]) -> None:
    """What the API that this was made for tells its users to do; ``apiclient explain`` prints the same."""
    assert hint_for(status) in "\n".join(explanation(str(status)))
    for each in words:
        assert each in "\n".join(explanation(str(status)))


def test_an_unknown_status_is_a_number() -> None:
    """499 is nobody's, and still has a line."""
    assert phrase(404) == "404 Not Found"
    assert phrase(499) == "499"
