"""latent-ingest ingest, verify: ingest a corpus file (the default command); compare it."""

from __future__ import annotations

from typing import Any

import click

from latent_ingest.cli import jobs, options, values
from latent_ingest.cli.connection import connection_options, open_client
from latent_ingest.cli.output import (
    counted,
    print_json,
    print_lines,
    printable,
    progress_bar,
    size,
    sum_of,
)
from latent_ingest.connector.corpus.reading import Reading
from latent_ingest.connector.document import BadLine
from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.indexing.actions import IndexAction
from latent_ingest.connector.indexing.jobs.ingest_job import IngestJob
from latent_ingest.connector.indexing.jobs.job import JobResult
from latent_ingest.connector.indexing.on_ray.settings import OnRay
from latent_ingest.connector.indexing.on_ray.verify import RayVerification
from latent_ingest.connector.indexing.outcomes import IngestReport
from latent_ingest.connector.indexing.verify import EXAMPLES, Verification, VerifyReport
from latent_ingest.mappings import IDS, LONG

# Bad lines that --dry-run shows.
SHOWN_FAILURES = 10


@click.command(
    epilog="""\b
Examples:
  latent-ingest corpus.jsonl
  latent-ingest corpus.jsonl.gz --index papers --text-fields title,abstract
  latent-ingest corpus.jsonl --alias papers
  latent-ingest articles.csv --index papers --map title=headline,text=body
  latent-ingest 'data/*.parquet' --index papers --sample 1000
  latent-ingest 's3://bucket/corpus/*.parquet' --index papers
  latent-ingest articles.csv --dry-run
  latent-ingest 'corpus/*.jsonl.gz' --alias papers --shard 2/8
  latent-ingest 'corpus/*.jsonl.gz' --alias papers --on ray --encoders 8 --gpus-per-encoder 1
  zcat corpus.jsonl.gz | latent-ingest - --index papers
  latent-ingest books.jsonl --index books --long chunks
  latent-ingest corpus.jsonl --index papers --ids engine
  latent-ingest corpus.jsonl --url https://host:9200 --user u --password-env PW
  latent-ingest corpus.jsonl --url https://my.eu-west-1.es.amazonaws.com --aws-region eu-west-1

Exit status: 0 if every document is indexed, 1 if some failed, 2 for wrong usage or input, 130 if
interrupted.
"""
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--index", help="Name of the index.  [default: latent]")
@click.option(
    "--alias",
    help="Build a new index ALIAS-<model>-<number>, and point the alias at it once it holds every "
    "document.",
)
@connection_options
@options.model
@options.reading
@options.id_fields
@click.option(
    "--text-fields",
    type=values.NameList(),
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
    type=values.OUTPUT_FILE,
    help="File for lines that fail.  [default: FILE.failed.jsonl]",
)
@click.option(
    "--max-rejected",
    type=click.IntRange(min=0),
    help="End early if more lines than this fail.  [default: 1,000, or 1 % of the lines]",
)
@options.on
@options.encoders
@options.gpus_per_encoder
@click.option(
    "--shard",
    metavar="K/N",
    help="Index only part K of N, by document ids; N commands, on any machines, index all. The "
    "last of them moves the alias.",
)
@options.concurrency
@options.give_up_after
@click.option(
    "--restart", is_flag=True, help="Start from the beginning instead of resuming the run."
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print the first three documents as they would be sent, and ask no engine.",
)
@options.journal
@options.as_json
def ingest(
    files: tuple[str, ...],
    connection: Connection,
    model: options.ChosenModel,
    dry_run: bool,
    on: str | None,
    encoders: int | None,
    gpus_per_encoder: float | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Encode the documents of files into latent terms and index them.

    FILE is a file, a folder, a pattern or - for standard input: JSONL, a JSON array, CSV, Parquet,
    Arrow or a bulk request, plain or compressed. s3:// names files of a bucket, hf:// those of the
    Hugging Face hub.

    The index is created if it does not exist. Documents keep their fields and are also searchable
    by words. A document replaces the one with the same id.

    A journal notes what the engine has acknowledged: the same command resumes an interrupted run.

    With --alias, the documents go into a new index while the current one is searched. The alias is
    moved only if the run succeeds and the new index holds every document. --restart builds another
    new index.
    """
    job = IngestJob(
        connection.open(),
        files,
        encoder=(model.absolute() if on else model).load,
        on=options.on_ray(connection, on, encoders, gpus_per_encoder),
        command=options.resuming_command(),
        **settings,
    )
    if dry_run:
        show(job)
        return
    with jobs.quiet(on is not None):
        result = jobs.run_with_bar(job)
    jobs.finish(result, summary(result, job.unit, restarted=job.restart), as_json=as_json)


def show(job: IngestJob) -> None:
    """Print the first documents as lines of a bulk request; exit with 1 if a line before is bad."""
    found = job.preview()
    bad = [line for line in found if isinstance(line, BadLine)]
    for line in bad[:SHOWN_FAILURES]:
        click.echo(f"{job.where(line.line)}: {printable(line.reason)}", err=True)
    for action in found:
        if isinstance(action, IndexAction):
            print_lines(action.body.decode().splitlines())
    click.echo(
        f"{counted(len(found) - len(bad), 'document')} as sent to a new index, "
        f"{len(bad)} failed; nothing was sent",
        err=True,
    )
    if bad:
        raise click.exceptions.Exit(1)


def summary(result: JobResult[IngestReport], unit: str, *, restarted: bool) -> list[str]:
    """The counts in lines for a person; they add up to the lines, rows or items read."""
    report = result.report
    indexed, chunks = counted(report.indexed, "document"), counted(report.chunks, "chunk")
    parts = {
        "indexed": report.indexed,
        f"replaced by a later {unit} with the same id": report.replaced,
        "failed": report.failed,
        "not sent": report.not_sent,
        "blank": report.blank,
        "of other shards": report.of_other_shards,
    }
    resumed = counted(report.resumed_after, unit)
    removed = counted(report.removed_chunks, "chunk")
    repeated = counted(report.repeated, "document")
    generated = counted(report.generated_ids, "document")
    lines = [
        jobs.first_line(result, report.indexed, "indexed"),
        f"{counted(report.lines, unit)} = {sum_of(parts)}",
        *jobs.notes(
            (report.resumed_after, f"{resumed} of these by an earlier run"),
            (report.chunks, f"{indexed} in {chunks}"),
            (report.removed_chunks, f"{removed} deleted that documents no longer have"),
            (report.repeated, f"{repeated} with the id of an earlier {unit}: all are in the index"),
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
        lines.append(f"stopped after {unit} {report.lines:,}; {same} resumes and {promise}")
    return lines


@click.command(
    epilog="""\b
Examples:
  latent-ingest verify corpus.jsonl --index papers
  latent-ingest verify articles.csv --index papers --map title=headline,text=body
  latent-ingest verify corpus.jsonl.gz --index papers --json
  latent-ingest verify 'corpus/*.jsonl.gz' --index papers --on ray

Exit status: 0 if the index holds exactly the file, 1 if not, 2 for wrong usage or input.
"""
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@options.index
@connection_options
@options.reading
@options.id_fields
@options.on
@options.as_json
def verify(
    files: tuple[str, ...],
    index: str,
    connection: Connection,
    reading: Reading,
    id_fields: list[str],
    on: str | None,
    as_json: bool,
) -> None:
    """Compare every document of the files with the index: missing, extra, different, stale.

    Fields are compared one by one. Latent terms must exist, also if _source excludes them (--lean),
    but are not computed again; they are stale if the text was changed in the index after it was
    encoded. In an index of chunks, all chunks of a document must exist and cover its text.
    """
    client = open_client(connection, index)
    found = Index.find(client, index)
    if found is None:
        raise InputError(f"no index {index}; ingest {files[0]} first, or name another with --index")
    named: dict[str, Any] = {"reading": reading, "id_fields": id_fields}
    if on:
        job: Verification = RayVerification(found, files, on=OnRay(connection), **named)
    else:
        job = Verification(found, files, **named)
    bar_of = {"total": 2 * (job.file_bytes or 0), "unit": "B", "unit_scale": True}
    with jobs.quiet(on is not None), progress_bar(**bar_of) as bar:

        def show(position: int) -> None:
            bar.update(position - bar.n)

        report = job.run(show)
    if as_json:
        print_json(report.to_json())
    else:
        print_lines(comparison(report, job.name, found.name, job.unit))
    if not report.ok:
        raise click.exceptions.Exit(1)


def comparison(report: VerifyReport, file: str, index: str, unit: str) -> list[str]:
    """The counts, which add up to the lines read, and the first differences of each kind."""
    verdict = "is exactly" if report.ok else "is not"
    kinds = {
        "failed": report.failed,
        "missing": report.missing,
        "different": report.different,
        "stale": report.stale,
    }
    parts = {
        "same": report.same,
        f"replaced by a later {unit} with the same id": report.replaced,
        **{name: kind.count for name, kind in kinds.items()},
        "blank": report.blank,
    }
    lines = [f"index {index} {verdict} {file}", f"{report.lines:,} {unit}s = {sum_of(parts)}"]
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
