"""Token embeddings of pairs, and the latents that may become active, on disk.

texts → token embeddings → the strongest latents of each token, some times k

Embedding costs far more than tuning, so it is done once. Of all latents, only a token's candidates
are kept: those that a small change of the encoder can bring among the k strongest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from latent_ingest.connector.encoding.autoencoder import (
    TOKENS_AT_ONCE,
    TOKENS_AT_ONCE_ON_CPU,
    TokenAutoencoder,
    padded_tokens,
    strongest,
)
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.errors import InputError, ModelError
from latent_ingest.connector.evaluation.probe import EmbeddedTexts
from latent_ingest.connector.files import disk_errors, write_atomically

# Candidates of a token, in multiples of k.
TIMES_K = 2

# Texts embedded before the state is written: some 40,000 tokens of documents.
TEXTS_AT_ONCE = 256

IF_FULL = "make room and resume with --resume; what is embedded is kept"


@dataclass(frozen=True, slots=True)
class Candidates:
    """Tokens of some texts, packed one text after the other."""

    hidden: torch.Tensor
    """Token embeddings, float32 `[n_tokens, d_in]`."""
    pre: torch.Tensor
    """Pre-activations of the candidates, largest first, float32 `[n_tokens, n]`."""
    latents: torch.Tensor
    """The candidates, int64 `[n_tokens, n]`."""
    text_of_token: torch.Tensor
    """Position of each token's text among those asked for, int64 `[n_tokens]`."""
    n_texts: int


@dataclass(frozen=True, slots=True)
class CacheState:
    """Content of a cache's state.json."""

    model: str
    """Fingerprint of the model."""
    texts: str
    """Fingerprint of the texts."""
    d_in: int
    n_candidates: int
    n_texts: int = 0
    n_tokens: int = 0


