import pytest
from yarl import URL

from apiclient.middleware.errors import RedirectRefused
from apiclient.redirects import MAX_HOPS, Hop, Trail, next_hop

HERE = URL("https://api.example.com/v1/a?x=1")


@pytest.mark.parametrize(
    ("status", "method", "expected"),
    [
        (301, "GET", ("GET", True)),
        (301, "POST", ("GET", False)),
        (302, "POST", ("GET", False)),
        (302, "PUT", ("PUT", True)),
        (303, "POST", ("GET", False)),
        (303, "DELETE", ("GET", False)),
        (303, "HEAD", ("HEAD", False)),
        (307, "POST", ("POST", True)),
        (308, "PATCH", ("PATCH", True)),
    ],
)
def test_the_method_follows_rfc_9110(status: int, method: str, expected: tuple[str, bool]) -> None:
    """RFC 9110 section 15.4 says which redirects change the method."""
    hop = next_hop(status, "/v1/b", method=method, url=HERE)
    assert hop == Hop(expected[0], URL("https://api.example.com/v1/b"), keep_body=expected[1])


@pytest.mark.parametrize(("status", "location"), [(200, "/b"), (304, "/b"), (300, "/b"), (302, None)])
def test_other_answers_are_no_redirect(status: int, location: str | None) -> None:
    """Only five statuses, with a Location, lead on."""
    assert next_hop(status, location, method="GET", url=HERE) is None


@pytest.mark.parametrize(
    "location",
    [
        "https://evil.example/", "//evil.example/", "https://api.example.com:8443/", "http://api.example.com/v1/b",
        "file:///etc/passwd", "ftp://api.example.com/", "https://user:pw@api.example.com/", "javascript:alert(1)",
        "https://api.example.com.evil.example/", "http://[", "",
    ],
)  # fmt: skip
def test_no_redirect_leaves_the_origin(location: str) -> None:
    """Law 11: another host, port or scheme is another origin, and is not followed."""
    if location == "":
        assert next_hop(302, location, method="GET", url=HERE) is not None
        return
    with pytest.raises(RedirectRefused) as caught:
        next_hop(302, location, method="GET", url=HERE)
    assert "pw" not in str(caught.value)


def test_a_circle_and_an_endless_walk_end() -> None:
    """A loop is found at its first repetition; ten hops are enough for anybody."""
    trail = Trail("GET", HERE)
    with pytest.raises(RedirectRefused, match="circle"):
        trail.add(Hop("GET", HERE, keep_body=True))
    for number in range(MAX_HOPS):
        trail.add(Hop("GET", HERE.with_path(f"/{number}"), keep_body=True))
    with pytest.raises(RedirectRefused, match="more than 10"):
        trail.add(Hop("GET", HERE.with_path("/next"), keep_body=True))
