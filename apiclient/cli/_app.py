"""The commands. Each does its work elsewhere; here are their options and help texts."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from apiclient._drawn import drawn
from apiclient._refused import Refused, reason_of
from apiclient.cli._clients import client_of, named_client
from apiclient.cli._outbox import app as outbox
from apiclient.cli._record import Record, Replay, on_cassette
from apiclient.cli._share import share_of
from apiclient.cli._simulate import simulate
from apiclient.cli._trace import trace
from apiclient.pipeline import default_pipeline

app = typer.Typer(
    name="apiclient",
    help="The resilient API client for asyncio.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(trace)
app.add_typer(outbox, name="outbox")


def run(arguments: Sequence[str]) -> int:
    """Run the command line with *arguments* and return the exit code."""
    command: Any = typer.main.get_command(app)
    try:
        code = command.main(args=list(arguments), prog_name="apiclient", standalone_mode=False)
    except Refused as refused:
        return _told(str(refused), refused.code)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Nobody reads our output any more, and flushing it at exit must not complain either.
        sys.stdout = None
        return 141
    except Exception as error:
        # Usage errors are click's, which typer carries under one name or another.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        context = getattr(error, "ctx", None)
        where = "apiclient" if context is None else str(context.command_path)
        said = str(message()).rstrip(".")
        return _told(f"{said}; see {where} --help" if said else f"see {where} --help", 2)
    return code if isinstance(code, int) else 0


def _told(message: str, code: int) -> int:
    sys.stderr.write(f"apiclient: {' '.join(message.split())}\n")
    return code


@app.command()
def demo(
    *,
    seed: Annotated[int, typer.Option(min=0, help="Of the local API's failures and of the order of requests.")] = 1,
    plain: Annotated[bool, typer.Option("--plain", help="Plain lines, also on a terminal.")] = False,
) -> int:
    """Watch the client bring a batch through a local API with quotas, expiring tokens and failures."""
    from apiclient.cli._demo import show_demo  # noqa: PLC0415 - each command loads what it needs

    return show_demo(seed=seed, plain=plain)


@app.command()
def sandbox(
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0 for any free port.")] = 8080,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    seed: Annotated[int, typer.Option(min=0, help="Of all its randomness.")] = 0,
    limit: Annotated[int, typer.Option(min=1, help="Requests per window and endpoint.")] = 5,
    period: Annotated[float, typer.Option(help="Length of a window in seconds.")] = 1.0,
    token_lifetime: Annotated[float, typer.Option(help="Seconds for which a token is good.")] = 60.0,
    failure_rate: Annotated[float, typer.Option(help="Probability of each failure of /v1/flaky/{id}.")] = 0.3,
    chaos: Annotated[float, typer.Option(help="Share of all requests that meet a fault, by the seed.")] = 0.0,
) -> int:
    """Run the local API that the demonstration uses, until Ctrl-C."""
    from apiclient.cli._sandbox import serve  # noqa: PLC0415
    from apiclient.sandbox import Sandbox  # noqa: PLC0415

    secret = "demo-secret"  # noqa: S105 - the sandbox's default, made up
    try:
        server = Sandbox(
            host=host,
            port=port,
            seed=seed,
            limit=limit,
            period=period,
            token_lifetime=token_lifetime,
            failure_rate=failure_rate,
            chaos=chaos,
            client_secret=secret,
        )
    except ValueError as error:
        raise Refused(f"sandbox: {error}") from error
    return serve(server, secret)


@app.command()
def pipeline(
    client: Annotated[
        str | None, typer.Option(metavar="MODULE:ATTRIBUTE", help="A client of your own; else the default chain.")
    ] = None,
) -> int:
    """Draw the chain of middlewares as a tree, the outermost first, with each option."""
    chain = default_pipeline() if client is None else named_client(client).pipeline
    sys.stdout.write(f"{drawn(chain)}\n")
    return 0


@app.command()
def doctor(
    *,
    client: Annotated[
        str | None, typer.Option(metavar="MODULE:ATTRIBUTE", help="A client of your own, with its credentials.")
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="Of the API; else APICLIENT_BASE_URL.")] = None,
    path: Annotated[str, typer.Option(help="What to GET, relative to the base URL: something harmless.")] = "",
    record: Record = None,
    replay: Replay = None,
) -> int:
    """Check this installation, and the way to an API: name, connection, certificate, token, clock, one call."""
    from apiclient.cli._doctor import consult  # noqa: PLC0415

    named = client is not None or base_url is not None or bool(os.environ.get("APICLIENT_BASE_URL"))
    with on_cassette(record, replay):
        return consult(client_of(client, base_url) if named else None, path, replayed=replay is not None)


@app.command()
def explain(
    outcome: Annotated[str, typer.Argument(metavar="STATUS|ERROR", help="As in 415, or CircuitOpen.")],
) -> int:
    """Say what a status or an error means, what to do about it, and what the client does by itself."""
    from apiclient.cli._explain import explanation  # noqa: PLC0415

    sys.stdout.write("\n".join(explanation(outcome)) + "\n")
    return 0


@app.command()
def batch(
    source: Annotated[
        str | None, typer.Argument(metavar="IN.JSONL", help="One request a line; .gz and .zst too; - for stdin.")
    ] = None,
    *,
    output: Annotated[str | None, typer.Option("--output", "-o", help="Results, one a line; - for stdout.")] = None,
    base_url: Annotated[str | None, typer.Option(help="Of the API; else APICLIENT_BASE_URL.")] = None,
    client: Annotated[
        str | None, typer.Option(metavar="MODULE:ATTRIBUTE", help="A client of your own, with its credentials.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Calls under way at once.")] = 100,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the output that is there.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Resume, and try failures again.")] = False,
    keep_order: Annotated[bool, typer.Option("--keep-order", help="Write results in the order of the input.")] = False,
    shard: Annotated[str | None, typer.Option(metavar="I/N", help="Only the I-th of N parts.")] = None,
    queue: Annotated[
        str | None, typer.Option(metavar="URL", help="Lines shared by many machines: redis://host:6379/0?name=orders.")
    ] = None,
    load: Annotated[bool, typer.Option("--load", help="Only load IN.JSONL into the queue.")] = False,
    forget: Annotated[bool, typer.Option("--forget", help="Only remove what the queue holds.")] = False,
    max_failures: Annotated[int | None, typer.Option(min=0, help="End when more than that fail.")] = None,
    fail_rate: Annotated[str | None, typer.Option(metavar="SHARE", help="End when more fail: 5% or 0.05.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds of a call, with --base-url.")] = 60.0,
    allow_http: Annotated[bool, typer.Option("--allow-http", help="Let credentials go over plain http.")] = False,
    json_summary: Annotated[str | None, typer.Option(metavar="FILE", help="What happened, for machines.")] = None,
    report: Annotated[str | None, typer.Option(metavar="FILE.HTML", help="What happened, as a page.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Resume though input or settings differ.")] = False,
    keys: Annotated[bool, typer.Option(help="Idempotency keys for each POST and PATCH that has none.")] = True,
    canary: Annotated[bool, typer.Option(help="Send the first request alone.")] = True,
    grace: Annotated[float, typer.Option(min=0, help="Seconds for calls under way after Ctrl-C.")] = 25.0,
    record: Record = None,
    replay: Replay = None,
) -> int:
    """Make the request of each line, and write a result for each: resumable, as fast as the quotas allow.

    With --queue, any number of machines share the lines; IN.JSONL is loaded first where it is given.

    Exit codes: 0 all well, 1 some failed, 2 usage or input, 3 a failure limit was reached, 4 credentials or
    configuration, 130 and 143 interrupted and resumable. Credentials come from the environment, never from arguments:
    APICLIENT_TOKEN, or APICLIENT_API_KEY, or APICLIENT_TOKEN_URL, APICLIENT_CLIENT_ID and APICLIENT_CLIENT_SECRET.
    """
    from apiclient.cli._batch import run_job  # noqa: PLC0415
    from apiclient.job import Options, lean_pipeline  # noqa: PLC0415

    if queue is None and (load or forget):
        raise Refused(f"{'--load' if load else '--forget'} needs --queue URL; see apiclient batch --help")
    if queue is not None and replay is not None:
        raise Refused(
            "--replay sends nothing, and --queue would have its lines done for everybody; leave one of them out"
        )
    if queue is not None and (load or forget):
        from apiclient.cli._queue import forget_lines, load_lines  # noqa: PLC0415

        if forget:
            return forget_lines(queue, force=force, quiet=quiet)
        named = client is not None or base_url is not None or bool(os.environ.get("APICLIENT_BASE_URL"))
        base = client_of(client, base_url, allow_http=allow_http).base_url if named else None
        return load_lines(queue, _given(source, "argument 'IN.JSONL'"), base, quiet=quiet)
    output = _given(output, "option '--output' / '-o'")
    if queue is None:
        source = _given(source, "argument 'IN.JSONL'")
    options = Options(
        source=source or "",
        output=output,
        target="",
        concurrency=concurrency,
        resume=resume or retry_failed,
        retry_failed=retry_failed,
        force=force,
        keep_order=keep_order,
        shard=None if shard is None else _shard(shard),
        max_failures=max_failures,
        fail_rate=None if fail_rate is None else share_of(fail_rate, "--fail-rate"),
        keys=keys,
        canary=canary,
        grace=grace,
    )
    chosen = client_of(
        client,
        base_url,
        chain=lambda credentials: lean_pipeline(credentials, timeout=timeout),
        timeout=timeout,
        connections=concurrency,
        allow_http=allow_http,
    )
    options = replace(options, target=client if client is not None else str(chosen.base_url))
    lines = None
    if queue is not None:
        from apiclient.cli._queue import queue_of  # noqa: PLC0415

        lines = queue_of(queue, source, chosen.base_url, quiet=quiet)
        options = replace(options, source=f"queue {lines.store.name}")
    with on_cassette(record, replay):
        return run_job(
            chosen,
            options,
            quiet=quiet,
            summary=json_summary,
            report=report,
            arguments=tuple(sys.argv[1:]),
            queue=lines,
        )


def _given(value: str | None, what: str) -> str:
    if value is None:
        raise Refused(f"Missing {what}; see apiclient batch --help")
    return value


def _shard(text: str) -> tuple[int, int]:
    part, slash, parts = text.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise Refused(f"--shard must be I/N with I from 1 to N, such as 1/4, got {text!r}")
    return int(part), int(parts)


@app.command()
def merge(
    results: Annotated[list[Path], typer.Argument(metavar="RESULTS.JSONL...", help="Of runners or shards.")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="One row for each id.")],
    source: Annotated[
        str | None, typer.Option("--input", metavar="IN.JSONL", help="What they are of: to write what is missing too.")
    ] = None,
) -> int:
    """Make one file of the results of many runners or shards: one row for each id.

    Where a line was run more than once, a success counts before a failure, then what began first. Exit codes: 0 all
    there and well, 1 some failed or are missing, 2 usage or input.
    """
    from apiclient.cli._queue import merged_lines  # noqa: PLC0415

    code, said = merged_lines(results, output, source)
    sys.stdout.write("".join(f"{line}\n" for line in said))
    return code


@app.command()
def report(
    summaries: Annotated[
        list[Path], typer.Argument(metavar="SUMMARY.JSON...", help="Of --json-summary; or results, which say less.")
    ],
    *,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A page; else text on stdout.")] = None,
) -> int:
    """Add up the summaries of several runs or shards."""
    from apiclient.cli._batch import merged, page, summary_lines  # noqa: PLC0415

    statistics = merged(summaries)
    if output is None:
        sys.stdout.write("\n".join(summary_lines(statistics)) + "\n")
        return 0
    try:
        output.write_text(page([statistics], title=", ".join(path.name for path in summaries)), encoding="utf-8")
    except OSError as error:
        raise Refused(f"{output}: cannot be written: {reason_of(error)}") from error
    return 0


app.command()(simulate)
