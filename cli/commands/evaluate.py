"""latent-ingest evaluate: whether latent terms are worth it on a collection, and by how much."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from latent_ingest.cli.commands.evaluation_table import collection_lines
from latent_ingest.cli.connection import connection_options
from latent_ingest.cli.options import (
    cache_option,
    comma_list,
    compute_options,
    journal_option,
    load_encoder,
    model_option,
    resuming_command,
)
from latent_ingest.cli.output import INTERRUPTED, print_json, progress_bar, run_with_bar, warn
from latent_ingest.connector.engine.client import Connection, EngineInfo
from latent_ingest.connector.errors import EngineError, InputError
from latent_ingest.connector.evaluation.systems import SYSTEMS
from latent_ingest.connector.index.repair import repair

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

    from latent_ingest.connector.encoding.encoder import LatentEncoder
    from latent_ingest.connector.evaluation.collection import Collection
    from latent_ingest.connector.indexing.outcomes import IngestReport


@click.command(
    epilog="""\b
Examples:
  latent-ingest evaluate scifact/ nfcorpus/ --out report/
  latent-ingest evaluate mine/ --index papers --systems words,latent,hybrid
  latent-ingest evaluate mine/ --index papers --system ours=body.json --json
  latent-ingest evaluate ir_datasets:beir/scifact/test

