"""The encoder: texts → token embeddings → active latents → pooled latents."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from latent_ingest.connector.bm25 import inverse_document_frequency
from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder, boundaries, check_k
from latent_ingest.connector.encoding.backbone import Backbone, pick_device, pick_dtype
from latent_ingest.connector.encoding.fingerprint import (
    ModelFingerprint,
    autoencoder_fingerprint,
    check_fit,
)
from latent_ingest.connector.encoding.model_folder import check_settings, model_path
from latent_ingest.connector.encoding.pooling import POOLINGS, PooledBatch, PooledRows, pool
from latent_ingest.connector.encoding.quantized import MOST_TOKENS, QuantizedAutoencoder
from latent_ingest.connector.encoding.vectors import LatentChunks, LatentVectors, TokenVectors
from latent_ingest.connector.errors import ModelError

# Models of `LatentEncoder.shared` by its arguments, each with the time its folder was changed.
_shared: dict[tuple[Path, torch.device, torch.dtype, int | None], tuple[float, LatentEncoder]] = {}
_sharing = threading.Lock()


class LatentEncoder:
    """Encodes texts as sparse vectors of latents; documents and queries alike.

    An encoder can be used by several threads at once; they encode one after the other.
    """

    def __init__(
        self,
        backbone: Backbone,
        autoencoder: TokenAutoencoder,
        *,
        name: str = "",
        k: int | None = None,
        folder: Path | None = None,
    ) -> None:
        """Combine a backbone and an autoencoder that was trained on it.

        Args:
            backbone: gives token embeddings `[n_tokens, d_in]`.
            autoencoder: turns them into latents.
            name: name of the model; stored in the index.
            k: latents per token; defaults to the autoencoder's k.
            folder: the model folder, if there is one.

        Raises:
            ModelError: they do not fit (another width, other weights), or k is out of range.
        """
        config = autoencoder.config
        check_fit(config, backbone, name)
        if config.pooling not in POOLINGS:
            raise ModelError(f"pooling {config.pooling!r}: use one of {', '.join(POOLINGS)}")
        k = config.k if k is None else k
        check_k(k, config.n_latents)
        self.name = name
        self.folder = folder
        self.k = k
        self.pooling = config.pooling
        self.backbone = backbone
        self.fingerprint = ModelFingerprint(
            backbone=backbone.fingerprint,
            autoencoder=autoencoder_fingerprint(autoencoder),
            k=k,
            pooling=config.pooling,
            prompts=backbone.prompts,
        )
        self._document_frequency = autoencoder.document_frequency
        self._autoencoder = autoencoder.to(backbone.device)
        # Pre-activations are computed in the backbone's dtype; normalization stays in float32.
        self._autoencoder.freeze(backbone.dtype)

    @classmethod
    def load(
        cls,
        folder: str | Path | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        k: int | None = None,
    ) -> LatentEncoder:
        """Load a model folder, by default minilm-32k, and the backbone it names.

        Args:
            folder: with config.json and model.safetensors, as `latent-ingest train` writes them;
                or the name of a model in this package, "minilm-32k" or "mpnet-32k".
            device: "auto", "cuda", "mps" or "cpu".
            dtype: "auto" (bfloat16 if the device computes in it), "float32" or "bfloat16".
            k: latents per token; defaults to the model's k.

        Raises:
            ModelError: the folder or the backbone cannot be loaded, or they do not fit.
        """
        path = model_path(folder)
        if not path.is_dir():
            raise ModelError(f"{path}: no such model folder; see 'latent-ingest models'")
        autoencoder = TokenAutoencoder.load(path)
        backbone = Backbone.load(autoencoder.config.backbone, device=device, dtype=dtype)
        check_settings(path, backbone.prompts)
        return cls(backbone, autoencoder, name=path.resolve().name, k=k, folder=path)

    @classmethod
    def shared(
        cls,
        folder: str | Path | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        k: int | None = None,
    ) -> LatentEncoder:
        """`load`, once per process: the same arguments give the same object.

        A folder with files that have changed since is loaded again.
        """
        path = model_path(folder).resolve()
        chosen = pick_device(device)
        key = (path, chosen, pick_dtype(dtype, chosen), k)
        with _sharing:
            changed = max((file.stat().st_mtime for file in path.rglob("*")), default=0.0)
            if key not in _shared or _shared[key][0] != changed:
                _shared[key] = changed, cls.load(path, device=device, dtype=dtype, k=k)
            return _shared[key][1]

    @property
    def n_latents(self) -> int:
        """Number of latents."""
        return self._autoencoder.config.n_latents

    def encode(
        self,
        texts: Sequence[str],
        *,
        kind: str = "document",
        allow_nan: bool = False,
        long: str = "pool",
        k: int | None = None,
    ) -> LatentVectors:
        """Encode `texts` as sparse vectors, in their order.

        A text longer than the backbone window is encoded in overlapping windows, and the latents of
        its tokens are pooled over all windows, each token once.

        Memory: the result, 12 bytes per token, one batch of `backbone.token_budget` tokens, and the
        tokenization of 262,144 characters, however long a text is.

        Args:
            texts: any number of texts; an empty text gives an empty row.
            kind: "query" or "document", which chooses the backbone's prompt.
            allow_nan: return an empty row with `finite` false instead of raising.
            long: "pool", or "truncate" to leave out what is beyond the first window.
            k: latents per token, lower than the model's; only for questions, as an index has one k.

        Returns:
            A CSR batch on the CPU: int32 `indices` and float32 `values` of `[nnz]`, int64 `offsets`
            of `[n_texts + 1]`.

        Raises:
            ModelError: the backbone gives NaN or infinity for a text, its prompt fills the
                window, or k is out of range.
        """
        rows = PooledRows(self.n_latents, self.pooling)
        n_tokens = np.zeros(len(texts), dtype=np.int64)
        n_windows = np.zeros(len(texts), dtype=np.int64)
        truncated = np.zeros(len(texts), dtype=np.bool_)
        finite = np.ones(len(texts), dtype=np.bool_)
        for part in self._within_memory(texts, kind, long, k):
            rows.add(part.positions[part.rows], part.latents, part.values)
            np.add.at(n_tokens, part.positions, part.n_tokens)
            np.add.at(n_windows, part.positions, 1)
            np.logical_or.at(truncated, part.positions, part.truncated)
            np.logical_and.at(finite, part.positions, part.finite)
        self._check_finite(finite, np.arange(len(texts)), texts, allow_nan)
        return rows.vectors(
            n_tokens=n_tokens, n_windows=n_windows, truncated=truncated, finite=finite
        )

    def encode_chunks(self, texts: Sequence[str], *, allow_nan: bool = False) -> LatentChunks:
        """Encode documents as chunks: a sparse vector per window.

        The windows are those that `encode` pools, so their sum is its row. Parameters and errors
        are those of `encode`. Memory: some 100 kB per chunk, besides one batch.
        """
        parts = self._within_memory(texts, "document", "pool")
        none = np.zeros(0, dtype=np.int64)
        positions = np.concatenate([none, *(part.positions for part in parts)])
        spans = np.concatenate([none.reshape(0, 2), *(part.characters for part in parts)])
        n_tokens = np.concatenate([none, *(part.n_tokens for part in parts)])
        finite = np.concatenate([none.astype(np.bool_), *(part.finite for part in parts)])
        self._check_finite(finite, positions, texts, allow_nan)
        order = np.lexsort((spans[:, 1], spans[:, 0], positions))
        place = order.argsort()
        rows = PooledRows(self.n_latents, self.pooling)
        before = 0
        for part in parts:
            rows.add(place[before + part.rows], part.latents, part.values)
            before += len(part.positions)
        vectors = rows.vectors(
            n_tokens=n_tokens[order],
            n_windows=np.ones(len(order), dtype=np.int64),
            truncated=np.zeros(len(order), dtype=np.bool_),
            finite=finite[order],
        )
        return LatentChunks(vectors, positions[order], spans[order])

    def encode_tokens(
        self, texts: Sequence[str], *, kind: str = "document", long: str = "pool"
    ) -> list[TokenVectors]:
        """The latents of each token of `texts`, before pooling; each token once.

        Parameters and errors are those of `encode`. Memory: 12 bytes per token and latent.
        """
        with self.backbone.lock:
            batches = self.backbone.within_memory(lambda: list(self._tokens(texts, kind, long)))
        if not batches:
            return []
        positions, starts, finite, *columns = map(np.concatenate, zip(*batches, strict=True))
        self._check_finite(finite, positions, texts, False)
        order = np.lexsort((starts, positions))
        ends = np.bincount(positions, minlength=len(texts)).cumsum()
        by_text = (np.split(column[order], ends[:-1]) for column in columns)
        return [TokenVectors(*parts) for parts in zip(*by_text, strict=True)]

    def _tokens(
        self, texts: Sequence[str], kind: str, long: str
    ) -> Iterator[tuple[NDArray[Any], ...]]:
        """Columns per token: text, window start, finiteness, and those of `TokenVectors`."""
        for batch in self.backbone.embed(texts, kind=kind, long=long):
            with torch.inference_mode():
                found = self._autoencoder.encode(
                    batch.hidden, cu_seq_lens=batch.cu_seq_lens, k=self.k
                )
            n_tokens = batch.cu_seq_lens.diff().numpy()
            yield (
                np.repeat(batch.positions, n_tokens),
                np.repeat(batch.characters[:, 0].numpy(), n_tokens),
                torch.isfinite(batch.hidden).all(dim=-1).cpu().numpy(),
                batch.spans.numpy(),
                found.top_indices.cpu().numpy(),
                found.top_acts.cpu().numpy(),
            )

    def _within_memory(
        self, texts: Sequence[str], kind: str, long: str, k: int | None = None
    ) -> list[PooledBatch]:
        """All pooled batches of the texts."""
        with self.backbone.lock:
            return self.backbone.within_memory(lambda: list(self._pooled(texts, kind, long, k)))

    def _pooled(
        self, texts: Sequence[str], kind: str, long: str, k: int | None
    ) -> Iterator[PooledBatch]:
        k = self.k if k is None else k
        check_k(k, self.n_latents)
        for batch in self.backbone.embed(texts, kind=kind, long=long):
            with torch.inference_mode():
                finite = finite_texts(batch.hidden, batch.cu_seq_lens)
                few = kind == "query" and 0 < len(batch.hidden) <= MOST_TOKENS and finite.all()
                autoencoder = (self._quantized if few else None) or self._autoencoder
                latents = autoencoder.encode(batch.hidden, cu_seq_lens=batch.cu_seq_lens, k=k)
                rows, indices, values = pool(latents, self.n_latents, self.pooling)
                pooled = PooledBatch(
                    positions=np.array(batch.positions, dtype=np.int64),
                    characters=batch.characters.numpy(),
                    n_tokens=batch.cu_seq_lens.diff().numpy(),
                    truncated=batch.truncated.numpy(),
                    finite=finite,
                    rows=rows.cpu().numpy(),
                    latents=indices.cpu().numpy(),
                    values=values.cpu().numpy(),
                )
            yield pooled

    @cached_property
    def _quantized(self) -> QuantizedAutoencoder | None:
        """For few tokens, made on first use; None if torch has no int8 kernels here."""
        if self.backbone.device.type != "cpu":
            return None
        try:
            return QuantizedAutoencoder(self._autoencoder)
        except (RuntimeError, AttributeError):
            return None

    def _check_finite(
        self,
        finite: NDArray[np.bool_],
        positions: NDArray[np.int64],
        texts: Sequence[str],
        allow_nan: bool,
    ) -> None:
        if not finite.all() and not allow_nan:
            first = int(positions[~finite].min())
            raise ModelError(self.nan_message(texts[first]))

    def nan_message(self, text: str) -> str:
        """The error message for a text whose token embeddings are not finite."""
        dtype = str(self.backbone.dtype).removeprefix("torch.")
        fix = "check its weights" if dtype == "float32" else "try --dtype float32"
        return f"{self.backbone.name} gives NaN or infinity for {text[:60]!r} in {dtype}; {fix}"

    def idf(self) -> NDArray[np.float32]:
        """Inverse document frequency of each latent in the model's training texts, `[n_latents]`.

        `ln(1 + (N - df + 0.5) / (df + 0.5))`, as in Lucene; all ones if the model has no document
        frequencies.
        """
        df = self._document_frequency
        if df is None or not self._autoencoder.config.n_documents:
            return np.ones(self.n_latents, dtype=np.float32)
        n_documents = self._autoencoder.config.n_documents
        return inverse_document_frequency(n_documents, df.cpu().numpy()).astype(np.float32)


def finite_texts(hidden: torch.Tensor, cu_seq_lens: torch.Tensor) -> NDArray[np.bool_]:
    """Whether all token embeddings of each packed text are finite, `[n_texts]`."""
    before = boundaries((~torch.isfinite(hidden).all(dim=-1)).cpu())
    result: NDArray[np.bool_] = (before[cu_seq_lens].diff() == 0).numpy()
    return result
