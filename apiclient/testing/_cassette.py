"""What went over the wire once, kept in a file, and given again without a network."""

import asyncio
import os
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, hdrs
from aiohttp.payload import BytesPayload
from multidict import CIMultiDict

from apiclient.middleware._body_shown import HIDDEN
from apiclient.middleware._call import joined
from apiclient.middleware._severed import check, watch
from apiclient.testing._cassette_file import AGAIN, CassetteError, read_cassette, write_cassette
from apiclient.testing._end import answered_by, spoiled_by
from apiclient.testing._interaction import Interaction, content_type, listed, nearest
from apiclient.testing._mock_transport import UnmatchedRequest
from apiclient.testing._mode import Testing, set_testing
from apiclient.testing._received import counted
from apiclient.testing._redaction import FORM, LARGEST, Redaction, restored
from apiclient.testing._response import build, stream, uploaded

Mode = Literal["replay", "once", "record"]
# The narrower first.
_FAILURES: tuple[type[BaseException], ...] = (
    aiohttp.ClientConnectorError,
    aiohttp.ServerDisconnectedError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.SocketTimeoutError,
    aiohttp.ServerTimeoutError,
    aiohttp.ClientOSError,
    aiohttp.ClientPayloadError,
    aiohttp.ClientResponseError,
    aiohttp.ClientConnectionError,
    TimeoutError,
    asyncio.CancelledError,
)


