"""Measure encoding and training on one GPU, or, with small sizes, on a CPU.

    python benchmarks/gpu.py texts.jsonl.gz --out gpu.json
    python benchmarks/gpu.py texts.jsonl.gz --out cpu.json --small

It needs no network, no engine and no client of one: torch, transformers, safetensors, numpy and
click suffice. The file of --out is written after each section, so an interrupted run keeps those
it has finished. Sections:

encode    tokens/s of the backbone alone and with latents, in turn, and the most memory used
shares    milliseconds of each step of encoding, the device waited for after each
top_k     milliseconds of ways to find the k strongest latents of a token, all exact, and of the
          product before them
equality  how far latents of this device agree with those of a CPU in float32
training  tokens/s of a training step, by tokens in a batch
"""

from __future__ import annotations

import gzip
import json
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import mean, median
from typing import Any

import click
import numpy as np
import torch

from latent_ingest.connector import terms
from latent_ingest.connector.encoding import windows
from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder, strongest_by_groups
from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.model_folder import model_path
from latent_ingest.connector.encoding.pooling import PooledRows, pool
from latent_ingest.connector.encoding.vectors import LatentVectors
from latent_ingest.connector.training.config import TrainingConfig
from latent_ingest.connector.training.optimization import Optimization

Figures = dict[str, Any]

ROUNDS = 3
GROUP_SIZES = (32, 64, 128)


def texts_of(path: Path, most: int) -> list[str]:
    """Return the first texts of a JSONL file, compressed by gzip or not."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in islice(lines, most)]
    if not texts:
        raise click.ClickException(f"{path}: no texts")
    return texts


def load(folder: Path, backbone: str | None, device: str, dtype: str = "auto") -> LatentEncoder:
    """Load a model, with the backbone from another place, perhaps rounded, if one is named."""
    if backbone is None:
        return LatentEncoder.load(folder, device=device, dtype=dtype)
    autoencoder = TokenAutoencoder.load(folder)
    autoencoder.config = replace(autoencoder.config, backbone_fingerprint="")
    return LatentEncoder(Backbone.load(backbone, device=device, dtype=dtype), autoencoder)


def wait(device: torch.device) -> None:
    """Wait until the device has done all that it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return the duration of some work, the device waited for."""
    wait(device)
    started = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - started


def memory_mb(device: torch.device) -> float:
    """Return the most memory used so far, of the GPU or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 1e6 if sys.platform == "darwin" else used / 1e3


def encode(encoder: LatentEncoder, texts: Sequence[str], budgets: Sequence[int]) -> Figures:
    """Measure the backbone alone and the whole encoder, with several token budgets."""
    backbone = encoder.backbone
    found = {}
    own = backbone.token_budget
    for budget in budgets:
        backbone.token_budget = budget
        n_tokens = int(encoder.encode(texts).n_tokens.sum())  # compiles, fills caches
        alone, whole = [], []
        for _ in range(ROUNDS):
            alone.append(seconds(lambda: list(backbone.embed(texts, long="pool")), backbone.device))
            whole.append(seconds(lambda: encoder.encode(texts), backbone.device))
        found[f"budget {budget}"] = {
            "tokens": n_tokens,
            "backbone_tokens_per_s": n_tokens / median(alone),
            "latents_tokens_per_s": n_tokens / median(whole),
            "ratio": median(one / other for one, other in zip(alone, whole, strict=True)),
            "memory_mb": memory_mb(backbone.device),
        }
    backbone.token_budget = own
    return found


