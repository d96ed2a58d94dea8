"""latent-ingest tune: settings of scoring chosen on judged questions."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latent_ingest.cli.connection import connection_options, open_client
from latent_ingest.cli.options import (
    cache_option,
    comma_list,
    compute_options,
    journal_option,
    json_option,
    load_encoder,
    model_option,
)
from latent_ingest.cli.output import confirm, print_json, print_lines, progress_bar, table, warn
from latent_ingest.connector.engine.client import Connection, EngineInfo
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.preparing import ExistingIndex
from latent_ingest.connector.indexing.journal import Journal
from latent_ingest.connector.tuning.knobs import NAMES

if TYPE_CHECKING:
    from latent_ingest.connector.tuning.tune import Tuning

KNOBS = ",".join(NAMES)

GAINS = (
    "one after the other: the best value, what it gains in nDCG@10 on the queries that choose, and",
    "what was chosen: the best outside noise; of query_k and below, what is measured to be cheaper",
    "and surely loses .001 at most, all together. took: the engine's median, of a search alone",
)

KNOWN_ITEMS = (
    "known-item questions, made of the collection's own titles and sentences without their rarest "
    "words: each has to find its document again. No person asked them, and they share the "
    "writer's words, so that they favour words; judged questions are better"
)


@click.command(
    epilog="""\b
Examples:
  latent-ingest tune scifact/ --index scifact --split train --copy
  latent-ingest tune scifact/ --index scifact --split train --yes --apply
  latent-ingest tune corpus.jsonl --index papers --from-titles --copy --out report/
