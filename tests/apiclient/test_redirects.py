from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from apiclient.middleware.errors import RedirectRefused
from apiclient.redirects import MAX_HOPS, SAME_ORIGIN, Hop, Redirects, Trail

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
    hop = SAME_ORIGIN.next_hop(status, "/v1/b", method=method, url=HERE)
    assert hop == Hop(expected[0], URL("https://api.example.com/v1/b"), keep_body=expected[1])


@pytest.mark.parametrize(("status", "location"), [(200, "/b"), (304, "/b"), (300, "/b"), (302, None)])
def test_other_answers_are_no_redirect(status: int, location: str | None) -> None:
    """Only five statuses, with a Location, lead on."""
    assert SAME_ORIGIN.next_hop(status, location, method="GET", url=HERE) is None


@pytest.mark.parametrize(
    "location",
    [
        "https://evil.example/", "//evil.example/", "https://api.example.com:8443/", "http://api.example.com/v1/b",
        "file:///etc/passwd", "ftp://api.example.com/", "https://user:pw@api.example.com/", "javascript:alert(1)",
        "https://api.example.com.evil.example/", "http://[", "", "https://user@api.example.com/", "https://:pw@api.example.com/",
    ],
)  # fmt: skip
def test_no_redirect_leaves_the_origin(location: str) -> None:
    """Law 11: another host, port or scheme is another origin, and is not followed."""
    if location == "":
        assert SAME_ORIGIN.next_hop(302, location, method="GET", url=HERE) is not None
        return
    with pytest.raises(RedirectRefused) as caught:
        SAME_ORIGIN.next_hop(302, location, method="GET", url=HERE)
    assert "pw" not in str(caught.value)


def test_from_http_to_http_is_the_same_origin() -> None:
    """The rules are those of https: what is not encrypted stays as it was."""
    hop = SAME_ORIGIN.next_hop(302, "/b", method="GET", url=URL("http://api.example.com/a"))
    assert hop == Hop("GET", URL("http://api.example.com/b"), keep_body=True)


def test_a_circle_and_an_endless_walk_end() -> None:
    """A loop is found at its first repetition; ten hops are enough for anybody."""
    trail = Trail("GET", HERE)
    with pytest.raises(RedirectRefused, match=r"^The server redirects in a circle"):
        trail.add(Hop("GET", HERE, keep_body=True))
    for number in range(MAX_HOPS):
        trail.add(Hop("GET", HERE.with_path(f"/{number}"), keep_body=True))
    with pytest.raises(RedirectRefused, match="more than 10"):
        trail.add(Hop("GET", HERE.with_path("/next"), keep_body=True))


def test_no_hops_are_no_redirects() -> None:
    """0 is a number of hops too: the first one is refused."""
    with pytest.raises(RedirectRefused, match="more than 0"):
        Trail("GET", HERE, Redirects(hops=0).hops).add(Hop("GET", FILES, keep_body=True))


FILES = URL("https://files.example.com/a")


@pytest.mark.parametrize(
    ("location", "method", "body", "expected"),
    [
        (
            "https://files.example.com/x",
            "GET",
            False,
            Hop("GET", URL("https://files.example.com/x"), keep_body=True, foreign=True),
        ),
        (
            "https://files.example.com/x",
            "POST",
            False,
            Hop("POST", URL("https://files.example.com/x"), keep_body=True, foreign=True),
        ),
        ("https://files.example.com:8443/x", "GET", False, None),
        ("http://files.example.com/x", "GET", False, None),
        ("https://sub.files.example.com/x", "GET", False, None),
        ("https://files.example.com/x", "POST", True, None),
        ("/x", "POST", True, Hop("POST", URL("https://api.example.com/x"), keep_body=True)),
    ],
)
def test_a_listed_origin_is_that_origin_exactly(
    location: str, method: str, *, body: bool, expected: Hop | None
) -> None:
    """Law 11: scheme, host and port as listed; 307 takes a body to the own origin only."""
    redirects = Redirects(to=["https://files.example.com", "http://files.example.com"])
    if expected is None:
        with pytest.raises(RedirectRefused):
            redirects.next_hop(307, location, method=method, url=HERE, own=HERE, body=body)
    else:
        assert redirects.next_hop(307, location, method=method, url=HERE, own=HERE.origin(), body=body) == expected


