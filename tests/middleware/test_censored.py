import aiohttp
import pytest
from aiohttp import RequestInfo
from aiohttp.http_exceptions import BadStatusLine
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from apiclient.middleware._censored import censored

SECRET = "https://user:s3cret@api.example.com:8443/employees/s3cret?key=s3cret#s3cret"
HEADERS = CIMultiDictProxy(CIMultiDict({"Authorization": "Bearer s3cret"}))


def answered() -> aiohttp.ClientResponseError:
    info = RequestInfo(URL(SECRET), "GET", HEADERS, URL(SECRET))
    return aiohttp.ClientResponseError(info, (), status=400, message="Bad status line\n  b's3cret'", headers=HEADERS)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (answered(), "Bad status line"),
        (aiohttp.ClientOSError(32, f"Can not write request body for {SECRET}"), "[Errno 32] Can not write request body for https://api.example.com:8443"),
        (aiohttp.ConnectionTimeoutError(f"Connection timeout to host {SECRET}"), "Connection timeout to host https://api.example.com:8443"),
        (aiohttp.ServerDisconnectedError(), "Server disconnected"),
        (aiohttp.ClientPayloadError("\x1b[2J" + "x" * 500), "\\x1b[2Jx"),
        (ValueError(7, SECRET), "(7, 'https://api.example.com:8443')"),
    ],
)  # fmt: skip
def test_an_error_of_aiohttp_keeps_its_words_and_loses_the_rest(error: BaseException, said: str) -> None:
    """No path, query, userinfo, header or raw byte is left: not in its text, its repr or its attributes."""
    assert censored(error).startswith(said)
    assert len(censored(error)) <= 200
    assert "s3cret" not in f"{error} {error!r} {error.__dict__}"


def test_of_an_address_that_is_none_the_text_is_clean() -> None:
    """The URL of an InvalidURL stands where it cannot be changed; what is said of it is clean all the same."""
    assert censored(aiohttp.InvalidURL(SECRET)) == "https://api.example.com:8443"


def test_its_causes_lose_it_too() -> None:
    """A traceback shows the whole chain; one that goes round ends."""
    error, cause = answered(), BadStatusLine(f"GET {SECRET}")
    error.__cause__, cause.__context__ = cause, error
    censored(error)
    assert "s3cret" not in f"{cause} {cause!r}"
