"""What users write against: names, defaults, reprs. A change here is a change for them, and belongs into the changelog."""

import dataclasses
import importlib
import inspect
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from unittest.mock import ANY

import aiohttp
import pytest

from apiclient import default_pipeline
from apiclient import middleware as policies
from apiclient.credentials import ApiKey, Basic, ClientCredentials, StaticToken
from apiclient.middleware import (
    AccessLog,
    Alert,
    AttemptTimeout,
    Authorize,
    AuthRefresh,
    CircuitBreaker,
    ConcurrencyLimit,
    ContentType,
    Deadline,
    Defer,
    Fallback,
    Idempotency,
    Rate,
    RateLimit,
    Retry,
    ScopeStepUp,
    StatusErrors,
    Substitute,
    Telemetry,
)
from apiclient.outbox import MemoryOutbox

NAMESPACES = [
    "apiclient",
    "apiclient.credentials",
    "apiclient.errors",
    "apiclient.middleware",
    "apiclient.sandbox",
    "apiclient.stores",
    "apiclient.testing",
]
REQUIRED: Any = inspect.Parameter.empty
# Every option of every policy, in order, with its default. ANY stands for a function that has no equal but itself.
DEFAULTS: dict[Callable[..., Any], dict[str, Any]] = {
    AccessLog: {
        "level": 20,
        "failure_level": 30,
        "sample": 1.0,
        "body": None,
        "redact": (),
        "random": random.random,
    },
    Alert: {
        "sinks": (),
        "ratio": 0.5,
        "long": 300.0,
        "short": 30.0,
        "minimum": 20,
        "consecutive": 10,
        "breaker_open": 60.0,
        "outbox_age": 3600.0,
        "dead_letters": True,
        "cooldown": 900.0,
        "recovery": 3,
        "queue": 100,
        "sink_timeout": 5.0,
        "now": time.time,
    },
    AttemptTimeout: {"seconds": 30.0},
    AuthRefresh: {"credential": REQUIRED, "quiet": 30.0},
    Authorize: {"credential": REQUIRED, "origin": None},
    CircuitBreaker: {
        "failure_ratio": 0.5,
        "window": 30.0,
        "minimum": 20,
        "cooldown": 5.0,
        "growth": 2.0,
        "max_cooldown": 30.0,
        "probes": 2,
        "slow": None,
        "slow_ratio": 0.8,
        "per": "origin",
        "capacity": 1024,
        "hints": None,
        "now": time.time,
    },
    ConcurrencyLimit: {"limit": REQUIRED, "per": "endpoint", "queue": 1000},
    ContentType: {
        "default": "application/json",
        "expect": None,
        "strict": False,
        "json_answers": False,
        "form_as_json": False,
        "correct": True,
    },
    Deadline: {"seconds": 60.0},
    Defer: {"outbox": REQUIRED, "endpoints": (), "headers": (), "query": None},
    Fallback: {"answers": REQUIRED},
    Idempotency: {"methods": (), "endpoints": None, "header": "Idempotency-Key", "quoted": False, "make": ANY},
    RateLimit: {
        "limits": None,
        "default": None,
        "learn": True,
        "groups": None,
        "key": None,
        "max_queue": None,
        "max_wait": 3600.0,
        "attempts": 10,
        "statuses": (429,),
        "also": (),
        "read": None,
        "learned": None,
        "store": None,
        "store_timeout": 0.25,
        "capacity": 10_000,
        "now": time.time,
    },
    Retry: {
        "attempts": 4,
        "wait": ANY,
        "max_wait": 20.0,
        "jitter": ANY,
        "max_retry_after": 60.0,
        "statuses": frozenset({408, 500, 502, 503, 504}),
        "once": frozenset({421, 425}),
        "methods": None,
        "exceptions": (),
        "when": None,
        "verdict_headers": ("x-should-retry", "stripe-should-retry"),
        "budget": True,
        "endpoints": None,
        "random": random.random,
        "now": time.time,
    },
    ScopeStepUp: {"credential": REQUIRED},
    StatusErrors: {"hints": None, "max_body": 65536, "now": time.time},
    Telemetry: {"tracer_provider": None, "meter_provider": None, "endpoints": 1000},
}
TOKEN = StaticToken("never-shown")
# Each policy as users first see it in a debugger, plain and with options.
REPRS: list[tuple[Any, str]] = [
    (AccessLog(), "AccessLog(level=INFO, failure_level=WARNING)"),
    (AccessLog(sample=0.1, body=200), "AccessLog(level=INFO, failure_level=WARNING, sample=0.1, body=200)"),
    (Alert(), "Alert(ratio=0.5, consecutive=10, sinks=0)"),
    (AttemptTimeout(), "AttemptTimeout(30)"),
    (AttemptTimeout(0.25), "AttemptTimeout(0.25)"),
    (AuthRefresh(TOKEN), "AuthRefresh(StaticToken(scheme='Bearer'), quiet=30)"),
    (Authorize(TOKEN), "Authorize(StaticToken(scheme='Bearer'))"),
    (
        Authorize(TOKEN, origin="https://a.example/v1"),
        "Authorize(StaticToken(scheme='Bearer'), origin='https://a.example')",
    ),
    (CircuitBreaker(), "CircuitBreaker(failure_ratio=0.5, cooldown=5)"),
    (ConcurrencyLimit(8), "ConcurrencyLimit(8, per='endpoint', queue=1000)"),
    (ContentType(), "ContentType(default='application/json')"),
    (ContentType(correct=False), "ContentType(default='application/json', correct=False)"),
    (Deadline(), "Deadline(60)"),
    (
        Defer(MemoryOutbox(), endpoints=("POST /a",)),
        "Defer(MemoryOutbox(0 of 10000), endpoints=['POST /a'], headers=[])",
    ),
    (Fallback({"GET /rates": Substitute(json={})}), "Fallback(['GET /rates'])"),
    (Idempotency(), "Idempotency(methods=[])"),
    (RateLimit(), "RateLimit()"),
    (
        RateLimit(limits={"GET /a": "5/1s"}, default=Rate(100, per=60), learn=False),
        "RateLimit(limits={'GET /a': '5/1s'}, default='100/60s', learn=False)",
    ),
    (Retry(), "Retry(attempts=4, statuses=[408, 421, 425, 500, 502, 503, 504])"),
    (Retry(attempts=2, statuses=(503,), once=(), budget=False), "Retry(attempts=2, statuses=[503], budget=False)"),
    (ScopeStepUp(TOKEN), "ScopeStepUp(StaticToken(scheme='Bearer'))"),
    (StatusErrors(), "StatusErrors(hints=0, max_body=65536)"),
    (Telemetry(), "Telemetry()"),
]


