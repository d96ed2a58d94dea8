"""The backbone: a frozen dense retriever that turns texts into token embeddings."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from latent_ingest.connector.encoding import windows
from latent_ingest.connector.encoding.autoencoder import boundaries
from latent_ingest.connector.encoding.hub import DEFAULT_BACKBONE, find_folder
from latent_ingest.connector.encoding.model_folder import read_marks, read_prompts
from latent_ingest.connector.encoding.projection import load_projection, projected_width
from latent_ingest.connector.encoding.transformer.loading import (
    keep_whole,
    load_transformer,
    pooling_of,
)
from latent_ingest.connector.encoding.transformer.packing import pack_layers
from latent_ingest.connector.encoding.transformer.trial import (
    hidden_states,
    padding_of,
    trial_states,
    width_of,
    window,
)
from latent_ingest.connector.errors import ModelError

# Padded tokens per forward pass. CPU: measured on 2 cores in bfloat16, 4,096 was the fastest of
# 1,024, 4,096 and 16,384 (13,900, 14,600 and 10,600 tokens/s).
TOKEN_BUDGET = {"cpu": 4096, "mps": 16384, "cuda": 65536}

# Padded tokens per forward pass below which running out of memory is an error.
SMALLEST_BUDGET = 512

# Texts tokenized at once when a long list is streamed: enough to sort by length.
SORT_WINDOW = 4096

Result = TypeVar("Result")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TokenEmbeddings:
    """Token embeddings of some texts, packed one row after the other.

    A row is a text, or one window of a text that has several. Tokens are left out if they are
    special tokens, belong to the prompt, or are counted by the window they overlap with.
    """

    hidden: torch.Tensor
    """Token embeddings, `[n_tokens, d_in]`, in the backbone's dtype, on its device."""
    cu_seq_lens: torch.Tensor
    """Row boundaries in `hidden`, int64 `[n_rows + 1]`, on the CPU."""
    spans: torch.Tensor
    """Start and end of each token in its text, in characters, int64 `[n_tokens, 2]`, CPU."""
    truncated: torch.Tensor
    """Whether the text was longer than the backbone window and truncated, bool `[n_rows]`, CPU."""
    positions: list[int]
    """Position of each row's text among the given texts, `[n_rows]`."""
    characters: torch.Tensor
    """Start and end of the row's part of its text, in characters, int64 `[n_rows, 2]`, CPU."""


