"""latent-ingest inspect, models: what the latents of a model mean; what models there are."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latent_ingest.cli import options, output, values
from latent_ingest.cli.output import one_line
from latent_ingest.connector.collections.docstrings import standard_library
from latent_ingest.connector.errors import InputError

if TYPE_CHECKING:
    from latent_ingest.connector.diagnosis.models import ModelSummary
    from latent_ingest.connector.encoding.encoder import LatentEncoder
    from latent_ingest.connector.inspection.labelling import Labelling
    from latent_ingest.connector.inspection.survey import Survey

Row = dict[str, Any]

# Latents in the table without --latent.
SHOWN = 20

# Heaviest words of a latent in the table.
FEW_WORDS = 5

# Latents of a text in the table.
MOST = 30


@click.command(
    epilog="""\b
Examples:
  latent-ingest inspect                                     minilm-32k, which ships
  latent-ingest inspect my-model/ --sample texts.jsonl.gz --tokens 1M --write-labels
  latent-ingest inspect --latent 1234 --latent 1235
  latent-ingest inspect --text "does vitamin D prevent falls"
  latent-ingest inspect my-model/ --sample texts.jsonl.gz --html report.html
"""
)
@click.argument("model", required=False, type=values.FOLDER)
@click.option(
    "--sample",
    "samples",
    multiple=True,
    metavar="FILE",
    help="Texts to read, as for `train`: a file, a folder, - or FILE=WEIGHT; repeatable.  "
    "[default: the docstrings of Python's standard library]",
)
@click.option(
    "--tokens",
    type=values.TOKEN_COUNT,
    default="500K",
    help="Approximate number of tokens to read (K, M); the docstrings have about 300K.",
)
@options.text_fields
@click.option("--latent", "numbers", multiple=True, type=int, help="Latent to show; repeatable.")
@click.option("--text", help="Question whose latents are shown, with the words that fire them.")
@click.option("--write-labels", is_flag=True, help="Store labels.json in the model's folder.")
@click.option(
    "--html",
    "page_file",
    type=values.OUTPUT_FILE,
    help="HTML page to write, in which the latents can be browsed.",
)
@click.option("--baseline", is_flag=True, help="Show the figures of random directions too.")
@options.compute
@options.as_json
def inspect(
    model: Path | None,
    samples: tuple[str, ...],
    tokens: int,
    text_fields: list[str],
    numbers: tuple[int, ...],
    text: str | None,
    write_labels: bool,
    page_file: Path | None,
    baseline: bool,
    device: str,
    dtype: str,
    as_json: bool,
) -> None:
    """Show what the latents of MODEL mean: the words and passages of a sample that fire them.

    Without --latent or --text: figures of the latents beside those of the sample's words, and
    twenty latents at even distances by document frequency. A label has up to three words that fire
    the latent far more often than their frequency explains.
    """
    if text is not None and not text.strip():
        raise InputError("the text is empty; write some words")
    if page_file and not page_file.absolute().parent.is_dir():
        raise InputError(f"{page_file}: no such folder {page_file.absolute().parent}; make it")
    encoder = options.ChosenModel(model, device, dtype).load()
    from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder
    from latent_ingest.connector.encoding.model_folder import model_path
    from latent_ingest.connector.inspection import labels as stored
    from latent_ingest.connector.inspection.firings import latents_of
    from latent_ingest.connector.inspection.labelling import Labelling, every_nth
    from latent_ingest.connector.inspection.vocabulary import random_encoder

    folder = model_path(model)
    for number in numbers:
        if not 0 <= number < encoder.n_latents:
            raise InputError(
                f"--latent {number}: {encoder.name} has {encoder.n_latents:,} latents, from 0 to "
                f"{encoder.n_latents - 1}"
            )
    if write_labels:
        stored.check_writable(folder)
    own = encoder.fingerprint.autoencoder
    told: Row = {"model": encoder.name, "fingerprint": own}
    if text is not None:
        told["text"] = latents_of(encoder, text, stored.read_labels(folder, own))
        if not as_json:
            output.print_lines(text_lines(told["text"]))
        if not (numbers or write_labels or page_file or baseline):
            if as_json:
                output.print_json(told)
            return
    encoders = [encoder]
    if baseline:
        encoders.append(random_encoder(encoder, TokenAutoencoder.load(folder)))
    (found, *random), named = read_sample(encoders, samples, text_fields, tokens)
    labelling = Labelling(found)
    told["sample"] = {"sources": named, "texts": found.n_texts, "tokens": found.n_tokens}
    told["vocabulary"] = labelling.vocabulary()
    if random:
        told["baseline"] = Labelling(random[0]).vocabulary()
    chosen = list(numbers) or every_nth(found.alive, SHOWN)
    told["latents"] = [labelling.report(number) for number in chosen]
    if write_labels:
        labels = labelling.labels()
        path = stored.write_labels(folder, labels, fingerprint=own, sample=told["sample"])
        output.warn(f"{path}: written")
    if page_file:
        write_page(page_file, folder, found, labelling, told)
        output.warn(f"{page_file}: {output.size(page_file.stat().st_size)}")
    if as_json:
        output.print_json(told)
    elif numbers:
        for row in told["latents"]:
            output.print_lines(latent_lines(row, found.n_texts))
    else:
        output.print_lines(overview_lines(told))


@click.command(
    epilog="""\b
