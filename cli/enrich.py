"""latent-ingest enrich: latent terms for an index that is there already."""

from __future__ import annotations

import json
import sys
import threading
import warnings
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import click

from latent_ingest.cli.connection import open_client
from latent_ingest.cli.indices import moved
from latent_ingest.cli.ingest import documents, number_of
from latent_ingest.cli.options import (
    INTERRUPTED,
    comma_list,
    compute_options,
    connection_options,
    give_up_option,
    index_option,
    journal_option,
    load_encoder,
    model_option,
    progress_bar,
    resuming_command,
    stopping,
    warn,
)
from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.alias import Alias
from latent_ingest.connector.index.preparing import ExistingIndex, Preparation, plan, prepare
from latent_ingest.connector.indexing.copying import Copy
from latent_ingest.connector.indexing.enrich import Enrich, EnrichReport
from latent_ingest.connector.indexing.journal import Journal, RunKey
from latent_ingest.connector.indexing.outcomes import check_place, default_path


@click.command(
    epilog="""\b
Examples:
  latent-ingest enrich --index products --text-fields title,body
  latent-ingest enrich --index products                         later: what is new or changed
  latent-ingest enrich --index products --text-fields title --yes --json
  latent-ingest enrich --index products --text-fields title --alias shop

Exit status: 0 every document has the latent terms of its text, 1 some have not, 2 wrong usage or
input, 130 interrupted.
"""
)
@index_option
@connection_options
@model_option
@compute_options
@click.option(
    "--text-fields",
    default=None,
    help="Fields that are encoded, by comma, a.b inside objects. Needed the first time.",
)
@click.option(
    "--spelling",
    type=click.Choice(["repeat", "delimited"]),
    default=None,
    help="How counts are written; delimited needs OpenSearch 2.10.  [default: repeat]",
)
@click.option("--latent-field", default=None, help="Where latent terms go.  [default: latent]")
@click.option(
    "--alias",
    help="Leave the index as it is: copy it to a new one ALIAS-<model>-<number>, and point the "
    "alias at that when it is complete and holds every document.",
)
@click.option(
    "--restart", is_flag=True, help="With --alias: another copy, not the one where a run was cut."
)
@click.option("--yes", is_flag=True, help="Close the index for a moment without asking.")
@click.option(
    "--failures",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for documents that fail.  [default: INDEX.failed.jsonl]",
)
@give_up_option
@journal_option
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one object.")
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
    give_up_after: float,
    journal: Path | None,
    as_json: bool,
    **mapping: Any,
) -> None:
    """Add latent terms to an index that is there already, or bring them up to date.

    Documents are read from the index, encoded, and updated in place; their other fields stay as
    they are, and what somebody else writes meanwhile is never overwritten. Documents whose text has
    not changed since they were encoded are skipped: so the same command goes on where a run was
    cut, and is the job to run every night.

    The first time, the index is closed for a moment to add the analyzer and the similarity. With
    --alias it is not: a copy of it gets latent terms, while it goes on being searched, and takes
    the alias if nothing was written to the index meanwhile; writes in the moment of the move are
    refused.
    """
    if restart and alias is None:
        raise click.UsageError("--restart is for --alias; without, nothing is ever done twice")
    wanted = {name: value for name, value in mapping.items() if value is not None}
    if text_fields is not None:
        wanted["text_fields"] = tuple(comma_list(text_fields))
    check_place(failures or default_path("-", index))
    client = open_client(connection, index)
    existing = ExistingIndex.read(client, index)

    encoder = load_encoder(model, device, dtype)
    if alias is not None:
        copy = Copy.begin(existing, Alias(client, alias), encoder, wanted, restart=restart)
        preparation = copy.preparation
    else:
        copy = None
        preparation = plan(existing, encoder, wanted)
        ask(preparation, yes)
    name = preparation.index.name
    key = RunKey(
        corpus=f"index:{existing.name}",
        index=name,
        index_uuid=preparation.index.index.uuid(),
        command=resuming_command(),
    )
    with (
        closing(Journal(journal)) as book,
        closing(book.open(key, restart=True)) as run,
        copy.build.refused_on_error() if copy else nullcontext(),
    ):
        job = Enrich(
            client,
            preparation,
            encoder,
            failures=failures,
            give_up_after=give_up_after,
            run=run,
            warn=warn,
        )
        retry = Retry(client, give_up_after=give_up_after, ended=job.ended)
        with stopping(job.stop):
            if copy:
                fill_with_bar(copy, retry, job.ended)
            else:
                prepare(preparation)
            report = run_with_bar(job)
        refusal = copy.finish(report, retry) if copy else None
    if as_json:
        swap = {"index": name, "alias": alias, "alias_moved": not refusal} if copy else {}
        click.echo(json.dumps(report.to_json() | swap))
    else:
        click.echo(summary(report, name))
        if copy and not refusal:
            click.echo(moved(copy.build.alias.name, copy.build.before, name))
    if refusal:
        click.echo(f"Error: {refusal}", err=True)
    if report.stopped == "interrupted":
        raise click.exceptions.Exit(INTERRUPTED)
    if report.stopped:
        click.echo(f"Error: {report.stopped}", err=True)
    if not report.ok or refusal:
        raise click.exceptions.Exit(1)


def ask(preparation: Preparation, yes: bool) -> None:
    """Have what people will notice confirmed; InputError where nobody can be asked."""
    warning = preparation.warning
    if not warning:
        return
    if yes:
        warn(warning)
    elif not sys.stdin.isatty():
        raise InputError(f"{warning}; agree with --yes")
    else:
        click.confirm(f"{warning}. Go on?", abort=True, err=True)


def fill_with_bar(copy: Copy, retry: Retry, ended: threading.Event) -> None:
    """Copy with a progress bar."""
    # Asking for a task that is done reads an index of the engine's own, and it says so each time.
    warnings.filterwarnings("ignore", message="this request accesses system indices")
    with progress_bar(unit=" documents", desc="copying") as bar:

        def show(done: int, of: int) -> None:
            bar.total = of
            bar.update(done - bar.n)

        copy.fill(retry, ended, show)


def run_with_bar(job: Enrich) -> EnrichReport:
    """Run with a progress bar."""
    with progress_bar(unit=" documents") as bar:

        def show(report: EnrichReport) -> None:
            bar.total = job.documents
            rate = report.tokens / max(report.seconds, 1e-9)
            bar.set_description_str(
                f"{report.encoded:,} encoded, {rate:,.0f} tokens/s, {report.failed:,} failed",
                refresh=False,
            )
            bar.update(report.read - report.left - bar.n)

        return job.run(show)


def summary(report: EnrichReport, index: str) -> str:
    """The counts in lines for a person; they add up to the documents read."""
    seconds = max(report.seconds, 1e-9)
    lines = [
        f"index {index}: {documents(report.encoded)} encoded in {report.seconds:,.1f} s "
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
        lines.append(f"{changes} by others met meanwhile; those documents were read again")
    if report.pooled:
        texts = number_of(report.pooled, "text")
        lines.append(f"{texts} longer than the backbone's window, pooled over several")
    if report.truncated:
        texts = number_of(report.truncated, "text")
        lines.append(f"{texts} longer than the backbone's window, cut there")
    if report.empty:
        lines.append(f"{documents(report.empty)} without text, so without latents")
    if report.failures_file:
        lines.append(f"failures: {report.failures_file}")
    if report.stopped:
        lines.append("stopped; the same command goes on, and skips what is up to date")
    return "\n".join(lines)