def is_policy(value: object) -> bool:
    """Return whether *value* is a class of native middlewares."""
    entered: Any = getattr(value, "__call__", None)  # noqa: B004
    return isinstance(value, type) and {"request", "handler"} <= inspect.signature(entered).parameters.keys()


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_what_a_namespace_lists_is_there_and_documented(namespace: str) -> None:
    """Each name of __all__ can be imported, says what it is, and is listed once."""
    module = importlib.import_module(namespace)
    assert module.__doc__
    names: list[str] = module.__all__
    assert [name for name, count in Counter(names).items() if count > 1] == []
    for name in names:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value):
            assert value.__doc__, f"{namespace}.{name}"


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_nothing_public_is_forgotten(namespace: str) -> None:
    """A class or function that a namespace hands on without listing it is neither public nor private."""
    module = importlib.import_module(namespace)
    handed_on = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__.startswith("apiclient")
    }
    assert handed_on <= set(module.__all__)


def test_every_policy_is_in_the_tables() -> None:
    """A new policy has its defaults and its repr written down here."""
    public = {getattr(policies, name) for name in policies.__all__ if is_policy(getattr(policies, name))}
    assert len(public) > 10
    assert public == set(DEFAULTS) == {type(policy) for policy, _ in REPRS}


@pytest.mark.parametrize("kind", DEFAULTS, ids=lambda kind: kind.__name__)
def test_each_option_has_the_default_that_is_promised(kind: Callable[..., Any]) -> None:
    """Defaults are part of the contract: whoever leaves an option out relies on one."""
    found = {name: parameter.default for name, parameter in inspect.signature(kind).parameters.items()}
    assert found == DEFAULTS[kind]
    assert list(found) == list(DEFAULTS[kind])