class Cassette:
    """Record what goes over the wire into a file, secrets taken out, and answer from that file later.

    Entered as a context manager it stands innermost in every ``Pipeline`` of the process and around the token requests
    of credentials; when it is left, what was recorded is written. It is also a native middleware, to be listed last on
    a bare session: token requests are not seen then, and ``save`` writes.

    A request is answered by the first recorded one, not yet used, that has its method, path, query (in any order) and
    body (JSON by value, forms by field); the origin decides between several. What was hidden may be anything. Bodies
    are read to their end before they are handed on, of streamed calls too. A request that was cancelled while it was
    recorded, by a timeout of the chain for instance, is answered by silence.

    Args:
        path: The file; folders are made.
        mode: ``"replay"`` never uses the network. ``"record"`` always does, and replaces the file. ``"once"`` records
            where there is no file, and replays otherwise.
        redact: Names whose values are secrets, beside the usual ones: of headers, query parameters, form fields and
            members of JSON.
        headers: Names of request headers whose values may be kept. Those of any other that is not known to be
            harmless are taken out, wherever they occur.

    Raises:
        ValueError: ``mode`` is another word.
        TypeError: ``redact`` or ``headers`` is a single text.
        CassetteError: The file is to be replayed, and is not there or not to be used. (from a call) A body to be
            recorded is over 64 MiB.
        UnmatchedRequest: (from a call) Nothing recorded answers the request, or it has been used.

    Attributes:
        path: The file.
        recording: Whether requests go to the network and are kept.
    """

    innermost = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        mode: Mode = "replay",
        redact: Iterable[str] = (),
        headers: Iterable[str] = (),
    ) -> None:
        if mode not in get_args(Mode):
            raise ValueError(f"mode must be one of {', '.join(get_args(Mode))}, got {mode!r}")
        for name, given in (("redact", redact), ("headers", headers)):
            if isinstance(given, str):
                raise TypeError(f"{name} must be several names, not one str, got {given!r}")
        self.path = Path(path)
        self.recording = records(mode, self.path)
        self._mode = mode
        self._redaction = Redaction(redact, headers)
        self._interactions = [] if self.recording else read_cassette(self.path)
        self._used: set[int] = set()
        # Those not used yet. Where a part of the path is hidden, it may be any.
        self._hidden = [number for number, each in enumerate(self._interactions) if HIDDEN in each.path]
        self._places: dict[tuple[str, str], list[int]] = {}
        for number, each in enumerate(self._interactions):
            if HIDDEN not in each.path:
                self._places.setdefault((each.method, each.path), []).append(number)
        self._installed: list[Testing] = []

    def __repr__(self) -> str:
        done = "recorded" if self.recording else f"of {len(self._interactions)} used"
        number = len(self._interactions) if self.recording else len(self._used)
        return f"Cassette({str(self.path)!r}, mode={self._mode!r}, {number} {done})"

    def __enter__(self) -> Self:
        self._installed.append(set_testing(attempts=None, waits=True, innermost=[self], tokens=[self]))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._installed.pop().restore()
        self.save()

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send *request* and keep what comes, or answer it with what came then."""
        if not self.recording:
            return await answered_by(self._replayed, request, handler)
        body = await _taken(request)
        interaction = self._described(request, body)
        self._interactions.append(interaction)
        kept = partial(self._kept, interaction, _is_grant(request, body))
        try:
            return await spoiled_by(kept, request, handler)
        except BaseException as error:
            if not interaction.ended:
                interaction.failure = next((kind.__name__ for kind in _FAILURES if isinstance(error, kind)), None)
                interaction.errno = getattr(error, "errno", None)
            raise

    def save(self) -> None:
        """Write what was recorded so far; nothing where this is a replay.

        Raises:
            OSError: It cannot be written; what was there is still there.
        """
        if self.recording:
            write_cassette(self.path, [self._cleaned(each).to_json() for each in self._interactions if each.ended])

    def assert_all_used(self) -> None:
        """Fail if something recorded has not been asked for; never while recording.

        Raises:
            AssertionError: There is such a thing; the message lists it.
        """
        if self.recording:
            return
        left = [
            f"  {number}. {each.line} -> {each.outcome}"
            for number, each in enumerate(self._interactions, 1)
            if number - 1 not in self._used
        ]
        if left:
            raise AssertionError("\n".join([f"Expected all of {self.path} to be used; this was not:", *left]))

    def _described(self, request: ClientRequest, body: bytes) -> Interaction:
        redaction, call = self._redaction, joined()
        token = None if call is None else call.token
        if token is None:
            redaction.learn(request.headers)
        else:
            redaction.learn(request.headers, token.value, token.query)
        kind = request.headers.get(hdrs.CONTENT_TYPE)
        return Interaction(
            method=request.method,
            origin=str(request.url.origin()),
            path=redaction.text(request.url.raw_path),
            query=redaction.query(request.url.query.items()),
            headers=redaction.sent(request.headers.items()),
            body=redaction.body(body, kind, grant=_is_grant(request, body)),
        )

    def _cleaned(self, each: Interaction) -> Interaction:
        """Return *each* without what has become known for a secret since it was seen."""
        known = self._redaction
        return replace(
            each,
            path=known.text(each.path),
            query=known.query(each.query),
            headers=known.sent(each.headers),
            body=known.body(restored(each.body), content_type(each.headers)),
            reason=None if each.reason is None else known.text(each.reason),
            received=known.received(each.received),
            answer=known.body(restored(each.answer), content_type(each.received)),
        )

    async def _kept(
        self,
        interaction: Interaction,
        grant: bool,  # noqa: FBT001 - bound in advance
        request: ClientRequest,
        response: ClientResponse,
    ) -> ClientResponse:
        if response.status < 200:
            return response
        try:
            body, broken = await _whole(response)
        except BaseException:
            response.close()
            raise
        interaction.received = self._redaction.received(response.headers.items())
        interaction.answer = self._redaction.body(body, response.headers.get(hdrs.CONTENT_TYPE), grant=grant)
        interaction.reason = response.reason
        interaction.status = response.status
        if broken is not None:
            interaction.failure = type(broken).__name__
            response.close()
        if body or broken is not None:
            response.content = stream(request, body, cut=None if broken is None else len(body), error=broken)
        return response

    async def _replayed(self, request: ClientRequest) -> ClientResponse:
        found = self._found(self._described(request, await uploaded(request)))
        if found.status is None:
            raise await _failure(found, request)
        body = restored(found.answer)
        headers = CIMultiDict(found.received)
        if found.failure is None and hdrs.CONTENT_ENCODING not in headers and body and hdrs.CONTENT_LENGTH in headers:
            # What was hidden had another length.
            headers[hdrs.CONTENT_LENGTH] = str(len(body))
        broken = None if found.failure is None else await _failure(found, request)
        return await build(
            request,
            status=found.status,
            reason=found.reason,
            headers=headers,
            content=stream(request, body, cut=None if broken is None else len(body), error=broken),
        )

    def _found(self, live: Interaction) -> Interaction:
        here = self._places.get((live.method, live.path), [])
        near = sorted([*here, *self._hidden])
        fitting = (
            number
            for same in (True, False)
            for number in near
            if (self._interactions[number].origin == live.origin) is same
            and not any(self._interactions[number].differences(live))
        )
        number = next(fitting, None)
        if number is None:
            raise UnmatchedRequest(self._unmatched(live))
        (here if number in here else self._hidden).remove(number)
        self._used.add(number)
        return self._interactions[number]

    def _unmatched(self, live: Interaction) -> str:
        message = f"Nothing in {self.path} answers {live.line}"
        used = sum(not any(each.differences(live)) for each in self._interactions)
        near = nearest(self._interactions, live)
        if used:
            message += f": it was recorded {counted(used, 'time')}, and was asked for once more."
        elif near is not None:
            each = self._interactions[near[0]]
            message += f".\nNearest is {near[0] + 1}. {each.line} -> {each.outcome}, but\n{listed(near[1])}"
        else:
            message += ": it is empty."
        return f"{message}\nWhere the new request is right, record again: {AGAIN}"


def records(mode: Mode, path: Path) -> bool:
    """Return whether a cassette in *mode* would record at *path*."""
    return mode == "record" or (mode == "once" and not path.exists())


async def _taken(request: ClientRequest) -> bytes:
    """Return the request's body, still to be sent."""
    body: Any = request.body
    if not body:
        return b""
    if isinstance(body, BytesPayload):
        return await body.as_bytes()
    # It may be read only once: what was read is sent in its place.
    taken = await uploaded(request)
    await request.update_body(taken)
    return taken


