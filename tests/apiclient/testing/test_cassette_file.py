"""The file of a cassette: readable, whole or not there, and without a secret."""

import asyncio
import base64
import inspect
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import CookieJar, FormData, web

from apiclient import ApiClient
from apiclient.credentials import ApiKey, Basic, ClientCredentials, RefreshToken, StaticToken
from apiclient.middleware.credential import Credential
from apiclient.sandbox import Sandbox
from apiclient.testing import Cassette, CassetteError, MockTransport
from tests.authority import Authority, answer
from tests.conftest import Peer

from .conftest import OpenSession

CANARY = "c4n4ry-B1rd/+x"


async def echo(request: web.Request) -> web.StreamResponse:
    """Answer with everything that came: in JSON, in headers, and as a cookie."""
    scheme, _, coded = request.headers.get("Authorization", "").partition(" ")
    told: dict[str, Any] = {
        "decoded": base64.b64decode(coded).decode() if scheme == "Basic" else "",
        "headers": dict(request.headers), "query": dict(request.query), "url": str(request.url),
        "body": (await request.read()).decode(), "access_token": f"{CANARY}-json",
    }  # fmt: skip
    response = web.json_response(told)
    response.set_cookie("session", f"{CANARY}-cookie".replace("/", "-"))
    response.headers["Location"] = f"/next?access_token={CANARY}-location"
    response.headers["X-Api-Key"] = f"{CANARY}-answer"
    return response


def assert_clean(path: Path, *secrets: str) -> None:
    text = path.read_text()
    for secret in (CANARY, CANARY.partition("/")[0], *secrets):
        for form in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1], secret.replace("/", "\\/")):
            assert form not in text, form


@pytest.mark.parametrize(
    "credential",
    [
        StaticToken(f"{CANARY}-token"),
        ApiKey(f"{CANARY}-key"),
        ApiKey(f"{CANARY}-key", header="X-Partner"),
        ApiKey(f"{CANARY}-key", query="k"),
        Basic("ann", f"{CANARY}-password"),
    ],
    ids=repr,
)
async def test_no_fixed_credential_is_written(peer: Peer, tmp_path: Path, credential: Credential) -> None:
    """However a key travels, and though the server gives all of it back in body and headers, it is not in the file."""
    peer.handler = echo
    path = tmp_path / "a.json"
    with Cassette(path, mode="record"):
        async with ApiClient(peer.url, credentials=credential, cookies=True) as client:
            for _ in range(2):
                await client.put(
                    "/x", json={"password": f"{CANARY}-body", "list": [{"clientSecret": f"{CANARY}-listed"}]}
                )
            await client.post("/x", data={"user": "ann", "pin": f"{CANARY}-pin"}, headers={"X-Own": f"{CANARY}-own"})
    coded = await credential.token()
    assert_clean(path, coded.value)
    for each in json.loads(path.read_text())["interactions"]:
        said = each["response"]
        assert int(said["headers"]["Content-Length"]) > len(json.dumps(said["body"]["json"])) > 100
    assert path.read_text().count("[hidden]") > 10


@pytest.mark.parametrize("way", ["basic", "form", "refresh"])
async def test_no_token_is_written(tmp_path: Path, way: str) -> None:
    """Of token requests and answers only what is public stays: no secret, no token, old or new."""
    path = tmp_path / "a.json"
    async with Authority() as authority:
        authority.prefix, authority.rotating, authority.refresh_token = f"{CANARY}-", True, f"{CANARY}-refresh"
        options: dict[str, Any] = {"token_url": f"{authority.url}/token", "client_id": "the client"}
        authority.script = [answer(200, {"access_token": f"{CANARY}-1", "user": "private", "token_type": "bearer"})]
        authority.valid[f"{CANARY}-1"] = ""
        options["parameters"] = {"owner": "private", "audience": "public"}
        credential: Credential = RefreshToken(refresh_token=f"{CANARY}-refresh", client_secret=CANARY, **options)
        if way != "refresh":
            proof = "client_secret_basic" if way == "basic" else "client_secret_post"
            credential = authority.client(**options, client_secret=CANARY, client_auth=proof)
        with Cassette(path, mode="record"):
            async with ApiClient(authority.url, credentials=credential) as client:
                await client.get("/a")
                authority.revoke()
                await client.get("/b")
        assert authority.token_requests == 2
        used = [sent.partition(" ")[2] for _, _, sent in authority.requests]
    assert_clean(path, "private", *used)
    kept = [each for each in json.loads(path.read_text())["interactions"] if each["request"]["url"].endswith("/token")]
    assert [each["response"]["body"]["json"]["access_token"] for each in kept] == ["[hidden]"] * 2
    assert "grant_type=" in kept[0]["request"]["body"]["text"]
    assert "audience=public" in kept[0]["request"]["body"]["text"]


