"""What a server may do to a client, row by row: the bytes it sends, and what the caller gets."""

import gzip
import zlib
from typing import NamedTuple

import aiohttp

from apiclient import errors
from tests.integration.scripted import (
    Body,
    Close,
    Drip,
    Flood,
    HalfClose,
    Head,
    Pause,
    Reset,
    Send,
    Serve,
    Some,
    Stall,
    Step,
)

Outcome = type[Exception] | int
LIMIT = 100_000
"""Largest body that the client takes, in bytes."""
TIMEOUT = 50.0
"""Seconds of a call."""


class Fate(NamedTuple):
    """What comes of a call to such a server.

    Attributes:
        get: Error or status of a GET through the default pipeline.
        attempts: Wire requests of that GET; None for as many as the server counted.
        within: Seconds that it takes at most.
        post: Error or status of a POST without a key, which is sent once where ``get`` is a failure of transport.
        stream: Error or status of a GET that is streamed and read to its end; None for that of ``get``.
    """

    get: Outcome
    attempts: int | None
    within: float
    post: Outcome
    stream: Outcome | None = None


UNKNOWN = errors.TransportOutcomeUnknown
# Backoff adds up to 0.7 s at most. The deadline is up to 0.1 s late, as is each attempt's limit of 30 s.
LOST = Fate(errors.ConnectionLost, 4, 1.0, UNKNOWN)
SILENT = Fate(errors.DeadlineExceeded, 2, TIMEOUT + 0.2, UNKNOWN)
SILENT_BODY = SILENT._replace(stream=aiohttp.SocketTimeoutError)
GARBAGE = Fate(errors.ResponseBroken, 1, 0.1, UNKNOWN)
CUT = Fate(errors.ResponseBroken, 4, 1.0, UNKNOWN, stream=aiohttp.ClientPayloadError)
FINE = Fate(200, 1, 0.1, 200)
TOO_LARGE = Fate(errors.BodyTooLarge, 1, 0.3, errors.BodyTooLarge)
REFUSED = Fate(errors.RedirectRefused, 1, 0.1, errors.RedirectRefused)
NOT_FOUND = Fate(errors.NotFound, 1, 0.1, errors.NotFound)
UNAVAILABLE = Fate(errors.ServerError, 4, 1.0, errors.ServerOutcomeUnknown)


class Row(NamedTuple):
    """A server's script for each connection, and what comes of it."""

    fate: Fate
    script: tuple[Step, ...]


ASK: tuple[Step, ...] = (Head(), Body())
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
GZIP = OK + b"Content-Encoding: gzip\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
BOMB = gzip.compress(bytes(100 * LIMIT))


def sized(body: bytes, head: bytes = OK) -> bytes:
    """Return an answer with *body* and its length."""
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def goes(where: bytes, *, body: bytes = b"Content-Length: 0\r\n\r\n") -> bytes:
    """Return a redirect."""
    return b"HTTP/1.1 302 Go\r\nConnection: close\r\n" + (b"Location: " + where + b"\r\n" if where else b"") + body


def says(status: bytes, *headers: bytes) -> bytes:
    """Return an answer without a body."""
    return b"\r\n".join([b"HTTP/1.1 " + status, b"Connection: close", b"Content-Length: 0", *headers, b"", b""])


def told(fate: Fate, *steps: Step) -> Row:
    """Return a row that begins once the whole request has been read."""
    return Row(fate, (*ASK, *steps))


def sent(fate: Fate, data: bytes, end: Step = Stall()) -> Row:  # noqa: B008 - immutable
    """Return a row that answers a request with *data*."""
    return told(fate, Send(data), end)