Examples:
  latent-ingest models              the models in this package
  latent-ingest models my-model/    one of yours, or a folder that has several
"""
)
@click.argument("folder", required=False, type=values.FOLDER)
@options.as_json
def models(folder: Path | None, as_json: bool) -> None:
    """List the models in this package, or the one or several in FOLDER.

    Shown are the backbone, the dimensions of its token embeddings, latents, latents per token (k),
    bytes on disk and words of the question table. Licence and quality are those that about.json in
    the model's folder states; nothing is measured.
    """
    from latent_ingest.connector.diagnosis.models import summaries

    found = summaries(folder)
    if as_json:
        output.print_json({"models": [asdict(each) for each in found]})
    else:
        output.print_lines(model_lines(found))


def model_lines(found: Sequence[ModelSummary]) -> Iterator[str]:
    """A table of the models, then what is stated of each."""
    cells = [
        [
            each.name,
            shown_name(each.backbone),
            str(each.dimensions),
            f"{each.latents:,}",
            str(each.k),
            each.weights,
            output.size(each.bytes),
            "none" if each.question_words is None else output.counted(each.question_words, "word"),
        ]
        for each in found
    ]
    heads = ["model", "backbone", "dimensions", "latents", "k", "weights", "size", "question table"]
    yield from output.table(heads, cells, right=(2, 3, 4, 6), shrink=(1,))
    for each in found:
        yield ""
        licence = ", ".join(f"{part} {what}" for part, what in each.licence.items())
        yield one_line(f"{each.name}: licence: {licence or 'not stated'}")
        for row in each.quality:
            where = " ".join(str(row.get(key, "")) for key in ("measure", "collection"))
            systems = [
                f"{name} {value:.4f}"
                for name, value in row.items()
                if isinstance(value, (int, float))
            ]
            yield "  " + one_line(f"{where.strip()}: {', '.join(systems)}")
        if each.measured_by:
            yield "  " + one_line(f"measured by: {each.measured_by}")
        if not each.quality:
            yield "  quality: not stated; measure it with 'latent-ingest evaluate --model'"


def shown_name(backbone: str) -> str:
    """A backbone's hub name, or the last part of its folder."""
    return Path(backbone).name if Path(backbone).is_absolute() else backbone


def read_sample(
    encoders: list[LatentEncoder], samples: tuple[str, ...], text_fields: list[str], tokens: int
) -> tuple[list[Survey], list[str]]:
    """One survey of the sample per encoder, and the names of its sources."""
    from latent_ingest.connector.inspection.survey import survey
    from latent_ingest.connector.training.texts import Source, TrainingTexts, find_sources

    with tempfile.TemporaryDirectory(prefix="latent-ingest-inspect-") as spool:
        if samples:
            sources = find_sources(samples, Path(spool))
            named = [Path(source.path).name for source in sources]
        else:
            file = Path(spool, "docstrings.jsonl")
            with file.open("w", encoding="utf-8") as lines:
                lines.writelines(json.dumps(document) + "\n" for document in standard_library())
            sources = [Source(str(file))]
            named = [f"docstrings of Python {sys.version_info[0]}.{sys.version_info[1]}"]
        texts = TrainingTexts(sources, text_fields=text_fields)
        with output.progress_bar(total=tokens, unit="tok", unit_scale=True, desc="reading") as bar:
            found = survey(encoders, texts.round(), tokens=tokens, progress=bar.update)
    return found, named


