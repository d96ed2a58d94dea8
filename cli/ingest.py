"""latent-ingest ingest: ingest a corpus file (the default command)."""

from __future__ import annotations

import json
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from tqdm import tqdm

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
)
from latent_ingest.connector.engine.client import MAX_CONNECTIONS, Connection
from latent_ingest.connector.indexing.enrich import EnrichReport
from latent_ingest.connector.indexing.job import IngestJob, JobResult
from latent_ingest.connector.indexing.outcomes import IngestReport
from latent_ingest.connector.indexing.sender import CONCURRENCY
from latent_ingest.mappings import IDS, LONG

concurrency_option = click.option(
    "--concurrency",
    type=click.IntRange(min=1, max=MAX_CONNECTIONS),
    default=CONCURRENCY,
    show_default=True,
    help="Maximum number of concurrent requests; fewer while the engine is busy.",
)


@click.command(
    epilog="""\b
Examples:
  latent-ingest corpus.jsonl
  latent-ingest corpus.jsonl.gz --index papers --text-fields title,abstract
  latent-ingest corpus.jsonl --alias papers
  zcat corpus.jsonl.gz | latent-ingest - --index papers
  latent-ingest books.jsonl --index books --long chunks
  latent-ingest corpus.jsonl --index papers --ids engine
  latent-ingest corpus.jsonl --url https://host:9200 --user u --password-env PW
  latent-ingest corpus.jsonl --url https://my.eu-west-1.es.amazonaws.com --aws-region eu-west-1

Exit status: 0 if every document is indexed, 1 if some failed, 2 for wrong usage or input, 130 if
interrupted.
"""
)
@click.argument("file")
@index_option
@click.option(
    "--alias",
    help="Build a new index ALIAS-<model>-<number>, and point the alias at it once it holds every "
    "document.",
)
@connection_options
@model_option
@compute_options
@click.option(
    "--id-field",
    default="_id,id",
    show_default=True,
    help="Id fields, separated by commas; the first that a document has is its id.",
)
@click.option(
    "--text-fields",
    default=None,
    help="Fields to encode, separated by commas.  [default: title,text]",
)
@click.option(
    "--spelling",
    type=click.Choice(["repeat", "delimited"]),
    default=None,
    help="Spelling of counts; delimited needs OpenSearch 2.10.  [default: repeat]",
)
@click.option(
    "--long",
    type=click.Choice(LONG),
    default=None,
    help="Documents longer than the backbone window: pool sums the latents of all windows, chunks "
    "indexes one document per window and collapses them in searches, truncate encodes the first "
    "window only.  [default: pool]",
)
@click.option(
    "--ids",
    type=click.Choice(IDS),
    default=None,
    help="Use engine for collections that refuse ids (managed serverless): the engine makes them, "
    "and after a failure a document may be there twice, which verify finds.  [default: document]",
)
@click.option("--scale", type=float, default=None, help="Factor on the counts.  [default: 1]")
@click.option("--analyzer", default=None, help="Analyzer of the words.  [default: english]")
@click.option("--latent-field", default=None, help="Field of latent terms.  [default: latent]")
@click.option(
    "--lean",
    is_flag=True,
    default=None,
    help="Exclude latent terms from _source: smaller on disk with --merge, but any later partial "
    "update of a document silently deletes them. Only for documents that are never updated.",
)
@click.option(
    "--merge",
    is_flag=True,
    help="Merge each shard to one segment at the end (slow; for indices that do not change).",
)
@click.option(
    "--failures",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for lines that fail.  [default: FILE.failed.jsonl]",
)
@click.option(
    "--max-rejected",
    type=click.IntRange(min=0),
    help="End early if more lines than this fail.  [default: 1,000, or 1 % of the lines]",
)
@concurrency_option
@give_up_option
@click.option(
    "--restart", is_flag=True, help="Start from the beginning instead of resuming the run."
)
@journal_option
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
def ingest(
    file: str,
    index: str,
    alias: str | None,
    connection: Connection,
    model: Path | None,
    device: str,
    dtype: str,
    id_field: str,
    text_fields: str | None,
    merge: bool,
    failures: Path | None,
    max_rejected: int | None,
    concurrency: int,
    give_up_after: float,
    restart: bool,
    journal: Path | None,
    as_json: bool,
    **mapping: Any,
) -> None:
    """Encode FILE (JSONL, plain or .gz; - for standard input) into latent terms and index it.

    The index is created if it does not exist. Documents keep their fields and are also searchable
    by words. A document replaces the one with the same id.

    A journal notes what the engine has acknowledged: the same command resumes an interrupted run.

    With --alias, the documents go into a new index while the current one is searched. The alias is
    moved only if the run succeeds and the new index holds every document. --restart builds another
    new index.
    """
    source = click.get_current_context().get_parameter_source("index")
    if alias is not None and source is not ParameterSource.DEFAULT:
        raise click.UsageError("--alias names the index itself; leave --index out")
    job = IngestJob(
        connection.open(),
        file,
        index=None if alias else index,
        alias=alias,
        encoder=partial(load_encoder, model, device, dtype),
        id_fields=comma_list(id_field),
        text_fields=None if text_fields is None else comma_list(text_fields),
        failures=failures,
        merge=merge,
        max_rejected=max_rejected,
        concurrency=concurrency,
        give_up_after=give_up_after,
        restart=restart,
        journal=journal,
        command=resuming_command(),
        **mapping,
    )
    result = run_with_bar(job)
    if as_json:
        click.echo(json.dumps(result.to_json()))
    else:
        click.echo(summary(result, restarted=restart))
    exit_after(result)


