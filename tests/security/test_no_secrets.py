"""No secret in anything that a failing run emits: one test greps all of it."""

import asyncio
import base64
import contextlib
import logging
import pickle
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from aiohttp import ClientSession, web
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from apiclient import ApiClient, default_pipeline
from apiclient.credentials import (
    ApiKey,
    Basic,
    ClientCredentials,
    Credential,
    JwtBearer,
    PrivateKeyJwt,
    RefreshToken,
    SigningKey,
    StaticToken,
    Token,
)
from apiclient.middleware import Telemetry
from apiclient.middleware.auth_refresh import AuthRefresh
from apiclient.middleware.authorize import Authorize
from apiclient.stores import SqliteTokenStore
from tests.authority import Authority, answer, drop, hang

OURS = tuple(str(Path(__file__).resolve().parents[2] / part) for part in ("apiclient", "middleware"))
CANARY = "c4n4ry-b1rd-k33p-0ut"
USERS = "us3rs-0wn"
KEY = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _shown(value: object) -> str:
    """Return what an error reporter shows of a local: its repr, and what is in it where it is a container."""
    if isinstance(value, dict):
        return " ".join(f"{name}: {_shown(each)}" for name, each in value.items())
    if isinstance(value, tuple | list | set):
        return " ".join(_shown(each) for each in value)
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - an object that is only half built
        return f"unrepresentable: {error!r}"


class Net:
    """Everything that a run emits, as text, beside the secrets that it must not hold."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.caught: list[tuple[str, str]] = []
        self.secrets: set[str] = {CANARY}
        self.spans = InMemorySpanExporter()
        self.metrics = InMemoryMetricReader()
        self.caplog = caplog
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.telemetry = Telemetry(tracer_provider=tracers, meter_provider=MeterProvider([self.metrics]))

    def error(self, error: BaseException) -> None:
        """Keep what an exception says in every form, the locals of our own frames included."""
        self.caught.append(("str", str(error)))
        self.caught.append(("repr", repr(error)))
        self.caught.append(("state", repr(vars(error))))
        with contextlib.suppress(TypeError, AttributeError):
            self.caught.append(("pickle", repr(pickle.dumps(error))))
        self._frames(error, set())
        self.caught.append(("traceback", "".join(traceback.format_exception(error))))

    def _frames(self, error: BaseException, seen: set[int]) -> None:
        seen.add(id(error))
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if str(Path(frame.f_code.co_filename).resolve()).startswith(OURS):
                shown = " ".join(f"{name}={_shown(value)}" for name, value in frame.f_locals.items())
                self.caught.append((f"locals of {frame.f_code.co_name}", shown))
        for inner in (error.__cause__, error.__context__):
            if inner is not None and id(inner) not in seen:
                self._frames(inner, seen)

    def text(self) -> list[tuple[str, str]]:
        """Return all of it by where it was found."""
        logs = [("log", f"{record.getMessage()} {vars(record)!r}") for record in self.caplog.records]
        spans = [("span", span.to_json()) for span in self.spans.get_finished_spans()]
        data = self.metrics.get_metrics_data()
        metrics = [("metric", data.to_json())] if data is not None else []
        return [*self.caught, *logs, *spans, *metrics]

    def holes(self) -> list[tuple[str, str, str]]:
        """Return every place where a secret, or a coded form of it, shows."""
        forms: dict[str, str] = {}
        for secret in self.secrets:
            for form in (secret, quote(secret, safe=""), quote_plus(secret)):
                forms[form] = secret
            for padding in range(3):
                coded = base64.b64encode(b"x" * padding + secret.encode()).decode()
                forms[coded[4 if padding else 0 : -4]] = secret
        return [(place, form, text[:2000]) for place, text in self.text() for form in forms if form in text]


@pytest.fixture
def net(caplog: pytest.LogCaptureFixture) -> Net:
    caplog.set_level(logging.DEBUG)
    return Net(caplog)


def credentials(authority: Authority, store: Path) -> list[Credential]:
    """Return one of each kind, each with the canary in all its secrets."""
    url = f"{authority.url}/token"
    hasty: dict[str, Any] = {"timeout": 1.0, "attempts": 2, "random": lambda: 0.5}
    shared = SqliteTokenStore(store)
    key = SigningKey(KEY, algorithm="ES256")
    authority.refresh_token = f"{CANARY}-refresh"
    return [
        ClientCredentials(token_url=url, client_id="a", client_secret=f"{CANARY}:%1", store=shared, **hasty),
        ClientCredentials(
            token_url=url, client_id="b", client_secret=f"{CANARY}/+2", client_auth="client_secret_post",
            scope="read", allowed_scopes=["pay"], **hasty,
        ),
        ClientCredentials(token_url=url, client_id="c", client_auth=PrivateKeyJwt(key), **hasty),
        RefreshToken(token_url=url, client_id="d", refresh_token=f"{CANARY}-refresh", store=shared, **hasty),
        JwtBearer(token_url=url, key=key, iss="e", **hasty),
        StaticToken(f"{CANARY}-static"),
        ApiKey(f"{CANARY}-key"),
        ApiKey(f"{CANARY}-key", query="key"),
        Basic("user", f"{CANARY}-password"),
    ]  # fmt: skip


async def echo(request: web.Request) -> web.StreamResponse:
    """Answer an error that repeats the headers, and the form where it is the token endpoint's."""
    form = await request.text() if request.path == "/token" else ""
    said = f"{request.headers.get('Authorization')} {form} {request.headers}"
    return web.json_response({"error": "invalid_client", "error_description": said}, status=401)