def write_page(file: Path, model: Path, survey: Survey, labelling: Labelling, told: Row) -> None:
    """Write the HTML page; InputError if the file cannot be written."""
    from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder
    from latent_ingest.connector.files import disk_errors
    from latent_ingest.connector.inspection.html_page import page
    from latent_ingest.connector.inspection.neighbours import nearest

    decoder = TokenAutoencoder.load(model).W_dec
    with output.progress_bar(total=len(survey.alive), unit="latent", desc="neighbours") as bar:
        near = nearest(survey, survey.alive, decoder, progress=bar.update)
    text = page(
        survey,
        labelling,
        title=title(told),
        figures=figures(told),
        near=near,
        near_by="by texts in common" if decoder is None else "by direction of the decoder",
    )
    with disk_errors(file):
        file.write_text(text, encoding="utf-8")


def text_lines(rows: list[Row]) -> Iterator[str]:
    """A table of the latents of a question."""
    cells = [
        [
            f"f{row['latent']}",
            f"{row['activation']:.2f}",
            row["label"] or "-",
            ", ".join(f"{word['word']} {word['activation']:.2f}" for word in row["words"]),
        ]
        for row in rows[:MOST]
    ]
    heads = ["term", "activation", "means", "fired by"]
    yield from output.table(heads, cells, right=(1,), shrink=(3, 2))
    if rest := rows[MOST:]:
        share = sum(row["activation"] for row in rest) / sum(row["activation"] for row in rows)
        yield f"and {len(rest)} more, together {share:.1%}; --json shows them"


def overview_lines(told: Row) -> Iterator[str]:
    """Figures of the vocabulary, and a table of some latents."""
    heads, *rows = figures(told)
    yield from (title(told), "")
    yield from output.table(heads, rows, right=range(1, len(heads)))
    yield from ("", f"{len(told['latents'])} latents at even distances by document frequency:")
    cells = [
        [
            str(row["latent"]),
            f"{row['document_frequency']:,}",
            row["label"] or "-",
            ", ".join(f"{word['word']} {word['share']:.0%}" for word in row["words"][:FEW_WORDS]),
        ]
        for row in told["latents"]
    ]
    heads = ["latent", "texts", "label", "heaviest words"]
    yield from output.table(heads, cells, right=(0, 1), shrink=(3, 2))


def latent_lines(row: Row, n_texts: int) -> Iterator[str]:
    """A latent in full: its frequency, label, words and passages."""
    frequency = row["document_frequency"]
    yield click.style(f"latent {row['latent']}: {one_line(row['label']) or 'no label'}", bold=True)
    yield f"fires in {frequency:,} of {n_texts:,} texts, {frequency / n_texts:.2%}"
    if not frequency:
        return
    cells = [
        [word["word"], f"{word['share']:.1%}", f"{word['lift']:,.1f}"] for word in row["words"]
    ]
    yield from output.table(["word", "share", "lift"], cells, right=(1, 2))
    for context in row["contexts"]:
        yield f"{context['activation']:6.2f}  {marked(context['text'], context['marks'])}"


def marked(text: str, marks: Any) -> str:
    """The text with its marked parts in brackets, and bold on a terminal."""
    written, at = [], 0
    for start, end in marks:
        word = click.style(f"[{output.printable(text[start:end])}]", bold=True)
        written += [output.printable(text[at:start]), word]
        at = end
    return "".join([*written, output.printable(text[at:])])


def title(told: Row) -> str:
    """The model and the sample, in one line."""
    sample = told["sample"]
    return (
        f"{one_line(told['model'])} in {sample['texts']:,} texts, {sample['tokens']:,} tokens, of "
        f"{one_line(', '.join(sample['sources']))}"
    )


def figures(told: Row) -> list[list[str]]:
    """Rows of a table of latents, random directions (with --baseline) and words; heads first."""
    from latent_ingest.connector.inspection.labelling import LEAST_TEXTS

    own, baseline = told["vocabulary"], told.get("baseline")
    columns = {"latents": {**own["latents"], **own["labels"]}}
    if baseline:
        columns["random"] = {**baseline["latents"], **baseline["labels"]}
    columns["words"] = own["words"]  # words have no labels
    rows = {
        "different terms": ("terms", ","),
        "slope": ("slope", ".2f"),
        "R2": ("r2", ".2f"),
        "in one text only": ("hapax", ".1%"),
        "in over half of the texts": ("common", ".2%"),
        f"in {LEAST_TEXTS} texts or more": ("latents", ","),
        "of those, with a label": ("labelled", ","),
        "label words hold half of the activation": ("share", ".1%"),
    }
    return [["", *columns]] + [
        [name, *(format(some[key], form) if key in some else "" for some in columns.values())]
        for name, (key, form) in rows.items()
    ]
