"""``apiclient simulate``: a batch against a model server, on virtual time: hours in seconds, and nothing is sent."""

import re
import sys
from typing import Annotated

import typer

from apiclient._refused import Refused
from apiclient.cli._share import share_of

_LATENCY = re.compile(r"([0-9.]+ ?(?:ms|s))(?: ?(?:±|\+-|\+/-) ?([0-9.]+) ?(ms|s)?)?")


def simulate(
    source: Annotated[str, typer.Argument(metavar="IN.JSONL", help="One request a line, as for batch; - for stdin.")],
    *,
    server: Annotated[
        list[str], typer.Option(metavar="RATE", help="Quota of each endpoint: 5/1s; or of one: 'GET /x/{id}=5/1s'.")
    ],
    client: Annotated[
        str | None, typer.Option(metavar="MODULE:ATTRIBUTE", help="A client of your own; else the default chain.")
    ] = None,
    latency: Annotated[str, typer.Option(metavar="TIME", help="There and back: 80ms, or 80ms±20.")] = "80ms",
    work: Annotated[str, typer.Option(metavar="TIME", help="Median time that the server works.")] = "0ms",
    fail: Annotated[str, typer.Option(metavar="SHARE", help="Of the requests that get a 503: 2% or 0.02.")] = "0",
    concurrency: Annotated[int, typer.Option(min=1, help="Calls under way at once.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Of latency and failures.")] = 1,
) -> int:
    """Say how long a batch will take, in how many requests, what holds it up, and what concurrency is enough.

    Time is virtual and nothing is sent: an hour takes seconds. Credentials are left out, and so are the limits of the
    connection pool. The server counts in windows that begin with their first request, as AspNetCoreRateLimit does.
    """
    from apiclient.cli._clients import named_client  # noqa: PLC0415 - each command loads what it needs
    from apiclient.cli._simulation import Model, Quotas, read_requests, run_simulation  # noqa: PLC0415
    from apiclient.client import ApiClient  # noqa: PLC0415

    mean, spread = _times(latency)
    chosen = ApiClient("http://simulated.invalid") if client is None else named_client(client)
    requests, bad = read_requests(source, chosen.base_url)
    if not requests:
        raise Refused(f"{source}: no requests in it")
    model = Model(
        Quotas.parse(server),
        latency=mean,
        jitter=spread,
        work=_times(work)[0],
        fail=share_of(fail, "--fail"),
        seed=seed,
    )
    found = run_simulation(chosen, requests, model, concurrency=concurrency)
    lines = found.lines()
    if bad:
        lines.append(f"{bad} lines are no requests and were left out")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if found.failed == 0 else 1


def _times(text: str) -> tuple[float, float]:
    match = _LATENCY.fullmatch(text.strip())
    if match is None:
        raise Refused(f"a time must look like 80ms, 1.5s or 80ms±20, got {text!r}")
    unit = "ms" if match[1].endswith("ms") else "s"
    return _seconds(match[1]), _seconds(match[2] + (match[3] or unit)) if match[2] else 0.0


def _seconds(text: str) -> float:
    try:
        return float(text[:-2]) / 1000 if text.endswith("ms") else float(text[:-1])
    except ValueError:
        raise Refused(f"a time must look like 80ms, 1.5s or 80ms±20, got {text!r}") from None
