from typing import Any

import pytest

from apiclient.middleware._parsing.document import (
    code_of,
    error_lines,
    extensions,
    members_of,
    sources_of,
    status_of,
    trace_id,
)


def code(document: dict[str, Any]) -> str | None:
    return code_of(document, sources_of(document))


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, None),
        ({"code": "a_b"}, "a_b"),
        ({"ErrorCode": "a_b"}, "a_b"),
        ({"error-code": "a_b"}, "a_b"),
        ({"code": 7}, "7"),
        ({"code": "1007"}, "1007"),
        ({"code": True}, None),
        ({"code": 1.5}, None),
        ({"code": "two words"}, None),
        ({"code": ""}, None),
        ({"code": "x" * 129}, None),
        ({"code": "a\nb"}, None),
        ({"error": "Error"}, None),
        ({"status": "fail", "error": "a_b"}, "a_b"),
        ({"code": 404, "status": "NOT_FOUND"}, "NOT_FOUND"),
        ({"code": 1007, "type": "T"}, "1007"),
        ({"code": 404}, "404"),
        ({"code": 99, "type": "T"}, "99"),
        ({"code": 100, "type": "T"}, "T"),
        ({"code": 599, "type": "T"}, "T"),
        ({"code": 600, "type": "T"}, "600"),
        ({"type": "T", "title": "x"}, None),
        ({"error": {"code": "inner"}, "code": "outer"}, "inner"),
        ({"code": "outer", "errors": [{"code": "item"}]}, "outer"),
        ({"errors": [{"code": "item"}]}, "item"),
        ({"__type": "ns#Throttled"}, "Throttled"),
        ({"__type": "Throttled"}, "Throttled"),
        ({"__type": "ns#" + "T" * 200}, "T" * 125 + "..."),
        ({"__type": ""}, None),
    ],
)
def test_which_code_is_the_apis_own(document: dict[str, Any], expected: str | None) -> None:
    """A word before a number, an error object before what surrounds it, vague words never."""
    assert code(document) == expected


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"status": 404}, 404),
        ({"statusCode": "404"}, 404),
        ({"code": 404}, 404),
        ({"code": 101}, None),
        ({"code": 399}, None),
        ({"code": 400}, 400),
        ({"status": 99}, None),
        ({"status": 100}, 100),
        ({"status": 599}, 599),
        ({"status": 600}, None),
        ({"status": True}, None),
        ({"status": "\u0664\u0660\u0664"}, None),
        ({"status": 404.0}, None),
        ({"status": "4" * 5000}, None),
        ({"error": {"status": 503}}, 503),
    ],
)
def test_which_status_the_body_states(document: dict[str, Any], expected: int | None) -> None:
    """A whole number from 100 to 599; a mere code from 400 on."""
    assert status_of(sources_of(document)) == expected


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"requestId": "r", "meta": {"trace_id": "t"}}, "t"),
        ({"requestId": "r", "correlationId": "c"}, "c"),
        ({"a": {"traceId": "deep"}, "X-Trace-Id": "near"}, "near"),
        ({"a": [{"b": {"request-id": "r"}}]}, "r"),
        ({"traceId": ""}, None),
        ({"traceId": None, "requestId": 5}, "5"),
        ({"traceId": True}, None),
        ({"traceId": {"traceId": "t"}}, "t"),
        ({"traceId": "t\n"}, "t"),
        ({"traceId": "a\nb"}, "a\\nb"),
        ({"traceId": "t" * 200}, "t" * 125 + "..."),
    ],
)
def test_the_trace_id_is_found_wherever_it_is(document: dict[str, Any], expected: str | None) -> None:
    """Trace before correlation before request; of equals the one that stands least deep."""
    assert trace_id(document) == expected


ERRORS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"errors": ["a", "", None, 5, "b"]}, ("a", "b")),
    ({"errors": {"f": ["a", "b"], "g": "c", "h": 5}}, ("f: a", "f: b", "g: c")),
    ({"errors": [{"field": "f", "message": "m"}, {"nothing": 1}, []]}, ("f: m",)),
    ({"errors": [{"loc": ["a", 0, True, "b"], "msg": "m"}]}, ("a.0.b: m",)),
    ({"errors": [{"source": {"parameter": "p"}, "title": "t"}]}, ("p: t",)),
    ({"errors": [{"loc": list("abcdefghij"), "msg": "m"}]}, ("a.b.c.d.e.f.g.h: m",)),
    ({"errors": [{"loc": ["a" * 100, "b" * 100], "msg": "m"}]}, ("a" * 100 + "." + "b" * 24 + "...: m",)),
    ({"errors": []}, ()),
    ({"errors": "text"}, ("text",)),
    ({"a": ["x"], "b": "y"}, ()),
    ({"errors": {"f": ["a"] * 15, "g": ["b"] * 15}}, ("f: a",) * 15 + ("g: b",) * 5),
    ({"f": ["a"] * 15, "g": ["b"] * 15}, ("f: a",) * 15 + ("g: b",) * 5),
    ({"error": {"details": [{"message": "m"}]}}, ("m",)),
    ({"errors": [{"field": "f" * 200, "message": "m" * 600}]}, ("f" * 128 + ": " + "m" * 367 + "...",)),
]


@pytest.mark.parametrize(("document", "expected"), ERRORS)
def test_single_errors_become_lines(document: dict[str, Any], expected: tuple[str, ...]) -> None:
    """Place and saying, from lists of texts, lists of objects, or an object by place."""
    assert error_lines(sources_of(document), members_of(document)) == expected


def test_equally_named_members_are_one() -> None:
    """Case, underscores and hyphens make no difference; the first holds."""
    assert members_of({"Trace-Id": 1, "trace_id": 2}) == {"traceid": 1}


def test_only_a_bounded_part_of_a_wide_document_is_looked_at() -> None:
    """64 members of each object, 12 objects in all, 512 containers in the copy."""
    wide = {f"k{i}": {"code": "x"} for i in range(1000)}
    assert len(members_of(wide)) == 64
    nested: dict[str, Any] = {}
    for _ in range(10):
        nested = {"error": nested, "errors": [nested], "response": nested, "meta": nested}
    assert len(sources_of(nested)) <= 12
    for name in ("error", "response"):
        chain: dict[str, Any] = {"code": "too_deep"}
        for _ in range(4):
            chain = {name: chain}
        assert len(sources_of(chain)) == 4
        assert code(chain) is None
    empty: list[dict[str, str]] = [{}] * 64
    assert trace_id({"a": [*empty, {"traceId": "t"}]}) is None
    assert trace_id({**{f"k{i}": empty for i in range(9)}, "z": [{"traceId": "t"}]}) is None
    copied: Any = extensions({"a": wide}, problem=False)["a"]
    assert len(copied) == 64
    lists = {"a": [[[1] * 64] * 64] * 64}

    def containers(value: Any) -> int:
        return 1 + sum(map(containers, value)) if isinstance(value, list) else 0  # pyright: ignore[reportUnknownArgumentType]

    assert containers(extensions(lists, problem=False)["a"]) == 511


def test_a_problem_keeps_its_own_members_out_of_the_extensions() -> None:
    """RFC 9457 3.2: extensions are the members that it does not define."""
    document = {"title": "t", "status": 1, "balance": 2}
    assert extensions(document, problem=True) == {"balance": 2}
    assert extensions(document, problem=False) == document
