from typing import Any

import pytest
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

import apiclient.middleware
from apiclient import Pipeline, Rate, default_pipeline
from apiclient._drawn import _parameters, drawn, options_of
from apiclient.credentials import ClientCredentials
from apiclient.middleware import (
    Alert,
    ConcurrencyLimit,
    Deadline,
    Defer,
    Fallback,
    RateLimit,
    Retry,
    Substitute,
)
from apiclient.outbox import MemoryOutbox

CREDENTIALS = ClientCredentials(
    token_url="https://login.example.com/token", client_id="id", client_secret="canary", scope="a", allowed_scopes=["b"]
)
# What a middleware turns into something else and does not keep: a memory, sinks and their queues.
NOT_KEPT = {"RateLimit": {"learned"}, "Alert": {"sinks", "queue", "sink_timeout"}}


async def mine(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    return await handler(request)


class Odd:
    """A custom middleware that keeps its option under another name."""

    def __init__(self, *, option: int = 3, **_: Any) -> None:
        self.value = option

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        return await handler(request)


def every() -> list[Any]:
    extra = [Fallback({"GET /x": Substitute(json=1)}), ConcurrencyLimit(5)]
    return [*extra, *default_pipeline(credentials=CREDENTIALS, outbox=MemoryOutbox())]


@pytest.mark.parametrize("middleware", every(), ids=lambda each: type(each).__name__)
def test_each_option_of_each_policy_is_shown(middleware: Any) -> None:
    """An option that is not in the tree would be believed to be at its default."""
    kind = type(middleware).__name__
    assert set(_parameters(middleware)) - set(options_of(middleware)) == NOT_KEPT.get(kind, set())


def test_every_policy_is_looked_at() -> None:
    """A new policy comes into the test above."""
    shown = {type(each) for each in every()}
    public = (getattr(apiclient.middleware, name) for name in apiclient.middleware.__all__)
    policies = {
        each for each in public if isinstance(each, type) and "handler" in getattr(each.__call__, "__annotations__", {})
    }
    assert policies == shown


def test_the_tree() -> None:
    """Outermost first, with each option; what differs from its default says so, and no secret is shown."""
    tree = drawn(Pipeline([mine, Deadline(5), Odd(), RateLimit(limits={"GET /x": "5/1s"}, learn=False)]))
    lines = tree.splitlines()
    assert lines[:5] == ["Pipeline", "|-- mine", "|-- Deadline", "|       seconds = 5   (default 60.0)", "|-- Odd"]
    assert lines[5] == "`-- RateLimit"
    assert f"        limits = {{'GET /x': ({Rate(5)!r},)}}" in lines
    assert "        learn = False   (default True)" in lines
    assert "canary" not in drawn(default_pipeline(credentials=CREDENTIALS))


@pytest.mark.parametrize(
    ("middleware", "name", "value"),
    [
        (Retry(attempts=7), "attempts", 7),
        (Retry(max_wait=3.0), "max_wait", 3.0),
        (Alert(consecutive=4), "consecutive", 4),
        (apiclient.middleware.CircuitBreaker(window=11.0), "window", 11.0),
        (apiclient.middleware.CircuitBreaker(capacity=9), "capacity", 9),
        (RateLimit(statuses=[503]), "statuses", frozenset({503})),
        (Defer(MemoryOutbox(), headers=["x"]), "headers", ("x",)),
    ],
)
def test_values_are_those_given(middleware: Any, name: str, value: object) -> None:
    """However a policy keeps it: itself, in a tuple of options, in a machine, or in what makes one."""
    assert options_of(middleware)[name] == value


def test_an_empty_pipeline() -> None:
    """There is nothing to draw."""
    assert drawn(Pipeline([])) == "Pipeline"
