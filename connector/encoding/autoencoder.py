"""The sparse autoencoder: token embeddings → the k most active latents of each token.

Method: arXiv 2605.29384. Names of weights: sentence-transformers pull request 3796.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from latent_ingest.connector.encoding.model_folder import (
    find_autoencoder,
    find_pooling,
    latents_per_token,
    read_json,
    reading,
    write_json,
)
from latent_ingest.connector.encoding.transformer.packing import Product, pack
from latent_ingest.connector.errors import ModelError

VARIANTS = ("topk", "jumprelu")

# File of document frequencies in a model of sentence-transformers: they are not among the weights,
# because the pull request's module would refuse them there.
FREQUENCIES_FILE = "document_frequency.safetensors"

# Tokens whose pre-activations are in memory at once: 4,096 x 16,384 in float32 take 268 MB.
TOKENS_AT_ONCE = 4096

# On a CPU fewer, 17 MB in bfloat16: they stay in its caches until the strongest are found, and
# their memory is used again.
TOKENS_AT_ONCE_ON_CPU = 256

# Tokens are padded to a multiple of this, or, if fewer, to a power of two: on a CPU, a kernel is
# cached for each shape, and memory grows with every new shape.
TOKENS_PER_SHAPE = 256
FEWEST_TOKENS = 16

# Latents in a group whose largest value is compared with those of the other groups.
GROUP = 64


@dataclass(frozen=True, slots=True)
class AutoencoderConfig:
    """Content of a model folder's config.json."""

    d_in: int
    """Width of a token embedding."""
    n_latents: int
    """Number of latents."""
    k: int
    """Active latents per token; can be lowered when encoding."""
    variant: str = "topk"
    """ "topk", or "jumprelu": pre-activations at or below `theta` are zero."""
    rms_scale: float | None = None
    """Factor on the token embedding before it is normalized, if there is no `data_mean`."""
    pooling: str = "sum"
    """ "sum", "max" or "max_log1p"; see `pooling.pool`."""
    backbone: str = ""
    """Name or folder of the backbone the autoencoder was trained on."""
    backbone_fingerprint: str = ""
    """Fingerprint of that backbone's weights; empty if unknown."""
    n_documents: int = 0
    """Number of texts that `document_frequency` was counted on."""

    def __post_init__(self) -> None:
        if self.d_in < 1 or self.n_latents < 1:
            raise ModelError(f"d_in {self.d_in} and n_latents {self.n_latents} must be above 0")
        check_k(self.k, self.n_latents)
        if self.variant not in VARIANTS:
            raise ModelError(f"variant {self.variant!r}: use one of {', '.join(VARIANTS)}")


@dataclass(frozen=True, slots=True)
class TokenLatents:
    """The active latents of some tokens, packed one text after the other."""

    top_acts: torch.Tensor
    """Activations, float32 `[n_tokens, k]`, not negative."""
    top_indices: torch.Tensor
    """Latents, int64 `[n_tokens, k]`."""
    cu_seq_lens: torch.Tensor
    """Text boundaries, int64 `[n_texts + 1]`."""


