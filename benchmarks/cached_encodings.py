"""Encodings of texts, kept in a folder, so that benchmarks encode a collection once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice, pairwise
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from latent_ingest.connector import terms
from latent_ingest.connector.collections.collection import Collection, read_documents
from latent_ingest.connector.encoding.encoder import LatentEncoder

Row = tuple[str, str, NDArray[np.int32], NDArray[np.int64]]
"""Id, text, latents and their counts."""

ENCODED_AT_ONCE = 256


def real_texts(
    judged: Collection, others: Sequence[Path], most: int
) -> tuple[int, list[tuple[str, str]]]:
    """Ids and texts of a judged collection, then of other files up to `most`; how many are judged.

    Raises click.ClickException if the collection has no corpus.
    """
    if judged.corpus is None:
        raise click.ClickException("the judged collection has no corpus")
    own = [(document.id, document.text) for document in read_documents(judged.corpus)]
    further = islice(chain.from_iterable(map(read_documents, others)), max(0, most - len(own)))
    return len(own), [*own, *((str(document.id), document.text) for document in further)]


def encoded_vectors(
    folder: Path, texts: Sequence[str], model: str | None = None
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int64]]]:
    """Yield latents, activations and offsets of some texts each, encoding what is not stored.

    `model` is a folder or the name of a shipped model, by default minilm-32k.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(texts), ENCODED_AT_ONCE):
        some = texts[start : start + ENCODED_AT_ONCE]
        file = folder / f"{start:07d}.npz"
        if not file.exists():
            vectors = LatentEncoder.shared(model).encode(some)
            part = file.with_suffix(".part")
            with part.open("wb") as out:
                np.savez(out, latents=vectors.indices, values=vectors.values, at=vectors.offsets)
            part.replace(file)
            click.echo(
                f"\rencoded {start + len(some):,} of {len(texts):,} texts", nl=False, err=True
            )
        with np.load(file) as stored:
            if len(stored["at"]) != len(some) + 1:
                raise click.ClickException(f"{file} is of other texts; name another folder")
            yield stored["latents"], stored["values"], stored["at"]


def encoded(folder: Path, texts: Sequence[tuple[str, str]], model: str | None = None) -> list[Row]:
    """Return the texts with their latents, those of earlier runs from the folder."""
    documents = (
        (latents[first:last], terms.counts(values[first:last]))
        for latents, values, at in encoded_vectors(folder, [text for _, text in texts], model)
        for first, last in pairwise(at)
    )
    return [
        (identifier, text, latents[tf > 0], tf[tf > 0])
        for (identifier, text), (latents, tf) in zip(texts, documents, strict=True)
    ]
