"""latent-ingest ingest: the main job."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from latent_ingest.cli.indices import moved
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
from latent_ingest.connector.corpus import CorpusFile, is_pipe
from latent_ingest.connector.engine.client import MAX_CONNECTIONS, Connection, EngineInfo
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.index.alias import Alias
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.indexing.ingest import Ingest
from latent_ingest.connector.indexing.journal import Journal, RunKey
from latent_ingest.connector.indexing.outcomes import IngestReport, check_place, default_path
from latent_ingest.connector.indexing.sender import CONCURRENCY
from latent_ingest.connector.indexing.versions import Build
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

Exit status: 0 every document is indexed, 1 some failed, 2 wrong usage or input, 130 interrupted.
"""
)
@click.argument("file")
@index_option
@click.option(
    "--alias",
    help="Build a new index ALIAS-<model>-<number>, and point the alias at it when it is complete "
    "and holds every document.",
)
@connection_options
@model_option
@compute_options
@click.option(
    "--id-field",
    default="_id,id",
    show_default=True,
    help="Where the id is; the first that is there counts.",
)
@click.option(
    "--text-fields", default=None, help="Fields that are encoded, by comma.  [default: title,text]"
)
@click.option(
    "--spelling",
    type=click.Choice(["repeat", "delimited"]),
    default=None,
    help="How counts are written; delimited needs OpenSearch 2.10.  [default: repeat]",
)
@click.option(
    "--long",
    type=click.Choice(LONG),
    default=None,
    help="Documents longer than the backbone's window: pool adds the latents of all their windows, "
    "chunks indexes one document a window and collapses them when searched, truncate leaves out "
    "what is beyond the first.  [default: pool]",
)
@click.option(
    "--ids",
    type=click.Choice(IDS),
    default=None,
    help="engine is for collections that refuse ids (managed serverless): the engine makes them, "
    "and a document may be there twice after a failure, which verify finds.  [default: document]",
)
@click.option("--scale", type=float, default=None, help="Factor on the counts.  [default: 1]")
@click.option("--analyzer", default=None, help="Of the words.  [default: english]")
@click.option("--latent-field", default=None, help="Where latent terms go.  [default: latent]")
@click.option(
    "--lean",
    is_flag=True,
    default=None,
    help="Leave latents out of _source: smaller on disk with --merge, but any later partial update "
    "of a document silently deletes its latents. Only for documents that are never updated.",
)
@click.option(
    "--merge",
    is_flag=True,
    help="Merge to one segment a shard at the end (slow, for indices that rest).",
)
@click.option(
    "--failures",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for lines that fail.  [default: FILE.failed.jsonl]",
)
@click.option(
    "--max-rejected",
    type=click.IntRange(min=0),
    help="End early when more lines than this fail.  [default: 1,000, or 1 % of the lines]",
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=1, max=MAX_CONNECTIONS),
    default=CONCURRENCY,
    show_default=True,
    help="Requests at once, at most; fewer while the engine is too busy.",
)
@give_up_option
@click.option("--restart", is_flag=True, help="From the beginning, not where a run was cut.")
@journal_option
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one object.")
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
    """Encode FILE (JSONL, plain or .gz; - is standard input) into latent terms and index it.

    The index is made when it is not there. Documents keep their fields and are searchable by
    words too. A document whose id is in the index already replaces it.

    What the engine has acknowledged is noted in a journal: a run that was cut, at any moment and
    by anything, is gone on with by the same command.

    With --alias the documents go into a new index while the one behind the alias is searched; a
    run that fails, is cut, or whose documents the index does not hold never moves the alias.
    --restart begins another new index.
    """
    source = click.get_current_context().get_parameter_source("index")
    if alias is not None and source is not ParameterSource.DEFAULT:
        raise click.UsageError("--alias names the index itself; leave --index out")
    wanted = {name: value for name, value in mapping.items() if value is not None}
    if text_fields is not None:
        wanted["text_fields"] = tuple(comma_list(text_fields))
    piped = is_pipe(file)
    if not piped:
        with CorpusFile(file):  # a wrong path is noticed before anything is loaded or made
            pass
    check_place(failures or default_path(file, index))
    client = connection.open()
    EngineInfo.read(client)  # once: a wrong address is said, not waited for
    retry = Retry(client, give_up_after=give_up_after)

    encoder = load_encoder(model, device, dtype)
    id_fields = comma_list(id_field)
    corpus = "-" if piped else str(Path(file).resolve())
    with ExitStack() as stack:
        book = stack.enter_context(closing(Journal(journal)))
        build = None
        if alias is not None:
            # Once: asked again, it might make a second version.
            build = Build.begin(
                Alias(client, alias), encoder, wanted, book, corpus, restart=restart
            )
            index = build.index.name
            stack.enter_context(build.refused_on_error())
        meta = retry.ask(open_index, client, index, encoder, wanted)
        key = RunKey(
            corpus=corpus,
            index=index,
            index_uuid=retry.ask(Index(client, index).uuid),
            settings={"id_fields": id_fields, "long": meta.long},
            command=resuming_command(),
        )
        once = None
        if meta.ids == "engine":
            # What comes from a pipe may be another text each time.
            may_double = restart or not piped
            if may_double and retry.ask(Index(client, index).holds_documents):
                again = "begin a new version with --restart" if build else "use --alias"
                once = (
                    f"the engine makes the ids of {index}, which has documents, so those of {file} "
                    f"might be there twice; {again}, or delete the index first"
                )
            warn(
                f"the engine makes the ids of {index}: documents there are never replaced, and "
                f"one may be there twice when a request or this run is cut; 'latent-ingest verify' "
                f"finds these"
            )
        run = book.open(key, restart=restart, reopen=build is not None, once=once)
        stack.enter_context(closing(run))
        job = Ingest(
            client,
            index,
            encoder,
            meta,
            file,
            id_fields=id_fields,
            failures=failures,
            merge_after=merge,
            max_rejected=max_rejected,
            concurrency=concurrency,
            give_up_after=give_up_after,
            run=run,
            warn=warn,
        )
        report = run_with_bar(job)
        refusal = build.finish(report, retry) if build else None
    if as_json:
        swap = {"index": index, "alias": alias, "alias_moved": not refusal} if build else {}
        click.echo(json.dumps(report.to_json() | swap))
    else:
        click.echo(summary(report, index, ids=meta.ids, restarted=restart))
        if build and not refusal:
            click.echo(moved(build.alias.name, build.before, index))
    if refusal:
        click.echo(f"Error: {refusal}", err=True)
    if report.stopped == "interrupted":
        raise click.exceptions.Exit(INTERRUPTED)
    if report.stopped:
        click.echo(f"Error: {report.stopped}", err=True)
    if not report.ok or refusal:
        raise click.exceptions.Exit(1)


