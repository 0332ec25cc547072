"""A content coding, undone in small steps, which knows whether it came to its end."""

import importlib
import zlib
from collections import deque
from collections.abc import Callable
from typing import Any

# A member that ends inside a slice leaves the rest of the slice to be copied: small, many members stay cheap.
_SLICE = 8192
STEP = 2**18
"""Most bytes that one step unpacks to; of brotli, whose library takes it for a hint, twice as many."""


class Decoding:
    """Undoes one coding of RFC 9110 section 8.4.1; members that follow one another are one body (RFC 1952, RFC 8878).

    Args:
        coding: ``gzip``, ``deflate`` (with or without the header of zlib), ``br`` or ``zstd``.

    Raises:
        LookupError: Nothing is installed that undoes it.
        ValueError: (from ``take``) The bytes are not in this coding.
    """

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._make = _MAKERS[coding]()
        self._decoder: Any = None
        self._pieces: deque[bytes] = deque()

    def __repr__(self) -> str:
        return f"<Decoding {self._coding}{'' if self.whole else ', within a member'}>"

    @property
    def whole(self) -> bool:
        """Whether all that was fed was taken, and ended where a member ends."""
        return self._decoder is None and not self._pieces

    def feed(self, data: bytes) -> None:
        """Add *data* to what is to be undone."""
        self._pieces.extend(data[start : start + _SLICE] for start in range(0, len(data), _SLICE))

    def take(self) -> bytes:
        """Return the next bytes, ``STEP`` at most; none where more has to be fed first."""
        while self._pieces or self._decoder is not None:
            piece = self._pieces.popleft() if self._pieces else b""
            decoder = self._decoder
            if decoder is None:
                decoder = self._decoder = self._make(piece)
            try:
                block: bytes = decoder.decompress(piece, STEP)
            except Exception as error:
                raise ValueError(f"the body is not {self._coding}: {error}") from error
            rest = decoder.unused_data if decoder.eof else getattr(decoder, "unconsumed_tail", b"")
            if rest:
                self._pieces.appendleft(rest)
            if decoder.eof:
                self._decoder = None
            if block:
                return block
            if not piece:
                break
        return b""


class _Brotli:
    """What ``brotli`` and ``brotlicffi`` offer, under the names of the others."""

    unused_data = b""

    def __init__(self, module: Any) -> None:
        self._brotli = module.Decompressor()
        self._decode = getattr(self._brotli, "decompress", None) or self._brotli.process

    @property
    def eof(self) -> bool:
        return bool(self._brotli.is_finished())

    def decompress(self, data: bytes, most: int) -> bytes:
        return bytes(self._decode(data, output_buffer_limit=most))


Maker = Callable[[bytes], Any]


def _gzip() -> Maker:
    return lambda _: zlib.decompressobj(16 + zlib.MAX_WBITS)


def _deflate() -> Maker:
    # RFC 1950 section 2.2: the method is in the first four bits. Some servers leave that header out.
    return lambda head: zlib.decompressobj(zlib.MAX_WBITS if head[0] & 0xF == 8 else -zlib.MAX_WBITS)


def _brotli() -> Maker:
    module = _first("brotlicffi", "brotli")
    return lambda _: _Brotli(module)


def _zstd() -> Maker:
    module = _first("compression.zstd", "backports.zstd")
    return lambda _: module.ZstdDecompressor()


def _first(*names: str) -> Any:
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise LookupError(f"none of {', '.join(names)} is installed")


_MAKERS: dict[str, Callable[[], Maker]] = {"gzip": _gzip, "deflate": _deflate, "br": _brotli, "zstd": _zstd}
