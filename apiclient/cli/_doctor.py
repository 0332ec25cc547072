"""Is this installation sound, and does the way to an API work?"""

import asyncio
import importlib
import platform
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from apiclient.cli._finding import Finding

if TYPE_CHECKING:
    from apiclient.client import ApiClient

OURS = "apiclient-middleware"
_NEEDED = ("aiohttp", "backoff", "structlog")
_EXTRAS = (("cli", "typer"), ("cli", "rich"), ("redis", "redis"), ("otel", "opentelemetry-api"), ("uvloop", "uvloop"))
_LEAST_AIOHTTP = (3, 14, 4)


def consult(client: "ApiClient | None", path: str, *, replayed: bool = False) -> int:
    """Print what there is to say about this installation and the way to *client*'s API; return the exit code."""
    sound = True
    for finding in diagnose():
        sound = _print(finding) and sound
    if client is not None:
        sound = asyncio.run(_examined(client, path, replayed=replayed)) and sound
    return 0 if sound else 1


async def _examined(client: "ApiClient", path: str, *, replayed: bool) -> bool:
    from apiclient.cli._checks import examine  # noqa: PLC0415 - where this installation is broken, it may not load

    sound = True
    async for finding in examine(client, path, replayed=replayed):
        sound = _print(finding) and sound
    return sound


def _print(finding: Finding) -> bool:
    sys.stdout.write(f"{'ok' if finding.ok else 'PROBLEM':<8} {finding.text}\n")
    if finding.remedy:
        sys.stdout.write(f"{'':<8} {finding.remedy}\n")
    sys.stdout.flush()
    return finding.ok


def diagnose() -> list[Finding]:
    """Return what there is to say about this installation."""
    return [_python(), *_versions(), _package(), *collisions(metadata.distributions())]


def collisions(installed: Iterable[metadata.Distribution]) -> list[Finding]:
    """Return the distributions among *installed* that bring a top-level ``apiclient`` of their own."""
    found: list[Finding] = []
    for distribution in installed:
        name = distribution.metadata["Name"] or "?"
        if name.lower().replace("_", "-") == OURS or not _brings(distribution, "apiclient"):
            continue
        found.append(
            Finding(
                ok=False,
                text=f"{name} {distribution.version} installs a package called apiclient too: one overwrites the other",
                remedy=_remedy(name),
            )
        )
    return found


def _brings(distribution: metadata.Distribution, package: str) -> bool:
    top = distribution.read_text("top_level.txt")
    if top is not None and package in top.split():
        return True
    return any(path.parts[:1] == (package,) for path in distribution.files or ())


def _remedy(name: str) -> str:
    again = f"then install {OURS} again with pip install --force-reinstall --no-deps {OURS}"
    if name.lower().replace("_", "-") == "google-api-python-client":
        return f"import googleapiclient instead of its old alias, keep the two in different environments, {again}"
    return f"keep the two in different environments, or pip uninstall {name}, {again}"


def _python() -> Finding:
    text = f"Python {platform.python_version()} on {platform.system()}"
    return Finding(sys.version_info >= (3, 11), text, "" if sys.version_info >= (3, 11) else "use Python 3.11 or later")


def _versions() -> list[Finding]:
    found: list[Finding] = []
    for name in _NEEDED:
        version = _version(name)
        if version is None:
            found.append(Finding(ok=False, text=f"{name} is not installed", remedy=f"pip install {name}"))
        elif name == "aiohttp" and _numbers(version) < _LEAST_AIOHTTP:
            remedy = "pip install 'aiohttp>=3.14.4': before it, a body that was read once is resent empty"
            found.append(Finding(ok=False, text=f"{name} {version} is too old", remedy=remedy))
        else:
            found.append(Finding(ok=True, text=f"{name} {version}"))
    for extra, name in _EXTRAS:
        version = _version(name)
        missing = f"{name} is not installed (optional; pip install '{OURS}[{extra}]')"
        found.append(Finding(ok=True, text=missing if version is None else f"{name} {version}"))
    return found


def _package() -> Finding:
    module = importlib.import_module("apiclient")
    version = _version(OURS)
    where = Path(module.__file__).parent if module.__file__ is not None else None
    if where is None or not hasattr(module, "ApiClient"):
        remedy = f"pip install --force-reinstall --no-deps {OURS}"
        return Finding(ok=False, text="the package apiclient that is imported here is not ours", remedy=remedy)
    return Finding(ok=True, text=f"{OURS} {version if version is not None else '(not installed)'} in {where}")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    numbers: list[int] = []
    for part in version.split(".")[:3]:
        digits = "".join(character for character in part if character.isdigit())
        numbers.append(int(digits) if digits else 0)
    return tuple(numbers)
