"""The tutorial and the examples, as a person goes through them: real commands and processes, on this machine only."""

import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests import postgres
from tests.walkthrough import Walkthrough, blocks

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TUTORIAL = DOCS / "tutorial.md"
EXAMPLES = sorted(path for path in (DOCS / "examples").iterdir() if path.is_dir())
GUIDES = sorted((DOCS / "how-to").glob("*.md"))
NEEDS = {
    "fastapi-service": ["fastapi", "httpx", "uvicorn"],
    "outbox-postgres": ["psycopg", "psycopg_pool", "procrastinate"],
}

pytestmark = pytest.mark.timeout(120)


async def test_the_tutorial_from_an_empty_folder_to_its_end(tmp_path: Path) -> None:
    """Whoever types what the tutorial says sees what it says."""
    folder = tmp_path / "hours"
    folder.mkdir()
    async with Walkthrough(folder) as walk:
        await walk.read(TUTORIAL.read_text(encoding="utf-8"))


def test_what_is_deployed_is_what_the_tutorial_made() -> None:
    """The image copies files of the tutorial, all that its modules import, and runs the command that was tried; so does the unit."""
    files = {block.title: block.body for block in blocks(TUTORIAL.read_text(encoding="utf-8")) if block.title}
    copied = set(" ".join(re.findall(r"^COPY (.+) \S+$", files["Dockerfile"], re.MULTILINE)).split())
    modules = {name.removesuffix(".py") for name in copied if name.endswith(".py")}
    assert copied <= files.keys()
    for module in modules:
        local = set(re.findall(r"^from (\w+) import", files[f"{module}.py"], re.MULTILINE)) & {
            name.removesuffix(".py") for name in files
        }
        assert local <= modules
    tried = "python service.py"
    assert tried in files["third terminal"]
    assert json.loads(files["Dockerfile"].rpartition("CMD ")[2]) == tried.split()
    assert f"ExecStart=/opt/hours/.venv/bin/{tried}\n" in files["hours.service"]


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_the_tutorial_in_an_environment_of_its_own(tmp_path: Path) -> None:
    """The same, from the installation on."""
    folder = tmp_path / "hours"
    folder.mkdir()
    async with Walkthrough(folder, installing=True) as walk:
        await walk.read(TUTORIAL.read_text(encoding="utf-8"))


async def test_the_examples_pass_their_own_tests(tmp_path: Path) -> None:
    """All in one process, as far as what they need is installed: their modules have names of their own."""
    copied = tmp_path / "examples"
    left_out = [name for name, needs in NEEDS.items() if not all(map(find_spec, needs))]
    shutil.copytree(DOCS / "examples", copied, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache", *left_out))
    config = (copied / "uploads" / "pytest.ini").read_text(encoding="utf-8")
    (copied / "pytest.ini").write_text(f"{config}pythonpath = own-middleware/src\n", encoding="utf-8")
    async with Walkthrough(copied) as walk:
        await walk.read("```bash\npython -m pytest -q\n```")
        assert re.search(r"^\d+ passed", walk.printed, re.MULTILINE), walk.printed


@pytest.mark.long
@pytest.mark.parametrize("example", EXAMPLES, ids=[path.name for path in EXAMPLES])
async def test_an_example_does_what_its_readme_says(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commands work as they stand there, its own tests among them."""
    for module in NEEDS.get(example.name, []):
        pytest.importorskip(module)
    if example.name == "outbox-postgres":
        if postgres.programs() is None:
            pytest.skip("no Postgres server: install the package postgresql")
        monkeypatch.setenv("POSTGRES_URL", postgres.common())
    folder = tmp_path / example.name
    shutil.copytree(example, folder, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache"))
    text = (example / "README.md").read_text(encoding="utf-8")
    assert "pytest" in "".join(block.body for block in blocks(text) if block.language == "bash")
    async with Walkthrough(folder) as walk:
        await walk.read(text)


@pytest.mark.parametrize("page", GUIDES, ids=[path.stem for path in GUIDES])
def test_a_file_that_a_guide_shows_is_the_examples(page: Path) -> None:
    """A block with a title stands in that file of docs/examples, letter by letter: it is tested there."""
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.title:
            shown = DOCS / "examples" / block.title
            assert shown.is_file(), f"{page.name}, line {block.line}: there is no {block.title}"
            assert block.body in shown.read_text(encoding="utf-8"), f"{page.name}, line {block.line}: differs"


def test_no_example_is_left_out() -> None:
    """Each is linked from a guide, so that it is found."""
    linked = "".join(page.read_text(encoding="utf-8") for page in [*GUIDES, TUTORIAL, DOCS / "index.md"])
    assert EXAMPLES
    for example in EXAMPLES:
        assert f"examples/{example.name}/" in linked, example.name


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("```bash\nfalse\n```\n", "line 2"),
        ("```bash\necho one\n```\n```text printed\ntwo\n```\n", "it printed\none"),
        ('```bash title="second terminal"\necho no\n```\n', "never said"),
    ],
    ids=["a-command-that-fails", "other-words", "a-server-that-is-none"],
)
async def test_what_goes_wrong_is_seen(page: str, said: str, tmp_path: Path) -> None:
    """What notices nothing would find nothing."""
    folder = tmp_path / "there"
    folder.mkdir()
    with pytest.raises(AssertionError, match=said):
        async with Walkthrough(folder) as walk:
            await walk.read(page)