async def echo_as_page(request: web.Request) -> web.StreamResponse:
    sent = request.headers.get("Authorization", request.headers.get("X-Api-Key"))
    said = f"<html><title>{sent}</title>{await request.text() if request.path == '/token' else ''}</html>"
    return web.Response(text=said, content_type="text/html", status=500)


async def half(request: web.Request) -> web.StreamResponse:
    """Give a token, and break off in the middle."""
    response = web.StreamResponse(headers={"Content-Length": "5000"})
    await response.prepare(request)
    await response.write(b'{"access_token": "' + CANARY.encode() + b'-half"')
    assert request.transport is not None
    request.transport.close()
    return response


TOKEN_TROUBLES = [
    echo,
    echo_as_page,
    half,
    drop,
    hang,
    answer(400, {"error": "invalid_grant", "error_description": f"{CANARY}-never sent by us"[7:]}),
    answer(503),
    answer(200, {"access_token": f"{CANARY} bad"}),
    answer(200, {"access_token": f"{CANARY}-mac", "token_type": "mac"}),
    answer(302, Location="http://127.0.0.1:1/"),
]
API_TROUBLES = [
    echo,
    echo_as_page,
    answer(401, WWW_Authenticate="Digest nonce=x"),
    answer(403, {"message": "no permission"}),
    answer(403, WWW_Authenticate='Bearer error="insufficient_scope", scope="pay"'),
    answer(429, Retry_After="1"),
    answer(500),
    drop,
    hang,
]


@pytest.mark.looptime
@pytest.mark.timeout(60)
async def test_nothing_that_a_failing_run_emits_holds_a_secret(net: Net, tmp_path: Path) -> None:
    """Logs, events, reprs, errors, tracebacks with our locals, spans, metrics and files: searched for every secret."""
    store = tmp_path / "store" / "tokens.db"
    async with Authority() as authority:
        authority.prefix = f"{CANARY}-"
        for credential in credentials(authority, store):
            net.caught.append(("repr", repr(credential)))
            await _suffer(net, authority, credential)
        for form in authority.forms:
            net.secrets.update(form.get(name, "") for name in ("client_assertion", "assertion"))
    net.secrets.discard("")
    assert {kind for kind, _ in net.text()} >= {
        "str",
        "repr",
        "log",
        "span",
        "metric",
        "traceback",
        "locals of __call__",
    }
    assert len(net.text()) > 1000
    assert net.holes() == []
    # What the user sends may stand in the locals of a traceback, where the request itself does; nowhere else.
    net.secrets = {USERS}
    assert [hole for hole in net.holes() if not hole[0].startswith("locals")] == []
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files == [store]
    assert CANARY.encode() in store.read_bytes()