async def test_a_recording_of_the_sandbox_has_no_secret(tmp_path: Path) -> None:
    """Client credentials against the sandbox: neither the client's secret nor any token that it was given."""
    path = tmp_path / "a.json"
    async with Sandbox(client_secret=CANARY) as sandbox:
        credentials = ClientCredentials(token_url=sandbox.token_url, client_id="demo", client_secret=CANARY)
        with Cassette(path, mode="record"):
            async with ApiClient(sandbox.api_url, credentials=credentials) as client:
                await client.get("/employees/7")
                token = (await credentials.token()).value
                await client.get("/echo")
    assert_clean(path, token)
    assert token.startswith("sandbox-")


async def test_cookies_are_kept_by_name_only(peer: Peer, tmp_path: Path, open_session: OpenSession) -> None:
    """In a replay the jar gets the cookie, so that the next request has one; its value is not in the file."""
    peer.handler = echo
    path = tmp_path / "a.json"
    with Cassette(path, mode="record") as cassette:
        async with open_session(cassette, cookie_jar=CookieJar(unsafe=True)) as session:
            for _ in range(2):
                await session.get(f"{peer.url}/x")
    assert_clean(path)
    async with open_session(Cassette(path), cookie_jar=CookieJar(unsafe=True)) as session:
        await session.get(f"{peer.url}/x")
        assert [cookie.key for cookie in session.cookie_jar] == ["session"]
        assert (await session.get(f"{peer.url}/x")).request_info.headers["Cookie"] == 'session="[hidden]"'


async def test_a_secret_seen_before_it_was_known(peer: Peer, tmp_path: Path, open_session: OpenSession) -> None:
    """What turns out to be a secret later is taken out of the earlier interactions as well."""
    peer.handler = lambda _: _text(f"your number is {CANARY}-late")
    path = tmp_path / "a.json"
    cassette = Cassette(path, mode="record")
    session = open_session(cassette)
    await session.get(peer.url)
    await session.get(peer.url, headers={"X-Number": f"{CANARY}-late"})
    cassette.save()
    assert_clean(path)
    assert "your number is [hidden]" in path.read_text()


async def _text(text: str) -> web.Response:
    return web.Response(text=text)


async def test_names_of_ones_own(tmp_path: Path, open_session: OpenSession) -> None:
    """``redact`` hides further names, everywhere; ``headers`` lets a header's value be kept."""
    transport = MockTransport()
    transport.any().respond(
        json={"employeeNumber": "E-12345678", "tenant": "north-1"}, headers={"X-Trace": "t-1234567"}
    )
    path = tmp_path / "a.json"
    cassette = Cassette(path, mode="record", redact=["employee_number", "x-trace"], headers=["X-Tenant"])
    session = open_session(cassette, transport)
    await session.get("http://a.test/?employee-number=7", headers={"X-Tenant": "north-1", "X-Other": "south-12"})
    cassette.save()
    (kept,) = json.loads(path.read_text())["interactions"]
    assert kept["request"]["query"] == {"employee-number": "[hidden]"}
    assert kept["request"]["headers"]["X-Tenant"] == "north-1"
    assert kept["request"]["headers"]["X-Other"] == "[hidden]"
    assert kept["response"]["headers"]["X-Trace"] == "[hidden]"
    assert kept["response"]["body"] == {"json": {"employeeNumber": "[hidden]", "tenant": "north-1"}}


async def test_short_secrets_are_hidden_where_they_are_known(tmp_path: Path, open_session: OpenSession) -> None:
    """Too short to be looked for elsewhere, they are taken out of headers, forms and multipart fields by their place."""
    transport = MockTransport()
    transport.any().respond(json=1)
    cassette = Cassette(tmp_path / "a.json", mode="record")
    session = open_session(cassette, transport)
    form = FormData()
    form.add_field("pin", "Zx9q")
    form.add_field("file", b"content", filename="a.txt")
    await session.post("http://a.test/", data={"pin": "Zx9q"}, headers={"X-Key": "Zx9q"})
    await session.post("http://a.test/", data=form)
    cassette.save()
    text = (tmp_path / "a.json").read_text()
    assert "Zx9q" not in text
    assert "content" in text


async def test_what_has_not_ended_is_left_out(tmp_path: Path, open_session: OpenSession) -> None:
    """A request under way when the file is written is not in it, and the file is a good one."""
    transport = MockTransport()
    transport.get("/slow").respond(json=1).delay(60)
    transport.any().respond(json=2)
    cassette = Cassette(tmp_path / "a.json", mode="record")
    session = open_session(cassette, transport)
    slow = asyncio.ensure_future(session.get("http://a.test/slow"))
    for _ in range(20):
        await asyncio.sleep(0)
    await session.get("http://a.test/fast")
    cassette.save()
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)
    assert repr(Cassette(tmp_path / "a.json")).endswith("0 of 1 used)")


