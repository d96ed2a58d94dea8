"""latent-ingest verify: compare a corpus file with an index."""

from __future__ import annotations

import click

from latent_ingest.cli import options
from latent_ingest.cli.connection import connection_options, open_client
from latent_ingest.cli.output import print_json, print_lines, progress_bar, sum_of
from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.indexing.verify import EXAMPLES, Verification, VerifyReport


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
        print_lines(summary(report, file, found.name))
    if not report.ok:
        raise click.exceptions.Exit(1)


def summary(report: VerifyReport, file: str, index: str) -> list[str]:
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