@dataclass(eq=False, repr=False)
class Backbone:
    """A frozen Hugging Face model with its tokenizer and, if it has some, token projections."""

    _model: Any
    _tokenizer: Any
    _projection: torch.nn.Sequential
    name: str
    d_in: int
    """Width of a token embedding, after the projections if there are any."""
    token_budget: int
    """Padded tokens per forward pass."""
    max_tokens: int
    """The backbone window, in tokens, special tokens included."""
    padding: int
    """Id of the token that fills up rows; never attended to."""
    prompts: dict[str, str]
    """Text put before a "query" or a "document"; attended to, not pooled."""
    pooling: str
    """How its folder makes a text's vector of token embeddings; "mean" if that is not stated."""
    fingerprint: str
    """SHA-256 of the weights as loaded in float32, 16 hexadecimal digits."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held by an encoder while it encodes: tokenizers are not thread-safe, and one forward pass
    keeps all cores busy."""

    @classmethod
    def load(
        cls, name: str = DEFAULT_BACKBONE, *, device: str = "auto", dtype: str = "auto"
    ) -> Backbone:
        """Load a backbone by folder or hub name.

        A name is searched, in this order, as a folder, in the Hugging Face cache, in an installed
        package that has its weights, and on the hub.

        Args:
            name: folder, or name on the hub. A folder is known by its absolute path from then on,
                so that a model finds it from elsewhere.
            device: "auto" (the first available of CUDA, MPS and CPU) or a torch device.
            dtype: "auto" (bfloat16 if the device computes in it), "float32" or "bfloat16".

        Raises:
            ModelError: the backbone is not found, gives no token embeddings, or its files are
                broken.
        """
        chosen_device = pick_device(device)
        chosen_dtype = pick_dtype(dtype, chosen_device)
        folder = find_folder(name)
        if Path(name).is_dir():
            name = str(folder.resolve())
        model, tokenizer = load_transformer(folder, name)
        projection = load_projection(folder)
        fingerprint = weights_fingerprint(model, projection)
        for part in (model, projection):
            part.requires_grad_(False).eval().to(device=chosen_device, dtype=chosen_dtype)
        keep_whole(tokenizer, read_marks(folder))
        width = width_of(model, tokenizer, name)
        pack_layers(model, partial(trial_states, model, tokenizer))
        return cls(
            model,
            tokenizer,
            projection,
            name=name,
            d_in=projected_width(projection, width, name),
            token_budget=TOKEN_BUDGET[chosen_device.type],
            max_tokens=window(folder, tokenizer, model),
            padding=padding_of(model, tokenizer),
            prompts=read_prompts(folder),
            pooling=pooling_of(folder) or "mean",
            fingerprint=fingerprint,
        )

    @property
    def vocabulary(self) -> list[str]:
        """The tokens of the tokenizer as it spells them, sorted."""
        return sorted(self._tokenizer.get_vocab())

    def spans(self, texts: Sequence[str]) -> Iterator[NDArray[np.int32]]:
        """Yield start and end of the tokens of each text, in characters, `[n_tokens, 2]`."""
        with self.lock:
            found = list(windows.tokenize(self._tokenizer, texts, ""))
        yield from (tokens.spans for tokens in found)

    @property
    def device(self) -> torch.device:
        """The torch device of the weights."""
        return torch.device(self._model.device)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype the backbone computes in."""
        dtype: torch.dtype = self._model.dtype
        return dtype

    def embed(
        self, texts: Sequence[str], *, kind: str = "document", long: str = "truncate"
    ) -> Iterator[TokenEmbeddings]:
        """Embed the tokens of `texts`, in batches of similar length; see `positions` of the result.

        Args:
            texts: any number of texts.
            kind: "query" or "document", which chooses the prompt.
            long: "truncate" leaves out what is beyond the backbone window; "pool" continues in
                further, overlapping windows, a row each, until every token is in one of them.

        Raises:
            ModelError: the prompt leaves no room for a text.
        """
        for batch, hidden, start in self._forward(texts, kind, long):
            yield TokenEmbeddings(
                hidden=hidden[batch.counted.to(hidden.device)],
                cu_seq_lens=boundaries(batch.counted.sum(dim=1)),
                spans=batch.spans[batch.counted],
                truncated=torch.tensor([window.truncated for window in batch.windows]),
                positions=[start + window.position for window in batch.windows],
                characters=torch.tensor([window.characters for window in batch.windows]),
            )

    def text_vectors(self, texts: Sequence[str], *, kind: str = "document") -> torch.Tensor:
        """Dense vectors of unit length, pooled as the backbone's folder says.

        That is the mean of all token embeddings of a text, the first or the last token, or the
        largest values; other poolings count as the mean. The prompt and special tokens are
        included, and what is beyond the backbone window is left out. Modules after the pooling are
        left out, too.

        Returns:
            float32 `[n_texts, d_in]`, on the CPU.
        """
        out = torch.empty(len(texts), self.d_in)
        for batch, hidden, start in self._forward(texts, kind, "truncate"):
            pooled = text_pooled(hidden.float(), batch.attention.to(hidden.device), self.pooling)
            places = [start + window.position for window in batch.windows]
            out[places] = torch.nn.functional.normalize(pooled, dim=-1).cpu()
        return out

    def within_memory(self, work: Callable[[], Result]) -> Result:
        """Return what `work` returns; if memory runs out, retry with batches of half the size.

        Later batches keep the smaller size.
        """
        while True:
            try:
                return work()
            except RuntimeError as error:
                if not out_of_memory(error) or self.token_budget <= SMALLEST_BUDGET:
                    raise
            # Outside the handler, because its traceback keeps the tensors alive.
            self.token_budget //= 2
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            log.warning("out of memory: continuing with %d tokens per batch", self.token_budget)

    def _forward(
        self, texts: Sequence[str], kind: str, long: str
    ) -> Iterator[tuple[windows.TokenBatch, torch.Tensor, int]]:
        """Batches, their embeddings `[n_windows, longest, d_in]`, and the first text's position."""
        for start in range(0, len(texts), SORT_WINDOW):
            found = windows.windows_of(
                self._tokenizer,
                texts[start : start + SORT_WINDOW],
                prompt=self.prompts.get(kind, ""),
                max_tokens=self.max_tokens,
                long=long,
            )
            for batch in windows.batches(
                found,
                max_tokens=self.max_tokens,
                budget=self.token_budget,
                padding=self.padding,
            ):
                with torch.inference_mode():
                    states = hidden_states(self._model, batch.input_ids, batch.attention)
                    hidden = self._projection(states)
                yield batch, hidden, start


def out_of_memory(error: RuntimeError) -> bool:
    """Whether the error says that a device or the CPU's allocator ran out of memory."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def pick_device(device: str) -> torch.device:
    """The torch device for a name; "auto" is the first available of CUDA, MPS and CPU."""
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device == "auto":
        return torch.device(next(name for name in available if available[name]))
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"device {device!r}: unknown; use auto, cuda, mps or cpu") from error
    if chosen.type not in available:
        raise ModelError(f"device {device!r}: not supported; use auto, cuda, mps or cpu")
    if not available[chosen.type]:
        kind = chosen.type.upper()
        raise ModelError(f"device {device!r}: this machine has no {kind} device; use auto or cpu")
    return chosen


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The torch dtype for a name; "auto" is bfloat16 if the device computes in it, else float32."""
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if dtype == "auto":
        fast = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
        if device.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    if dtype not in known:
        raise ModelError(f"dtype {dtype!r}: unknown; use auto, float32 or bfloat16")
    return known[dtype]


def text_pooled(hidden: torch.Tensor, attention: torch.Tensor, pooling: str) -> torch.Tensor:
    """Pool padded token embeddings: `[n, longest, d_in]`, `[n, longest]` → `[n, d_in]`."""
    mask = attention.unsqueeze(-1).bool()
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "lasttoken":
        return hidden[torch.arange(len(hidden)), attention.sum(dim=1).cpu() - 1]
    if pooling == "max":
        return hidden.masked_fill(~mask, -torch.inf).amax(dim=1)
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1)


def weights_fingerprint(model: torch.nn.Module, projection: torch.nn.Module) -> str:
    """SHA-256 over names and values of all parameters except the pooler's, 16 hexadecimal digits.

    Tensors are hashed, not files, so that the same weights in another file format agree. The pooler
    is left out because no token embedding depends on it.
    """
    digest = hashlib.sha256()
    projected = {f"projection.{name}": t for name, t in projection.state_dict().items()}
    for name, tensor in [*sorted(model.state_dict().items()), *sorted(projected.items())]:
        if not name.startswith("pooler.") and tensor.is_floating_point():
            digest.update(name.encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:16]
