"""latent-ingest enrich: add latent terms to an existing index."""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from latent_ingest.cli.connection import connection_options
from latent_ingest.cli.options import (
    comma_list,
    compute_options,
    concurrency_option,
    give_up_option,
    index_option,
    journal_option,
    json_option,
    load_encoder,
    model_option,
    resuming_command,
)
from latent_ingest.cli.output import (
    alias_lines,
    confirm,
    documents,
    exit_after,
    long_and_empty,
    number_of,
    print_json,
    progress_bar,
    stopping,
)
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
@index_option
@connection_options
@model_option
@compute_options
@click.option(
    "--text-fields",
    default=None,
    help="Fields to encode, separated by commas; a.b inside objects. Required the first time.",
)
@click.option(
    "--spelling",
    type=click.Choice(["repeat", "delimited"]),
    default=None,
    help="Spelling of counts; delimited needs OpenSearch 2.10.  [default: repeat]",
)
@click.option("--latent-field", default=None, help="Field of latent terms.  [default: latent]")
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
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for documents that fail.  [default: INDEX.failed.jsonl]",
)
@concurrency_option
@give_up_option
@journal_option
@json_option
def enrich(
    index: str,
    connection: Connection,
    model: Path | None,
    device: str,
    dtype: str,
    text_fields: str | None,
    alias: str | None,
    restart: bool,
    yes: bool,
    failures: Path | None,
    concurrency: int,
    give_up_after: float,
    journal: Path | None,
    as_json: bool,
    **mapping: Any,
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
    if restart and alias is None:
        raise click.UsageError("--restart is for --alias; without it, nothing is done twice")
    job = EnrichJob(
        connection.open(),
        index,
        alias=alias,
        encoder=partial(load_encoder, model, device, dtype),
        text_fields=None if text_fields is None else comma_list(text_fields),
        failures=failures,
        concurrency=concurrency,
        give_up_after=give_up_after,
        restart=restart,
        journal=journal,
        command=resuming_command(),
        **mapping,
    )
    result = run_with_bar(job, yes=yes)
    if as_json:
        print_json(result.to_json())
    else:
        click.echo(summary(result))
    exit_after(result.report, result.refusal)


def run_with_bar(job: EnrichJob, *, yes: bool) -> JobResult[EnrichReport]:
    """Run with a progress bar; Ctrl-C ends the run in good order, a second one exits at once."""
    # The engine warns each time when the state of a finished copying task is read.
    warnings.filterwarnings("ignore", message="this request accesses system indices")
    with ExitStack() as stack:

        @cache
        def bar() -> tqdm[Any]:
            """Shown from when the run starts."""
            stack.enter_context(stopping(job.stop))
            return stack.enter_context(progress_bar(unit=" documents"))

        def move(text: str, done: int, total: int) -> None:
            bar().total = total or None
            bar().set_description_str(text, refresh=False)
            bar().update(done - bar().n)

        def show(report: EnrichReport, total: int) -> None:
            rate = report.tokens / max(report.seconds, 1e-9)
            text = f"{report.encoded:,} encoded, {rate:,.0f} tokens/s, {report.failed:,} failed"
            move(text, report.read - report.left, total)

        return job.run(show, partial(move, "copying"), partial(confirm, yes=yes))


def summary(result: JobResult[EnrichReport]) -> str:
    """The counts in lines for a person; they add up to the documents read."""
    report = result.report
    seconds = max(report.seconds, 1e-9)
    lines = [
        f"index {result.index}: {documents(report.encoded)} encoded in {report.seconds:,.1f} s "
        f"({report.tokens:,} tokens, {report.tokens / seconds:,.0f} tokens/s)"
    ]
    parts = {
        "up to date already": report.up_to_date,
        "encoded": report.encoded,
        "deleted meanwhile": report.deleted,
        "failed": report.failed,
        "left": report.left,
    }
    shown = [f"{number:,} {name}" for name, number in parts.items() if number]
    lines.append(f"{documents(report.read)} read = {' + '.join(shown) or 'none'}")
    if report.conflicts:
        changes = number_of(report.conflicts, "change")
        lines.append(f"{changes} by others meanwhile; those documents were read again")
    lines += long_and_empty(report)
    if report.failures_file:
        lines.append(f"failures: {report.failures_file}")
    if report.stopped:
        lines.append("stopped; the same command resumes, and skips what is up to date")
    return "\n".join([*lines, *alias_lines(result)])