def test_a_listed_origin_keeps_within_itself_and_the_list() -> None:
    """From there on to there is fine; back to the own origin, or further away, is not."""
    redirects, own = Redirects(to=["https://files.example.com"]), HERE.origin()
    hop = redirects.next_hop(302, "/b", method="GET", url=FILES, own=own, body=False)
    assert hop == Hop("GET", URL("https://files.example.com/b"), keep_body=True, foreign=True)
    hop = redirects.next_hop(303, "/b", method="POST", url=FILES, own=own)
    assert hop == Hop("GET", URL("https://files.example.com/b"), keep_body=False, foreign=True)
    for location in ("https://api.example.com/v1/b", "https://evil.example/"):
        with pytest.raises(RedirectRefused):
            redirects.next_hop(302, location, method="GET", url=FILES, own=own, body=False)


@pytest.mark.parametrize(
    ("redirects", "location", "body", "message", "hint"),
    [
        (
            SAME_ORIGIN,
            "https://user:pw@api.example.com/",
            False,
            "The server redirects to an address with a user or password in it",
            RedirectRefused.hint,
        ),
        (
            SAME_ORIGIN,
            "ftp://api.example.com/a",
            False,
            "The server redirects to a 'ftp' address: not followed",
            RedirectRefused.hint,
        ),
        (
            SAME_ORIGIN,
            "https://evil.example/a",
            False,
            "The server redirects to another origin: https://evil.example",
            "If it is to be trusted: redirects=Redirects(to=['https://evil.example'])",
        ),
        (
            Redirects(to=["https://files.example.com"]),
            "https://files.example.com/a",
            True,
            "The server redirects a request with its body to another origin: https://files.example.com",
            "If it may have the body: redirects=Redirects(to=[...], bodies=True)",
        ),
    ],
)
def test_what_was_refused_and_the_way_round_it_are_told(
    redirects: Redirects, location: str, *, body: bool, message: str, hint: str
) -> None:
    """The message names the other origin, the hint the option that would allow it."""
    with pytest.raises(RedirectRefused) as caught:
        redirects.next_hop(307, location, method="POST", url=HERE, body=body)
    assert str(caught.value).startswith(message)
    assert caught.value.hint == hint


def test_a_request_is_taken_to_have_a_body_unless_told_otherwise() -> None:
    """The safe default: nothing goes to another origin that might be a body."""
    with pytest.raises(RedirectRefused, match="with its body"):
        Redirects(to=["https://files.example.com"]).next_hop(307, str(FILES), method="POST", url=HERE)


@given(
    st.text(max_size=60)
    | st.sampled_from(
        ["http://[", "//", "///x", "http://a:b", "\udcff", "http://\u2100", "a" * 10_000, f"http://{'a.' * 4000}b/"]
    )
)
@settings(max_examples=200, deadline=None)
def test_whatever_a_location_says_is_a_hop_or_refused(location: str) -> None:
    """Nothing but RedirectRefused is ever raised, and a hop is on the own origin; the message is one short line."""
    said = "nothing"
    try:
        hop = SAME_ORIGIN.next_hop(302, location, method="GET", url=HERE)
        assert hop is not None
        assert hop.url.origin() == HERE.origin()
    except RedirectRefused as error:
        said = str(error)
    assert len(said) < 600
    assert said.isprintable()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"to": "https://x"}, TypeError, "to must be a collection of origins"),
        ({"to": ["x"]}, ValueError, "to must list origins .* got 'x'"),
        ({"to": ["https://x/path"]}, ValueError, "to must list origins"),
        ({"to": ["https://u@x"]}, ValueError, "to must list origins"),
        ({"to": ["file:///x"]}, ValueError, "to must list origins"),
        ({"to": ["http://["]}, ValueError, "to must list origins"),
        ({"hops": -1}, ValueError, "hops must be at least 0, got -1"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], error: type[Exception], message: str) -> None:
    """The constructor names option and value."""
    with pytest.raises(error, match=message):
        Redirects(**options)


def test_the_repr_shows_what_is_allowed() -> None:
    """What may leave the origin is seen at a glance."""
    assert repr(Redirects()) == "Redirects(hops=10)"
    assert repr(Redirects(to=["https://x/"], bodies=True, hops=3)) == "Redirects(to=['https://x'], bodies=True, hops=3)"
