"""A vectorizer with scikit-learn's interface (needs the extra `scikit-learn`).

texts → CSR matrix of latents, whose columns are named by the labels of the latents
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latent_ingest.connector import terms
from latent_ingest.connector.bm25 import inverse_document_frequency, stored_lengths
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.frameworks.requirement import require
from latent_ingest.mappings import DEFAULT_B, DEFAULT_K1

require("scikit-learn", "scikit-learn", "1.6", "2")

from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.encoder import LatentEncoder

KINDS = ("document", "query")
WEIGHTINGS = ("sqrt", "counts", "bm25")


class LatentTermsVectorizer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turns texts into latents, as `TfidfVectorizer` turns them into words.

    A row has one column per latent, `n_latents` of the model, most of them zero. Nothing is learned
    from the texts but the statistics of BM25.

        vectorizer = LatentTermsVectorizer(weighting="bm25").fit(texts)
        scores = vectorizer.transform(texts) @ vectorizer.transform_queries(["a question"]).T
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        weighting: str = "sqrt",
        kind: str = "document",
        device: str = "auto",
        dtype: str = "auto",
        k: int | None = None,
        k1: float = DEFAULT_K1,
        b: float = DEFAULT_B,
    ) -> None:
        """Store the parameters; they are checked, and the model is loaded, by `fit`.

        Args:
            model: a model folder; by default minilm-32k.
            weighting: "sqrt", square roots of pooled activations; "counts", these rounded, as they
                are indexed; or "bm25", the score that each latent of a document adds where it has
                weight 1 in the question, by statistics of the texts given to `fit`.
            kind: what `transform` encodes, "document" or "query", which chooses the prompt of the
                backbone.
            device: as for `LatentEncoder.load`.
            dtype: as for `LatentEncoder.load`.
            k: as for `LatentEncoder.load`.
            k1: of BM25.
            b: of BM25.
        """
        self.model = model
        self.weighting = weighting
        self.kind = kind
        self.device = device
        self.dtype = dtype
        self.k = k
        self.k1 = k1
        self.b = b

    def fit(self, X: Any, y: Any = None) -> LatentTermsVectorizer:  # noqa: ARG002
        """Load the model; for "bm25", count the latents of the texts `X`.

        Raises:
            InputError: a parameter is unknown, or `X` is no list of strings.
            ModelError: the model cannot be loaded.
        """
        self._fitted(X)
        return self

    def fit_transform(self, X: Any, y: Any = None, **_: Any) -> csr_matrix:  # noqa: ARG002
        """`fit` and `transform`, which encodes the texts once."""
        return self._weighted(self._fitted(X, encode=True), self.kind)

    def transform(self, X: Any) -> csr_matrix:
        """The latents of texts, `[n_texts, n_latents]` in float32; raises as `fit`."""
        check_is_fitted(self)
        return self._weighted(self._counted(texts_in(X), self.kind), self.kind)

    def transform_queries(self, X: Any) -> csr_matrix:
        """The weights of the latents of questions, as in requests to an engine."""
        check_is_fitted(self)
        return self._counted(texts_in(X), "query")

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:  # noqa: ARG002
        """The names of the columns: "f12", with its label if it has one: "f12 (glob, pattern)"."""
        from latent_ingest.connector.inspection.labels import read_labels

        check_is_fitted(self)
        encoder = self._encoder()
        labels = (
            read_labels(encoder.folder, encoder.fingerprint.autoencoder) if encoder.folder else {}
        )
        names = map(terms.term, range(self.n_latents_))
        return np.array(
            [f"{name} ({labels[i]})" if labels.get(i) else name for i, name in enumerate(names)],
            dtype=object,
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags

    def _encoder(self) -> LatentEncoder:
        """The model, loaded once per process; it is not stored in pickles."""
        from latent_ingest.connector.encoding.encoder import LatentEncoder

        return LatentEncoder.shared(self.model, device=self.device, dtype=self.dtype, k=self.k)

    def _fitted(self, X: Any, *, encode: bool = False) -> csr_matrix | None:
        for name, allowed in (("weighting", WEIGHTINGS), ("kind", KINDS)):
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} {getattr(self, name)!r}: use {' or '.join(allowed)}")
        texts = texts_in(X)
        self.n_latents_ = self._encoder().n_latents

        if self.weighting != "bm25":
            return self._counted(texts, self.kind) if encode else None
        counted = self._counted(texts, "document")
        lengths = np.asarray(counted.sum(axis=1)).ravel()
        df = np.bincount(counted.indices, minlength=self.n_latents_)
        holding = int(np.count_nonzero(lengths))
        self.idf_ = inverse_document_frequency(holding, df).astype(np.float32)
        self.average_length_ = float(lengths[lengths > 0].mean()) if lengths.any() else 1.0
        return counted

    def _counted(self, texts: list[str], kind: str) -> csr_matrix:
        """Square roots of pooled activations; for documents, counts unless these are wanted."""
        vectors = self._encoder().encode(texts, kind=kind)
        if kind == "query" or self.weighting == "sqrt":
            values = terms.weights(vectors.values)
        else:
            values = terms.counts(vectors.values).astype(np.float32)
        parts = (values, vectors.indices, vectors.offsets)
        matrix = csr_matrix(parts, shape=(len(texts), self.n_latents_), copy=True)
        matrix.eliminate_zeros()
        return matrix

    def _weighted(self, counted: csr_matrix, kind: str) -> csr_matrix:
        if self.weighting != "bm25" or kind == "query":
            return counted
        lengths = np.asarray(counted.sum(axis=1)).ravel().astype(np.int64)
        ratio = stored_lengths(lengths) / self.average_length_
        norm = np.repeat(self.k1 * (1 - self.b + self.b * ratio), np.diff(counted.indptr))
        tf = counted.data
        counted.data = (tf / (tf + norm) * self.idf_[counted.indices]).astype(np.float32)
        return counted


def texts_in(X: Any) -> list[str]:
    """The texts of a list, an array or a column; raises InputError."""
    if isinstance(X, (str, bytes)):
        raise InputError("X is one string; give a list of strings")
    if getattr(X, "ndim", 1) != 1:
        raise InputError(f"X has shape {X.shape}; give texts in one dimension, such as one column")
    texts = list(X)
    for at, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"X[{at}] is {type(text).__name__}, not a string: {text!r:.60}")
    return texts
