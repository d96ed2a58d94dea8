"""The plain recipe: texts → token embeddings → shuffled batches → autoencoder → folder.

Source: arXiv 2605.29384 and its reproductions; no labels, no retrieval loss.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from latent_ingest.connector.encoding.autoencoder import AutoencoderConfig, TokenAutoencoder
from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.errors import InputError, ModelError
from latent_ingest.connector.training.activations import token_batches
from latent_ingest.connector.training.objective import Objective
from latent_ingest.connector.training.texts import TrainingTexts


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Settings of a run; defaults as in the paper where it states them."""

    n_latents: int = 16384
    k: int = 16
    tokens: int = 3_000_000
    """Tokens to train on; an epoch over as much text as that takes."""
    batch_tokens: int = 4096
    learning_rate: float = 1e-3
    warmup: float = 0.05
    """Share of the steps in which the learning rate climbs; after it a cosine to zero."""
    dead_after: int = 300_000
    """Tokens without firing after which a latent is dead."""
    buffer_tokens: int = 131_072
    """Tokens shuffled together; 131,072 x 384 in bf16 are 100 MB."""
    held_out_texts: int = 1000
    """Texts never trained on: reconstruction and document frequencies are measured on them."""
    max_gradient: float = 1.0
    """Norm to which the gradient is clipped."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.tokens < self.batch_tokens:
            raise InputError(f"{self.tokens} tokens: fewer than one batch, {self.batch_tokens}")
        if not 1 <= self.k <= self.n_latents:
            raise InputError(f"k {self.k}: must be 1 to the number of latents, {self.n_latents}")


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """Where a run is."""

    step: int
    tokens: int
    normalized_mse: float
    """Of the last batch; 0 is perfect, 1 no better than the mean."""
    dead: int
    """Latents that have not fired for `dead_after` tokens."""


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """How a run ended."""

    tokens: int
    steps: int
    seconds: float
    normalized_mse: float
    """On tokens of the held-out texts."""
    held_out_tokens: int
    dead: int
    """Latents that did not fire in the last `dead_after` tokens of training."""
    rounds: int
    """Times that all text was read to its end."""
    skipped_lines: int


def train(
    backbone: Backbone,
    texts: TrainingTexts,
    out: Path,
    config: TrainingConfig,
    *,
    command: str = "",
    keep_decoder: bool = False,
    on_step: Callable[[TrainingProgress], None] = lambda progress: None,
) -> TrainingReport:
    """Train an autoencoder for `backbone` and write it, with its card, to `out`.

    Args:
        backbone: the frozen retriever.
        texts: what to train on; its first texts are held out.
        out: folder to make.
        config: settings.
        command: noted in the card.
        keep_decoder: write `W_dec` too, twice the size.
        on_step: called after each step.

    Raises:
        InputError: no text, or `out` exists.
        ModelError: the loss is not finite.
    """
    if out.exists():
        raise InputError(f"{out}: exists already; name another folder")
    started = time.monotonic()
    stream = iter(texts)
    held_out = take_texts(stream, texts, config.held_out_texts)
    autoencoder = TokenAutoencoder(
        AutoencoderConfig(
            d_in=backbone.d_in,
            n_latents=config.n_latents,
            k=config.k,
            backbone=backbone.name,
            backbone_fingerprint=backbone.fingerprint,
        )
    )
    autoencoder.initialize(torch.Generator().manual_seed(config.seed))
    autoencoder.to(backbone.device).train()
    objective = Objective(
        autoencoder, dead_after=config.dead_after, matmul_dtype=backbone.dtype
    ).to(backbone.device)
    optimizer = torch.optim.AdamW(
        autoencoder.parameters(), lr=config.learning_rate, weight_decay=0.0, fused=True
    )
    steps = config.tokens // config.batch_tokens
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate(step, steps, config.warmup)
    )
    batches = token_batches(
        backbone,
        stream,
        batch_tokens=config.batch_tokens,
        buffer_tokens=min(config.buffer_tokens, config.tokens),
        generator=torch.Generator().manual_seed(config.seed),
    )
    for step, hidden in zip(range(1, steps + 1), batches, strict=False):
        if autoencoder.data_mean is None:
            autoencoder.data_mean = hidden.float().mean(dim=0)
        loss, normalized_mse = objective(hidden)
        if not math.isfinite(loss.item()):
            raise ModelError(f"step {step}: the loss is {loss.item()}; try --dtype float32")
        optimizer.zero_grad()
        loss.backward()
        remove_parallel_gradient(autoencoder)
        torch.nn.utils.clip_grad_norm_(autoencoder.parameters(), config.max_gradient)
        optimizer.step()
        schedule.step()
        normalize_decoder(autoencoder)
        on_step(
            TrainingProgress(
                step, step * config.batch_tokens, normalized_mse.item(), len(objective.dead)
            )
        )
    mse, held_out_tokens = held_out_mse(autoencoder, backbone, held_out)
    report = TrainingReport(
        tokens=steps * config.batch_tokens,
        steps=steps,
        seconds=time.monotonic() - started,
        normalized_mse=mse,
        held_out_tokens=held_out_tokens,
        dead=len(objective.dead),
        rounds=texts.rounds,
        skipped_lines=texts.skipped,
    )
    autoencoder = with_document_frequency(autoencoder, backbone, held_out)
    autoencoder.save(out, decoder=keep_decoder)
    (out / "README.md").write_text(card(config, report, texts, backbone, command), encoding="utf-8")
    return report


def take_texts(stream: Iterator[str], texts: TrainingTexts, number: int) -> list[str]:
    """The first texts, at most a tenth of the first round."""
    taken: list[str] = []
    for text in stream:
        taken.append(text)
        if len(taken) >= number or texts.rounds:
            break
    return taken


def learning_rate(step: int, steps: int, warmup: float) -> float:
    """Factor on the peak rate: a linear climb, then a cosine to zero."""
    climb = max(1, round(steps * warmup))
    if step < climb:
        return (step + 1) / climb
    return 0.5 * (1 + math.cos(math.pi * (step - climb) / max(1, steps - climb)))


@torch.no_grad()
def remove_parallel_gradient(autoencoder: TokenAutoencoder) -> None:
    """Leave of each decoder row's gradient what does not change its length."""
    W_dec = autoencoder.W_dec
    assert W_dec is not None
    assert W_dec.grad is not None
    W_dec.grad -= (W_dec.grad * W_dec).sum(dim=1, keepdim=True) * W_dec