async def _whole(response: ClientResponse) -> tuple[bytes, aiohttp.ClientError | None]:
    """Return the response's body, or what came of it, and the error that ended it."""
    content = response.content
    arrived = content.is_eof()
    if not arrived:
        watch(response)
    pieces: list[bytes] = []
    size = 0
    try:
        while piece := await content.readany():
            pieces.append(piece)
            size += len(piece)
            if size > LARGEST:
                raise CassetteError(
                    f"The answer to {response.method} {response.url.raw_path} is over {LARGEST} bytes, and a cassette "
                    "holds whole bodies: ask for less while recording"
                )
        if not arrived:
            check(response)
    except aiohttp.ClientError as error:
        return b"".join(pieces), error
    return b"".join(pieces), None


def _is_grant(request: ClientRequest, body: bytes) -> bool:
    """Return whether this asks for a token (RFC 6749 section 4)."""
    kind = request.headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip().lower()
    return kind in {FORM, "application/json"} and b"grant_type" in body


async def _failure(found: Interaction, request: ClientRequest) -> BaseException:
    """Return what ended the recorded request; of one that was cancelled nothing comes any more."""
    kind = next((kind for kind in _FAILURES if kind.__name__ == found.failure), aiohttp.ClientConnectionError)
    if kind is asyncio.CancelledError:
        await asyncio.get_running_loop().create_future()
    if kind is aiohttp.ClientConnectorError:
        return aiohttp.ClientConnectorError(request.connection_key, OSError(found.errno, os.strerror(found.errno or 0)))
    if kind is aiohttp.ClientResponseError:
        return aiohttp.ClientResponseError(request.request_info, (), status=400, message="as recorded")
    if kind is aiohttp.ClientOSError:
        return aiohttp.ClientOSError(found.errno, os.strerror(found.errno or 0))
    return kind(f"{found.failure}, as recorded")
