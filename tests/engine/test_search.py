"""A question finds its document, on both engines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from opensearchpy import OpenSearch

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.errors import EngineError, MismatchError
from latent_ingest.connector.querying.clause_limit import ENGINE_CLAUSES
from latent_ingest.connector.querying.rewriter import QueryRewriter

# Each question shares no word with its document but such as all have.
DOCUMENTS = {
    "falls": "Cholecalciferol supplementation lowers the risk of tumbling among the elderly.",
    "bees": "Honey insects dance to tell their hive where nectar can be gathered.",
    "loans": "The bank raised its interest rate on mortgages by half a percent.",
    "engine": "A four-stroke motor burns petrol in its cylinders.",
    "mars": "The rover photographed red dust and rocks on the neighbouring planet.",
    "bread": "Knead the dough, let it rise, and bake the loaf until the crust is brown.",
    "chess": "She sacrificed her queen and gave checkmate two moves later.",
    "rain": "Heavy precipitation flooded the valley after the storm.",
}
QUESTIONS = {
    "falls": "do vitamins stop old people from falling over",
    "bees": "how do bees communicate about flowers",
    "loans": "cost of borrowing money to buy a house",
    "engine": "how does a car work",
    "mars": "space robot pictures from another world",
    "rain": "bad weather caused water damage",
}
ROOT = Path(__file__).parent.parent.parent
FORMS = ("latent", "two_phase", "hybrid")


def lines() -> list[str]:
    return [
        json.dumps({"_id": name, "text": text, "words_in_it": len(text.split()), "kind": name[0]})
        for name, text in DOCUMENTS.items()
    ]


@pytest.fixture
def index(either: OpenSearch, new_index: Any, load: Any) -> str:
    name: str = new_index(either)
    assert load(either, name, lines()).indexed == len(DOCUMENTS)
    return name


def test_questions_find_their_documents(
    either: OpenSearch, index: str, encoder: LatentEncoder
) -> None:
    rewriter = QueryRewriter.from_index(either, index, encoder)
    for form in FORMS:
        for name, question in QUESTIONS.items():
            hits = either.search(index=index, body=rewriter.rewrite(question, form=form))["hits"]
            assert hits["hits"][0]["_id"] == name, (form, question)
    found = either.search(index=index, body=rewriter.words_only(QUESTIONS["falls"]))["hits"]["hits"]
    assert "falls" not in [hit["_id"] for hit in found]


def test_hits_have_the_documents_fields_and_no_latents(
    either: OpenSearch, index: str, encoder: LatentEncoder
) -> None:
    rewriter = QueryRewriter.from_index(either, index, encoder)
    for form in FORMS:
        hits = either.search(index=index, body=rewriter.rewrite(QUESTIONS["bees"], form=form))
        (hit, *_) = hits["hits"]["hits"]
        assert set(hit["_source"]) == {"text", "words_in_it", "kind"}


def test_filters_hold_and_change_no_score(
    either: OpenSearch, index: str, encoder: LatentEncoder
) -> None:
    rewriter = QueryRewriter.from_index(either, index, encoder)
    clause = {"terms": {"kind.keyword": ["b", "c"]}}
    for form in FORMS:
        whole, some = (
            {
                hit["_id"]: hit["_score"]
                for hit in either.search(
                    index=index, body=rewriter.rewrite(QUESTIONS["bees"], form=form, filter=given)
                )["hits"]["hits"]
            }
            for given in (None, clause)
        )
        assert set(some) == {"bees", "bread", "chess"} & set(whole)
        assert some == pytest.approx({name: whole[name] for name in some}, rel=1e-5)


def test_two_phases_score_as_one_within_the_window(
    either: OpenSearch, index: str, encoder: LatentEncoder
) -> None:
    """Every hit of the head terms gets the score of all terms."""
    rewriter = QueryRewriter.from_index(either, index, encoder)
    question = QUESTIONS["falls"]
    one = either.search(index=index, body=rewriter.rewrite(question, form="latent"))
    two = either.search(
        index=index, body=rewriter.rewrite(question, form="two_phase", head_terms=30)
    )
    scores = {hit["_id"]: hit["_score"] for hit in one["hits"]["hits"]}
    assert len(two["hits"]["hits"]) > 1
    for hit in two["hits"]["hits"]:
        assert hit["_score"] == pytest.approx(scores[hit["_id"]], rel=1e-5)


def scores_of(client: OpenSearch, index: str, body: dict[str, Any]) -> dict[str, float]:
    hits = client.search(index=index, body=body)["hits"]["hits"]
    return {hit["_id"]: hit["_score"] for hit in hits}


def test_hybrid_is_words_plus_boosted_latents(
    either: OpenSearch, index: str, encoder: LatentEncoder
) -> None:
    rewriter = QueryRewriter.from_index(either, index, encoder)
    question = "where is honey gathered by insects"
    words = scores_of(either, index, rewriter.words_only(question))
    latent = scores_of(either, index, rewriter.rewrite(question, form="latent"))
    assert len(words) >= 1
    assert scores_of(either, index, rewriter.rewrite(question)) == pytest.approx(
        {
            name: words.get(name, 0) + rewriter.latent_boost * latent.get(name, 0)
            for name in words | latent
        },
        rel=1e-4,
    )


def test_hybrid_mixes_alike_on_engines_that_keep_bm25s_factor(
    client: OpenSearch,
    elasticsearch: OpenSearch,
    new_index: Any,
    load: Any,
    encoder: LatentEncoder,
) -> None:
    """All scores differ by the factor 2.2 of words, so the ranking is the same."""
    ranked = []
    for engine in (client, elasticsearch):
        index = new_index(engine)
        load(engine, index, lines())
        rewriter = QueryRewriter.from_index(engine, index, encoder)
        ranked.append(scores_of(engine, index, rewriter.rewrite("where is honey gathered")))
    assert len(ranked[0]) > 3
    assert ranked[1] == pytest.approx(
        {name: 2.2 * score for name, score in ranked[0].items()}, rel=1e-4
    )


def test_delimited_is_refused_where_the_engine_lacks_it(
    elasticsearch: OpenSearch, new_index: Any, load: Any
) -> None:
    with pytest.raises(Exception, match="this engine needs --spelling repeat"):
        load(elasticsearch, new_index(elasticsearch), lines(), wanted={"spelling": "delimited"})


def test_an_index_of_another_model_is_refused(
    client: OpenSearch, new_index: Any, load: Any, encoder: LatentEncoder
) -> None:
    """Ingest and search both name the two models and the fix."""
    index = new_index()
    load(client, index, lines())
    other = LatentEncoder.load(device="cpu", dtype="float32", k=4)
    ours, theirs = encoder.fingerprint.digest, other.fingerprint.digest
    message = rf"made by model minilm-32k \({ours}\), this is minilm-32k \({theirs}\); use --model"
    with pytest.raises(MismatchError, match=message):
        QueryRewriter.from_index(client, index, other)
    with pytest.raises(MismatchError, match=message):
        load(client, index, lines(), encoder=other)
    assert client.count(index=index)["count"] == len(DOCUMENTS)


def test_an_index_that_is_not_ours_is_refused(
    client: OpenSearch, new_index: Any, load: Any, encoder: LatentEncoder
) -> None:
    index = new_index()
    client.indices.create(index=index)
    with pytest.raises(MismatchError, match="has no latent terms"):
        load(client, index, lines())
    with pytest.raises(
        MismatchError, match=r"no index or alias nowhere; make it with 'latent-ingest FILE"
    ):
        QueryRewriter.from_index(client, "nowhere", encoder)


def test_more_clauses_than_the_engine_takes_are_never_sent(
    client: OpenSearch, new_index: Any, load: Any, encoder: LatentEncoder
) -> None:
    """The engine accepts the request, which has as many terms as fit."""
    index = new_index()
    load(client, index, lines())
    words = (ROOT / "README.md").read_text().split()
    long_question = " ".join(words[:400])
    assert len(encoder.encode([long_question], kind="query").indices) > ENGINE_CLAUSES
    rewriter = QueryRewriter.from_index(client, index, encoder, max_query_terms=ENGINE_CLAUSES)
    for form in FORMS:
        body = rewriter.rewrite(long_question, form=form)
        assert client.search(index=index, body=body)["hits"]["hits"]
        assert ENGINE_CLAUSES / 2 < json.dumps(body).count('{"term": ') <= ENGINE_CLAUSES, form


def test_an_engine_that_is_away_is_said(encoder: LatentEncoder) -> None:
    from latent_ingest.connector.engine.client import Connection
    from latent_ingest.connector.engine.local import free_port

    client = Connection(f"http://127.0.0.1:{free_port()}").open()
    with pytest.raises(EngineError, match=r"nothing answers at .*latent-ingest engine up"):
        QueryRewriter.from_index(client, "papers", encoder)


PROGRAM = """
import sys
from latent_ingest.cli.main import cli
cli(sys.argv[1:], standalone_mode=False)
print([name for name in ("torch", "transformers") if name in sys.modules], file=sys.stderr)
"""


def test_the_command_searches_by_the_table_without_torch(
    client: OpenSearch, opensearch_url: str, new_index: Any, load: Any
) -> None:
    """The words of the question alone do not find the document."""
    index = new_index(client)
    load(client, index, lines())
    question = "wheat flour dessert"
    words = client.search(index=index, body={"query": {"match": {"words": question}}})
    assert words["hits"]["hits"] == []
    for form in ("hybrid", "latent"):
        asked = ["search", question, "--index", index, "--url", opensearch_url, "--json"]
        asked += ["--questions", "table", "--form", form]
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *asked], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.splitlines()[-1] == "[]"
        adds = f"{index} has no table of its own words; 'latent-ingest questions --index {index}'"
        assert adds in done.stderr
        assert json.loads(done.stdout)["hits"]["hits"][0]["_id"] == "bread"