def exit_after(result: JobResult[Any]) -> None:
    """End the command as its job ended: print errors and exit with 1 or 130, or return."""
    if result.refusal:
        click.echo(f"Error: {result.refusal}", err=True)
    if result.report.stopped == "interrupted":
        raise click.exceptions.Exit(INTERRUPTED)
    if result.report.stopped:
        click.echo(f"Error: {result.report.stopped}", err=True)
    if not result.ok:
        raise click.exceptions.Exit(1)


def run_with_bar(job: IngestJob) -> JobResult[IngestReport]:
    """Run with a progress bar; Ctrl-C ends the run in good order, a second one exits at once."""
    bar_format = "{desc} [{elapsed}]"
    if job.file_bytes:
        bar_format = "{percentage:3.0f}% |{bar}| {desc} [{elapsed}, {remaining} left]"
    with ExitStack() as stack:

        @cache
        def bar() -> tqdm[Any]:
            """Shown from when the model is loaded and the run starts."""
            stack.enter_context(stopping(job.stop))
            shown = progress_bar(
                total=job.file_bytes, unit="B", unit_scale=True, bar_format=bar_format
            )
            return stack.enter_context(shown)

        def show(report: IngestReport, position: int) -> None:
            rate = report.tokens / max(report.seconds, 1e-9)
            bar().set_description_str(
                f"{report.indexed + report.replaced:,} documents, {rate:,.0f} tokens/s, "
                f"{report.failed:,} failed",
                refresh=False,
            )
            bar().update(position - bar().n)

        return job.run(show)


def summary(result: JobResult[IngestReport], *, restarted: bool) -> str:
    """The counts in lines for a person; they add up to the lines read."""
    report = result.report
    seconds = max(report.seconds, 1e-9)
    lines = [
        f"index {result.index}: {documents(report.indexed)} indexed in {report.seconds:,.1f} s "
        f"({report.tokens:,} tokens, {report.tokens / seconds:,.0f} tokens/s)"
    ]
    parts = {
        "indexed": report.indexed,
        "replaced by a later line with the same id": report.replaced,
        "failed": report.failed,
        "not sent": report.not_sent,
        "blank": report.blank,
    }
    shown = [f"{number:,} {name}" for name, number in parts.items() if number]
    lines.append(f"{number_of(report.lines, 'line')} = {' + '.join(shown) or 'none'}")
    if report.resumed_after:
        lines.append(f"{number_of(report.resumed_after, 'line')} of these by an earlier run")
    if report.chunks:
        lines.append(f"{documents(report.indexed)} in {number_of(report.chunks, 'chunk')}")
    if report.removed_chunks:
        chunks = number_of(report.removed_chunks, "chunk")
        lines.append(f"{chunks} deleted that documents no longer have")
    if report.repeated:
        lines.append(
            f"{documents(report.repeated)} with the id of an earlier line: all are in the index"
        )
    lines += long_and_empty(report)
    if report.generated_ids:
        lines.append(f"{documents(report.generated_ids)} with an id made of the content")
    if report.bytes_a_document is not None and report.documents_in_index:
        noun = "chunk" if report.chunks else "document"
        lines.append(
            f"index size {report.bytes_a_document / 1000:,.1f} kB per {noun}, "
            f"{number_of(report.documents_in_index, noun)}"
        )
    if report.failures_file:
        lines.append(f"failures: {report.failures_file} (correct it and ingest it)")
    if report.stopped:
        same = "the same command without --restart" if restarted else "the same command"
        promise = "duplicates nothing"
        if result.meta.ids == "engine":
            promise = "may duplicate documents in flight"
        lines.append(f"stopped after line {report.lines:,}; {same} resumes and {promise}")
    return "\n".join([*lines, *alias_lines(result)])


def long_and_empty(report: IngestReport | EnrichReport) -> list[str]:
    """Lines about texts that are longer than the backbone window, or have no latents."""
    lines = []
    if report.pooled:
        texts = number_of(report.pooled, "text")
        lines.append(f"{texts} longer than the backbone window, pooled over several windows")
    if report.truncated:
        texts = number_of(report.truncated, "text")
        lines.append(f"{texts} longer than the backbone window, truncated")
    if report.empty:
        lines.append(f"{documents(report.empty)} without text, so without latents")
    return lines


def alias_lines(result: JobResult[Any]) -> list[str]:
    """The line that says where an alias points now, if it was moved."""
    if result.alias is None or result.refusal:
        return []
    before = f": {result.before}" if result.before else ""
    return [f"alias {result.alias}{before} → {result.index}"]


def documents(number: int) -> str:
    return number_of(number, "document")


def number_of(number: int, noun: str) -> str:
    """The number with its noun: "1 line", "2 lines"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