@pytest.mark.parametrize(
    ("kind", "body", "kept"),
    [
        ("text/plain", "name=ann password=hunter2hunter2", "name=ann password=[hidden]"),
        ("application/xml", "<a><api-key x='1'>abc</api-key><b>c</b></a>", "<a><api-key x='1'>[hidden]</api-key><b>c</b></a>"),
        ("application/json", '{"password": "a", "password" : {}}', '{"password": "[hidden]", "password" : [hidden]'),
        ("application/json", '{"password": "cut off', '{"password": "[hidden]'),
    ],
)  # fmt: skip
async def test_bodies_that_are_not_plain_json(
    tmp_path: Path, open_session: OpenSession, kind: str, body: str, kept: Any
) -> None:
    """Text, XML, JSON with a name twice or broken: what stands beside a secret's name is hidden."""
    transport = MockTransport()
    transport.any().respond(text=body, headers={"Content-Type": kind})
    cassette = Cassette(tmp_path / "a.json", mode="record")
    await open_session(cassette, transport).get("http://a.test/")
    cassette.save()
    (entry,) = json.loads((tmp_path / "a.json").read_text())["interactions"]
    assert next(iter(entry["response"]["body"].values())) == kept


async def test_the_file_reads_well(tmp_path: Path, open_session: OpenSession) -> None:
    """Indented JSON in the order of the requests, the same each time; for its owner only."""
    texts: list[str] = []
    for number in range(2):
        transport = MockTransport()
        transport.any().respond(json={"name": "Jürgen", "ids": [1, 2]})
        path = tmp_path / f"{number}.json"
        cassette = Cassette(path, mode="record")
        await open_session(cassette, transport).post(
            "http://a.test/x?b=2&a=1&a=0", json={"q": 1}, headers={"User-Agent": "t", "Accept-Encoding": "gzip"}
        )
        cassette.save()
        texts.append(path.read_text(encoding="utf-8"))
        assert path.stat().st_mode & 0o777 == 0o600
    assert texts[0] == texts[1]
    assert json.loads(texts[0]) == {
        "format": "apiclient cassette",
        "version": 1,
        "interactions": [
            {
                "request": {
                    "method": "POST",
                    "url": "http://a.test/x",
                    "query": {"b": "2", "a": ["1", "0"]},
                    "headers": {
                        "Host": "a.test",
                        "User-Agent": "t",
                        "Accept": "*/*",
                        "Accept-Encoding": "gzip",
                        "Content-Length": "8",
                        "Content-Type": "application/json",
                    },
                    "body": {"json": {"q": 1}},
                },
                "response": {
                    "status": 200,
                    "reason": "OK",
                    "headers": {"Content-Type": "application/json", "Content-Length": "38"},
                    "body": {"json": {"name": "J\u00fcrgen", "ids": [1, 2]}},
                },
            }
        ],
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"There is no cassette at .*a\.json\. Record it: "),
        ("", r"a\.json is no cassette, or is cut off: Expecting value.*Record it again: "),
        ('{"format": "apiclient cassette", "vers', r"is cut off: .*Record it again: "),
        ("\xff\xfe", r"is no cassette: it is no text\. Give another path"),
        ("[]", r"is JSON, but no cassette of apiclient\. Give another path"),
        ('{"interactions": []}', r"is JSON, but no cassette of apiclient"),
        ('{"format": "apiclient cassette", "version": 9, "interactions": []}', r"has version 9, and this apiclient reads version 1\. Use the release"),
        ('{"format": "apiclient cassette", "version": 1}', r"interaction 1 is malformed \(KeyError: 'interactions'\)\. Mend it"),
        ('{"format": "apiclient cassette", "version": 1, "interactions": [{"request": {}}]}', r"interaction 1 is malformed"),
    ],
)  # fmt: skip
def test_a_file_that_is_none(tmp_path: Path, content: str | None, message: str) -> None:
    """Missing, cut, foreign, of another version, edited wrongly: the error says which, and what to do."""
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(CassetteError, match=message):
        Cassette(path)


async def test_a_recording_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, open_session: OpenSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file changes in one step or not at all, and no half of one stays behind."""
    path = tmp_path / "a.json"
    path.write_text("old")
    transport = MockTransport()
    transport.any().respond(json=1)
    cassette = Cassette(path, mode="record")
    await open_session(cassette, transport).get("http://a.test/")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        cassette.save()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


async def test_a_process_that_dies_leaves_what_was_there(tmp_path: Path) -> None:
    """Killed while it records, it has written nothing: no half of a recording is ever taken for a whole one."""
    path = tmp_path / "a.json"
    path.write_text("old")
    script = """
import asyncio, os, signal, sys
from aiohttp import ClientSession
from apiclient.testing import Cassette, MockTransport

async def main():
    transport = MockTransport()
    transport.any().respond(json=1)
    async with ClientSession(middlewares=(Cassette(sys.argv[1], mode="record"), transport)) as session:
        await session.get("http://a.test/1")
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(path))
    assert await process.wait() == -signal.SIGKILL
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_options_are_checked(tmp_path: Path) -> None:
    """The message names option and value; without options it replays, and takes out the usual."""
    defaults = {name: each.default for name, each in inspect.signature(Cassette).parameters.items() if name != "path"}
    assert defaults == {"mode": "replay", "redact": (), "headers": ()}
    with pytest.raises(ValueError, match="mode must be one of replay, once, record, got 'all'"):
        Cassette(tmp_path / "a", mode="all")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="redact must be several names, not one str, got 'token'"):
        Cassette(tmp_path / "a", mode="record", redact="token")
