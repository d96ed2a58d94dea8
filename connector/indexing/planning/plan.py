"""The plan of an index: what a corpus will take, from a sample of it.

sample → tokens and latent terms a document, seconds of encoding → those of all documents
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from latent_ingest.connector.indexing.planning.sample import CorpusSample

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

# Bytes of an index by part, of benchmarks/index_size.py for NFCorpus's 3,633 documents (one
# segment): 1,636 bytes of JSON, 1,593 of text and 1,430 latent terms a document.
SOURCE_PER_BYTE = 580 / 1636
WORDS_PER_BYTE = 900 / 1593
COPY_PER_TERM = (4988 - 580) / 1430
LATENT_PER_TERM = 1978 / 1430
REST = 8

# Bytes and documents of a shard: engines recommend 10 to 50 GB, and Lucene holds fewer than 2^31
# documents, or chunks.
SHARD_BYTES = 40e9
SHARD_DOCUMENTS = 2**30

# Shards for each GB of heap that engines recommend at most, the least heap of a node, and what the
# question table of 40,000 words takes of it (docs/benchmarks.md).
SHARDS_PER_HEAP_GB = 20
LEAST_HEAP_GB = 1.0
TABLE_HEAP_GB = 0.035

# Texts encoded at a time, so that the time is looked at between them.
AT_ONCE = 100

HOUR = 3600


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """What an index of a corpus takes; all of it is estimated from a sample."""

    documents: int
    sampled: int
    """Documents that were encoded."""
    tokens: float
    """Tokens of all documents."""
    tokens_per_second: float
    """Measured by encoding the sample, on `device`."""
    device: str
    latent_terms: float
    """Different latent terms of a document."""
    bytes: dict[str, float]
    """Bytes of the primary shards, by part: `source`, `copy` (latent terms in `_source`, which
    --lean leaves out), `words`, `latents`, `rest`."""
    machines: int = 1
    """Machines, or GPUs, that encode at the same time."""
    price_per_hour: float | None = None
    """Price of an hour of each of them."""
    gpu_tokens_per_second: float | None = None
    """Tokens per second of a GPU, as given."""
    replicas: int = 1

    @property
    def hours(self) -> float:
        """Hours of encoding on one machine like this."""
        return self.tokens / self.tokens_per_second / HOUR

    @property
    def gpu_hours(self) -> float | None:
        """Hours of encoding on one GPU; None if its speed was not given."""
        speed = self.gpu_tokens_per_second
        return self.tokens / speed / HOUR if speed else None

    @property
    def primary_bytes(self) -> float:
        """Bytes of all primary shards."""
        return sum(self.bytes.values())

    @property
    def shards(self) -> int:
        """Primary shards."""
        by_size = math.ceil(self.primary_bytes / SHARD_BYTES)
        return max(1, by_size, math.ceil(self.documents / SHARD_DOCUMENTS))

    @property
    def heap_gb(self) -> float:
        """Heap of all nodes together that the shards and their copies need, in GB."""
        copies = self.shards * (1 + self.replicas)
        return max(LEAST_HEAP_GB, copies / SHARDS_PER_HEAP_GB) + TABLE_HEAP_GB

    @property
    def price(self) -> float | None:
        """Price of encoding: the hours of all machines together, by GPU if its speed is known."""
        if self.price_per_hour is None:
            return None
        return (self.gpu_hours or self.hours) * self.price_per_hour

    def to_json(self) -> dict[str, Any]:
        """All figures."""
        derived = (
            "hours", "gpu_hours", "primary_bytes", "shards", "heap_gb", "price",
        )  # fmt: skip
        return {**asdict(self), **{name: getattr(self, name) for name in derived}}


def plan_index(
    sample: CorpusSample,
    encoder: LatentEncoder,
    *,
    documents: int | None = None,
    seconds: float = 60,
    **given: Any,
) -> IndexPlan:
    """Encode a sample, for so many seconds at most, and compute what all documents take.

    Args:
        sample: documents of the corpus.
        encoder: the model.
        documents: number of documents to plan for, if it is not that of the corpus.
        seconds: after which encoding ends, though the sample has more.
        given: fields of `IndexPlan` that are not measured.
    """
    texts = [document.text for document in sample.documents]
    encoder.encode(texts[:1], allow_nan=True)  # what is loaded on first use is not measured
    spent, done, tokens, entries = 0.0, 0, 0, 0
    for first in range(0, len(texts), AT_ONCE):
        part = texts[first : first + AT_ONCE]
        started = time.perf_counter()
        vectors = encoder.encode(part, allow_nan=True)
        spent += time.perf_counter() - started
        done += len(part)
        tokens += int(vectors.n_tokens.sum())
        entries += len(np.asarray(vectors.indices))
        if spent > seconds:
            break
    number = documents or sample.total
    terms = entries / done
    text = mean_bytes(texts)
    a_document = {
        "source": SOURCE_PER_BYTE * sample.bytes_a_document,
        "copy": COPY_PER_TERM * terms,
        "words": WORDS_PER_BYTE * text,
        "latents": LATENT_PER_TERM * terms,
        "rest": float(REST),
    }
    return IndexPlan(
        documents=number,
        sampled=done,
        tokens=tokens / done * number,
        tokens_per_second=tokens / max(spent, 1e-9),
        device=str(encoder.backbone.device),
        latent_terms=terms,
        bytes={part: size * number for part, size in a_document.items()},
        **given,
    )


def mean_bytes(texts: Sequence[str]) -> float:
    """Bytes of a text, on average."""
    return sum(len(text.encode("utf-8", "replace")) for text in texts) / max(len(texts), 1)