class TextCache:
    """Tokens of texts in a folder, in their order. Filling resumes where it stopped."""

    def __init__(
        self,
        folder: Path,
        encoder: LatentEncoder,
        autoencoder: TokenAutoencoder,
        *,
        kind: str,
        identity: tuple[str, str],
    ) -> None:
        """Open or start a cache of "query" or "document" texts.

        `autoencoder` is that of the encoder, in float32. `identity` are fingerprints of the model
        and the texts.

        Raises:
            InputError: the folder has a cache of others.
        """
        self.folder = folder
        self._encoder = encoder
        self._autoencoder = autoencoder
        self._kind = kind
        n = min(TIMES_K * autoencoder.config.k, autoencoder.config.n_latents)
        fresh = CacheState(*identity, d_in=encoder.backbone.d_in, n_candidates=n)
        path = folder / "state.json"
        try:
            self.state = CacheState(**json.loads(path.read_text())) if path.is_file() else fresh
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}: does not describe a cache: {error}; delete it") from error
        if replace(self.state, n_texts=0, n_tokens=0) != fresh:
            raise InputError(
                f"{folder}: made of another model or other pairs; name another --cache, or "
                f"delete it"
            )

    def fill(
        self, texts: Sequence[str], on_progress: Callable[[int], None] = lambda texts: None
    ) -> None:
        """Embed the texts that are missing; `on_progress` is called with the number of new ones.

        Raises:
            InputError: the disk is full.
            ModelError: the backbone gives NaN for a text.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with disk_errors(self.folder, if_full=IF_FULL):
            self._truncate()
            for start in range(self.state.n_texts, len(texts), TEXTS_AT_ONCE):
                some = texts[start : start + TEXTS_AT_ONCE]
                self._append(some)
                on_progress(len(some))

    def take(self, texts: Sequence[int], device: torch.device) -> Candidates:
        """The tokens of the texts of these numbers, in their order."""
        starts, ends = self._bounds[:-1][texts], self._bounds[1:][texts]
        rows = np.concatenate([np.arange(a, b) for a, b in zip(starts, ends, strict=True)])
        hidden, pre, latents = (
            torch.from_numpy(np.asarray(self._columns[name][rows])).to(device)
            for name in ("hidden", "pre", "latents")
        )
        lengths = torch.from_numpy(ends - starts)
        of_token = torch.arange(len(texts)).repeat_interleave(lengths).to(device)
        return Candidates(hidden.float(), pre.float(), latents.long(), of_token, len(texts))

    def open(self) -> TextCache:
        """Map the files into memory, after `fill`; returns itself."""
        state = self.state
        lengths = np.fromfile(self.folder / "lengths.bin", dtype=np.int64)
        self._bounds: NDArray[np.int64] = np.concatenate([[0], np.cumsum(lengths)])
        self._columns: dict[str, Any] = {
            name: np.memmap(
                self.folder / f"{name}.bin", dtype, mode="r", shape=(state.n_tokens, width)
            )
            for name, (dtype, width) in self._layout().items()
        }
        return self

    def embedded(self, first: int, last: int) -> EmbeddedTexts:
        """Token embeddings of the texts from `first` up to `last`, without copying them."""
        bounds = self._bounds[first : last + 1]
        return EmbeddedTexts(self._columns["hidden"][bounds[0] : bounds[-1]], bounds - bounds[0])

    def _layout(self) -> dict[str, tuple[Any, int]]:
        """Columns per token: dtype and width."""
        n = self.state.n_candidates
        return {
            "hidden": (np.float16, self.state.d_in),
            "pre": (np.float16, n),
            "latents": (np.int32, n),
        }

    def _truncate(self) -> None:
        """Remove what was written after the last state."""
        sizes = {
            name: self.state.n_tokens * width * np.dtype(dtype).itemsize
            for name, (dtype, width) in self._layout().items()
        }
        for name, size in {**sizes, "lengths": 8 * self.state.n_texts}.items():
            with (self.folder / f"{name}.bin").open("ab") as file:
                file.truncate(size)

    def _append(self, texts: Sequence[str]) -> None:
        parts = self._encoder.backbone.within_memory(lambda: self._embedded(texts))
        lengths = [len(part["hidden"]) for part in parts]
        for name, (dtype, _) in self._layout().items():
            with (self.folder / f"{name}.bin").open("ab") as file:
                for part in parts:
                    file.write(part[name].numpy().astype(dtype).tobytes())
        with (self.folder / "lengths.bin").open("ab") as file:
            file.write(np.array(lengths, dtype=np.int64).tobytes())
        self.state = replace(
            self.state,
            n_texts=self.state.n_texts + len(texts),
            n_tokens=self.state.n_tokens + sum(lengths),
        )
        write_atomically(self.folder / "state.json", json.dumps(asdict(self.state)) + "\n")

    @torch.no_grad()
    def _embedded(self, texts: Sequence[str]) -> list[dict[str, torch.Tensor]]:
        """The columns of each text's tokens, of all its windows, on the CPU."""
        model, backbone = self._autoencoder, self._encoder.backbone
        windows: list[list[dict[str, torch.Tensor]]] = [[] for _ in texts]
        with model.computing_in(backbone.dtype):
            for batch in backbone.embed(texts, kind=self._kind, long="pool"):
                sizes = batch.cu_seq_lens.diff().tolist()
                columns = (batch.hidden, *self._candidates(batch.hidden))
                split = [torch.split(column.float().cpu(), sizes) for column in columns]
                for position, *rows in zip(batch.positions, *split, strict=True):
                    if not rows[0].isfinite().all():
                        raise ModelError(self._encoder.nan_message(texts[position]))
                    windows[position].append(
                        dict(zip(("hidden", "pre", "latents"), rows, strict=True))
                    )
        return [
            {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
            for parts in windows
        ]

    def _candidates(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pre-activations and latents of each token's candidates, `[n_tokens, n]` each."""
        on_cpu = hidden.device.type == "cpu"
        found = []
        for chunk in torch.split(hidden, TOKENS_AT_ONCE_ON_CPU if on_cpu else TOKENS_AT_ONCE):
            padded = nn.functional.pad(chunk, (0, 0, 0, padded_tokens(len(chunk)) - len(chunk)))
            pre = self._autoencoder.pre_activations(self._autoencoder.normalize(padded))
            found.append([x[: len(chunk)] for x in strongest(pre, self.state.n_candidates)])
        values, latents = zip(*found, strict=True)
        return torch.cat(values), torch.cat(latents)
