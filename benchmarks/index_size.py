"""Bytes of an index, by part, a document: words alone, with latent terms, with fewer of them.

    python benchmarks/index_size.py nfcorpus/:dev --out encoded/

Encodings are those of `document_terms.py`. Each index has one segment. Stored fields hold `_source`
and the ids; postings hold the terms and the documents and positions of each; the postings of latent
terms are what an index has more than that of words alone. Needs an engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
from command import Benchmark
from document_terms import Judged, ways
from numpy.typing import NDArray
from opensearchpy import OpenSearch, helpers

from latent_ingest.connector import terms
from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.client import Connection, default_url
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.opening import open_index

PREFIX = "benchmark-index-size"
AT_ONCE = 500

# Part → endings of Lucene's files.
PARTS = {
    "stored fields": ("fdt", "fdx", "fdm"),
    "postings": ("doc", "pos", "pay", "tim", "tip", "tmd", "psm"),
    "norms": ("nvd", "nvm"),
}


def actions(
    collection: Collection, judged: Judged, kept: NDArray[np.bool_], meta: IndexMeta
) -> Iterator[dict[str, Any]]:
    """Yield the documents with the latents that are kept."""
    bounds = np.concatenate([[0], np.cumsum(judged.n_entries)])
    tf = terms.counts(judged.values)
    for document, (first, last) in zip(collection.documents(), pairwise(bounds), strict=True):
        some = kept[first:last]
        yield {
            "_id": document.id,
            **document.fields,
            meta.latent_field: terms.write(
                judged.latents[first:last][some], tf[first:last][some], meta.spelling
            ),
            str(meta.hash_field): document.text_hash,
        }


def sizes(client: OpenSearch, index: str) -> Counter[str]:
    """Bytes of each part of an index, and of all that is left as "rest"."""
    answer = client.indices.stats(
        index=index, metric="segments", params={"include_segment_file_sizes": "true"}
    )
    files = answer["indices"][index]["primaries"]["segments"]["file_sizes"]
    found: Counter[str] = Counter()
    for ending, file in files.items():
        size = file["size_in_bytes"]
        part = next((part for part, endings in PARTS.items() if ending in endings), "rest")
        if ending not in ("cfs", "cfe"):  # these hold the others
            found[part] += size
    return found


@click.command(cls=Benchmark)
@click.argument("name", metavar="FOLDER:SPLIT")
@click.option("--out", type=click.Path(path_type=Path), default=Path("encoded"))
def main(name: str, out: Path) -> None:
    """Print the bytes of each part of an index, a document."""
    encoder = LatentEncoder.shared()
    client = Connection(default_url()).open()
    judged = Judged.load(name, out, encoder)
    every, by = judged.every(), ways(encoder.idf())
    heaviest = judged.places(by["weight"])
    heaviest_rare = judged.places(by["weight * idf"])
    half = judged.part(heaviest_rare, 0.5)
    lean = {"lean": True}
    chosen: dict[str, tuple[NDArray[np.bool_], dict[str, Any]]] = {
        "words alone": (~every, lean),
        "plain": (every, {}),
        "plain, delimited": (every, {"spelling": "delimited"}),
        "plain, 50% by weight * idf": (half, {}),
        "lean": (every, lean),
        **{
            f"lean, {number} by weight": (heaviest < number, lean)
            for number in (1024, 512, 256, 128, 64)
        },
        "lean, 50% by weight * idf": (half, lean),
        "lean, in at most 50% of documents": (judged.rarer(0.5), lean),
    }
    for number, (kept, wanted) in enumerate(chosen.values()):
        index = f"{PREFIX}-{number}"
        client.indices.delete(index=index, ignore_unavailable=True)
        meta = open_index(client, index, encoder, wanted)
        helpers.bulk(
            client,
            actions(judged.collection, judged, kept, meta),
            index=index,
            chunk_size=AT_ONCE,
            request_timeout=300,
        )
    columns = [*PARTS, "rest"]
    click.echo(
        f"| {judged.collection.name} | {' | '.join(columns)} | all | latent postings |\n"
        f"|{'---|' * (len(columns) + 3)}"
    )
    words = 0.0
    for number, (title, (_, wanted)) in enumerate(chosen.items()):
        index = f"{PREFIX}-{number}"
        Index(client, index).merge(Retry(client), lean="lean" in wanted)
        found = sizes(client, index)
        client.indices.delete(index=index)
        a_document = {part: found[part] / len(judged.ids) for part in columns}
        words = words or a_document["postings"]
        cells = [*a_document.values(), sum(a_document.values()), a_document["postings"] - words]
        click.echo(f"| {title} | {' | '.join(f'{cell:,.0f}' for cell in cells)} |")


if __name__ == "__main__":
    main()