@pytest.mark.parametrize("kind", DEFAULTS, ids=lambda kind: kind.__name__)
def test_options_are_keyword_only_and_documented(kind: Callable[..., Any]) -> None:
    """At most the one thing that a policy is about is positional; the docstring names every option."""
    parameters = list(inspect.signature(kind).parameters.values())
    for parameter in parameters[1:]:
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, parameter
    for parameter in parameters:
        assert f"\n    {parameter.name}: " in (inspect.getdoc(kind) or ""), parameter


@pytest.mark.parametrize(("policy", "shown"), REPRS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_policy_shows_what_it_does(policy: Any, shown: str) -> None:
    """The repr is the first thing that a person sees of it, and there is no secret in it."""
    assert repr(policy) == shown


@pytest.mark.parametrize("policy", [policy for policy, _ in REPRS], ids=lambda policy: type(policy).__name__)
def test_policies_are_told_apart_by_identity(policy: object) -> None:
    """A chain is cached by the hash of its parts (aiohttp 4): equal parts would share one state. So no dataclasses."""
    assert isinstance(hash(policy), int)
    assert not dataclasses.is_dataclass(policy)
    for name in ("__eq__", "__hash__"):
        assert getattr(type(policy), name) is getattr(object, name)


def test_the_default_pipeline_reads_as_the_chain() -> None:
    """Outermost first, one policy a line, in the order that README and design give."""
    credentials = ClientCredentials(token_url="https://login.example/token", client_id="id", client_secret="s3cret")
    whole = default_pipeline(credentials=credentials, outbox=MemoryOutbox(), telemetry=True)
    assert [type(each).__name__ for each in whole] == [
        "AccessLog",
        "Alert",
        "Defer",
        "StatusErrors",
        "Deadline",
        "Idempotency",
        "Retry",
        "CircuitBreaker",
        "ScopeStepUp",
        "AuthRefresh",
        "ContentType",
        "RateLimit",
        "Authorize",
        "AttemptTimeout",
        "Telemetry",
    ]
    assert [line.strip().rstrip(",") for line in repr(whole).splitlines()[1:-1]] == [repr(each) for each in whole]
    assert len(default_pipeline(telemetry=False)) == len(whole) - 5


@pytest.mark.parametrize(
    "secret", [ApiKey("s3cret", header="X-Api-Key"), Basic("user", "s3cret"), StaticToken("s3cret")]
)
def test_no_credential_shows_its_secret(secret: Any) -> None:
    """Not in its own repr, and not in that of the policy that holds it."""
    assert "s3cret" not in repr(secret) + str(secret) + repr(Authorize(secret)) + repr(
        default_pipeline(credentials=secret)
    )


def test_the_error_tree_hangs_on_two_roots_of_aiohttp() -> None:
    """Code that catches aiohttp's errors catches ours; none of ours makes aiohttp run the chain again (FACTS 1.1)."""
    errors = importlib.import_module("apiclient.errors")
    kinds = [getattr(errors, name) for name in errors.__all__]
    raised = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(raised) > 30
    for kind in raised:
        assert issubclass(kind, errors.ApiError)
        assert issubclass(kind, aiohttp.ClientError)
        assert not issubclass(kind, aiohttp.ServerDisconnectedError | OSError)
        assert issubclass(kind, aiohttp.ClientResponseError) or not issubclass(kind, errors.StatusError)
        assert issubclass(kind, aiohttp.ClientConnectionError) == issubclass(kind, errors.TransportError)