def shares(encoder: LatentEncoder, texts: Sequence[str]) -> Figures:
    """Measure each step of encoding alone. What the steps take together is more than in one go."""
    backbone, autoencoder = encoder.backbone, encoder._autoencoder
    device = backbone.device
    spent: dict[str, float] = defaultdict(float)

    @contextmanager
    def step(name: str) -> Iterator[None]:
        wait(device)
        started = time.perf_counter()
        yield
        wait(device)
        spent[name] += 1000 * (time.perf_counter() - started)

    with step("tokenize"):
        found = windows.windows_of(
            backbone._tokenizer, texts, prompt="", max_tokens=backbone.max_tokens, long="pool"
        )
    rows = PooledRows(encoder.n_latents, encoder.pooling)
    limits = {"max_tokens": backbone.max_tokens, "budget": backbone.token_budget, "padding": 0}
    with torch.inference_mode():
        batches = windows.batches(found, **limits)
        while True:
            with step("pad"):
                batch = next(batches, None)
            if batch is None:
                break
            with step("to the device"):
                ids, attention = batch.input_ids.to(device), batch.attention.to(device)
            with step("backbone"):
                states = backbone._model(input_ids=ids, attention_mask=attention)
                hidden = backbone._projection(states.last_hidden_state)
            with step("select tokens"):
                hidden = hidden[batch.counted.to(device)]
            with step("latents"):
                bounds = torch.nn.functional.pad(batch.counted.sum(dim=1).cumsum(0), (1, 0))
                latents = autoencoder.encode(hidden, cu_seq_lens=bounds, k=encoder.k)
            with step("pool"):
                pooled = pool(latents, encoder.n_latents, encoder.pooling)
            with step("from the device"):
                columns = [column.cpu().numpy() for column in pooled]
            with step("merge windows"):
                positions = np.array([window.position for window in batch.windows])
                rows.add(positions[columns[0]], *columns[1:])
    with step("merge windows"):
        rows.vectors(
            finite=np.ones(len(texts), dtype=np.bool_),
            **dict.fromkeys(("n_tokens", "n_windows", "truncated"), np.zeros(len(texts))),
        )
    whole = sum(spent.values())
    return {
        "milliseconds": dict(spent),
        "share": {name: part / whole for name, part in spent.items()},
    }


def top_k(encoder: LatentEncoder, texts: Sequence[str], n_tokens: int) -> Figures:
    """Measure the product with the encoder's weights, and ways to find the strongest latents."""
    autoencoder, device = encoder._autoencoder, encoder.backbone.device
    batches = encoder.backbone.embed(texts)
    hidden = torch.cat([batch.hidden for batch in batches])[:n_tokens]
    ways: dict[str, Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]] = {
        "all at once": lambda pre: tuple(pre.topk(encoder.k)),
        **{
            f"groups of {size}": lambda pre, size=size: strongest_by_groups(pre, encoder.k, size)
            for size in GROUP_SIZES
        },
    }
    figures: Figures = {"tokens": len(hidden)}
    with torch.inference_mode():
        normalized = autoencoder.normalize(hidden)
        times: dict[str, list[float]] = defaultdict(list)
        pre = autoencoder.pre_activations(normalized)
        expected = pre.topk(encoder.k).values
        for round_number in range(ROUNDS + 1):
            for name, way in {
                "product": lambda _: autoencoder.pre_activations(normalized),
                **ways,
            }.items():
                took = 1000 * seconds(lambda way=way: way(pre), device)
                if round_number:
                    times[name].append(took)
        figures["milliseconds"] = {name: median(each) for name, each in times.items()}
        figures["same values"] = {
            name: bool(torch.equal(way(pre)[0], expected)) for name, way in ways.items()
        }
    return figures


def equality(
    encoders: Callable[[str, str], LatentEncoder],
    device: str,
    dtypes: Sequence[str],
    texts: Sequence[str],
) -> Figures:
    """Compare latents of this device with those of a CPU in float32."""
    exact = encoders("cpu", "float32")
    tokens, documents = exact.encode_tokens(texts), exact.encode(texts)
    found = {}
    for dtype in dtypes:
        encoder = encoders(device, dtype)
        pairs = zip(tokens, encoder.encode_tokens(texts), strict=True)
        found[dtype] = {
            "latents_of_a_token": mean(
                len({*one} & {*other}) / len(one)
                for own, theirs in pairs
                for one, other in zip(own.latents.tolist(), theirs.latents.tolist(), strict=True)
            ),
            "counts_of_a_document": mean(
                shared_counts(documents, encoder.encode(texts), row) for row in range(len(texts))
            ),
        }
    return found


