"""The command `tune`: select scoring settings on judged questions."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latent_ingest.cli import options, values
from latent_ingest.cli.connection import connection_options, open_client
from latent_ingest.cli.output import (
    confirm,
    print_json,
    print_lines,
    progress_bar,
    sigterm_interrupts,
    table,
)
from latent_ingest.connector.engine.client import Connection, EngineInfo
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.tuning.knobs import NAMES, Settings

if TYPE_CHECKING:
    from latent_ingest.connector.tuning.report import TuningReport

KNOBS = ",".join(NAMES)

GAINS = (
    "Knobs in the order of tuning. best: the best value; gain: its gain in nDCG@10 on the queries",
    "that choose; chosen: the best value if its gain is outside noise; for query_k and the knobs",
    "below it, a value that is measured to be cheaper, if all of them together lose at most .001;",
    "took: median time in the engine, of the search alone",
)

KNOWN_ITEMS = (
    "known-item questions, made of the collection's own titles and sentences without their rarest "
    "words; each has to find its document. No user asked them, and they share the author's words, "
    "so they favour words; judged questions are better"
)


@click.command(
    epilog="""\b
Examples:
  latent-ingest tune scifact/ --index scifact --split train --copy
  latent-ingest tune scifact/ --index scifact --split train --yes --apply
  latent-ingest tune corpus.jsonl --index papers --from-titles --copy --out report/
  latent-ingest tune scifact/ --index scifact --copy --questions table --feedback
