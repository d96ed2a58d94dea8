"""The index in memory has the scores of the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opensearchpy import OpenSearch
from toys import toy_backbone, toy_model

from latent_ingest.connector import InputError, LatentEncoder, MismatchError, QueryRewriter
from latent_ingest.connector.frameworks.english import words_of
from latent_ingest.connector.frameworks.latent_index import LatentIndex

QUESTIONS = [
    "find files whose names look like a pattern",
    "stop waiting after some seconds, and stop the waiting threads",
    "encode and decode text",
]

HARD = (
    "U.S.A.'s don't won’t rock'n'roll 3.14 1,000,000 a.b a:b a_b __init__ _x_ x² ½ e-mail "
    "re:search naïve cafe\u0301 ÀÉ 水の日本 user@example.com http://a.b/c?d=e C++ _ the skies "
    "dying hopping hoping feed agreed plastered conflated troubled sized falling hissing "
    "fizzed happy sky rational conditional digitizer radically differently vietnamization "
    "operator feudalism hopefulness sensibility analogously theology triplicate formative "
    "electrical goodness allowance adjustable irritant adoption probate rate cease "
    "controll roll yes syzygy YOU'S 's s' 1st 2nd 3a.4b 12:30 l'été x,y 1,a"
    ' हिन्दी ภาษาไทย כִתָב צה"ל 한국어 カタカナ Ⅳ ① İ ΟΔΟΣ မြန်မာ a\u00adb'
)


@pytest.fixture(scope="module")
def texts(documents: list[dict[str, str]]) -> list[str]:
    return [f"{document['title']} {document['text']}" for document in documents]


@pytest.fixture(scope="module")
def memory(encoder: LatentEncoder, documents: list[dict[str, str]], texts: Any) -> LatentIndex:
    return LatentIndex(texts, [document["_id"] for document in documents], model=encoder)


def test_scores_and_words_are_those_of_the_engine(
    client: OpenSearch,
    index: str,
    load: Any,
    encoder: LatentEncoder,
    corpus: Path,
    memory: LatentIndex,
    texts: list[str],
    tmp_path: Path,
) -> None:
    """To 1e-4, by words, latent terms and both; and after `save` and `load`."""
    load(client, index, corpus)
    for text in [HARD, *texts]:
        body = {"analyzer": "english", "text": text}
        made = client.indices.analyze(index=index, body=body)["tokens"]
        assert words_of(text) == [token["token"] for token in made]
    rewriter = QueryRewriter.from_index(client, index, encoder)
    memory.save(tmp_path / "stdlib.npz")
    again = LatentIndex.load(tmp_path / "stdlib.npz", model=encoder)
    for question in QUESTIONS:
        assert [t.term for t in memory.terms(question)] == [
            t.term for t in rewriter.terms(question)
        ]
        for form in ("words", "latent", "hybrid"):
            body = (
                rewriter.words_only(question, size=100)
                if form == "words"
                else rewriter.rewrite(question, form=form, size=100)
            )
            hits = client.search(index=index, body=body)["hits"]["hits"]
            wanted = {hit["_id"]: hit["_score"] for hit in hits}
            found = memory.search(question, form=form, size=100)
            assert len(wanted) > 5
            assert {hit.id: hit.score for hit in found} == pytest.approx(wanted, rel=1e-4)
            assert again.search(question, form=form, size=100) == found


@pytest.mark.slow
def test_other_engines_have_these_scores_times_their_factor(
    other: OpenSearch,
    new_index: Any,
    load: Any,
    encoder: LatentEncoder,
    corpus: Path,
    memory: LatentIndex,
) -> None:
    """k1 + 1, of latent terms alone or of words; the order is the same."""
    index = new_index(other)
    load(other, index, corpus)
    tokens = other.indices.analyze(index=index, body={"analyzer": "english", "text": HARD})
    assert words_of(HARD) == [token["token"] for token in tokens["tokens"]]
    rewriter = QueryRewriter.from_index(other, index, encoder)
    for question in QUESTIONS:
        for form, factor in (("latent", 3.0), ("hybrid", 2.2)):
            body = rewriter.rewrite(question, form=form, size=100)
            hits = other.search(index=index, body=body)["hits"]["hits"]
            assert len(hits) > 5
            wanted = {hit["_id"]: hit["_score"] for hit in hits}
            found = memory.search(question, form=form, size=100)
            assert {hit.id: hit.score * factor for hit in found} == pytest.approx(wanted, rel=1e-4)


def test_what_cannot_be_used_gives_one_line(
    memory: LatentIndex, encoder: LatentEncoder, tmp_path: Path
) -> None:
    for wrong, message in (
        ((["a", 3],), r"texts\[1\] is int, not a string: 3"),
        (("a text",), "texts is one string"),
        ((["a", "b"], ["1", "1"]), "id '1' is given twice"),
        ((["a", "b"], ["1"]), "2 texts and 1 ids"),
    ):
        with pytest.raises(InputError, match=message):
            LatentIndex(*wrong, model=encoder)
    with pytest.raises(InputError, match="form 'dense': use one of words, latent, hybrid"):
        memory.search("a", form="dense")
    with pytest.raises(InputError, match="the question is empty"):
        memory.search(" ")
    (tmp_path / "wrong.npz").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(InputError, match=r"not a file that LatentIndex\.save wrote"):
        LatentIndex.load(tmp_path / "wrong.npz", model=encoder)
    with pytest.raises(InputError, match="cannot be read"):
        LatentIndex.load(tmp_path / "none.npz", model=encoder)
    memory.save(tmp_path / "stdlib.npz")
    other = LatentEncoder.load(toy_model(tmp_path / "toy", toy_backbone(tmp_path / "backbone")))
    with pytest.raises(MismatchError, match="was made by another model"):
        LatentIndex.load(tmp_path / "stdlib.npz", model=other)


def test_no_texts_and_empty_texts_find_nothing(encoder: LatentEncoder) -> None:
    assert LatentIndex([], model=encoder).search("a pattern") == []
    index = LatentIndex(["", "a pattern"], model=encoder)
    assert [hit.text for hit in index.search("patterns")] == ["a pattern"]
    assert np.count_nonzero(index.document_frequency) > 0
