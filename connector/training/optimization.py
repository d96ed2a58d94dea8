"""Training steps: they change the autoencoder, the objective's counters and AdamW's moments."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from latent_ingest.connector.encoding.autoencoder import AutoencoderConfig, TokenAutoencoder
from latent_ingest.connector.encoding.backbone import Backbone, out_of_memory
from latent_ingest.connector.errors import ModelError
from latent_ingest.connector.training.activation import MOST_TIMES_K, make_activation
from latent_ingest.connector.training.config import TrainingConfig
from latent_ingest.connector.training.distributed import ALONE, ProcessGroup
from latent_ingest.connector.training.objective import Loss, Objective

log = logging.getLogger(__name__)

# Largest cosine of two tokens at which latents begin, and tokens that are compared at once.
DISTANT = 0.7
COMPARED_AT_ONCE = 2048


class Optimization:
    """AdamW with linear warm-up and cosine decay; decoder rows keep unit norm."""

    def __init__(
        self, backbone: Backbone, config: TrainingConfig, processes: ProcessGroup = ALONE
    ) -> None:
        """Make an autoencoder with random weights from the seed; see `initialize`.

        The backbone gives the width, the device and the dtype of the matrix products.
        """
        self._config = config
        self._processes = processes
        self._micro_tokens = config.batch_tokens
        self.autoencoder = TokenAutoencoder(
            AutoencoderConfig(
                d_in=backbone.d_in,
                n_latents=config.n_latents,
                k=config.k,
                backbone=backbone.name,
                backbone_fingerprint=backbone.fingerprint,
            )
        )
        self.autoencoder.initialize(torch.Generator().manual_seed(config.seed))
        self.objective = Objective(
            self.autoencoder,
            make_activation(config.activation, config.k, config.n_latents),
            dead_after=config.dead_after // processes.size,
            multi_k=config.multi_k,
            matmul_dtype=backbone.dtype,
        )
        self.objective.to(backbone.device).train()
        self._adam = torch.optim.AdamW(
            self.objective.parameters(), lr=config.learning_rate, weight_decay=0.0, fused=True
        )

    @torch.no_grad()
    def initialize(self, hidden: torch.Tensor) -> None:
        """Before the first step: center on tokens, and place a latent at each distant one.

        `hidden` is `[n_tokens, d_in]`, in random order; of several processes, the first one's
        tokens are used. Latents for which there is no distant token keep random directions.
        """
        model = self.autoencoder
        model.data_mean = hidden.mean(dim=0, dtype=torch.float32)
        self._processes.average([model.data_mean])
        assert model.W_dec is not None
        distant = distant_rows(hidden, model, self.objective.matmul_dtype)
        model.W_dec[: len(distant)] = distant
        model.W_enc.copy_(model.W_dec.T)
        # Similar latents are active together; scaled by least squares, they add up to the token.
        # But each of Adam's steps then changes the encoder by a large part, and latents die. Its
        # square root keeps more of them alive (docs/training.md), except where thresholds are
        # learned: these begin at the activations of the first batches.
        x = model.normalize(hidden[: self._config.batch_tokens])
        acts, indices = (x @ model.W_enc).topk(self._config.k, dim=-1)
        sums = model.reconstruct(acts.relu(), indices)
        factor = (x * sums).sum() / sums.square().sum()
        learned = self.objective.activation.thresholds(model.config.n_latents) is not None
        model.W_enc.mul_(factor if learned else factor.sqrt())
        self._processes.copy_first([model.W_dec.data, model.W_enc.data])

    def step(self, number: int, hidden: torch.Tensor) -> Loss:
        """Take step `number`, counted from 1; returns the loss, averaged over the processes.

        `hidden` is this process's part of the batch, `[n_tokens, d_in]`. Without `initialize`, the
        first batch initializes the weights.

        Raises:
            ModelError: the loss or its gradient is not finite; nothing was changed.
        """
        if self.autoencoder.data_mean is None:
            self.initialize(hidden)
        config = self._config
        for group in self._adam.param_groups:
            group["lr"] = config.learning_rate * rate(number - 1, config.steps, config.warmup)
        loss = self._backward(hidden)
        self._processes.average([loss.total, loss.normalized_mse, loss.latents_per_token])
        check_finite(number, "the loss", loss.total)
        self._agree(number)
        remove_parallel_gradient(self.autoencoder)
        norm = torch.nn.utils.clip_grad_norm_(self.objective.parameters(), config.max_gradient)
        check_finite(number, "the gradient's norm", norm)
        self._adam.step()
        normalize_decoder(self.autoencoder)
        return loss

    def _agree(self, number: int) -> None:
        """Average gradients and counters over all processes."""
        objective = self.objective
        parameters = list(objective.parameters())
        if number == 1:
            self._processes.copy_first(parameter.data for parameter in parameters)
        self._processes.average(p.grad for p in parameters if p.grad is not None)
        self._processes.average(objective.activation.buffers())
        self._processes.smallest(objective.tokens_since_fired)

    def finished(self) -> TokenAutoencoder:
        """The autoencoder as it encodes.

        With an activation other than TopK it is a copy that has learned thresholds instead.
        """
        model, k = self.autoencoder, self._config.k
        thresholds = self.objective.activation.thresholds(model.config.n_latents)
        if thresholds is None:
            return model
        config = replace(
            model.config, variant="jumprelu", k=min(MOST_TIMES_K * k, model.config.n_latents)
        )
        copy = TokenAutoencoder(config).to(model.W_enc.device)
        copy.load_state_dict({**model.state_dict(), "theta": thresholds})
        return copy

    def state(self) -> dict[str, Any]:
        """State for `restore`."""
        return {"objective": self.objective.state_dict(), "adam": self._adam.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.objective.load_state_dict(state["objective"])
        self._adam.load_state_dict(state["adam"])

    def _backward(self, hidden: torch.Tensor) -> Loss:
        """Compute the gradients of a batch, in halves if it does not fit into memory."""
        while True:
            self._adam.zero_grad()
            try:
                losses = []
                # Parts of equal size: a last part of one token would have no variance.
                parts = math.ceil(len(hidden) / self._micro_tokens)
                for part in torch.tensor_split(hidden, parts):
                    share = len(part) / len(hidden)
                    loss: Loss = self.objective(part)
                    (loss.total * share).backward()  # type: ignore[no-untyped-call]
                    values = loss.total.detach(), loss.normalized_mse, loss.latents_per_token
                    losses.append(share * torch.stack(values))
                return Loss(*torch.stack(losses).sum(dim=0))
            except RuntimeError as error:
                if not out_of_memory(error) or self._micro_tokens < 2:
                    raise
                self._micro_tokens //= 2
                log.warning("out of memory: continuing with %d tokens per pass", self._micro_tokens)


def distant_rows(
    hidden: torch.Tensor, autoencoder: TokenAutoencoder, dtype: torch.dtype
) -> torch.Tensor:
    """Unit vectors of tokens of which no two have a cosine above `DISTANT`, `[n, d_in]`.

    A token is left out if it is close to one that was taken, or to an earlier one of the same
    `COMPARED_AT_ONCE`. At most as many are taken as there are latents. Cosines are in `dtype`.
    """
    found = hidden.new_empty(0, hidden.shape[1], dtype=torch.float32)
    for part in torch.split(hidden, COMPARED_AT_ONCE):
        rows = nn.functional.normalize(autoencoder.normalize(part), dim=-1).to(dtype)
        rows = rows[~((rows @ found.to(dtype).T) > DISTANT).any(dim=1)]
        close = (rows @ rows.T > DISTANT).tril(diagonal=-1).any(dim=1)
        found = torch.cat([found, rows[~close].float()])
        if len(found) >= autoencoder.config.n_latents:
            break
    found = nn.functional.normalize(found, dim=-1)
    return found[: autoencoder.config.n_latents]


def rate(step: int, steps: int, warmup: float) -> float:
    """Factor on the peak learning rate at a step: a linear rise, then a cosine to zero."""
    rising = max(1, round(steps * warmup))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def check_finite(step: int, what: str, value: torch.Tensor) -> None:
    """Raise ModelError if the value is NaN or infinite."""
    if not value.isfinite():
        raise ModelError(
            f"step {step}: {what} is {value.item()}; try --dtype float32 or a lower --learning-rate"
        )


@torch.no_grad()
def remove_parallel_gradient(autoencoder: TokenAutoencoder) -> None:
    """Remove from each decoder row's gradient the component that would change the row's length."""
    W_dec = autoencoder.W_dec
    assert W_dec is not None
    assert W_dec.grad is not None
    W_dec.grad -= (W_dec.grad * W_dec).sum(dim=1, keepdim=True) * W_dec


@torch.no_grad()
def normalize_decoder(autoencoder: TokenAutoencoder) -> None:
    """Rescale the decoder's rows to unit norm."""
    assert autoencoder.W_dec is not None
    autoencoder.W_dec.div_(autoencoder.W_dec.norm(dim=1, keepdim=True))
