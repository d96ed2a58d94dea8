"""latent-ingest enrich: add latent terms to an existing index."""

from __future__ import annotations

import time
import warnings
from functools import partial
from typing import Any

import click

from latent_ingest.cli import jobs, options, values
from latent_ingest.cli.connection import connection_options
from latent_ingest.cli.output import confirm, counted, print_json, sum_of, warn
from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.indexing.jobs.enrich_job import EnrichJob
from latent_ingest.connector.indexing.jobs.job import JobResult
from latent_ingest.connector.indexing.outcomes import EnrichReport, WatchReport
from latent_ingest.connector.indexing.watching.follower import POLL_SECONDS
from latent_ingest.connector.indexing.watching.job import LEAST_POLL, WatchJob
from latent_ingest.connector.indexing.watching.metrics import serve_metrics

# Seconds between two lines of --watch --json.
LINE_SECONDS = 10.0

# Options that have no meaning without --watch, and those that have none with it.
WATCHING = ("rate", "poll", "metrics_port", "metrics_host")
COPYING = ("alias", "restart")

# Options of Ray.
RAY = ("on", "encoders", "gpus_per_encoder")


@click.command(
    epilog="""\b
Examples:
  latent-ingest enrich --index products --text-fields title,body
  latent-ingest enrich --index products                   later: new and changed documents
  latent-ingest enrich --index products --text-fields title --yes --json
  latent-ingest enrich --index products --text-fields title --alias shop
  latent-ingest enrich --index products --watch --metrics-port 9290
  latent-ingest enrich --index products --text-fields title --on ray --encoders 8

Exit status: 0 if every document has the latent terms of its text, 1 if some do not, 2 for wrong
usage or input, 130 if interrupted; with --watch, 0 if it was stopped and no document failed.
"""
)
@options.index
@connection_options
@options.model
@click.option(
    "--text-fields",
    type=values.NameList(),
    help="Fields to encode, separated by commas; a.b inside objects. Required the first time; "
    "later, other fields encode all documents again.",
)
@options.spelling
@options.latent_field
@options.no_questions
@options.question_words
@click.option(
    "--alias",
    help="Leave the index as it is: copy it to a new index ALIAS-<model>-<number>, and point the "
    "alias at the copy once every document has latent terms.",
)
@click.option(
    "--restart", is_flag=True, help="With --alias: make another copy instead of resuming."
)
@click.option("--yes", is_flag=True, help="Close the index for a moment without asking.")
@click.option(
    "--failures",
    type=values.OUTPUT_FILE,
    help="File for documents that fail.  [default: INDEX.failed.jsonl]",
)
@options.on
@options.encoders
@options.gpus_per_encoder
@options.concurrency
@options.give_up_after
@options.journal
@click.option(
    "--watch",
    is_flag=True,
    help="Go on until stopped: documents that are written later get their latent terms, too.",
)
@click.option(
    "--rate",
    type=click.IntRange(min=1),
    help="With --watch: most documents read per second.  [default: any number]",
)
@click.option(
    "--poll",
    type=values.SECONDS,
    help="With --watch: time between two looks at the index.  [default: 1s]",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(1, 65535),
    help="With --watch: serve metrics for Prometheus at this port (extra serve).",
)
@click.option(
    "--metrics-host",
    help="With --metrics-port: address to listen at.  [default: 127.0.0.1]",
)
@options.as_json
def enrich(
    connection: Connection,
    model: options.ChosenModel,
    yes: bool,
    watch: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Add latent terms to an existing index, or update them.

    Documents are read from the index, encoded, and updated in place. Their other fields stay as
    they are, and what somebody else writes meanwhile is never overwritten. Documents whose text has
    not changed since they were encoded are skipped, so the same command resumes an interrupted run
    and can be run every night.

    The first time, the index is closed for a moment to add the analyzer and the similarity. With
    --alias it stays open: a copy of it gets the latent terms while the index is searched. The copy
    takes the alias if nothing was written to the index meanwhile; writes during the move are
    refused.

    With --watch the command follows the index: it asks the engine every second what was written,
    reads only that, and resumes there when it is started again.
    """
    watching = {name: settings.pop(name) for name in WATCHING}
    on_ray = options.on_ray(connection, *(settings.pop(name) for name in RAY))
    if watch:
        if on_ray:
            raise click.UsageError("--watch and --on exclude each other: changes come one by one")
        follow(connection, model, yes=yes, as_json=as_json, **settings, **watching)
        return
    if given := [name for name, value in watching.items() if value is not None]:
        raise click.UsageError(f"--{given[0].replace('_', '-')} needs --watch")
    job = EnrichJob(
        connection.open(),
        encoder=(model.absolute() if on_ray else model).load,
        on=on_ray,
        command=options.resuming_command(),
        **settings,
    )
    with jobs.quiet(on_ray is not None):
        result = run_with_bar(job, yes=yes)
    jobs.finish(result, summary(result), as_json=as_json)


def run_with_bar(job: EnrichJob, *, yes: bool) -> JobResult[EnrichReport]:
    """Run with a progress bar, which is shown once the model is loaded and the user agrees."""
    # The engine warns each time when the state of a finished copying task is read.
    warnings.filterwarnings("ignore", message="this request accesses system indices")
    with jobs.job_bar(job, unit=" documents") as move, jobs.words_bar() as show_words:

        def show(report: EnrichReport, total: int) -> None:
            text = f"{report.encoded:,} encoded, {jobs.speed(report)}"
            move(text, report.read - report.left, total)

        return job.run(show, partial(move, "copying"), partial(confirm, yes=yes), show_words)


def summary(result: JobResult[EnrichReport]) -> list[str]:
    """The counts in lines for a person; they add up to the documents read."""
    report = result.report
    parts = {
        "up to date already": report.up_to_date,
        "encoded": report.encoded,
        "deleted meanwhile": report.deleted,
        "failed": report.failed,
        "left": report.left,
    }
    changes = counted(report.conflicts, "change")
    return [
        jobs.first_line(result, report.encoded, "encoded"),
        f"{counted(report.read, 'document')} read = {sum_of(parts)}",
        *jobs.notes(
            (report.conflicts, f"{changes} by others meanwhile; those documents were read again")
        ),
        *jobs.long_and_empty(report),
        *jobs.notes(
            (report.failures_file, f"failures: {report.failures_file}"),
            (report.stopped, "stopped; the same command resumes, and skips what is up to date"),
        ),
    ]


def follow(
    connection: Connection,
    model: options.ChosenModel,
    *,
    yes: bool,
    as_json: bool,
    poll: float | None,
    metrics_port: int | None,
    metrics_host: str | None,
    **settings: Any,
) -> None:
    """Run `enrich --watch`."""
    for name in COPYING:
        if settings.pop(name):
            raise click.UsageError(
                f"--watch and --{name} exclude each other: a copy is made once; watch it afterwards"
            )
    if poll is not None and poll < LEAST_POLL:
        raise click.UsageError(f"--poll: {LEAST_POLL:g}s is the least")
    if metrics_host and metrics_port is None:
        raise click.UsageError("--metrics-host needs --metrics-port")
    job = WatchJob(
        connection.open(),
        encoder=model.load,
        command=options.resuming_command(),
        poll=POLL_SECONDS if poll is None else poll,
        **settings,
    )
    if metrics_port is not None:
        serve_metrics(job.report, metrics_host or "127.0.0.1", metrics_port)
    result = watch_with_line(job, yes=yes, as_json=as_json)
    report = result.report
    if as_json:
        print_json(report.to_json())
    else:
        click.echo(watch_summary(report))
    for line in jobs.notes((report.failures_file, f"failures: {report.failures_file}")):
        warn(line)
    if report.stopped != "interrupted":
        click.echo(f"Error: {report.stopped}", err=True)
    if not report.ok:
        raise click.exceptions.Exit(1)


def watch_with_line(job: WatchJob, *, yes: bool, as_json: bool) -> JobResult[WatchReport]:
    """Run with a line that is renewed, or with lines of JSON."""
    said = time.monotonic()
    line = {"bar_format": "{desc} [{elapsed}]", "miniters": 0, "desc": f"index {job.index}"}
    with jobs.job_bar(job, **line) as move:

        def show(report: WatchReport) -> None:
            nonlocal said
            if as_json and time.monotonic() - said >= LINE_SECONDS:
                said = time.monotonic()
                print_json(report.to_json())
            move(watch_summary(report), report.read)

        return job.run(show, partial(confirm, yes=yes))


def watch_summary(report: WatchReport) -> str:
    """Counts and lag in a line."""
    lag = f"{report.seconds_behind:,.1f} s" if report.writes_behind else "up to date"
    return (
        f"index {report.index}: {report.encoded:,} encoded, {report.failed:,} failed, "
        f"{counted(report.writes_behind, 'write')} behind ({lag})"
    )
