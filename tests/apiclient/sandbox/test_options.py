"""What a sandbox refuses, says of itself, and may import."""

import ast
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import apiclient.sandbox
from apiclient.sandbox import Sandbox


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"limit": 0}, ValueError, "limit must be at least 1, got 0"),
        ({"limit": "5"}, TypeError, "limit must be an int, got '5'"),
        ({"period": 0}, ValueError, "period must be above 0, got 0"),
        ({"period": float("nan")}, ValueError, "period must be finite, got nan"),
        ({"token_lifetime": -1}, ValueError, "token_lifetime must be above 0, got -1"),
        ({"failure_rate": 1.5}, ValueError, "failure_rate must be from 0 to 1, got 1.5"),
        ({"latency": -1}, ValueError, "latency must be at least 0, got -1"),
        ({"latency": None}, TypeError, "latency must be a number, got None"),
        ({"port": 65536}, ValueError, "port must be from 0 to 65535, got 65536"),
        ({"client_secret": ""}, ValueError, "client_secret must not be empty, got ''"),
        ({"client_secret": b"x"}, TypeError, "client_secret must be a str, got bytes"),
        ({"scopes": "a b"}, TypeError, "scopes must be several names, not one str, got 'a b'"),
        ({"groups": ["a b"]}, ValueError, "groups must be names without spaces and quotes, got 'a b'"),
        ({"default_scopes": ["x"]}, ValueError, "default_scopes must be among scopes, got ['x']"),
        ({"wall": 5}, TypeError, "wall must be callable, got 5"),
        ({"limits": {"GET /v1/ping": (0, 1)}}, ValueError, "limit of GET /v1/ping must be at least 1, got 0"),
    ],
)
def test_a_wrong_option_is_named_with_its_value(options: dict[str, Any], error: type[Exception], message: str) -> None:
    """In the constructor, before anything listens."""
    with pytest.raises(error) as caught:
        Sandbox(**options)
    assert str(caught.value) == message


def test_a_misspelt_endpoint_is_an_error_and_not_a_count_of_zero() -> None:
    """In each place that takes the name of one."""
    sandbox, wrong = Sandbox(), "GET /v1/employes"
    calls: list[Callable[[], object]] = [
        lambda: sandbox.count(wrong),
        lambda: sandbox.fail_next(wrong),
        lambda: sandbox.outage(endpoint=wrong),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"endpoint must be one of .* got 'GET /v1/employes'"):
            call()
    for name in (wrong, "* /v1/ping"):
        with pytest.raises(ValueError, match="endpoint must be one of"):
            Sandbox(limits={name: None})
    with pytest.raises(ValueError, match="times must be at least 1, got 0"):
        sandbox.fail_next("GET /v1/ping", times=0)
    with pytest.raises(ValueError, match="status must be from 400 to 599, got 200"):
        sandbox.outage(status=200)


def test_the_listing_and_the_repr_say_what_there_is() -> None:
    """One line for each endpoint, with its quota and what it needs."""
    sandbox = Sandbox(port=8080)
    assert repr(sandbox) == "Sandbox(port=8080, seed=0, limit=5, period=1.0, 0 requests)"
    lines = sandbox.describe().splitlines()
    assert lines[0] == "Sandbox API (not running), client id demo, tokens good for 10 s"
    assert "  GET   /v1/employees/{id}     one employee [GET at most 5 per 1 second]" in lines
    assert "  GET   /v1/payroll/{id}       for those allowed to see it [scope payroll.read]" in lines


def test_the_sandbox_imports_nothing_but_the_standard_library_and_aiohttp() -> None:
    """A judge must not share code with what it judges."""
    for file in Path(apiclient.sandbox.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or "."] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                allowed = name.partition(".")[0] in sys.stdlib_module_names | {"aiohttp"}
                assert allowed or name.startswith("apiclient.sandbox."), (file.name, name)
