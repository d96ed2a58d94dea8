"""latent-ingest ingest: ingest a corpus file (the default command)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from latent_ingest.cli.connection import connection_options
from latent_ingest.cli.options import (
    comma_list,
    compute_options,
    concurrency_option,
    give_up_option,
    id_field_option,
    index_option,
    journal_option,
    json_option,
    load_encoder,
    model_option,
    resuming_command,
)
from latent_ingest.cli.output import (
    alias_lines,
    documents,
    exit_after,
    long_and_empty,
    number_of,
    print_json,
    run_with_bar,
    size,
)
from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.indexing.job import IngestJob, JobResult
from latent_ingest.connector.indexing.outcomes import IngestReport
from latent_ingest.mappings import IDS, LONG


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
@id_field_option
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
@json_option
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
        index=None if alias is not None else index,
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
        print_json(result.to_json())
    else:
        click.echo(summary(result, restarted=restart))
    exit_after(result.report, result.refusal)


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
            f"index size {size(report.bytes_a_document)} per {noun}, "
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
