"""latent-ingest inspect: what the latents of a model mean."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latent_ingest.cli import inspect_output as output
from latent_ingest.cli.options import (
    TokenCount,
    comma_list,
    compute_options,
    load_encoder,
    progress_bar,
    warn,
)
from latent_ingest.connector.collections.docstrings import standard_library
from latent_ingest.connector.errors import InputError

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder
    from latent_ingest.connector.encoding.encoder import LatentEncoder
    from latent_ingest.connector.inspection.labelling import Labelling
    from latent_ingest.connector.inspection.survey import Survey
    from latent_ingest.connector.training.texts import TrainingTexts

# Latents that are shown where none is asked for.
SHOWN = 20


@click.command(
    epilog="""\b
Examples:
  latent-ingest inspect                                     the model that ships
  latent-ingest inspect my-model/ --sample texts.jsonl.gz --tokens 1M --write-labels
  latent-ingest inspect --latent 1234 --latent 1235
  latent-ingest inspect --text "does vitamin D prevent falls"
  latent-ingest inspect my-model/ --sample texts.jsonl.gz --html report.html
"""
)
@click.argument("model", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--sample",
    "samples",
    multiple=True,
    metavar="FILE",
    help="Texts to look at, as `train` takes them: a file, a folder, - or FILE=WEIGHT; may be "
    "repeated.  [default: the docstrings of Python's standard library]",
)
@click.option(
    "--tokens",
    type=TokenCount(),
    default="500K",
    show_default=True,
    help="Tokens of the sample, about; K and M are understood. The docstrings have some 300K.",
)
@click.option(
    "--text-fields", default="title,text", show_default=True, help="Fields that are read, by comma."
)
@click.option(
    "--latent", "numbers", multiple=True, type=int, help="Show this latent; may be repeated."
)
@click.option("--text", help="Show which latents a question has, and which of its words fire them.")
@click.option("--write-labels", is_flag=True, help="Store labels.json in the model's folder.")
@click.option(
    "--html",
    "page_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a page to browse the latents in.",
)
@click.option("--baseline", is_flag=True, help="The figures of random directions beside it.")
@compute_options
@click.option("--json", "as_json", is_flag=True, help="Print one object for programs.")
def inspect(
    model: Path | None,
    samples: tuple[str, ...],
    tokens: int,
    text_fields: str,
    numbers: tuple[int, ...],
    text: str | None,
    write_labels: bool,
    page_file: Path | None,
    baseline: bool,
    device: str,
    dtype: str,
    as_json: bool,
) -> None:
    """Show what the latents of MODEL mean, by what they fire on in a sample of texts.

    Without --latent or --text: figures of the vocabulary beside those of the sample's words, and
    twenty latents at even distances in the order of document frequency. A label is made of up to
    three words that fire a latent far more than their frequency explains.
    """
    if text is not None and not text.strip():
        raise InputError("the text is empty; write some words")
    if page_file and not page_file.absolute().parent.is_dir():
        raise InputError(f"{page_file}: no such folder {page_file.absolute().parent}; make it")
    encoder = load_encoder(model, device, dtype)
    from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder
    from latent_ingest.connector.encoding.encoder import SHIPPED_MODEL
    from latent_ingest.connector.inspection import labels as stored
    from latent_ingest.connector.inspection.figures import random_encoder
    from latent_ingest.connector.inspection.labelling import Labelling, every_nth

    folder = model or SHIPPED_MODEL
    for number in numbers:
        if not 0 <= number < encoder.n_latents:
            raise InputError(
                f"--latent {number}: {encoder.name} has {encoder.n_latents:,} latents, from 0 to "
                f"{encoder.n_latents - 1}"
            )
    if write_labels:
        stored.check_writable(folder)
    own = encoder.fingerprint.autoencoder
    told: dict[str, Any] = {"model": encoder.name, "fingerprint": own}
    if text is not None:
        known = stored.read_labels(folder, own)
        told["text"] = output.latents_of(encoder, text, known)
        if not as_json:
            output.show_text(told["text"])
        if not (numbers or write_labels or page_file or baseline):
            if as_json:
                click.echo(json.dumps(told))
            return
    encoders = [encoder]
    autoencoder = TokenAutoencoder.load(folder) if baseline or page_file else None
    if baseline and autoencoder:
        encoders.append(random_encoder(encoder, autoencoder))
    (found, *random), named = read_sample(encoders, samples, text_fields, tokens)
    labelling = Labelling(found)
    chosen = list(numbers) or every_nth(found.alive, SHOWN)
    told["sample"] = {"sources": named, "texts": found.n_texts, "tokens": found.n_tokens}
    told["vocabulary"] = output.vocabulary(found, labelling)
    if random:
        told["baseline"] = output.vocabulary(random[0], Labelling(random[0]))
    told["latents"] = [output.latent(found, labelling, number) for number in chosen]
    if write_labels:
        labels = labelling.labels()
        path = stored.write_labels(folder, labels, fingerprint=own, sample=told["sample"])
        click.echo(f"{path}: written", err=True)
    if page_file and autoencoder:
        write_page(page_file, found, labelling, autoencoder, told)
        click.echo(f"{page_file}: {page_file.stat().st_size / 1e6:.1f} MB", err=True)
    if as_json:
        click.echo(json.dumps(told))
    else:
        output.show(told, in_full=bool(numbers))


def read_sample(
    encoders: list[LatentEncoder], samples: tuple[str, ...], text_fields: str, tokens: int
) -> tuple[list[Survey], list[str]]:
    """What latents do in the sample, and which sources that is of."""
    from latent_ingest.connector.inspection.survey import survey

    with tempfile.TemporaryDirectory(prefix="latent-ingest-inspect-") as spool:
        texts, named = sample_texts(samples, text_fields, Path(spool))
        with progress_bar(total=tokens, unit="tok", unit_scale=True, desc="reading") as bar:
            each_once = texts.round()
            found = survey(encoders, each_once, tokens=tokens, progress=bar.update)
    return found, named


def sample_texts(
    samples: tuple[str, ...], text_fields: str, spool: Path
) -> tuple[TrainingTexts, list[str]]:
    """The texts of the sample, shuffled and each once, and what they are, in words."""
    from latent_ingest.connector.training.texts import Source, TrainingTexts, find_sources

    if samples:
        sources = find_sources(samples, spool)
        named = [Path(source.path).name for source in sources]
    else:
        file = spool / "docstrings.jsonl"
        with file.open("w", encoding="utf-8") as lines:
            lines.writelines(json.dumps(document) + "\n" for document in standard_library())
        sources = [Source(str(file))]
        named = [f"docstrings of Python {sys.version_info[0]}.{sys.version_info[1]}"]
    texts = TrainingTexts(sources, text_fields=comma_list(text_fields), warn=warn)
    return texts, named


def write_page(
    file: Path,
    survey: Survey,
    labelling: Labelling,
    autoencoder: TokenAutoencoder,
    told: dict[str, Any],
) -> None:
    """The page to browse in; raises InputError where it cannot be written."""
    from latent_ingest.connector.inspection.neighbours import nearest
    from latent_ingest.connector.inspection.page import page

    decoder = autoencoder.W_dec
    with progress_bar(total=len(survey.alive), unit="latent", desc="neighbours") as bar:
        near = nearest(survey, survey.alive, decoder, progress=bar.update)
    text = page(
        survey,
        labelling,
        title=output.title(told),
        figures=output.figures(told),
        near=near,
        near_by="by texts in common" if decoder is None else "by direction of the decoder",
    )
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file}: cannot be written: {error.strerror}") from error
