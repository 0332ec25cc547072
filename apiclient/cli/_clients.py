"""The client that a command works with: one of the user's own, or one from a base URL and the environment."""

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from apiclient._refused import Refused
from apiclient.client import ApiClient
from apiclient.credentials import ApiKey, ClientCredentials, StaticToken
from apiclient.middleware.credential import Credential
from apiclient.pipeline import Pipeline

_ENVIRONMENT = "APICLIENT_"


def client_of(
    name: str | None,
    base_url: str | None,
    environment: Mapping[str, str] | None = None,
    *,
    chain: Callable[[Credential | None], Pipeline] | None = None,
    **options: Any,
) -> ApiClient:
    """Return the client that ``--client`` or ``--base-url`` means.

    Args:
        name: ``module:attribute``, or None.
        base_url: Or None: then ``APICLIENT_BASE_URL``.
        environment: In place of the process's own.
        chain: Makes the chain of a client made here; None for the default one.
        **options: For a client made here.

    Raises:
        Refused: There is none, or it cannot be made.
    """
    given = os.environ if environment is None else environment
    if name is not None:
        if base_url is not None:
            raise Refused("--client and --base-url exclude each other: the client has a base URL of its own")
        return named_client(name)
    url = given.get(f"{_ENVIRONMENT}BASE_URL") if base_url is None else base_url
    if not url:
        raise Refused("say which API: --base-url URL, or --client module:attribute, or set APICLIENT_BASE_URL")
    try:
        credentials = credentials_of(given)
        pipeline = None if chain is None else chain(credentials)
        return ApiClient(url, credentials=credentials, pipeline=pipeline, **options)
    except ValueError as error:
        raise Refused(f"--base-url: {error}") from error


def credentials_of(environment: Mapping[str, str]) -> Credential | None:
    """Return the credential that *environment* describes, or None.

    ``APICLIENT_TOKEN``; or ``APICLIENT_API_KEY`` with ``APICLIENT_API_KEY_HEADER``; or ``APICLIENT_TOKEN_URL``,
    ``APICLIENT_CLIENT_ID``, ``APICLIENT_CLIENT_SECRET`` and, where one is needed, ``APICLIENT_SCOPE``.

    Raises:
        Refused: One of them is missing, or two kinds are given.
    """
    values = {
        name: environment[_ENVIRONMENT + name]
        for name in ("TOKEN", "API_KEY", "API_KEY_HEADER", "TOKEN_URL", "CLIENT_ID", "CLIENT_SECRET", "SCOPE")
        if environment.get(_ENVIRONMENT + name)
    }
    chosen = [name for name in ("TOKEN", "API_KEY", "TOKEN_URL") if name in values]
    if len(chosen) > 1:
        raise Refused(f"{_ENVIRONMENT}{chosen[0]} and {_ENVIRONMENT}{chosen[1]} are both set; keep one of them")
    try:
        if "TOKEN" in values:
            return StaticToken(values["TOKEN"])
        if "API_KEY" in values:
            return ApiKey(values["API_KEY"], header=values.get("API_KEY_HEADER", "X-Api-Key"))
        if "TOKEN_URL" not in values:
            return None
        for name in ("CLIENT_ID", "CLIENT_SECRET"):
            if name not in values:
                raise Refused(f"{_ENVIRONMENT}TOKEN_URL is set, but {_ENVIRONMENT}{name} is not")
        return ClientCredentials(
            token_url=values["TOKEN_URL"],
            client_id=values["CLIENT_ID"],
            client_secret=values["CLIENT_SECRET"],
            scope=values.get("SCOPE"),
        )
    except ValueError as error:
        raise Refused(f"{_ENVIRONMENT}{chosen[0]}: {error}") from error


def named_client(name: str) -> ApiClient:
    """Return the client called *name*, ``module:attribute``, or what the function of that name makes.

    The current directory is on the path, as for ``python -m``.

    Raises:
        Refused: The module or the attribute is not there, or is no client.
    """
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise Refused(f"--client must be module:attribute, such as myapp.api:client, got {name!r}")
    if "" not in sys.path and os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path holds text
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        known = missing == module_name or module_name.startswith(f"{missing}.")
        where = f"there is no module {missing!r} here or on the path" if known else f"it needs the module {missing!r}"
        raise Refused(f"--client {name}: {where}") from error
    except Exception as error:
        raise Refused(f"--client {name}: importing it failed: {type(error).__name__}: {error}") from error
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise Refused(f"--client {name}: {module_name!r} has no attribute {attribute!r}")
        found = getattr(found, part)
    if callable(found) and not isinstance(found, ApiClient):
        try:
            found = found()
        except Exception as error:
            raise Refused(f"--client {name}: calling it failed: {type(error).__name__}: {error}") from error
    if not isinstance(found, ApiClient):
        raise Refused(f"--client {name}: must be an ApiClient or a function that returns one, got {found!r}")
    return found