body.json is a request as it is sent today, with {{question}} where the question goes.
"""
)
@click.argument("names", metavar="COLLECTION...", nargs=-1, required=True)
@click.option("--index", default=None, help="Index name.  [default: evaluate-COLLECTION-MODEL]")
@click.option("--split", default="test", show_default=True, help="Which of qrels/*.tsv.")
@click.option("--systems", help=f"What to compare, by comma.  [default: {','.join(SYSTEMS)}]")
@click.option("--system", "specs", multiple=True, metavar="NAME=FILE", help="A request of yours.")
@click.option("--measures", help="Of ir-measures.  [default: nDCG@10,R@100,RR@10,AP@100]")
@click.option("--limit-queries", type=click.IntRange(min=1), help="Ask so many, drawn by lot.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for report.html, report.json, TREC runs and the values of each query.",
)
@cache_option
@connection_options
@model_option
@compute_options
@journal_option
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the report as one object; of one collection, the means are at its top, as "
    "`systems`.",
)
def evaluate(
    names: tuple[str, ...],
    index: str | None,
    split: str,
    systems: str | None,
    specs: tuple[str, ...],
    measures: str | None,
    limit_queries: int | None,
    out: Path | None,
    cache: Path | None,
    connection: Connection,
    model: Path | None,
    device: str,
    dtype: str,
    journal: Path | None,
    as_json: bool,
) -> None:
    """Compare words, dense, latent and hybrid on collections with judgements.

    A COLLECTION is a folder in BEIR's layout (corpus.jsonl, queries.jsonl, qrels/test.tsv), or one
    with TREC's files beside the corpus (topics*, qrels*), or ir_datasets:NAME.

    All systems but dense, the exact cosine of the backbone's own vectors in memory, go through the
    engine. The index is made when it does not hold the collection; with --index, one that is there
    already is measured as it is.
    """
    from latent_ingest.connector.evaluation import evaluate as evaluation
    from latent_ingest.connector.evaluation.dense import default_cache
    from latent_ingest.connector.evaluation.measures import DEFAULT_MEASURES, parse_measures
    from latent_ingest.connector.evaluation.report import ReportFolder, new_report
    from latent_ingest.connector.evaluation.systems import Template

    chosen = comma_list(systems) if systems else None
    if unknown := set(chosen or ()) - set(SYSTEMS):
        raise InputError(f"--systems: {min(unknown)!r}: use some of {','.join(SYSTEMS)}")
    templates = tuple(Template.load(spec) for spec in specs)
    if len({template.name for template in templates}) < len(templates):
        raise InputError("--system: the same name twice; name each differently")
    if index and len(names) > 1:
        raise InputError("--index is for one collection; leave it out, or evaluate one by one")
    cache = cache or default_cache()
    plan = evaluation.Plan(
        tuple(dict.fromkeys(chosen)) if chosen else None,
        templates,
        tuple(parse_measures(comma_list(measures) if measures else DEFAULT_MEASURES)),
        cache,
    )
    folder = ReportFolder(out) if out else None
    collections = load_collections(names, split, limit_queries, cache)
    client = connection.open()
    engine = EngineInfo.read(client)
    encoder = load_encoder(model, device, dtype)
    report = new_report(engine, encoder, [str(measure) for measure in plan.measures])
    for collection in collections:
        # Another model has another index.
        model_id = encoder.fingerprint.digest[:8]
        name = index or f"evaluate-{collection.name.lower()}-{model_id}"
        repair(client, name)
        ingested = make_index(client, name, encoder, collection, journal, given=bool(index))
        if line := evaluation.check_judged(client, name, collection):
            warn(f"warning: {line}")
        warn_of_language(client, name, collection)
        with progress_bar(
            total=evaluation.work(collection, plan), desc=collection.name, unit=""
        ) as bar:

            def tick(done: int, bar: tqdm[Any] = bar) -> None:
                bar.update(done)

            part, runs = evaluation.evaluate(
                client, name, encoder, collection, plan, ingested=ingested, tick=tick
            )
        report["collections"].append(part)
        if not as_json:
            lines = collection_lines(part, report["measures"])
            click.echo("\n".join([*lines, ""]))
        if folder:
            folder.write(report, runs)
    if as_json:
        print_json(in_short(report) | report)
    if folder:
        click.echo(f"report: {out}", err=True)


def in_short(report: dict[str, Any]) -> dict[str, Any]:
    """Name and means of the only collection; nothing where there are several."""
    if len(report["collections"]) != 1:
        return {}
    (part,) = report["collections"]
    means = {name: system["means"] for name, system in part["systems"].items()}
    return {"collection": part["name"], "systems": means}


def load_collections(
    names: Sequence[str], split: str, limit_queries: int | None, cache: Path
) -> list[Collection]:
    """All of them, before the first is worked on; raises InputError where one cannot be used."""
    from latent_ingest.connector.evaluation.collection import load_collection

    collections: list[Collection] = []
    for name in names:
        collection = load_collection(name, split, cache)
        if any(other.name == collection.name for other in collections):
            raise InputError(f"{name}: a collection {collection.name} was named before; rename one")
        if collection.corpus and (line := collection.unknown_documents(collection.contents.ids)):
            warn(f"warning: {line}")
        collections.append(collection.limited(limit_queries))
    return collections


def make_index(
    client: OpenSearch,
    name: str,
    encoder: LatentEncoder,
    collection: Collection,
    journal: Path | None,
    *,
    given: bool,
) -> IngestReport | None:
    """Ingest the collection unless the index holds it; goes on where that was cut.

    Args:
        client: of the engine.
        name: of the index.
        encoder: the model.
        collection: what it is to hold.
        journal: where ingest notes how far it is.
        given: whether the user named the index: then documents of others in it stay as they are.

    Raises:
        InputError: the index holds other documents, or there is no corpus.
        EngineError: not all documents could be indexed.
    """
    from latent_ingest.connector.evaluation.evaluate import is_complete
    from latent_ingest.connector.index.index import Index
    from latent_ingest.connector.index.opening import open_index
    from latent_ingest.connector.indexing.job import IngestJob
    from latent_ingest.connector.indexing.journal import DONE, Journal

    if is_complete(client, name, collection):
        return None
    other = InputError(
        f"index {name} holds other documents than {collection.corpus}; name a new one with --index"
    )
    next(collection.documents())  # says so where there is no corpus
    open_index(client, name, encoder, {})
    corpus = str(Path(str(collection.corpus)).resolve())
    with closing(Journal(journal)) as book:
        begun = [r for r in book.runs() if (r.corpus, r.index) == (corpus, name)]
    if given and Index(client, name).holds_documents() and all(r.state == DONE for r in begun):
        raise other
    warn(f"indexing {collection.corpus} into {name}")
    job = IngestJob(
        client, corpus, index=name, encoder=encoder, journal=journal, command=resuming_command()
    )
    report = run_with_bar(job).report
    if report.stopped == "interrupted":
        raise click.exceptions.Exit(INTERRUPTED)
    if not report.ok:
        why = report.stopped or f"{report.failures_file} says why"
        lost = f"{report.failed + report.not_sent:,} of {report.lines:,} documents"
        raise EngineError(f"{lost} are not in {name}: {why}")
    if not is_complete(client, name, collection):
        raise other
    return report


def warn_of_language(client: OpenSearch, name: str, collection: Collection) -> None:
    """A line where words are analysed as English and the collection does not seem to be."""
    from latent_ingest.connector.evaluation.overlap import seems_english
    from latent_ingest.connector.index.meta import IndexMeta

    meta = IndexMeta.read(client, name)
    if meta is None or meta.analyzer != "english" or collection.corpus is None:
        return
    if not seems_english(document.text for document in collection.documents()):
        warn(
            f"warning: {collection.name} does not seem to be English, as which {name} analyses its "
            f"words; ingest it with --analyzer, and name that index with --index"
        )
