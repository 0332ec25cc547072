import pytest

from apiclient.middleware._endpoint import Templates, endpoint_of, parameters_of
from apiclient.middleware.errors import InvalidRequest


@pytest.mark.parametrize(
    ("path", "folded"),
    [
        ("/employees", "/employees"),
        ("/employees/7", "/employees/{}"),
        ("/a/123e4567-e89b-12d3-a456-426614174000/b", "/a/{}/b"),
        ("/objects/5f2b18a9c1d4", "/objects/{}"),
        ("/deadbeef", "/deadbeef"),
        ("/v1/x2", "/v1/x2"),
        ("/", "/"),
        ("", ""),
    ],
)
def test_segments_that_look_like_ids_are_folded(path: str, folded: str) -> None:
    """A path with an id is not a key of its own; a word stays."""
    assert endpoint_of("GET", path) == f"GET {folded}"


def test_the_first_registered_template_that_matches_wins() -> None:
    """Registered templates name the endpoint, in order, and by method where one is given."""
    templates = Templates(["GET /users/me", "/users/{name}", "POST /users/{id}/notes"])
    assert templates.endpoint("GET", "/users/me") == "GET /users/me"
    assert templates.endpoint("PUT", "/users/me") == "PUT /users/{name}"
    assert templates.endpoint("GET", "/users/ann") == "GET /users/{name}"
    assert templates.endpoint("POST", "/users/ann/notes") == "POST /users/{id}/notes"
    assert templates.endpoint("GET", "/users/ann/notes") == "GET /users/ann/notes"
    assert templates.endpoint("GET", "/other/12") == "GET /other/{}"


@pytest.mark.parametrize("template", ["/a/{", "/a/}", "/a/{b c}", "/a/{}", "/{a}{", "/{0}"])
def test_a_malformed_template_is_refused(template: str) -> None:
    """A template's mistake shows where it is written."""
    with pytest.raises(InvalidRequest, match="template"):
        parameters_of(template)


def test_repr_lists_the_templates() -> None:
    """The repr is readable."""
    assert repr(Templates(["/a/{b}"])) == "Templates(['/a/{b}'])"