def shared_counts(one: LatentVectors, other: LatentVectors, row: int) -> float:
    """Return the part of a document's counts of latent terms that both have."""
    counts = [
        dict(zip(latents.tolist(), terms.counts(values).tolist(), strict=True))
        for latents, values in (one[row], other[row])
    ]
    shared = sum(min(n, counts[1].get(latent, 0)) for latent, n in counts[0].items())
    return shared / max(1, *(sum(each.values()) for each in counts))


def training(backbone: Backbone, texts: Sequence[str], sizes: Sequence[int]) -> Figures:
    """Measure a training step of 32,768 latents."""
    hidden = torch.cat([batch.hidden.clone() for batch in backbone.embed(texts)])

    def step_seconds(batch: torch.Tensor) -> float:
        n_tokens = len(batch)
        config = TrainingConfig(32768, tokens=100 * n_tokens, batch_tokens=n_tokens)
        optimization = Optimization(backbone, config)
        times = [
            seconds(lambda number=number: optimization.step(number, batch), backbone.device)
            for number in range(1, 2 + ROUNDS)
        ]
        return median(times[1:])

    found = {}
    for size in sizes:
        took = step_seconds(hidden.repeat(-(-size // len(hidden)), 1)[:size])
        found[f"batch {size}"] = {
            "tokens_per_s": size / took,
            "memory_mb": memory_mb(backbone.device),
        }
    return found


@click.command()
@click.argument("path", metavar="TEXTS", type=click.Path(exists=True, path_type=Path))
@click.option("--model", help="Model folder, or the name of a shipped one.")
@click.option("--backbone", help="Folder with its backbone, in place of the one it names.")
@click.option("--device", default="auto", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("gpu.json"))
@click.option("--texts", "n_texts", default=20_000, show_default=True)
@click.option("--small", is_flag=True, help="Few tokens, to try it on a CPU.")
def main(
    path: Path,
    model: str | None,
    backbone: str | None,
    device: str,
    out: Path,
    n_texts: int,
    small: bool,
) -> None:
    """Measure a model on TEXTS, a JSONL file with a field `text`."""
    texts = texts_of(path, 12 if small else n_texts)
    folder = model_path(model)
    encoder = load(folder, backbone, device)
    chosen = encoder.backbone.device
    figures: Figures = {
        "device": torch.cuda.get_device_name() if chosen.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "dtype": str(encoder.backbone.dtype).removeprefix("torch."),
        "model": folder.name,
        "texts": len(texts),
    }
    few = texts[: 4 if small else 256]
    budgets = (2048,) if small else (32768, 65536, 131072, 262144)
    sizes = (256,) if small else (4096, 32768, 131072)
    dtypes = ("float32",) if small else ("float32", "bfloat16")
    sections: dict[str, Callable[[], Figures]] = {
        "encode": lambda: encode(encoder, texts, budgets),
        "shares": lambda: shares(encoder, texts),
        "top_k": lambda: top_k(encoder, texts[:2000], 512 if small else 16384),
        "equality": lambda: equality(partial(load, folder, backbone), device, dtypes, few),
        "training": lambda: training(encoder.backbone, texts[:2000], sizes),
    }
    for name, section in sections.items():
        started = time.perf_counter()
        figures[name] = section()
        figures[name]["seconds"] = time.perf_counter() - started
        out.write_text(json.dumps(figures, indent=1), encoding="utf-8")
        click.echo(f"{name}: {json.dumps(figures[name])}")


if __name__ == "__main__":
    sys.exit(main())
