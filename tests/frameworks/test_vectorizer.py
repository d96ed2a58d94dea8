"""The vectorizer keeps scikit-learn's rules, and its scores are those of the index in memory."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks as checks
from toys import toy_backbone, toy_model

from latent_ingest.connector import InputError, LatentEncoder
from latent_ingest.connector.frameworks.latent_index import LatentIndex
from latent_ingest.connector.frameworks.scikit_learn import LatentTermsVectorizer

QUESTION = "find files whose names look like a pattern"


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    return toy_model(folder / "model", toy_backbone(folder / "backbone"))


@pytest.mark.parametrize(
    "check",
    [
        checks.check_do_not_raise_errors_in_init_or_set_params,
        checks.check_estimator_cloneable,
        checks.check_estimator_repr,
        checks.check_estimator_tags_renamed,
        checks.check_get_params_invariance,
        checks.check_mixin_order,
        checks.check_no_attributes_set_in_init,
        checks.check_parameters_default_constructible,
        checks.check_set_params,
        checks.check_valid_tag_types,
    ],
    ids=lambda check: check.__name__,
)
def test_scikit_learns_own_checks(check: Any) -> None:
    """Those without data: `check_estimator` has no other checks for what takes texts."""
    check("LatentTermsVectorizer", LatentTermsVectorizer())


def test_it_must_be_fitted_before_it_transforms(toy: Path) -> None:
    with pytest.raises(NotFittedError):
        LatentTermsVectorizer(toy).transform(["trees"])


def test_products_with_questions_are_the_scores_of_the_index(
    encoder: LatentEncoder, documents: list[dict[str, str]]
) -> None:
    texts = [document["text"][:300] for document in documents[:12]]
    index = LatentIndex(texts, model=encoder)
    vectorizer = LatentTermsVectorizer(weighting="bm25", device="cpu", dtype="float32")
    matrix = vectorizer.fit_transform(texts)
    assert matrix.format == "csr"
    assert matrix.shape == (12, encoder.n_latents)
    assert (matrix != vectorizer.transform(texts)).nnz == 0
    scores = (matrix @ vectorizer.transform_queries([QUESTION]).T).toarray().ravel()
    assert np.count_nonzero(scores) > 3
    assert scores == pytest.approx(index.scores(QUESTION, "latent"), rel=1e-4)
    names = vectorizer.get_feature_names_out()
    assert len(set(names)) == encoder.n_latents
    assert names[8600] == "f8600 (patterns, pattern)"


def test_it_works_in_a_pipeline_and_comes_back_from_a_pickle(toy: Path) -> None:
    texts, kinds = ["find files", "trees of words", "files that match", "trees"], [0, 1, 0, 1]
    model = make_pipeline(LatentTermsVectorizer(toy), LogisticRegression(C=100)).fit(texts, kinds)
    again = pickle.loads(pickle.dumps(model))
    assert again.predict(texts).tolist() == kinds
    assert clone(model[0]).get_params() == model[0].get_params()


@pytest.mark.parametrize(
    ("options", "texts", "message"),
    [
        ({"weighting": "tfidf"}, ["a"], "weighting 'tfidf': use sqrt or counts or bm25"),
        ({"kind": "passage"}, ["a"], "kind 'passage': use document or query"),
        ({}, "a text", "X is one string"),
        ({}, ["a", None], r"X\[1\] is NoneType, not a string"),
        ({}, np.array([["a"]]), r"X has shape \(1, 1\)"),
    ],
)
def test_what_cannot_be_used_gives_one_line(
    toy: Path, options: dict[str, Any], texts: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        LatentTermsVectorizer(toy, **options).fit(texts)