class TokenAutoencoder(nn.Module):
    """Top-k sparse autoencoder over token embeddings."""

    W_enc: nn.Parameter
    """`[d_in, n_latents]`"""
    b_enc: nn.Parameter
    """`[n_latents]`"""
    b_pre: nn.Parameter
    """`[d_in]`"""
    W_dec: nn.Parameter | None
    """`[n_latents, d_in]`; None in a model saved without its decoder."""
    theta: nn.Parameter | None
    """Thresholds of the jumprelu variant, `[n_latents]`; None in the topk variant."""
    data_mean: torch.Tensor | None
    """Mean that token embeddings are centered on, `[d_in]`."""
    document_frequency: torch.Tensor | None
    """How many of `config.n_documents` texts have each latent, float32 `[n_latents]`."""
    token_batch_size: int | None = None
    """Tokens encoded at once, in place of `TOKENS_AT_ONCE`."""

    def __init__(self, config: AutoencoderConfig, *, decoder: bool = True) -> None:
        super().__init__()
        self.config = config
        self.W_enc = nn.Parameter(torch.empty(config.d_in, config.n_latents))
        self.b_enc = nn.Parameter(torch.zeros(config.n_latents))
        self.b_pre = nn.Parameter(torch.zeros(config.d_in))
        self.W_dec = nn.Parameter(torch.empty(config.n_latents, config.d_in)) if decoder else None
        jump = config.variant == "jumprelu"
        self.theta = nn.Parameter(torch.zeros(config.n_latents)) if jump else None
        self.register_buffer("data_mean", None)
        self.register_buffer("document_frequency", None)
        self._product: Product | None = None

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Initialize the decoder (Kaiming, rows of unit norm), and the encoder as its transpose."""
        rows = nn.init.kaiming_uniform_(torch.empty_like(self.W_enc.T), generator=generator)
        rows.div_(rows.norm(dim=1, keepdim=True))
        self.W_enc.copy_(rows.T)
        if self.W_dec is not None:
            self.W_dec.copy_(rows)

    def normalize(self, hidden: torch.Tensor) -> torch.Tensor:
        """Center token embeddings and scale each to norm sqrt(d_in); float32, shape kept."""
        x = hidden.float()
        if self.data_mean is not None:
            x = x - self.data_mean
        elif self.config.rms_scale is not None:
            x = x * self.config.rms_scale
        return nn.functional.normalize(x, dim=-1, eps=1e-8) * math.sqrt(self.config.d_in)

    def pre_activations(self, normalized: torch.Tensor) -> torch.Tensor:
        """`(x - b_pre) @ W_enc + b_enc`, thresholded in the jumprelu variant.

        `[n_tokens, d_in]` → `[n_tokens, n_latents]`, in the dtype of `W_enc`.
        """
        x = (normalized - self.b_pre).to(self.W_enc.dtype)
        if self._product:
            pre = self._product(x)
        else:
            pre = torch.addmm(self.b_enc.to(self.W_enc.dtype), x, self.W_enc)
        return pre if self.theta is None else pre * (pre > self.theta)

    def freeze(self, dtype: torch.dtype) -> None:
        """Compute pre-activations in `dtype` from now on, faster; no weight may change any more."""
        self.eval().requires_grad_(False)
        # Each latent's weights are contiguous: twice as fast for the few tokens of a question.
        rows = self.W_enc.data.to(dtype).T.contiguous()
        self.W_enc.data = rows.T
        self._product = pack(rows, self.b_enc.to(dtype))

    @contextmanager
    def computing_in(self, dtype: torch.dtype) -> Iterator[None]:
        """Inside the block, pre-activations are computed in `dtype`; then as before."""
        W_enc, product = self.W_enc.data, self._product
        self.W_enc.data, self._product = W_enc.to(dtype), None
        try:
            yield
        finally:
            self.W_enc.data, self._product = W_enc, product

    def encode(
        self,
        hidden: torch.Tensor,
        *,
        attention_mask: torch.Tensor | None = None,
        cu_seq_lens: torch.Tensor | None = None,
        k: int | None = None,
    ) -> TokenLatents:
        """Return the k most active latents of each token.

        Args:
            hidden: padded `[n_texts, seq, d_in]`, with `attention_mask` if rows differ in
                length; or flattened `[n_tokens, d_in]`, one text; or packed `[n_tokens, d_in]`
                or `[1, n_tokens, d_in]` with `cu_seq_lens`.
            attention_mask: `[n_texts, seq]`, zero for padding.
            cu_seq_lens: text boundaries, `[n_texts + 1]`.
            k: latents per token; at most the model's own k unless it was trained for more.

        Raises:
            ModelError: `hidden` is not `d_in` wide, or k is out of range.
        """
        k = self.config.k if k is None else k
        check_k(k, self.config.n_latents)
        packed, bounds = self._pack(hidden, attention_mask, cu_seq_lens)
        acts, indices = [], []
        on_cpu = packed.device.type == "cpu"
        at_once = self.token_batch_size or (TOKENS_AT_ONCE_ON_CPU if on_cpu else TOKENS_AT_ONCE)
        for chunk in torch.split(packed, at_once) if len(packed) else [packed]:
            padded = nn.functional.pad(chunk, (0, 0, 0, padded_tokens(len(chunk)) - len(chunk)))
            values, latents = strongest(self.pre_activations(self.normalize(padded)), k)
            acts.append(values[: len(chunk)].float().relu())
            indices.append(latents[: len(chunk)])
        return TokenLatents(torch.cat(acts), torch.cat(indices), bounds)

    def reconstruct(self, acts: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        """Normalized token embeddings from active latents: `[n_tokens, k]` → `[n_tokens, d_in]`."""
        assert self.W_dec is not None
        return decode(acts, indices, self.W_dec) + self.b_pre

    def _pack(
        self,
        hidden: torch.Tensor,
        attention_mask: torch.Tensor | None,
        cu_seq_lens: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if hidden.shape[-1] != self.config.d_in:
            raise ModelError(
                f"token embeddings are {hidden.shape[-1]} wide, but the autoencoder was trained on "
                f"{self.config.d_in}; use the backbone it was trained on"
            )
        if cu_seq_lens is not None:
            return hidden.reshape(-1, self.config.d_in), cu_seq_lens.long()
        if hidden.ndim == 2:
            return hidden, torch.tensor([0, len(hidden)])
        if attention_mask is None:
            attention_mask = torch.ones(hidden.shape[:2], device=hidden.device)
        mask = attention_mask.bool()
        lengths = mask.sum(dim=1).cpu()
        return hidden[mask], boundaries(lengths)

    def save(
        self,
        folder: Path,
        *,
        decoder: bool = False,
        dtype: torch.dtype = torch.float16,
        int8: bool = False,
    ) -> None:
        """Write config.json and model.safetensors; `W_dec` only with `decoder`.

        With `int8`, `W_enc` is rounded to int8 with a scale for each latent, `W_enc_scale`, which
        halves the file and changes the fingerprint. Older versions refuse such a folder.
        """
        folder.mkdir(parents=True, exist_ok=True)
        stored = {
            # Frequencies are counts, too large for float16.
            name: tensor.to(torch.float32 if name == "document_frequency" else dtype)
            for name, tensor in self.state_dict().items()
            if decoder or name != "W_dec"
        }
        config = asdict(self.config)
        if int8:
            stored["W_enc"], stored["W_enc_scale"] = rounded_to_int8(self.W_enc.detach())
            config["weights"] = "int8"
        write_weights(folder / "model.safetensors", stored)
        write_json(folder / "config.json", config)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # Register the buffers that are in the stored weights but not in this module yet.
        for name in ("data_mean", "document_frequency"):
            stored = state_dict.get(prefix + name)
            if stored is not None and getattr(self, name) is None:
                empty = torch.empty_like(stored, dtype=torch.float32, device=self.W_enc.device)
                self.register_buffer(name, empty)
        super()._load_from_state_dict(state_dict, prefix, *args)

    @classmethod
    def load(cls, folder: Path) -> TokenAutoencoder:
        """Read a folder written by `save`, or a model of sentence-transformers; float32, CPU.

        Raises:
            ModelError: a file is missing or broken, weights and config disagree, or a weight is not
                finite.
        """
        config = read_config(folder)
        path = find_autoencoder(folder) / "model.safetensors"
        weights = read_weights(path)
        if (path.parent / FREQUENCIES_FILE).is_file():
            weights |= read_weights(path.parent / FREQUENCIES_FILE)
            config = replace(config, n_documents=int(weights.pop("n_documents")))
        if (scale := weights.pop("W_enc_scale", None)) is not None:
            weights["W_enc"] = weights["W_enc"].float() * scale
        model = cls(config, decoder="W_dec" in weights)
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise ModelError(f"{path}: does not fit config.json: {error}") from error
        for name, tensor in model.state_dict().items():
            if not tensor.isfinite().all():
                raise ModelError(f"{path}: {name} has NaN or infinity; use another copy of it")
        return model.eval()


def check_k(k: int, n_latents: int) -> None:
    """Raise ModelError if a token cannot have k active latents."""
    if not 1 <= k <= n_latents:
        raise ModelError(f"k {k}: must be 1 to n_latents, {n_latents}")


def read_config(folder: Path) -> AutoencoderConfig:
    """Read and check config.json of the autoencoder in a model folder; raises ModelError."""
    path = find_autoencoder(folder) / "config.json"
    content = read_json(path)
    if isinstance(content, dict) and "input_dim" in content:
        content = from_sentence_transformers(content, folder)
    known = {field.name for field in fields(AutoencoderConfig)}
    if not isinstance(content, dict) or not {"d_in", "n_latents", "k"} <= content.keys():
        raise ModelError(f"{path}: not of an autoencoder: d_in, n_latents or k is missing")
    if content.pop("weights", "int8") != "int8":
        raise ModelError(f"{path}: weights of an unknown kind; made by a newer version?")
    if unknown := content.keys() - known:
        raise ModelError(f"{path}: unknown {', '.join(sorted(unknown))}; made by a newer version?")
    return AutoencoderConfig(**content)


def from_sentence_transformers(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Translate a SparseAutoEncoderTokenEncoder's settings; others do not affect encoding."""
    names = {"input_dim": "d_in", "hidden_dim": "n_latents", "k": "k", "rms_scale": "rms_scale"}
    variant = content.get("variant", "standard")
    if k := latents_per_token(folder):
        content = {**content, "k": k}
    return {
        **{ours: content[theirs] for theirs, ours in names.items() if theirs in content},
        "variant": "topk" if variant == "standard" else variant,
        "pooling": find_pooling(folder).get("pooling_strategy", "sum"),
        "backbone": str(folder),
    }


