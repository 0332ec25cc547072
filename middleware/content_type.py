"""A body leaves with the Content-Type that it really has, and an answer is what the call expects."""

import logging
from collections.abc import Collection, Mapping

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, hdrs
from aiohttp.payload import BytesPayload, JsonPayload

from apiclient.middleware._answered import CheckedResponse, unexpected
from apiclient.middleware._body import discard, head_of, replayable
from apiclient.middleware._call import Call, joined, opened
from apiclient.middleware._excerpt import secrets_of, without
from apiclient.middleware._keyed import Keyed
from apiclient.middleware._parsing import media_type as media
from apiclient.middleware._parsing.media_type import Action, Shape, Verdict
from apiclient.middleware._parsing.problem import read_problem
from apiclient.middleware._shape import Body, form_to_json, look
from apiclient.middleware._whole import WholeResponse
from apiclient.middleware.errors import ContentTypeMismatch

_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_ACCEPT = "application/json, application/problem+json;q=0.9, */*;q=0.1"


class ContentType:
    """Make the Content-Type right before sending, correct it once on 415, and refuse a web page in place of JSON.

    Before sending, by looking at the first bytes only: a ``str`` or ``bytes`` body that looks like a JSON object or
    array goes out as ``default`` instead of aiohttp's text/plain or application/octet-stream; an empty body has no
    type, or JSON where aiohttp would add application/octet-stream; a body made by ``json=`` keeps any JSON type
    and loses any other; a charset that the body contradicts is set right. Forms, multipart, files and streams are left
    alone. What cannot be corrected safely is refused before anything is sent.

    On 415 the request is sent once more where the server, or else the body itself, tells a type that fits the same
    bytes; the correction is remembered for the endpoint. Otherwise the answer is returned.

    Answers get a ``json()`` that is strict and fails with an error that says what came. A successful answer that is
    HTML is refused at once where the call demands JSON: by an ``Accept`` that admits nothing else, or by
    ``json_answers``.

    Args:
        default: Type of JSON in ``str``, ``bytes`` and empty bodies that have none.
        expect: Types of endpoints, ``{"PUT /x": "application/merge-patch+json"}``, which go before the default.
        strict: Endpoints (``"POST /orders"``), or True for all, for which nothing is corrected: what would be is
            refused, and so is a body that nobody gave a type.
        json_answers: Endpoints, or True for all, whose successful answers are JSON, whatever ``Accept`` says.
        form_as_json: Whether a form may go out as a JSON object of texts where the endpoint accepts JSON only.
        correct: Whether a request is sent once more on 415.

    Raises:
        ValueError: ``default`` or a type in ``expect`` is not a media type.
        TypeError: ``strict`` or ``json_answers`` is one text in place of several.
        ContentTypeMismatch: (from a call) Type and body contradict each other, and nothing was sent.
        UnexpectedContentType: (from a call) A web page came where JSON is demanded.
    """

    def __init__(
        self,
        *,
        default: str = media.JSON,
        expect: Mapping[str, str] | None = None,
        strict: bool | Collection[str] = False,
        json_answers: bool | Collection[str] = False,
        form_as_json: bool = False,
        correct: bool = True,
    ) -> None:
        if not media.is_media_type(default):
            raise ValueError(f"default must be a media type such as application/json, got {default!r}")
        self._expect = dict(expect) if expect is not None else {}
        for endpoint, kind in self._expect.items():
            if not media.is_media_type(kind):
                raise ValueError(f"expect must map endpoints to media types, got {kind!r} for {endpoint!r}")
        self._default = default
        self._strict = _endpoints("strict", strict)
        self._json_answers = _endpoints("json_answers", json_answers)
        self._form_as_json = form_as_json
        self._correct = correct
        self._learned: Keyed[tuple[str, str], _Correction] = Keyed(_Correction)

    def __repr__(self) -> str:
        options = [f"default={self._default!r}"]
        options += [f"expect={self._expect!r}"] if self._expect else []
        for name, value in (("strict", self._strict), ("json_answers", self._json_answers)):
            if value:
                options.append(f"{name}={value if isinstance(value, bool) else sorted(value)!r}")
        options += ["form_as_json=True"] if self._form_as_json else []
        return f"ContentType({', '.join(options if self._correct else [*options, 'correct=False'])})"

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send *request* with the right type, at most twice, and check that the answer is no web page."""
        call = joined()
        if call is None:
            return await opened(self, request, handler)
        checked = _CHECKED.get(request.response_class)
        if checked is not None:
            request.response_class = checked
        if call.bare and request.headers.get(hdrs.ACCEPT) == "*/*":
            request.headers[hdrs.ACCEPT] = _ACCEPT
        if request.method in _WITH_BODY or request.body:
            response = await self._send(call, request, handler)
        else:
            response = await handler(request)
        if isinstance(response, CheckedResponse):
            response.endpoint = call.endpoint
        kind = response.headers.get(hdrs.CONTENT_TYPE)
        if kind is not None and media.essence(kind) in media.HTML and self._demands_json(call, request, response):
            # What the page repeats of the request is taken out first. No local holds it: error reporters show those.
            body = without(
                await head_of(response, 8192),
                secrets_of(request.headers, None if call.token is None else call.token.value, call.idempotency_key),
            )
            raise unexpected(response, body, call.endpoint)
        return response

    async def _send(self, call: Call, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        held = isinstance(request.body, BytesPayload)
        declared = request.headers.get(hdrs.CONTENT_TYPE)
        # What json= makes is right as it is, unless something is configured or known of this endpoint.
        if declared != media.JSON or not isinstance(request.body, JsonPayload) or self._expect or len(self._learned):
            await self._prepare(call, request, declared)
        sendable = held or replayable(request)
        response = await handler(request)
        if response.status != 415 or not self._correct or _in(self._strict, call.endpoint):
            return response
        if not sendable or not replayable(request):
            return response
        body = await look(request.body)
        sent = request.headers.get(hdrs.CONTENT_TYPE)
        try:
            better = await self._better(request, response, body, sent)
        except BaseException:
            response.close()
            raise
        if better is None:
            return response
        discard(response, request)
        await _apply(request, better, body)
        call.emit(logging.INFO, "content_type.corrected", sent=sent, corrected=better.value)
        call.resending()
        again = await handler(request)
        if again.status != 415:
            self._learned.get(call.key, call.time()).note(body.shape, sent, better)
        return again

    async def _prepare(self, call: Call, request: ClientRequest, declared: str | None) -> None:
        body = await look(request.body)
        verdict = media.prepared(
            body.shape,
            declared,
            body.content,
            encoding=body.encoding,
            default=self._default,
            wanted=self._expect.get(call.endpoint) if self._expect else None,
            convert=self._form_as_json,
            strict=_in(self._strict, call.endpoint),
        )
        if verdict.action is Action.REFUSE:
            raise ContentTypeMismatch(
                f"The body is declared as {declared or 'nothing'}, but it {verdict.value}; nothing was sent"
            )
        # Where the session leaves the automatic header out, an empty body needs none in its place.
        if body.shape is Shape.EMPTY and hdrs.CONTENT_TYPE in getattr(request, "skip_auto_headers", ()):
            return
        if verdict is not media.KEEP:
            await _apply(request, verdict, body)
        if len(self._learned):
            known = self._learned.peek(call.key)
            if known is not None and known.fits(body.shape, request.headers.get(hdrs.CONTENT_TYPE)):
                await _apply(request, known.better, body)

    async def _better(
        self, request: ClientRequest, response: ClientResponse, body: Body, sent: str | None
    ) -> Verdict | None:
        if hdrs.CONTENT_ENCODING in request.headers:
            return None
        accepted = media.accepted_types(response.headers, request.method)
        if not accepted:
            problem = read_problem(await head_of(response), response.headers.get(hdrs.CONTENT_TYPE))
            said = media.accepted_types({}, request.method, f"{problem.detail} {problem.message}")
            accepted = tuple(each for each in said if each != media.essence(sent))
        if body.shape is Shape.FORM:
            asked = self._form_as_json and accepted and media.essence(sent) == media.FORM
            as_json = media.better_type(Shape.JSON, sent, accepted, default=self._default) if asked else None
            return None if as_json is None else Verdict(Action.CONVERT, as_json)
        better = media.better_type(body.shape, sent, accepted, default=self._default, array=body.is_array)
        return None if better is None else Verdict(Action.SET, better)

    def _demands_json(self, call: Call, request: ClientRequest, response: ClientResponse) -> bool:
        if not 200 <= response.status < 300 or request.method == "HEAD":
            return False
        return _in(self._json_answers, call.endpoint) or media.demands_json(request.headers.get(hdrs.ACCEPT))


class _CheckedWhole(CheckedResponse, WholeResponse):
    """Both."""


_CHECKED: dict[type[ClientResponse] | None, type[CheckedResponse]] = {
    ClientResponse: CheckedResponse,
    WholeResponse: _CheckedWhole,
}


class _Correction:
    """What an endpoint refused last, and took instead."""

    __slots__ = ("_refused", "better")

    def __init__(self) -> None:
        self._refused: tuple[Shape, str | None] | None = None
        self.better = media.KEEP

    def note(self, shape: Shape, sent: str | None, better: Verdict) -> None:
        self._refused, self.better = (shape, sent), better

    def fits(self, shape: Shape, declared: str | None) -> bool:
        return self._refused == (shape, declared)


async def _apply(request: ClientRequest, verdict: Verdict, body: Body) -> None:
    if verdict.action is Action.CONVERT:
        await request.update_body(form_to_json(body.content))
    request.headers[hdrs.CONTENT_TYPE] = verdict.value


def _endpoints(name: str, given: bool | Collection[str]) -> bool | frozenset[str]:  # noqa: FBT001 - an option's value
    if isinstance(given, str):
        raise TypeError(f"{name} must be True, False or a collection of endpoints, got the string {given!r}")
    return given if isinstance(given, bool) else frozenset(given)


def _in(chosen: bool | frozenset[str], endpoint: str) -> bool:  # noqa: FBT001 - an option's value
    return chosen if isinstance(chosen, bool) else endpoint in chosen