async def _suffer(net: Net, authority: Authority, credential: Credential) -> None:
    chain = default_pipeline(credentials=credential, timeout=40.0).replace(Telemetry, net.telemetry)
    async with ApiClient(authority.url, pipeline=chain) as client:
        net.caught += [("repr", repr(client)), ("repr", repr(chain))]

        async def call() -> Any:
            return await client.get("/employees/{id}", path_params={"id": 7}, params={"q": USERS})

        async def post() -> Any:
            return await client.post("/employees", json={"password": USERS})

        for trouble in TOKEN_TROUBLES:
            authority.script, authority.api = [trouble] * 4, None
            authority.revoke()
            await _forgiven(credential)
            await _caught(net, call)
        authority.script = []
        await _forgiven(credential)
        for trouble in API_TROUBLES:
            authority.api = trouble
            await _caught(net, call)
            await _caught(net, post)
        authority.api = hang
        task = asyncio.create_task(call())
        await asyncio.sleep(0.5)
        task.cancel()
        await _caught(net, lambda: task)
    authority.api = answer(401)
    middlewares = AuthRefresh(credential), Authorize(credential, origin=authority.url)
    async with ClientSession(middlewares=middlewares) as session, session.get(f"{authority.url}/bare") as response:
        net.caught += [("response", repr(response)), ("response", repr(response.request_info.headers))]
        try:
            response.raise_for_status()
        except Exception as error:  # noqa: BLE001 - aiohttp's own error, which shows the request's headers
            # It shows the URL as it was sent, too: a key in the query stays there, as the docs say.
            if "query" not in repr(credential):
                net.caught.append(("aiohttp", f"{error} {error!r} {vars(error)!r}"))


async def _forgiven(credential: Any) -> None:
    """Have a remembered refusal forgotten, and the current token with it."""
    for name, value in (("_refusal", None), ("_current", None)):
        if hasattr(credential, name):
            setattr(credential, name, value)


async def _caught(net: Net, make: Callable[[], Awaitable[Any]]) -> None:
    try:
        await make()
    except BaseException as error:  # noqa: BLE001 - whatever comes is looked at
        net.error(error)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Token(f"{CANARY}\n"),
        lambda: StaticToken(f"{CANARY}\n"),
        lambda: ApiKey(f"{CANARY}\n"),
        lambda: ApiKey(CANARY, header="a b"),
        lambda: ApiKey(CANARY, header="a", query="b"),
        lambda: Basic("a:b", CANARY),
        lambda: Basic("a", f"{CANARY}\x00"),
        lambda: ClientCredentials(token_url="http://example.com", client_id="x", client_secret=CANARY),
        lambda: ClientCredentials(token_url="https://example.com", client_id="", client_secret=CANARY),
        lambda: ClientCredentials(
            token_url="https://example.com", client_id="x", client_secret=CANARY, client_auth="none"
        ),
        lambda: RefreshToken(token_url="https://example.com", client_id="", refresh_token=CANARY),
        lambda: RefreshToken(
            token_url="https://example.com", client_id="x", refresh_token=CANARY, client_secret=CANARY, attempts=0
        ),
        lambda: SigningKey(KEY, algorithm="RS256"),
        lambda: SigningKey(f"-----BEGIN PRIVATE KEY-----\n{CANARY}", password=CANARY),
        lambda: SigningKey(f"-----BEGIN PRIVATE KEY-----\n{CANARY}", algorithm="none"),
    ],
)
def test_a_constructor_that_fails_shows_no_secret(net: Net, make: Callable[[], object]) -> None:
    """A wrong option beside a right secret: neither the message nor the locals of our frames hold the secret."""
    net.secrets.add(KEY.decode().splitlines()[1])
    with pytest.raises((ValueError, TypeError)) as caught:
        make()
    net.error(caught.value)
    assert [hole for hole in net.holes() if hole[0] != "traceback"] == []


def test_the_net_holds_what_it_should() -> None:
    """The grep finds a secret bare, quoted and in base64 at any offset: it can fail."""
    found = Net.__new__(Net)
    found.secrets = {"c4n4ry-b1rd:/%secret"}
    for text in (
        "x c4n4ry-b1rd:/%secret x",
        "c4n4ry-b1rd%3A%2F%25secret",
        base64.b64encode(b"user:c4n4ry-b1rd:/%secret").decode(),
        base64.b64encode(b"ab:c4n4ry-b1rd:/%secret!").decode(),
        base64.b64encode(b"c4n4ry-b1rd:/%secret").decode(),
    ):
        found.text = lambda text=text: [("x", text)]  # type: ignore[method-assign,misc]
        assert found.holes(), text