def run_with_bar(job: Ingest) -> IngestReport:
    """Run with a progress bar; Ctrl-C once ends in good order, twice at once."""
    with progress_bar(
        total=job.file_bytes,
        unit="B",
        unit_scale=True,
        bar_format="{percentage:3.0f}% |{bar}| {desc} [{elapsed}, {remaining} left]"
        if job.file_bytes
        else "{desc} [{elapsed}]",
    ) as bar:

        def show(report: IngestReport, position: int) -> None:
            rate = report.tokens / max(report.seconds, 1e-9)
            bar.set_description_str(
                f"{report.indexed + report.replaced:,} documents, {rate:,.0f} tokens/s, "
                f"{report.failed:,} failed",
                refresh=False,
            )
            bar.update(position - bar.n)

        with stopping(job.stop):
            return job.run(show)


def summary(
    report: IngestReport, index: str, *, ids: str = "document", restarted: bool = False
) -> str:
    """The counts in lines for a person; they add up to the lines read."""
    promise = "doubles nothing" if ids == "document" else "may double what was under way"
    seconds = max(report.seconds, 1e-9)
    lines = [
        f"index {index}: {documents(report.indexed)} indexed in {report.seconds:,.1f} s "
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
        lines.append(f"{chunks} removed that documents had before and have no longer")
    if report.pooled:
        texts = number_of(report.pooled, "text")
        lines.append(f"{texts} longer than the backbone's window, pooled over several")
    if report.repeated:
        lines.append(
            f"{documents(report.repeated)} with an id that came before: all of them are there"
        )
    if report.truncated:
        texts = number_of(report.truncated, "text")
        lines.append(f"{texts} longer than the backbone's window, cut there")
    if report.empty:
        lines.append(f"{documents(report.empty)} without text, so without latents")
    if report.generated_ids:
        lines.append(f"{documents(report.generated_ids)} with an id made of the content")
    if report.bytes_a_document is not None and report.documents_in_index:
        noun = "chunk" if report.chunks else "document"
        lines.append(
            f"index size {report.bytes_a_document / 1000:,.1f} kB a {noun}, "
            f"{number_of(report.documents_in_index, noun)}"
        )
    if report.failures_file:
        lines.append(f"failures: {report.failures_file} (correct it and ingest it)")
    if report.stopped:
        same = "the same command without --restart" if restarted else "the same command"
        lines.append(f"stopped after line {report.lines:,}; {same} goes on and {promise}")
    return "\n".join(lines)


def documents(number: int) -> str:
    return number_of(number, "document")


def number_of(number: int, noun: str) -> str:
    """ "1 line", "2 lines"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
