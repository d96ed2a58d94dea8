"""Scores of rewritten requests equal those of a plain BM25 to 1e-4, and so does their order."""

from __future__ import annotations

from typing import Any

import pytest
from opensearchpy import OpenSearch
from querying.bodies import OTHER, QUESTION
from reference.bm25 import BM25

from latent_ingest.connector import terms
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.querying.rewriter import QueryRewriter

BOOST = 0.15
HEADS = 20


class Reference:
    """Scores of the words and latents of the documents, in memory."""

    def __init__(
        self,
        client: OpenSearch,
        index: str,
        encoder: LatentEncoder,
        documents: list[dict[str, str]],
    ) -> None:
        self.ids = [document["_id"] for document in documents]
        self._client, self._index, self._encoder = client, index, encoder
        answer = client.mtermvectors(
            index=index, body={"ids": self.ids}, fields="title,text", positions=False, offsets=False
        )
        found = {doc["_id"]: doc["term_vectors"] for doc in answer["docs"]}  # in no order
        self._words = {
            field: BM25(
                [
                    {t: v["term_freq"] for t, v in found[name][field]["terms"].items()}
                    for name in self.ids
                ],
                k1=1.2,
                b=0.75,
            )
            for field in ("title", "text")
        }
        texts = [f"{document['title']} {document['text']}" for document in documents]
        self._latents = BM25(
            [
                {terms.term(i): tf for i, tf in zip(row.tolist(), found.tolist(), strict=True)}
                for row, values in encoder.encode(texts)
                for found in [terms.counts(values)]
            ],
            k1=2.0,
            b=0.7,
        )

    def words(self, field: str, text: str) -> dict[str, float]:
        """Return document → score of a `match` of `text`, without documents that do not match."""
        analysed = self._client.indices.analyze(
            index=self._index, body={"field": field, "text": text}
        )
        query: dict[str, float] = {}
        for token in analysed["tokens"]:
            query[token["token"]] = query.get(token["token"], 0) + 1
        return self._scored(self._words[field], query)

    def latents(self, rewriter: QueryRewriter, text: str, most: int | None = None) -> Any:
        """Return document → score of the heaviest latent terms of `text`."""
        query = {item.term: round(item.weight, 4) for item in rewriter.terms(text)[:most]}
        return self._scored(self._latents, query)

    def _scored(self, bm25: BM25, query: dict[str, float]) -> dict[str, float]:
        scores = (bm25.score(query, document) for document in bm25.documents)
        return {name: score for name, score in zip(self.ids, scores, strict=True) if score}


@pytest.fixture(scope="module")
def reference(
    client: OpenSearch,
    rewriter: QueryRewriter,
    encoder: LatentEncoder,
    documents: list[dict[str, str]],
) -> Reference:
    return Reference(client, str(rewriter.index), encoder, documents)


def total(*parts: tuple[float, dict[str, float]]) -> dict[str, float]:
    """Return the sum of the scores of alternatives, each times its boost."""
    names = {name for _, scores in parts for name in scores}
    return {name: sum(boost * scores.get(name, 0.0) for boost, scores in parts) for name in names}


def same_hits(answer: dict[str, Any], expected: dict[str, float]) -> None:
    hits = [(hit["_id"], hit["_score"]) for hit in answer["hits"]["hits"]]
    assert len(hits) > 5
    assert dict(hits) == pytest.approx(expected, rel=1e-4)
    scores = [expected[name] for name, _ in hits]
    assert scores == pytest.approx(sorted(scores, reverse=True), rel=1e-4)


def asked(client: OpenSearch, rewriter: QueryRewriter, body: Any, **settings: Any) -> Any:
    new, report = rewriter.rewrite_and_report({**body, "size": 1000}, **settings)
    assert report.rewritten
    return client.search(index=rewriter.index, body=new)


MATCH = {"query": {"match": {"text": {"query": QUESTION, "boost": 2}}}}
TWO = {
    "query": {
        "bool": {
            "must": [{"match": {"text": QUESTION}}],
            "should": [{"match": {"title": {"query": OTHER, "boost": 3}}}],
            "filter": [{"range": {"year": {"gte": 2003}}}],
            "boost": 2,
        }
    }
}


