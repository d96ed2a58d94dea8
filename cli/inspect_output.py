"""What `latent-ingest inspect` prints: the same things for programs and for people."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from latent_ingest.cli.layout import one_line, printable, shorten, table

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder
    from latent_ingest.connector.inspection.labelling import Labelling
    from latent_ingest.connector.inspection.survey import Survey

# Heaviest words of a latent in a table, and where it is shown alone.
FEW_WORDS = 5
MANY_WORDS = 15

# Latents of a text in the table.
MOST = 30

LABEL_WIDTH = 36
WORDS_WIDTH = 72


def vocabulary(survey: Survey, labelling: Labelling) -> dict[str, Any]:
    """Zipf's figures of latents and of words, and how much the labels say."""
    from latent_ingest.connector.inspection.vocabulary import VocabularyStatistics

    words = np.array(list(survey.text_frequency.values()), dtype=np.int64)
    coverage = labelling.coverage()
    return {
        "latents": asdict(VocabularyStatistics.of(survey.document_frequency, survey.n_texts)),
        "words": asdict(VocabularyStatistics.of(words, survey.n_texts)),
        "labels": {**asdict(coverage), "share": coverage.share},
    }


def latent(survey: Survey, labelling: Labelling, number: int) -> dict[str, Any]:
    """All that is known of a latent."""
    return {
        "latent": number,
        "document_frequency": int(survey.document_frequency[number]),
        "activation": float(survey.mass[number]),
        "label": labelling.label(number),
        "words": [asdict(word) for word in labelling.words(number, MANY_WORDS)],
        "contexts": [asdict(context) for context in survey.contexts.of(number)],
    }


def latents_of(encoder: LatentEncoder, text: str, labels: dict[int, str]) -> list[dict[str, Any]]:
    """The latents of a question, the strongest first, and what each of its words adds to them."""
    from latent_ingest.connector.inspection.firings import firings_of

    firings = firings_of([text], encoder.encode_tokens([text], kind="query"))
    found: dict[int, dict[str, Any]] = {}
    for number, place, activation in zip(
        firings.latents.tolist(),
        firings.places.tolist(),
        firings.activations.tolist(),
        strict=True,
    ):
        row = found.setdefault(
            number, {"latent": number, "activation": 0.0, "label": labels.get(number, "")}
        )
        row["activation"] += activation
        start, end = firings.words.spans[place].tolist()
        word = {"word": firings.words.names[place], "start": start, "end": end}
        row.setdefault("words", []).append({**word, "activation": activation})
    for row in found.values():
        row["words"].sort(key=lambda word: -word["activation"])
    return sorted(found.values(), key=lambda row: -row["activation"])


def show_text(rows: list[dict[str, Any]]) -> None:
    """A table of `latents_of`."""
    cells = [
        [
            f"f{row['latent']}",
            f"{row['activation']:.2f}",
            shorten(one_line(row["label"]) or "-", LABEL_WIDTH),
            shorten(
                ", ".join(f"{one_line(w['word'])} {w['activation']:.2f}" for w in row["words"]),
                WORDS_WIDTH,
            ),
        ]
        for row in rows[:MOST]
    ]
    heading(table([["term", "activation", "means", "fired by"], *cells], right=(1,)))
    if rest := rows[MOST:]:
        share = sum(row["activation"] for row in rest) / sum(row["activation"] for row in rows)
        click.echo(f"and {len(rest)} more, together {share:.1%}; --json has them")


def show(told: dict[str, Any], *, in_full: bool) -> None:
    """The whole report, or the chosen latents in full."""
    if in_full:
        for row in told["latents"]:
            show_latent(row, told["sample"]["texts"])
        return
    click.echo(title(told))
    click.echo()
    heading(table(figures(told), right=(1, 2, 3)[: len(figures(told)[0]) - 1]))
    click.echo()
    click.echo(f"{len(told['latents'])} latents at even distances by document frequency:")
    cells = [
        [
            str(row["latent"]),
            f"{row['document_frequency']:,}",
            shorten(one_line(row["label"]) or "-", LABEL_WIDTH),
            shorten(heavy(row["words"][:FEW_WORDS]), WORDS_WIDTH),
        ]
        for row in told["latents"]
    ]
    heading(table([["latent", "texts", "label", "heaviest words"], *cells], right=(0, 1)))


def show_latent(row: dict[str, Any], n_texts: int) -> None:
    """A latent: its frequency, label, words and passages."""
    frequency = row["document_frequency"]
    click.echo(
        click.style(f"latent {row['latent']}: {one_line(row['label']) or 'no label'}", bold=True)
    )
    click.echo(f"fires in {frequency:,} of {n_texts:,} texts, {frequency / n_texts:.2%}")
    if not frequency:
        return
    cells = [
        [one_line(word["word"]), f"{word['share']:.1%}", f"{word['lift']:,.1f}"]
        for word in row["words"]
    ]
    heading(table([["word", "share", "lift"], *cells], right=(1, 2)))
    for context in row["contexts"]:
        click.echo(f"{context['activation']:6.2f}  {marked(context['text'], context['marks'])}")


def marked(text: str, marks: Any) -> str:
    """The marked parts in bold on a terminal, and in brackets, since output may be piped."""
    written, at = [], 0
    for start, end in marks:
        word = click.style(f"[{printable(text[start:end])}]", bold=True)
        written += [printable(text[at:start]), word]
        at = end
    return "".join([*written, printable(text[at:])])


def title(told: dict[str, Any]) -> str:
    """Which model, in which sample."""
    sample = told["sample"]
    return (
        f"{one_line(told['model'])} in {sample['texts']:,} texts, {sample['tokens']:,} tokens, of "
        f"{one_line(', '.join(sample['sources']))}"
    )


def figures(told: dict[str, Any]) -> list[list[str]]:
    """Rows of a table: latents, random directions where they are wanted, and words."""
    from latent_ingest.connector.inspection.labelling import LEAST_TEXTS

    own = told["vocabulary"]
    names = [
        "",
        "different terms",
        "slope",
        "R2",
        "in one text only",
        "in over half of the texts",
        f"in {LEAST_TEXTS} texts or more",
        "of those, with a label",
        "label words hold half of the activation",
    ]
    columns = [names, column("latents", own["latents"], own["labels"])]
    if "baseline" in told:
        columns.append(column("random", told["baseline"]["latents"], told["baseline"]["labels"]))
    columns.append(column("words", own["words"], None))
    return [list(row) for row in zip(*columns, strict=True)]


def column(name: str, terms: dict[str, Any], labels: dict[str, Any] | None) -> list[str]:
    """Cells of one vocabulary's figures."""
    said = (
        [f"{labels['latents']:,}", f"{labels['labelled']:,}", f"{labels['share']:.1%}"]
        if labels
        else ["", "", ""]
    )
    return [
        name,
        f"{terms['terms']:,}",
        f"{terms['slope']:.2f}",
        f"{terms['r2']:.2f}",
        f"{terms['hapax']:.1%}",
        f"{terms['common']:.2%}",
        *said,
    ]


def heavy(words: list[dict[str, Any]]) -> str:
    """ "pattern 23%, glob 10%"."""
    return ", ".join(f"{one_line(word['word'])} {word['share']:.0%}" for word in words)


def heading(lines: list[str]) -> None:
    """Print a table, its heads in bold."""
    first, *rest = lines
    click.echo(click.style(first, bold=True))
    for line in rest:
        click.echo(line)
