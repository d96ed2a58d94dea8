"""Texts → latent vectors: backbone, autoencoder and pooling in one.

texts → token embeddings → token latents → pooled latents
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder
from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.encoding.fingerprint import ModelFingerprint, autoencoder_fingerprint
from latent_ingest.connector.encoding.pooling import POOLINGS, pool
from latent_ingest.connector.encoding.vectors import LatentVectors
from latent_ingest.connector.errors import ModelError

SHIPPED_MODEL = Path(__file__).parent.parent / "models" / "minilm-32k"


class LatentEncoder:
    """Texts → sparse vectors over latents; the same function for documents and queries."""

    def __init__(
        self,
        backbone: Backbone,
        autoencoder: TokenAutoencoder,
        *,
        name: str = "",
        k: int | None = None,
    ) -> None:
        """Join a backbone and an autoencoder trained on it.

        Args:
            backbone: gives `[n_tokens, d_in]`.
            autoencoder: takes them.
            name: what people call the model; stored in the index.
            k: latents a token, when fewer than the autoencoder's own are wanted.

        Raises:
            ModelError: they do not fit: other width, other weights, or k out of range.
        """
        config = autoencoder.config
        if config.d_in != backbone.d_in:
            raise ModelError(
                f"the autoencoder {name or '(unnamed)'} takes {config.d_in} dimensions, the "
                f"backbone {backbone.name} gives {backbone.d_in}; it was trained on "
                f"{config.backbone or 'another one'}"
            )
        if config.backbone_fingerprint not in ("", backbone.fingerprint):
            raise ModelError(
                f"the autoencoder {name or '(unnamed)'} was trained on {config.backbone} with "
                f"weights {config.backbone_fingerprint}, but {backbone.name} has weights "
                f"{backbone.fingerprint}; use the backbone it was trained on"
            )
        if config.pooling not in POOLINGS:
            raise ModelError(f"pooling {config.pooling!r}: use one of {', '.join(POOLINGS)}")
        k = config.k if k is None else k
        if not 1 <= k <= config.n_latents:
            raise ModelError(f"k {k}: must be 1 to n_latents, {config.n_latents}")
        self.name = name
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
        self._autoencoder = autoencoder.to(backbone.device).eval().requires_grad_(False)
        # The large product runs in the backbone's dtype; normalisation stays in fp32.
        self._autoencoder.W_enc.data = self._autoencoder.W_enc.data.to(backbone.dtype)

    @classmethod
    def load(
        cls,
        folder: str | Path | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        k: int | None = None,
    ) -> LatentEncoder:
        """Load a model folder, by default the one that ships, and the backbone it names.

        Args:
            folder: holds config.json and model.safetensors, as `latent-ingest train` writes them.
            device: "auto", "cuda", "mps" or "cpu".
            dtype: "auto" (bfloat16 where the device computes in it), "float32" or "bfloat16".
            k: latents a token, when fewer than the model's own are wanted.

        Raises:
            ModelError: the folder or the backbone cannot be loaded, or they do not fit.
        """
        path = Path(folder) if folder else SHIPPED_MODEL
        if not path.is_dir():
            raise ModelError(f"{path}: no such model folder; see 'latent-ingest train --help'")
        autoencoder = TokenAutoencoder.load(path)
        backbone = Backbone.load(autoencoder.config.backbone, device=device, dtype=dtype)
        return cls(backbone, autoencoder, name=path.resolve().name, k=k)

    @property
    def n_latents(self) -> int:
        """Size of the vocabulary."""
        return self._autoencoder.config.n_latents

    def encode(
        self, texts: Sequence[str], *, kind: str = "document", allow_nan: bool = False
    ) -> LatentVectors:
        """Sparse vectors of `texts`, in their order.

        Args:
            texts: any number of texts; an empty one gives an empty row.
            kind: "query" or "document", which chooses the backbone's prompt.
            allow_nan: return an empty row with `finite` false instead of raising.

        Returns:
            A CSR batch on the CPU: int32 `indices` and fp32 `values` of `[nnz]`, int64 `offsets`
            of `[n_texts + 1]`.

        Raises:
            ModelError: the backbone gave NaN or infinity for a text.
        """
        rows: list[torch.Tensor] = []
        indices: list[torch.Tensor] = []
        values: list[torch.Tensor] = []
        n_tokens = np.zeros(len(texts), dtype=np.int64)
        truncated = np.zeros(len(texts), dtype=np.bool_)
        finite = np.ones(len(texts), dtype=np.bool_)
        with torch.inference_mode():
            for batch in self.backbone.embed(texts, kind=kind):
                positions = torch.tensor(batch.positions)
                latents = self._autoencoder.encode(
                    batch.hidden, cu_seq_lens=batch.cu_seq_lens, k=self.k
                )
                finite[batch.positions] = finite_texts(batch.hidden, batch.cu_seq_lens)
                texts_of, latent, value = pool(latents, self.n_latents, self.pooling)
                rows.append(positions[texts_of.cpu()])
                indices.append(latent.cpu())
                values.append(value.cpu())
                n_tokens[batch.positions] = batch.cu_seq_lens.diff().numpy()
                truncated[batch.positions] = batch.truncated.numpy()
        if not finite.all() and not allow_nan:
            first = int(np.flatnonzero(~finite)[0])
            raise ModelError(nan_message(self.backbone, texts[first]))
        return gather(rows, indices, values, self.n_latents, n_tokens, truncated, finite)

    def idf(self) -> NDArray[np.float32]:
        """Inverse document frequency of each latent in the model's training text, `[n_latents]`.

        `ln(1 + (N - df + 0.5) / (df + 0.5))`, as Lucene has it; ones where the model has no
        frequencies.
        """
        df = self._document_frequency
        if df is None or not self._autoencoder.config.n_documents:
            return np.ones(self.n_latents, dtype=np.float32)
        n_documents = self._autoencoder.config.n_documents
        counts = df.cpu().numpy().astype(np.float64)
        idf: NDArray[np.float32] = np.log1p((n_documents - counts + 0.5) / (counts + 0.5)).astype(
            np.float32
        )
        return idf


def finite_texts(hidden: torch.Tensor, cu_seq_lens: torch.Tensor) -> NDArray[np.bool_]:
    """Whether each packed text has only finite hidden states, `[n_texts]`."""
    bad = (~torch.isfinite(hidden).all(dim=-1)).long().cpu()
    before = torch.cat([torch.zeros(1, dtype=torch.int64), bad.cumsum(0)])
    result: NDArray[np.bool_] = (before[cu_seq_lens].diff() == 0).numpy()
    return result


def nan_message(backbone: Backbone, text: str) -> str:
    """One line on a text whose hidden states are not finite."""
    start = text[:60].replace("\n", " ")
    return (
        f"{backbone.name} gives NaN or infinity for the text {start!r} in "
        f"{str(backbone.dtype).removeprefix('torch.')}; try --dtype float32 or check its weights"
    )


def gather(
    rows: list[torch.Tensor],
    indices: list[torch.Tensor],
    values: list[torch.Tensor],
    n_latents: int,
    n_tokens: NDArray[np.int64],
    truncated: NDArray[np.bool_],
    finite: NDArray[np.bool_],
) -> LatentVectors:
    """Put the rows of length-sorted batches back into the order of the texts."""
    none = torch.empty(0)
    row = torch.cat([*rows, none.long()]).numpy()
    index = torch.cat([*indices, none.long()]).numpy().astype(np.int32)
    value = torch.cat([*values, none]).numpy()
    keep = finite[row]
    row, index, value = row[keep], index[keep], value[keep]
    order = np.argsort(row, kind="stable")
    offsets = np.zeros(len(n_tokens) + 1, dtype=np.int64)
    np.cumsum(np.bincount(row, minlength=len(n_tokens)), out=offsets[1:])
    return LatentVectors(
        indices=index[order],
        values=value[order],
        offsets=offsets,
        n_latents=n_latents,
        n_tokens=n_tokens,
        truncated=truncated,
        finite=finite,
    )