"""
)
@click.argument("collection")
@click.option("--index", required=True, help="Index that holds the collection.")
@click.option(
    "--split",
    help="Judgements that choose the settings: qrels/SPLIT.tsv.  [default: dev, or train, or test]",
)
@click.option(
    "--report",
    help="Judgements that report what the settings are worth: qrels/REPORT.tsv. If they are those "
    "of --split, or there are no others, one half of the queries chooses and the other half "
    "reports; fewer than 100 queries are cross-validated.  [default: test]",
)
@click.option(
    "--from-titles",
    is_flag=True,
    help="Tune without judgements: titles and sentences have to find their documents.",
)
@click.option(
    "--limit-queries",
    type=click.IntRange(10),
    help="Maximum number of queries that choose, a random sample.",
)
@click.option("--seed", default=0, help="Seed of halves, folds and samples.")
@click.option(
    "--knobs", type=values.NameList(), default=KNOBS, help="Comma-separated knobs to tune."
)
@click.option(
    "--form",
    type=click.Choice(["hybrid", "latent"]),
    default="hybrid",
    help="Form whose nDCG@10 is maximized.",
)
@click.option(
    "--questions",
    type=click.Choice(["model", "table"]),
    default="model",
    help="What encodes questions: the model, or the question table of the index, else of the "
    "model.",
)
@click.option(
    "--feedback",
    is_flag=True,
    help="Let each question take over latent terms of its first hits, as search --feedback does; "
    "times are of both requests.",
)
@click.option(
    "--copy", is_flag=True, help="Try settings on a clone of the index, deleted at the end."
)
@click.option("--yes", is_flag=True, help="Close the index for moments without asking.")
@click.option(
    "--apply/--dry-run",
    "apply",
    default=False,
    help="Store the settings in the index, or change nothing.",
)
@click.option("--out", type=values.FOLDER, help="Folder for tune.json and a plot per knob.")
@options.cache
@connection_options
@options.model
@options.give_up_after
@options.journal
@options.as_json
def tune(
    collection: str,
    index: str,
    split: str | None,
    report: str | None,
    from_titles: bool,
    limit_queries: int | None,
    seed: int,
    knobs: list[str],
    form: str,
    questions: str,
    feedback: bool,
    copy: bool,
    yes: bool,
    apply: bool,
    out: Path | None,
    cache: Path | None,
    connection: Connection,
    model: options.ChosenModel,
    give_up_after: float,
    journal: Path | None,
    as_json: bool,
) -> None:
    """Select the scoring settings of an existing index on a judged collection.

    COLLECTION is a judged collection, as for evaluate, or with --from-titles a corpus.

    Each knob is tuned in turn, on a grid first and then closer to the best value. One part of the
    judgements chooses by nDCG@10; the other reports what the settings are worth. No document is
    encoded again. To try k1 and b, the index is closed and opened for each value, or with --copy a
    clone is. An interrupted run leaves nothing behind: Ctrl-C restores the index at once, and after
    a kill the next command that uses the index restores it.
    """
    from latent_ingest.connector.evaluation.report import make_folder
    from latent_ingest.connector.tuning.known_items import split_of_known_items
    from latent_ingest.connector.tuning.splits import split_of
    from latent_ingest.connector.tuning.tuning import Tuning

    if unknown := sorted(set(knobs) - set(NAMES)):
        raise click.BadParameter(f"{unknown[0]!r}: use some of {KNOBS}", param_hint="--knobs")
    if from_titles and (split or report):
        raise InputError("--from-titles makes its own judgements; leave out --split and --report")
    if not from_titles and Path(collection).is_file():
        raise InputError(f"{collection}: name a folder in BEIR layout, or use --from-titles")
    if out is not None:
        make_folder(out)
    if from_titles:
        parts = split_of_known_items(Path(collection), limit_queries, seed)
    else:
        parts = split_of(collection, split, report, limit_queries, seed, cache)
    client = open_client(connection, index, give_up_after)
    EngineInfo.read(client)
    tuning = Tuning(
        client,
        index,
        parts,
        knobs=knobs,
        form=form,
        copy=copy,
        seed=seed,
        questions=questions,
        feedback=feedback,
        give_up_after=give_up_after,
    )
    if tuning.closes or (apply and tuning.tunes_similarity):
        confirm(
            f"index {tuning.index} will be closed for moments, to set k1 and b; searches and "
            f"writes fail meanwhile",
            yes=yes,
            hint="agree with --yes, or try on a clone with --copy",
        )
    tuning.check_unused(journal, apply=apply)
    encoder = model.load()
    with (
        sigterm_interrupts(),
        progress_bar(total=tuning.searches, desc="tuning", unit=" searches") as bar,
    ):
        found = tuning.run(encoder, bar.update)
    if not as_json:
        print_lines(lines_of(found))
    applied = False
    try:
        if apply:
            tuning.apply(found)
            applied = True
    finally:  # the result of a long search is kept even if it cannot be applied
        if as_json:
            print_json(found.to_json(applied=applied))
        elif applied:
            click.echo(f"applied to {tuning.index}: all later questions use these settings")
        elif not apply:
            click.echo("nothing was changed; use --apply to store these settings")
        if out is not None:
            found.write(out, applied=applied)
            click.echo(f"report: {out}", err=True)


def lines_of(found: TuningReport) -> list[str]:
    """Format the report as tables."""
    split = found.split
    lines = [f"{split.development.name} in {found.index}: {split.description}"]
    if split.known_items:
        lines.append(f"These are {KNOWN_ITEMS}.")
    if found.questions == "table":
        lines.append("Questions are encoded by table.")
    if found.feedback:
        lines.append(
            "Questions take over latent terms of their first hits; took and clauses are of both "
            "requests."
        )
    lines += ["", *GAINS]
    heads = ["knob", "before", "best", "gain", "error", "chosen", "took", ""]
    rows = []
    for curve in found.curves:
        took = {point.value: point.took_p50 for point in curve.points}
        rows.append(
            [
                curve.knob,
                f"{curve.default:g}",
                f"{curve.best:g}",
                f"{curve.gain:+.4f}",
                f"{curve.error:.4f}",
                f"{curve.chosen:g}",
                f"{took[curve.default]:.0f} → {took[curve.best]:.0f} ms",
                "" if curve.outside_noise else "inside noise",
            ]
        )
    lines += table(heads, rows, right=range(1, 7))
    held = "each fold, tuned on the others" if found.folds else "held-out queries"
    lines += ["", f"reported on {held} (nDCG@10; words {found.words:.4f})"]
    heads = ["form", "before", "tuned", "gain", "error", "p", "p (Holm)", "took", "clauses", ""]
    rows = [
        [
            one.form,
            f"{one.before:.4f}",
            f"{one.after:.4f}",
            f"{one.gain:+.4f}",
            f"{one.error:.4f}",
            f"{one.p:.4f}",
            f"{one.p_holm:.4f}",
            f"{one.took_p50_before:.0f} → {one.took_p50_after:.0f} ms",
            f"{one.clauses_before:.0f} → {one.clauses_after:.0f}",
            "" if one.outside_noise else "inside noise",
        ]
        for one in found.outcomes
    ]
    lines += table(heads, rows, right=range(1, 9))
    lines += [f"fold {number}: {shown(fold)}" for number, fold in enumerate(found.folds, start=1)]
    return [*lines, "", f"settings: {shown(found.after)}"]


def shown(settings: Settings) -> str:
    """Format settings as names and values."""
    return ", ".join(
        f"{name} all" if value is None else f"{name} {value:g}"
        for name, value in asdict(settings).items()
    )
