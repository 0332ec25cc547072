"""The wheel, as a user gets it: what is in it, and that it lives beside a `middleware/` folder of the user's own."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.wheel import ROOT, built, run

# Building, and making an environment, are processes of their own.
pytestmark = pytest.mark.timeout(180)


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert len(names) == len(set(names)), "a file is in the wheel twice"
        return {name: archive.read(name) for name in names}


def asked(python: Path, cwd: Path, code: str) -> Any:
    """Return the JSON that *code* prints, run in *cwd*, which is on the import path as for any script there."""
    return json.loads(run(python, "-c", code, cwd=cwd))


def test_the_wheel_and_a_middleware_folder_of_the_user_live_side_by_side(python: Path, tmp_path: Path) -> None:
    """`import middleware` stays the user's, and apiclient.middleware comes from the wheel."""
    (tmp_path / "middleware").mkdir()
    (tmp_path / "middleware" / "__init__.py").write_text("MINE = True\n", encoding="utf-8")
    (tmp_path / "middleware" / "retry.py").write_text("MINE = True\n", encoding="utf-8")
    found = asked(
        python,
        tmp_path,
        "import json, middleware, middleware.retry, apiclient, apiclient.middleware, apiclient.middleware.retry as retry\n"
        "from apiclient import ApiClient, default_pipeline\n"
        "repr(default_pipeline()), ApiClient('https://api.example.com')\n"
        "print(json.dumps([middleware.MINE, middleware.retry.MINE, middleware.__file__,"
        " apiclient.__file__, apiclient.middleware.__file__, retry.__file__]))",
    )
    assert found[:2] == [True, True]
    assert Path(found[2]).is_relative_to(tmp_path)
    for path in found[3:]:
        assert Path(path).is_relative_to(python.parents[1]), path
    assert Path(found[4]).parent == Path(found[3]).parent / "middleware"


def test_the_command_is_installed(python: Path, tmp_path: Path) -> None:
    """The wheel brings the script `apiclient`, and the function that it names exists."""
    assert (python.parent / "apiclient").is_file()
    code = (
        "import json, importlib.metadata as metadata\n"
        "(entry,) = metadata.entry_points(group='console_scripts', name='apiclient')\n"
        "print(json.dumps([entry.value, callable(entry.load()), metadata.metadata('apiclient-middleware')['Name']]))"
    )
    assert asked(python, tmp_path, code) == ["apiclient.cli:main", True, "apiclient-middleware"]


def test_the_wheel_has_each_file_once_and_nothing_else(wheel: Path) -> None:
    """Every source file of apiclient and of middleware, each once, the typing marker, and no tests."""
    names = set(contents(wheel))
    package = {name for name in names if not name.partition("/")[0].endswith(".dist-info")}
    sources = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "apiclient").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.parts[len(ROOT.parts) + 1] != "middleware"
    } | {
        f"apiclient/{path.relative_to(ROOT).as_posix()}"
        for path in (ROOT / "middleware").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert package == sources
    assert "apiclient/py.typed" in names
    assert "apiclient/middleware/retry.py" in names
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_source_distribution_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    """Whoever builds from the sdist, where the link has become a folder, gets the same files with the same contents."""
    again = built(ROOT, tmp_path)
    (sdist,) = tmp_path.glob("*.tar.gz")
    assert sdist.stat().st_size > 0
    assert contents(again) == contents(wheel)