def test_hybrid(client: OpenSearch, rewriter: QueryRewriter, reference: Reference) -> None:
    """Latent terms have the boost of their clause; a document matches by words or latents."""
    expected = total(
        (2, reference.words("text", QUESTION)),
        (2 * BOOST, reference.latents(rewriter, QUESTION)),
    )
    same_hits(asked(client, rewriter, MATCH), expected)


def test_hybrid_where_words_decide(
    client: OpenSearch, rewriter: QueryRewriter, reference: Reference
) -> None:
    words = reference.words("text", QUESTION)
    both = total((2, words), (2 * BOOST, reference.latents(rewriter, QUESTION)))
    assert len(words) < len(both)
    same_hits(asked(client, rewriter, MATCH, matching="keep"), {name: both[name] for name in words})


def test_latent(client: OpenSearch, rewriter: QueryRewriter, reference: Reference) -> None:
    expected = total((2, reference.latents(rewriter, QUESTION)))
    same_hits(asked(client, rewriter, MATCH, form="latent"), expected)


def test_latent_where_words_decide(
    client: OpenSearch, rewriter: QueryRewriter, reference: Reference
) -> None:
    scores = reference.latents(rewriter, QUESTION)
    expected = {name: 2 * scores.get(name, 0.0) for name in reference.words("text", QUESTION)}
    same_hits(asked(client, rewriter, MATCH, form="latent", matching="keep"), expected)


@pytest.mark.parametrize("form", ["two_phase", "hybrid_two_phase"])
@pytest.mark.parametrize("matching", ["expand", "keep"])
def test_two_phases(
    client: OpenSearch, rewriter: QueryRewriter, reference: Reference, form: str, matching: str
) -> None:
    """Hits of the first phase within the window score as in one phase."""
    words = reference.words("text", QUESTION)
    score_words = 2.0 if form == "hybrid_two_phase" else 0.0
    factor = 2 * BOOST if score_words else 2.0
    heads = reference.latents(rewriter, QUESTION, HEADS)
    whole = total((score_words, words), (factor, reference.latents(rewriter, QUESTION)))
    found = (
        set(words) if matching == "keep" else set(heads) | (set(words) if score_words else set())
    )
    answer = asked(client, rewriter, MATCH, form=form, matching=matching, head_terms=HEADS)
    same_hits(answer, {name: whole.get(name, 0.0) for name in found})
    first = asked(
        client, rewriter, {**MATCH, "sort": ["_score", "year"]}, form=form, matching=matching
    )
    assert len(first["hits"]["hits"]) == len(words if matching == "keep" else whole)


Scores = dict[str, float]


def both(reference: Reference, rewriter: QueryRewriter, field: str, text: str) -> Scores:
    """Return the score of a hybrid clause."""
    latents = reference.latents(rewriter, text)
    return total((1, reference.words(field, text)), (BOOST, latents))


def test_dis_max(client: OpenSearch, rewriter: QueryRewriter, reference: Reference) -> None:
    """`dis_max` scores the best of clauses of words and latents, and a part of the others."""
    queries = [{"match": {"text": QUESTION}}, {"match": {"title": {"query": OTHER, "boost": 3}}}]
    query = {"dis_max": {"queries": queries, "tie_breaker": 0.3}}
    one, other = (
        both(reference, rewriter, "text", QUESTION),
        both(reference, rewriter, "title", OTHER),
    )
    parts = {name: (one.get(name, 0.0), 3 * other.get(name, 0.0)) for name in one | other}
    expected = {name: 0.7 * max(scores) + 0.3 * sum(scores) for name, scores in parts.items()}
    assert len({scores.index(max(scores)) for scores in parts.values()}) == 2
    same_hits(asked(client, rewriter, {"query": query}), expected)