def rounded_to_int8(weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Integers from -127 to 127, and the scale of each column.

    `[d_in, n_latents]` → int8 `[d_in, n_latents]`, float32 `[n_latents]`.
    """
    scale = (weights.float().abs().amax(dim=0) / 127).clamp(min=1e-12)
    return (weights.float() / scale).round().to(torch.int8), scale


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors in a file; raises ModelError if it is missing or broken."""
    with reading(path):
        return load_file(path)


def write_weights(path: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """Write tensors to a safetensors file that everybody can read."""
    save_file({name: t.detach().cpu().contiguous() for name, t in weights.items()}, path)
    path.chmod(0o644)  # safetensors makes it readable for its owner only


def boundaries(lengths: torch.Tensor) -> torch.Tensor:
    """Boundaries of packed texts of these lengths, `[n_texts]` → `[n_texts + 1]`."""
    return nn.functional.pad(lengths.cumsum(0), (1, 0))


def padded_tokens(tokens: int) -> int:
    """The next power of two from 16 to 256, or, above, the next multiple of 256."""
    if tokens > TOKENS_PER_SHAPE:
        return -(-tokens // TOKENS_PER_SHAPE) * TOKENS_PER_SHAPE
    return max(FEWEST_TOKENS, 1 << max(tokens - 1, 0).bit_length())


def strongest(pre: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest values of each row and their columns, largest first.

    `[n_tokens, n_latents]` → `[n_tokens, k]` each. Where fewer than k are above 0, the others are
    any that are not.
    """
    if pre.shape[1] % GROUP == 0 and k <= pre.shape[1] // GROUP:
        return strongest_by_groups(pre, k)
    top = pre.topk(k, dim=-1)
    return top.values, top.indices


def strongest_by_groups(
    pre: torch.Tensor, k: int, size: int = GROUP
) -> tuple[torch.Tensor, torch.Tensor]:
    """Like `strongest`, from the k groups with the largest maxima: none of the k is elsewhere.

    A group is `size` columns side by side; there must be k groups or more. Of equal values, another
    may be kept than `topk` keeps.
    """
    n_tokens, n_latents = pre.shape
    n_groups = n_latents // size
    grouped = pre.reshape(-1, size)
    # Floating-point numbers above 0 are in the order of their bits, which are compared faster.
    bits = grouped.view(torch.int16 if pre.element_size() == 2 else torch.int32)
    groups = bits.amax(dim=1).view(n_tokens, n_groups).topk(k, dim=-1, sorted=False).indices
    first = n_groups * torch.arange(n_tokens, device=pre.device)[:, None]
    members = grouped.index_select(0, (first + groups).flatten()).view(n_tokens, k * size)
    values, places = members.topk(k, dim=-1)
    return values, groups.gather(1, places // size) * size + places % size


def decode(acts: torch.Tensor, indices: torch.Tensor, W_dec: torch.Tensor) -> torch.Tensor:
    """`z @ W_dec` for z that is zero except for `acts` at `indices`.

    `[n_tokens, k]` → `[n_tokens, d_in]`.
    """
    weights = acts.to(W_dec.dtype)
    return nn.functional.embedding_bag(indices, W_dec, per_sample_weights=weights, mode="sum")
