"""What kind of body a request has, from aiohttp's payload and the first bytes, without reading or parsing it all."""

import json
from typing import Any, NamedTuple, cast
from urllib.parse import parse_qs

from aiohttp import MultipartWriter
from aiohttp.payload import BytesPayload, JsonBytesPayload, JsonPayload, StringPayload

from apiclient.middleware._parsing.media_type import FORM, Shape, looks_like_json


class Body(NamedTuple):
    """What is known of a body.

    Attributes:
        shape: Its kind.
        content: Its bytes where they are in memory already; else none.
        encoding: What aiohttp encoded a ``str`` in, or None.
    """

    shape: Shape
    content: bytes = b""
    encoding: str | None = None

    @property
    def is_array(self) -> bool:
        """Whether JSON begins as an array."""
        return self.content[:64].lstrip()[:1] == b"["


_EMPTY = Body(Shape.EMPTY)


_SHAPES: dict[type[Any], Shape] = {
    JsonPayload: Shape.JSON,
    JsonBytesPayload: Shape.JSON,
    StringPayload: Shape.TEXT,
    BytesPayload: Shape.BYTES,
}


async def look(body: Any) -> Body:
    """Return what is known of a request's *body*; nothing is read from a file or a stream."""
    if not body:
        return _EMPTY
    # Payload is an abstract class, and isinstance is slow on those.
    kind: type[Any] = body.__class__
    shape = _SHAPES.get(kind) or _shape_of(body)
    if shape is Shape.MULTIPART or shape is Shape.OPAQUE:
        return Body(shape)
    if body.size == 0:
        return _EMPTY
    held: Any = await body.as_bytes()
    content: bytes = bytes(cast("Any", held)) if isinstance(held, memoryview) else held
    if shape is not Shape.JSON:
        if body.content_type.startswith(FORM):
            return Body(Shape.FORM, content)
        if looks_like_json(content):
            shape = Shape.JSON_LIKE
    return Body(shape, content, body.encoding)


def _shape_of(body: Any) -> Shape:
    for kind, shape in _SHAPES.items():
        if isinstance(body, kind):
            return shape
    return Shape.MULTIPART if isinstance(body, MultipartWriter) else Shape.OPAQUE


def form_to_json(content: bytes) -> bytes:
    """Return a form as a JSON object of texts; a name that is there several times has an array of them."""
    fields = parse_qs(content.decode(), keep_blank_values=True, strict_parsing=False)
    return json.dumps({name: values[0] if len(values) == 1 else values for name, values in fields.items()}).encode()
