"""The surface of apiclient.testing."""

import subprocess
import sys

import pytest

import apiclient.testing


def test_all_names_are_there() -> None:
    """What __all__ promises can be imported."""
    assert apiclient.testing.__all__ == sorted(apiclient.testing.__all__)
    for name in apiclient.testing.__all__:
        assert getattr(apiclient.testing, name).__name__ == name
    with pytest.raises(AttributeError, match=r"'apiclient\.testing' has no attribute 'nothing'"):
        _ = apiclient.testing.nothing


def test_aioresponses_is_optional() -> None:
    """Without aioresponses everything else works, and asking for it says which extra is missing."""
    script = (
        "import sys\n"
        "sys.modules['aioresponses'] = None\n"
        "import apiclient.testing\n"
        "from apiclient.testing import MockTransport\n"
        "try:\n"
        "    from apiclient.testing import aioresponses\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "apiclient.testing.aioresponses needs aioresponses: pip install 'apiclient-middleware[test]'\n"
    )