def test_boosting(client: OpenSearch, rewriter: QueryRewriter, reference: Reference) -> None:
    """The negative clause is not changed."""
    negative = {"match": {"text": "file"}}
    query = {"match": {"text": QUESTION}}
    boosting = {"positive": query, "negative": negative, "negative_boost": 0.4}
    less = reference.words("text", "file")
    expected = both(reference, rewriter, "text", QUESTION)
    assert 5 < len(less.keys() & expected.keys()) < len(expected)
    expected = {name: score * (0.4 if name in less else 1) for name, score in expected.items()}
    same_hits(asked(client, rewriter, {"query": {"boosting": boosting}}), expected)


@pytest.mark.parametrize("mode", ["multiply", "sum"])
def test_function_score(
    client: OpenSearch,
    rewriter: QueryRewriter,
    reference: Reference,
    documents: list[dict[str, str]],
    mode: str,
) -> None:
    query = {
        "function_score": {
            "query": {"match": {"text": QUESTION}},
            "field_value_factor": {"field": "votes", "missing": 1},
            "boost_mode": mode,
            "boost": 2,
        }
    }
    votes = {document["_id"]: 1 + i % 7 for i, document in enumerate(documents)}
    expected = {
        name: score * 2 * votes[name] if mode == "multiply" else score * 2 + votes[name]
        for name, score in both(reference, rewriter, "text", QUESTION).items()
    }
    same_hits(asked(client, rewriter, {"query": query}), expected)


def test_boosts_of_fields(
    client: OpenSearch,
    rewriter: QueryRewriter,
    reference: Reference,
    documents: list[dict[str, str]],
) -> None:
    """Words have the boost of their field, latent terms the mean of both."""
    asks = f"{OTHER} {documents[0]['title']}"
    fields = ["title^3", "text^2"]
    query = {"multi_match": {"query": asks, "fields": fields, "type": "most_fields", "boost": 2}}
    title, text = (reference.words(field, asks) for field in ("title", "text"))
    latents = reference.latents(rewriter, asks)
    assert title
    same_hits(
        asked(client, rewriter, {"query": query}),
        total((6, title), (4, text), (5 * BOOST, latents)),
    )


@pytest.mark.parametrize("matching", ["expand", "keep"])
def test_nested(
    client: OpenSearch, rewriter: QueryRewriter, reference: Reference, matching: str
) -> None:
    """The nested clause scores as before; latent terms are of the whole document."""
    inner = {"match": {"comments.text": {"query": "a mistake in it", "boost": 2}}}
    query = {"nested": {"path": "comments", "query": inner, "score_mode": "sum", "boost": 3}}
    alone = client.search(index=rewriter.index, body={"query": query, "size": 1000})
    words = {hit["_id"]: hit["_score"] for hit in alone["hits"]["hits"]}
    whole = total((1, words), (6 * BOOST, reference.latents(rewriter, "a mistake in it")))
    assert 5 < len(words) < len(whole)
    expected = whole if matching == "expand" else {name: whole[name] for name in words}
    fields = ["comments.text"]
    answer = asked(client, rewriter, {"query": query}, matching=matching, fields=fields)
    same_hits(answer, expected)


@pytest.mark.parametrize("form", ["hybrid", "hybrid_two_phase"])
@pytest.mark.parametrize("matching", ["expand", "keep"])
def test_two_clauses_in_a_boosted_bool(
    client: OpenSearch,
    rewriter: QueryRewriter,
    reference: Reference,
    documents: list[dict[str, str]],
    form: str,
    matching: str,
) -> None:
    """Each has its own latent terms; under "keep", for the documents that its words match."""
    old = {document["_id"] for i, document in enumerate(documents) if i % 12 < 3}
    text, title = reference.words("text", QUESTION), reference.words("title", OTHER)
    of_text = reference.latents(rewriter, QUESTION)
    of_title = reference.latents(rewriter, OTHER)
    required = set(text)
    if matching == "keep":
        of_title = {name: score for name, score in of_title.items() if name in title}
    else:
        heads = HEADS if form == "hybrid_two_phase" else None
        required |= set(reference.latents(rewriter, QUESTION, heads))
    whole = total((2, text), (2 * BOOST, of_text), (6, title), (6 * BOOST, of_title))
    expected = {name: whole[name] for name in required - old}
    answer = asked(client, rewriter, TWO, form=form, matching=matching, head_terms=HEADS)
    same_hits(answer, expected)