"""
)
@click.argument("collection")
@click.option("--index", required=True, help="Index that holds the collection.")
@click.option("--split", help="Which of qrels/*.tsv chooses.  [default: dev, or train, or test]")
@click.option(
    "--report",
    help="Which reports. Where it is the same, or there is no other, a half of the queries chooses "
    "and the other reports; fewer than 100 are cross-validated.  [default: test]",
)
@click.option(
    "--from-titles",
    is_flag=True,
    help="Without judgements: titles and sentences have to find their documents.",
)
@click.option(
    "--limit-queries", type=click.IntRange(10), help="Queries that choose, at most; drawn by seed."
)
@click.option("--seed", default=0, show_default=True, help="Of halves, folds and samples.")
@click.option("--knobs", default=KNOBS, show_default=True, help="What is tuned, by comma.")
@click.option(
    "--form",
    type=click.Choice(["hybrid", "latent"]),
    default="hybrid",
    show_default=True,
    help="Whose nDCG@10 is to be best.",
)
@click.option("--copy", is_flag=True, help="Try on a clone of the index, deleted in the end.")
@click.option("--yes", is_flag=True, help="Close the index for moments without asking.")
@click.option(
    "--apply/--dry-run",
    "apply",
    default=False,
    help="Keep what was chosen, in the index; or change nothing.  [default: dry-run]",
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for tune.json and PNGs."
)
@cache_option
@connection_options
@model_option
@compute_options
@journal_option
@json_option
def tune(
    collection: str,
    index: str,
    split: str | None,
    report: str | None,
    from_titles: bool,
    limit_queries: int | None,
    seed: int,
    knobs: str,
    form: str,
    copy: bool,
    yes: bool,
    apply: bool,
    out: Path | None,
    cache: Path | None,
    connection: Connection,
    model: Path | None,
    device: str,
    dtype: str,
    journal: Path | None,
    as_json: bool,
) -> None:
    """Choose the settings of scoring for a collection whose index is there.

    A COLLECTION is one that evaluate takes, or with --from-titles a corpus.

    Knob by knob, a grid first and then finer, nDCG@10 on one part of the judgements decides, and
    what that is worth is reported on the other; no document is encoded again. To try k1 and b, the
    index is closed and opened again each time, or a clone is, with --copy. A run that is cut leaves
    nothing behind: Ctrl-C puts the index back at once, and after a kill the next command that reads
    the index does.
    """
    from latent_ingest.connector.evaluation.dense import default_cache
    from latent_ingest.connector.evaluation.report import make_folder
    from latent_ingest.connector.tuning import known_items, splits, tuned_index
    from latent_ingest.connector.tuning.knobs import knobs_for
    from latent_ingest.connector.tuning.tune import check_holds, searches
    from latent_ingest.connector.tuning.tune import tune as run

    names = comma_list(knobs)
    if unknown := sorted(set(names) - set(NAMES)):
        raise click.BadParameter(f"{unknown[0]!r}: use some of {KNOBS}", param_hint="--knobs")
    if from_titles and (split or report):
        raise InputError("--from-titles makes its own judgements; leave out --split and --report")
    if not from_titles and Path(collection).is_file():
        raise InputError(f"{collection}: a folder in BEIR's layout is needed, or --from-titles")
    if form == "latent":
        names = [name for name in names if name != "latent_boost"]
    if out is not None:
        make_folder(out)
    if from_titles:
        judged = known_items.known_items(Path(collection), 2 * (limit_queries or 200), seed)
        parts = splits.halved(judged, limit_queries, seed, known_items.SPLIT)
    else:
        cache = cache or default_cache()
        parts = splits.split_of(collection, split, report, limit_queries, seed, cache)
    client = open_client(connection, index)
    EngineInfo.read(client)
    existing = ExistingIndex.read(client, index)
    meta = tuned_index.check_meta(existing)
    chosen = knobs_for(meta, names)
    if not chosen:
        raise InputError(f"--knobs {knobs}: index {index} has none of these in the form {form}")
    if lacking := check_holds(client, existing.name, parts.development):
        warn(f"warning: index {index} lacks {lacking} of the documents judged relevant")
    closes = bool({"k1", "b"} & set(names)) and not copy
    if closes or (apply and {"k1", "b"} & set(names)):
        confirm(
            f"index {existing.name} will be closed for moments, to set k1 and b; searching it and "
            f"writing to it fails meanwhile",
            yes=yes,
            hint="agree with --yes, or try on a clone with --copy",
        )
    with closing(Journal(journal)) as book:
        if (closes or copy or apply) and book.running(existing.index.uuid()):
            raise InputError(f"a run of ingest writes to {existing.name}; let it end first")
    if closes or copy:
        tuned_index.check_quiet(existing.index)

    encoder = load_encoder(model, device, dtype)
    meta.check(encoder, existing.name)
    from latent_ingest.connector.querying.query_encoder import QueryEncoder

    questions = len(parts.development.queries)
    questions += len(parts.held_out.queries) if parts.held_out else 0
    queries = QueryEncoder(encoder, cache_size=5 * questions)
    in_place = tuned_index.in_place if closes else tuned_index.as_it_is
    bench = tuned_index.on_a_copy if copy else in_place
    with (
        terminated_as_interrupted(),
        bench(existing) as asked,
        progress_bar(
            total=searches(parts, chosen, form, meta), desc="tuning", unit=" searches"
        ) as bar,
    ):

        def tick(done: int) -> None:
            bar.update(done)

        found = run(client, asked, meta, parts, chosen, queries, form=form, seed=seed, tick=tick)
    content = found.to_json() | {
        "index": existing.name,
        "applied": False,
        "known_items": from_titles,
    }
    if not as_json:
        print_lines(lines_of(found, existing.name, from_titles))
    try:
        if apply:
            with terminated_as_interrupted():
                tuned_index.apply(existing.index, found.after)
            content["applied"] = True
    finally:  # what took so long to find out is not lost where it cannot be applied
        if as_json:
            print_json(content)
        elif content["applied"]:
            click.echo(f"applied to {existing.name}: its next questions are asked so")
        elif not apply:
            click.echo("nothing was changed; --apply keeps these settings")
        if out is not None:
            write(out, content, found)
            click.echo(f"curves: {out}", err=True)


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends as Ctrl-C does, which puts things back."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def write(folder: Path, content: dict[str, Any], found: Tuning) -> None:
    """tune.json and the pictures; raises InputError where they cannot be written."""
    from latent_ingest.connector.evaluation.report import writing
    from latent_ingest.connector.tuning.pictures import draw

    with writing(folder):
        (folder / "tune.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        drawn = draw(folder, found.curves)
    if not drawn:
        warn("no pictures without matplotlib; pip install 'latent-ingest[train]' brings it")


def lines_of(found: Tuning, index: str, from_titles: bool) -> list[str]:
    """The tables for a person."""
    lines = [f"{found.collection} in {index}: {found.description}"]
    if from_titles:
        lines.append(f"These are {KNOWN_ITEMS}.")
    lines += ["", *GAINS]
    rows = []
    for curve in found.curves:
        at = {point.value: point for point in curve.points}
        rows.append(
            [
                curve.knob,
                f"{curve.default:g}",
                f"{curve.best:g}",
                f"{curve.gain:+.4f}",
                f"{curve.error:.4f}",
                f"{curve.chosen:g}",
                f"{at[curve.default].took_p50:.0f} → {at[curve.best].took_p50:.0f} ms",
                "" if curve.outside_noise else "inside noise",
            ]
        )
    heads = ["knob", "before", "best", "gain", "error", "chosen", "took", ""]
    lines += table(heads, rows, right=range(1, 7))
    held = "each fold by the others" if found.folds else "queries that chose nothing"
    lines += ["", f"reported on {held} (nDCG@10; words {found.words:.4f})"]
    rows = [
        [
            one.form,
            *(f"{value:.4f}" for value in (one.before, one.after)),
            f"{one.gain:+.4f}",
            *(f"{value:.4f}" for value in (one.error, one.p, one.p_holm)),
            f"{one.took_p50_before:.0f} → {one.took_p50_after:.0f} ms",
            f"{one.clauses_before:.0f} → {one.clauses_after:.0f}",
            "" if one.outside_noise else "inside noise",
        ]
        for one in found.outcomes
    ]
    heads = ["form", "before", "tuned", "gain", "error", "p", "p (Holm)", "took", "clauses", ""]
    lines += table(heads, rows, right=range(1, 9))
    for number, fold in enumerate(found.folds, start=1):
        lines.append(f"fold {number}: {shown(asdict(fold))}")
    return [*lines, "", f"settings: {shown(asdict(found.after))}"]


def shown(settings: dict[str, Any]) -> str:
    named = {name: "all" if value is None else f"{value:g}" for name, value in settings.items()}
    return ", ".join(f"{name} {value}" for name, value in named.items())