@torch.no_grad()
def normalize_decoder(autoencoder: TokenAutoencoder) -> None:
    """Bring the decoder's rows back to unit norm."""
    assert autoencoder.W_dec is not None
    autoencoder.W_dec.div_(autoencoder.W_dec.norm(dim=1, keepdim=True))


@torch.no_grad()
def held_out_mse(
    autoencoder: TokenAutoencoder, backbone: Backbone, texts: list[str]
) -> tuple[float, int]:
    """Normalised MSE over all tokens of `texts`, and their number."""
    objective = Objective(autoencoder, dead_after=1 << 62, matmul_dtype=backbone.dtype)
    objective.to(backbone.device)
    total = weight = 0.0
    for batch in backbone.embed(texts):
        if len(batch.hidden) > 1:
            _, normalized_mse = objective(batch.hidden)
            total += normalized_mse.item() * len(batch.hidden)
            weight += len(batch.hidden)
    return total / max(weight, 1.0), int(weight)


def with_document_frequency(
    autoencoder: TokenAutoencoder, backbone: Backbone, texts: list[str]
) -> TokenAutoencoder:
    """The autoencoder with the document frequencies of its latents in `texts`."""
    W_enc = autoencoder.W_enc.detach().clone()
    vectors = LatentEncoder(backbone, autoencoder).encode(texts)
    autoencoder.W_enc.data = W_enc
    counts = np.bincount(vectors.indices, minlength=vectors.n_latents)
    autoencoder.document_frequency = torch.from_numpy(counts.astype(np.float32))
    autoencoder.config = replace(autoencoder.config, n_documents=len(texts))
    return autoencoder


def card(
    config: TrainingConfig,
    report: TrainingReport,
    texts: TrainingTexts,
    backbone: Backbone,
    command: str,
) -> str:
    """The model's README.md."""
    rows = {
        "backbone": f"{backbone.name}, weights {backbone.fingerprint}, "
        f"{str(backbone.dtype).removeprefix('torch.')}",
        "texts": ", ".join(Path(path).name for path in texts.paths),
        "tokens seen": f"{report.tokens:,} in {report.steps:,} steps",
        "normalised MSE": f"{report.normalized_mse:.4f} on {report.held_out_tokens:,} held-out "
        f"tokens of {config.held_out_texts:,} texts",
        "dead latents": f"{report.dead:,} of {config.n_latents:,} "
        f"(no firing in the last {config.dead_after:,} tokens)",
        "time": f"{report.seconds:,.0f} s on {backbone.device.type}",
        "settings": ", ".join(f"{name} {value}" for name, value in asdict(config).items()),
        "command": f"`{command}`",
        "torch": torch.__version__,
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return (
        f"# {config.n_latents:,} latents for {backbone.name}\n\n"
        "A top-k sparse autoencoder over single tokens (arXiv 2605.29384), trained to reconstruct "
        "the backbone's hidden states; no labels, no retrieval loss.\n\n"
        f"| | |\n|---|---|\n{table}\n"
    )
