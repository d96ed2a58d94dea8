"""latent-ingest ingest, verify: ingest a corpus file (the default command); compare it."""

from __future__ import annotations

from typing import Any

import click

from latent_ingest.cli import jobs, options
from latent_ingest.cli.connection import connection_options, open_client
from latent_ingest.cli.output import (
    counted,
    print_json,
    print_lines,
    progress_bar,
    size,
    sum_of,
)
from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.indexing.job import IngestJob, JobResult
from latent_ingest.connector.indexing.outcomes import IngestReport
from latent_ingest.connector.indexing.verify import EXAMPLES, Verification, VerifyReport
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
@click.option("--index", help="Name of the index.  [default: latent]")
@click.option(
    "--alias",
    help="Build a new index ALIAS-<model>-<number>, and point the alias at it once it holds every "
    "document.",
)
@connection_options
@options.model
@options.id_fields
@click.option(
    "--text-fields",
    type=options.NameList(),
    help="Fields to encode, separated by commas; a.b inside objects.  [default: title,text]",
)
@options.spelling
@click.option(
    "--long",
    type=click.Choice(LONG),
    help="Documents longer than the backbone window: pool sums the latents of all windows, chunks "
    "indexes one document per window and collapses them in searches, truncate encodes the first "
    "window only.  [default: pool]",
)
@click.option(
    "--ids",
    type=click.Choice(IDS),
    help="Use engine for collections that refuse ids (managed serverless): the engine makes them, "
    "and after a failure a document may be there twice, which verify finds.  [default: document]",
)
@click.option("--scale", type=float, help="Factor on the counts.  [default: 1]")
@click.option("--analyzer", help="Analyzer of the words.  [default: english]")
@options.latent_field
@options.no_questions
@options.question_words
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
    type=options.OUTPUT_FILE,
    help="File for lines that fail.  [default: FILE.failed.jsonl]",
)
@click.option(
    "--max-rejected",
    type=click.IntRange(min=0),
    help="End early if more lines than this fail.  [default: 1,000, or 1 % of the lines]",
)
@options.concurrency
@options.give_up_after
@click.option(
    "--restart", is_flag=True, help="Start from the beginning instead of resuming the run."
)
@options.journal
@options.as_json
def ingest(
    file: str, connection: Connection, model: options.ChosenModel, as_json: bool, **settings: Any
) -> None:
    """Encode FILE (JSONL, plain or .gz; - for standard input) into latent terms and index it.

    The index is created if it does not exist. Documents keep their fields and are also searchable
    by words. A document replaces the one with the same id.

    A journal notes what the engine has acknowledged: the same command resumes an interrupted run.

    With --alias, the documents go into a new index while the current one is searched. The alias is
    moved only if the run succeeds and the new index holds every document. --restart builds another
    new index.
    """
    job = IngestJob(
        connection.open(), file, encoder=model.load, command=options.resuming_command(), **settings
    )
    result = jobs.run_with_bar(job)
    jobs.finish(result, summary(result, restarted=job.restart), as_json=as_json)


def summary(result: JobResult[IngestReport], *, restarted: bool) -> list[str]:
    """The counts in lines for a person; they add up to the lines read."""
    report = result.report
    indexed, chunks = counted(report.indexed, "document"), counted(report.chunks, "chunk")
    parts = {
        "indexed": report.indexed,
        "replaced by a later line with the same id": report.replaced,
        "failed": report.failed,
        "not sent": report.not_sent,
        "blank": report.blank,
    }
    resumed = counted(report.resumed_after, "line")
    removed = counted(report.removed_chunks, "chunk")
    repeated = counted(report.repeated, "document")
    generated = counted(report.generated_ids, "document")
    lines = [
        jobs.first_line(result, report.indexed, "indexed"),
        f"{counted(report.lines, 'line')} = {sum_of(parts)}",
        *jobs.notes(
            (report.resumed_after, f"{resumed} of these by an earlier run"),
            (report.chunks, f"{indexed} in {chunks}"),
            (report.removed_chunks, f"{removed} deleted that documents no longer have"),
            (report.repeated, f"{repeated} with the id of an earlier line: all are in the index"),
        ),
        *jobs.long_and_empty(report),
        *jobs.notes((report.generated_ids, f"{generated} with an id made of the content")),
    ]
    if report.bytes_a_document is not None and report.documents_in_index:
        noun = "chunk" if report.chunks else "document"
        lines.append(
            f"index size {size(report.bytes_a_document)} per {noun}, "
            f"{counted(report.documents_in_index, noun)}"
        )
    if report.failures_file:
        lines.append(f"failures: {report.failures_file} (correct it and ingest it)")
    if report.stopped:
        same = "the same command without --restart" if restarted else "the same command"
        promise = "duplicates nothing"
        if result.meta.ids == "engine":
            promise = "may duplicate documents in flight"
        lines.append(f"stopped after line {report.lines:,}; {same} resumes and {promise}")
    return lines


@click.command(
    epilog="""\b
Examples:
  latent-ingest verify corpus.jsonl --index papers
  latent-ingest verify corpus.jsonl.gz --index papers --json

Exit status: 0 if the index holds exactly the file, 1 if not, 2 for wrong usage or input.
"""
)
@click.argument("file")
@options.index
@connection_options
@options.id_fields
@options.as_json
def verify(
    file: str, index: str, connection: Connection, id_fields: list[str], as_json: bool
) -> None:
    """Compare every line of FILE with the index: missing, extra, different, stale documents.

    Fields are compared one by one. Latent terms must exist, also if _source excludes them (--lean),
    but are not computed again; they are stale if the text was changed in the index after it was
    encoded. In an index of chunks, all chunks of a document must exist and cover its text.
    """
    client = open_client(connection, index)
    found = Index.find(client, index)
    if found is None:
        raise InputError(f"no index {index}; ingest {file} first, or name another with --index")
    job = Verification(found, file, id_fields=id_fields)
    with progress_bar(total=2 * (job.file_bytes or 0), unit="B", unit_scale=True) as bar:

        def show(position: int) -> None:
            bar.update(position - bar.n)

        report = job.run(show)
    if as_json:
        print_json(report.to_json())
    else:
        print_lines(comparison(report, file, found.name))
    if not report.ok:
        raise click.exceptions.Exit(1)


def comparison(report: VerifyReport, file: str, index: str) -> list[str]:
    """The counts, which add up to the lines, and the first differences of each kind."""
    verdict = "is exactly" if report.ok else "is not"
    kinds = {
        "failed": report.failed,
        "missing": report.missing,
        "different": report.different,
        "stale": report.stale,
    }
    parts = {
        "same": report.same,
        "replaced by a later line with the same id": report.replaced,
        **{name: kind.count for name, kind in kinds.items()},
        "blank": report.blank,
    }
    lines = [f"index {index} {verdict} {file}", f"{report.lines:,} lines = {sum_of(parts)}"]
    for name, kind in {**kinds, "extra": report.extra, "doubled": report.doubled}.items():
        if kind.count:
            lines.append(f"{name}: {kind.count:,}")
            lines += [f"  {example}" for example in kind.examples]
            if kind.count > EXAMPLES:
                lines.append(f"  ... and {kind.count - EXAMPLES:,} more")
    if report.doubled.count:
        lines.append(
            "to have each document once, build a new index with --alias, or delete the duplicates"
        )
    return lines
