"""Speed of batches of similar length within a token budget, over batches of 32 in file order.

Both run the same backbone on the same texts, docstrings of the standard library.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from latent_ingest.connector.collections.docstrings import standard_library
from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.encoding.hub import DEFAULT_BACKBONE, find_folder

TEXTS = 1500
PLAIN_BATCH = 32


def ours(backbone: Backbone, texts: list[str]) -> None:
    """Embed in our batches."""
    for _ in backbone.embed(texts):
        pass


def plain(backbone: Backbone, texts: list[str]) -> None:
    """Embed in batches of `PLAIN_BATCH` texts in file order."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(find_folder(DEFAULT_BACKBONE))
    with torch.inference_mode():
        for start in range(0, len(texts), PLAIN_BATCH):
            batch = tokenizer(
                texts[start : start + PLAIN_BATCH],
                padding=True,
                truncation=True,
                max_length=backbone.max_tokens,
                return_tensors="pt",
            )
            backbone._model(**batch.to(backbone.device))


def seconds(
    encode: Callable[[Backbone, list[str]], None], backbone: Backbone, texts: list[str]
) -> float:
    """Duration of the faster of two runs."""
    times = []
    for _ in range(2):
        started = time.perf_counter()
        encode(backbone, texts)
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    texts = [document["text"] for document in standard_library()][:TEXTS]
    backbone = Backbone.load()
    ours(backbone, texts[:100])
    slow, fast = seconds(plain, backbone, texts), seconds(ours, backbone, texts)
    print(f"{len(texts):,} docstrings, {backbone.device.type}, {backbone.dtype}")
    print(f"file order {slow:.1f} s, ours {fast:.1f} s: {slow / fast:.1f} times as fast")


if __name__ == "__main__":
    main()
