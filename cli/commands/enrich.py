"""latent-ingest enrich: add latent terms to an existing index."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import click

from latent_ingest.cli import jobs, options
from latent_ingest.cli.connection import connection_options
from latent_ingest.cli.output import confirm, counted, sum_of
from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.indexing.job import EnrichJob, JobResult
from latent_ingest.connector.indexing.outcomes import EnrichReport


@click.command(
    epilog="""\b
Examples:
  latent-ingest enrich --index products --text-fields title,body
  latent-ingest enrich --index products                   later: new and changed documents
  latent-ingest enrich --index products --text-fields title --yes --json
  latent-ingest enrich --index products --text-fields title --alias shop

Exit status: 0 if every document has the latent terms of its text, 1 if some do not, 2 for wrong
usage or input, 130 if interrupted.
"""
)
@options.index
@connection_options
@options.model
@click.option(
    "--text-fields",
    type=options.NameList(),
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
    type=options.OUTPUT_FILE,
    help="File for documents that fail.  [default: INDEX.failed.jsonl]",
)
@options.concurrency
@options.give_up_after
@options.journal
@options.as_json
def enrich(
    connection: Connection, model: options.ChosenModel, yes: bool, as_json: bool, **settings: Any
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
    """
    job = EnrichJob(
        connection.open(), encoder=model.load, command=options.resuming_command(), **settings
    )
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