BEFORE: dict[str, Row] = {
    "closed on accept": Row(LOST, (Close(),)),
    "reset on accept": Row(LOST, (Reset(),)),
    "silent on accept": Row(SILENT, (Stall(),)),
    "half-closed on accept": Row(LOST, (HalfClose(),)),
    "closed in the request": Row(LOST, (Some(8), Close())),
    "reset in the request": Row(LOST, (Some(8), Reset())),
    "closed after the request": told(LOST, Close()),
    "reset after the request": told(LOST, Reset()),
    "silent after the request": told(SILENT, Stall()),
    "half-closed after the request": told(LOST, HalfClose()),
    "closed after a minute": told(SILENT, Pause(61), Close()),
    "answered late, in time": told(FINE._replace(within=29.2), Pause(29), Send(sized(b"fine")), Serve()),
}

STATUS_LINE: dict[str, Row] = {
    "closed after one byte": sent(LOST, b"H", Close()),
    "closed in the version": sent(LOST, b"HTTP/1.", Close()),
    "closed before the code": sent(LOST, b"HTTP/1.1 ", Close()),
    "closed in the code": sent(LOST, b"HTTP/1.1 2", Close()),
    "closed in the reason": sent(LOST, b"HTTP/1.1 200 O", Close()),
    "closed between CR and LF": sent(LOST, b"HTTP/1.1 200 OK\r", Close()),
    "reset in the status line": sent(LOST, b"HTTP/1.1 2", Reset()),
    "silent in the status line": sent(SILENT, b"HTTP/1.1 2"),
    "no HTTP": sent(GARBAGE, b"220 mail.example.com ESMTP\r\n"),
    "binary": sent(GARBAGE, bytes(range(128, 256)) * 4 + b"\r\n\r\n"),
    "zeroes": sent(GARBAGE, bytes(100) + b"\r\n\r\n"),
    "no version": sent(GARBAGE, b"200 OK\r\n\r\n"),
    "version 9.9": sent(GARBAGE, b"HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "HTTP/0.9": sent(GARBAGE, b"<html>hello</html>\r\n\r\n", Close()),
    "frames of HTTP/2": sent(GARBAGE, b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64\r\n\r\n"),
    "a TLS alert": sent(GARBAGE, b"\x15\x03\x01\x00\x02\x02\x46", Close()),
    "a code of letters": sent(GARBAGE, b"HTTP/1.1 abc OK\r\n\r\n"),
    "a code of two digits": sent(GARBAGE, b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"),
    "a code of four digits": sent(GARBAGE, b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"),
    "a negative code": sent(GARBAGE, b"HTTP/1.1 -200 OK\r\nContent-Length: 0\r\n\r\n"),
    "code 099": sent(GARBAGE, b"HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n", Serve()),
    "code 999": sent(
        Fate(errors.ServerError, 1, 0.1, errors.ServerError), b"HTTP/1.1 999 No\r\nContent-Length: 0\r\n\r\n", Serve()
    ),
    "a status line of 1 MB": sent(GARBAGE, b"HTTP/1.1 200 " + b"O" * 1_000_000 + b"\r\n\r\n"),
    "an endless status line": told(GARBAGE, Send(b"HTTP/1.1 200 "), Flood(b"O" * 4096, 0.01)),
}

HEADERS: dict[str, Row] = {
    "closed in a name": sent(LOST, OK + b"Content-Le", Close()),
    "closed in a value": sent(LOST, OK + b"Content-Length: 1", Close()),
    "closed before the blank line": sent(LOST, OK + b"Content-Length: 4\r\n", Close()),
    "closed in the blank line": sent(LOST, OK + b"Content-Length: 4\r\n\r", Close()),
    "reset in the headers": sent(LOST, OK + b"Content-Le", Reset()),
    "silent in the headers": sent(SILENT, OK + b"Content-Le"),
    "headers drop by drop, in time": told(FINE._replace(within=9.0), Drip(sized(b"fine"), 0.2), Serve()),
    "headers drop by drop, for ever": told(SILENT, Drip(OK + b"X: " + b"x" * 500, 0.5), Stall()),
    "a header without a colon": sent(GARBAGE, OK + b"nonsense\r\n\r\n"),
    "a header without a name": sent(GARBAGE, OK + b": nothing\r\n\r\n"),
    "a zero byte in a value": sent(GARBAGE, OK + b"X: a\x00b\r\nContent-Length: 4\r\n\r\nfine"),
    "a header of 1 MB": sent(GARBAGE, OK + b"X: " + b"x" * 1_000_000 + b"\r\n\r\n"),
    "ten thousand headers": sent(GARBAGE, OK + b"".join(b"X-%d: x\r\n" % n for n in range(10_000)) + b"\r\n"),
    "endless headers": told(GARBAGE, Send(OK), Flood(b"X: x\r\n" * 50, 0.01)),
    "a cookie of nonsense": sent(FINE, sized(b"fine", OK + b"Set-Cookie: \x01;;;=\r\n"), Serve()),
    "closed after 100": sent(LOST, b"HTTP/1.1 100 Continue\r\n\r\n", Close()),
    "a hundred times 103": sent(FINE, b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100 + sized(b"fine"), Serve()),
    "endless 100": told(SILENT, Flood(b"HTTP/1.1 100 Continue\r\n\r\n", 0.1)),
    "a flood of 102": told(SILENT, Flood(b"HTTP/1.1 102 Processing\r\n\r\n" * 100, 0.0, 200), Stall()),
    "101 without being asked": sent(GARBAGE, SWITCH + b"xx"),
    "101 and closed": sent(GARBAGE, SWITCH, Close()),
}

LENGTH: dict[str, Row] = {
    "closed before the body": sent(CUT, OK + b"Content-Length: 9\r\n\r\n", Close()),
    "closed in the body": sent(CUT, OK + b"Content-Length: 9\r\n\r\nhalf", Close()),
    "reset in the body": sent(CUT, OK + b"Content-Length: 9\r\n\r\nhalf", Reset()),
    "silent in the body": sent(SILENT_BODY, OK + b"Content-Length: 9\r\n\r\nhalf"),
    "half-closed in the body": sent(CUT, OK + b"Content-Length: 9\r\n\r\nhalf", HalfClose()),
    "body drop by drop, in time": told(
        FINE._replace(within=7.0), Send(OK + b"Content-Length: 4\r\n\r\n"), Drip(b"fine", 2.0), Serve()
    ),
    "body drop by drop, for long": told(
        SILENT._replace(stream=200), Send(OK + b"Content-Length: 99\r\n\r\n"), Drip(b"x" * 99, 5.0), Serve()
    ),
    "more than Content-Length": sent(GARBAGE, OK + b"Content-Length: 4\r\n\r\nfine and more"),
    "more than Content-Length, and closed": sent(GARBAGE, OK + b"Content-Length: 4\r\n\r\nfine and more", Close()),
    "another answer behind the first": sent(FINE, sized(b"fine") + sized(b"poison")),
    "two lengths that differ": sent(GARBAGE, OK + b"Content-Length: 4\r\nContent-Length: 9\r\n\r\nfine", Close()),
    "two lengths alike": sent(GARBAGE, OK + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nfine", Close()),
    "two lengths in one line": sent(GARBAGE, OK + b"Content-Length: 4, 4\r\n\r\nfine", Close()),
    "a negative length": sent(GARBAGE, OK + b"Content-Length: -4\r\n\r\nfine", Close()),
    "a length with a sign": sent(GARBAGE, OK + b"Content-Length: +4\r\n\r\nfine", Close()),
    "a length of letters": sent(GARBAGE, OK + b"Content-Length: four\r\n\r\nfine", Close()),
    "an empty length": sent(GARBAGE, OK + b"Content-Length: \r\n\r\nfine", Close()),
    "a length of 10^30": sent(GARBAGE, OK + b"Content-Length: 1" + b"0" * 30 + b"\r\n\r\nfine", Close()),
    "a length of 1 TB": sent(CUT, OK + b"Content-Length: 1000000000000\r\n\r\nfine", Close()),
    "length and chunks": sent(
        GARBAGE, OK + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Close()
    ),
    "no length, closed": sent(FINE, OK + b"\r\nfine", Close()),
    "no length, reset": sent(CUT, OK + b"\r\nfine", Reset()),
    "no length, reset later": told(CUT, Send(OK + b"\r\nfine"), Pause(0.01), Reset()),
    "no length, silent": sent(SILENT_BODY, OK + b"\r\nfine"),
    "204 with a body": sent(GARBAGE, b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nfine"),
    "304 without being asked": sent(
        Fate(304, 1, 0.1, 304), b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n", Serve()
    ),
    "an endless body": told(TOO_LARGE, Send(OK + b"\r\n"), Flood(b"x" * 65536, 0.001)),
    "a body over the limit": sent(TOO_LARGE, sized(b"x" * (LIMIT + 1)), Serve()),
    "closed though kept alive": sent(FINE, sized(b"fine", OK + b"Connection: keep-alive\r\n"), Close()),
    "HTTP/1.0": sent(FINE, b"HTTP/1.0 200 OK\r\n\r\nfine", Close()),
}

CHUNKS: dict[str, Row] = {
    "a chunk without a size": sent(GARBAGE, CHUNKED + b"xyz\r\n"),
    "a chunk without a size, behind a good one": sent(GARBAGE, CHUNKED + b"4\r\nhalf\r\nxyz\r\n"),
    "a chunk without a size, a second later": told(
        CUT._replace(within=5.0), Send(CHUNKED + b"4\r\nhalf\r\n"), Pause(1), Send(b"xyz\r\n"), Stall()
    ),
    "a negative chunk": sent(GARBAGE, CHUNKED + b"-4\r\nfine\r\n0\r\n\r\n"),
    "a chunk of 0x4": sent(GARBAGE, CHUNKED + b"0x4\r\nfine\r\n0\r\n\r\n"),
    "a chunk of 2^74": sent(GARBAGE, CHUNKED + b"4" + b"0" * 18 + b"\r\nfine", Close()),
    "a chunk longer than its size": sent(GARBAGE, CHUNKED + b"4\r\nfine and more\r\n0\r\n\r\n"),
    "a chunk extension of 100 KB": sent(FINE, CHUNKED + b"4;x=" + b"x" * 100_000 + b"\r\nfine\r\n0\r\n\r\n", Serve()),
    "closed in a chunk size": sent(CUT, CHUNKED + b"4", Close()),
    "closed in a chunk": sent(CUT, CHUNKED + b"9\r\nhalf", Close()),
    "closed before the last chunk": sent(CUT, CHUNKED + b"4\r\nhalf\r\n", Close()),
    "closed in the last chunk": sent(CUT, CHUNKED + b"4\r\nfine\r\n0\r\n", Close()),
    "reset before the last chunk": sent(CUT, CHUNKED + b"4\r\nhalf\r\n", Reset()),
    "silent before the last chunk": sent(SILENT_BODY, CHUNKED + b"4\r\nhalf\r\n"),
    "trailers": sent(FINE, CHUNKED + b"4\r\nfine\r\n0\r\nX: x\r\n\r\n", Serve()),
    "endless trailers": told(CUT, Send(CHUNKED + b"4\r\nfine\r\n0\r\n"), Flood(b"X: x\r\n" * 50, 0.01)),
    "endless chunks of one byte": told(TOO_LARGE, Send(CHUNKED), Flood(b"1\r\nx\r\n" * 1000, 0.001)),
}

CODINGS: dict[str, Row] = {
    "garbage for gzip": sent(CUT, sized(b"half", GZIP), Close()),
    "gzip with a wrong checksum": sent(CUT, sized(gzip.compress(b"fine")[:-8] + bytes(8), GZIP), Close()),
    "gzip and more": sent(CUT, sized(gzip.compress(b"fine") + b"more", GZIP), Close()),
    "gzip cut off by the connection": sent(CUT, sized(gzip.compress(b"fine" * 100), GZIP)[:-20], Close()),
    "deflate cut off": sent(
        CUT, sized(zlib.compress(bytes(range(256)))[:-30], OK + b"Content-Encoding: deflate\r\n"), Close()
    ),
    "a gzip bomb": sent(TOO_LARGE, sized(BOMB, GZIP), Serve()),
    "a gzip bomb in chunks": sent(
        TOO_LARGE, GZIP + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BOMB), BOMB), Serve()
    ),
    "a bomb in a bomb": sent(
        Fate(errors.UnexpectedContentType, 1, 0.1, errors.UnexpectedContentType),
        sized(gzip.compress(BOMB), OK + b"Content-Encoding: gzip, gzip\r\n"),
        Serve(),
    ),
    "a deflate bomb": sent(
        TOO_LARGE, sized(zlib.compress(bytes(100 * LIMIT)), OK + b"Content-Encoding: deflate\r\n"), Serve()
    ),
    "an unknown content coding": sent(FINE, sized(b"fine", OK + b"Content-Encoding: rot13\r\n"), Serve()),
}

ERRORS: dict[str, Row] = {
    "503 and closed in its body": sent(UNAVAILABLE, b"HTTP/1.1 503 No\r\nContent-Length: 9\r\n\r\nhalf", Close()),
    "503 and silent in its body": sent(
        UNAVAILABLE._replace(within=3.0), b"HTTP/1.1 503 No\r\nContent-Length: 9\r\n\r\nhalf"
    ),
    "503 and an endless body": told(UNAVAILABLE, Send(b"HTTP/1.1 503 No\r\n\r\n"), Flood(b"x" * 65536, 0.001)),
    "503 until the year 3000": sent(
        Fate(errors.ServerError, 1, 0.1, errors.ServerOutcomeUnknown),
        says(b"503 No", b"Retry-After: 30000000000"),
        Close(),
    ),
    "404 and closed in its body": sent(NOT_FOUND, b"HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\nhalf", Close()),
    "404 and silent in its body": sent(
        NOT_FOUND._replace(within=2.1), b"HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\nhalf"
    ),
    "404 and an endless body": told(NOT_FOUND, Send(b"HTTP/1.1 404 No\r\n\r\n"), Flood(b"x" * 65536, 0.001)),
    "404 and a gzip bomb": sent(NOT_FOUND, sized(BOMB, b"HTTP/1.1 404 No\r\nContent-Encoding: gzip\r\n"), Serve()),
    "404 and garbage for gzip": sent(
        NOT_FOUND, sized(b"half", b"HTTP/1.1 404 No\r\nContent-Encoding: gzip\r\n"), Serve()
    ),
    "408 for ever": sent(Fate(errors.StatusError, 4, 1.0, errors.ServerOutcomeUnknown), says(b"408 Late"), Close()),
    "407": sent(Fate(errors.StatusError, 1, 0.1, errors.StatusError), says(b"407 Proxy"), Close()),
    "401 for ever": sent(
        Fate(errors.Unauthorized, 1, 0.1, errors.Unauthorized), says(b"401 No", b"WWW-Authenticate: Bearer"), Close()
    ),
    "429 for ever": sent(
        Fate(errors.TooManyRequests, None, TIMEOUT, errors.TooManyRequests),
        says(b"429 Slow", b"Retry-After: 1"),
        Close(),
    ),
}

REDIRECTS: dict[str, Row] = {
    "a redirect to itself": sent(REFUSED, goes(b"/x"), Close()),
    "a redirect to nowhere": sent(Fate(302, 1, 0.1, 302), goes(b""), Close()),
    "a redirect to another host": sent(REFUSED, goes(b"http://evil.example/"), Close()),
    "a redirect to a file": sent(REFUSED, goes(b"file:///etc/passwd"), Close()),
    "a redirect to nonsense": sent(REFUSED, goes(b"http://[::1"), Close()),
    "a redirect with a silent body": sent(
        REFUSED._replace(attempts=2), goes(b"/y", body=b"Content-Length: 9\r\n\r\nhalf")
    ),
    "a redirect with an endless body": told(
        REFUSED._replace(attempts=2), Send(goes(b"/y", body=b"\r\n")), Flood(b"x" * 65536, 0.001)
    ),
}

ROWS: dict[str, Row] = BEFORE | STATUS_LINE | HEADERS | LENGTH | CHUNKS | CODINGS | ERRORS | REDIRECTS
