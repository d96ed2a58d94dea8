"""Why a document was found: contributions add up to the engine's own scores."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from opensearchpy import OpenSearch

from latent_ingest.cli.main import cli
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.errors import InputError, ModelError
from latent_ingest.connector.inspection.explain import (
    Explanation,
    explain,
    explain_request,
    find_hit,
)
from latent_ingest.connector.inspection.labels import read_labels
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.querying.scoring import Form

QUESTION = "find files whose names look like a pattern"

ROWS = [
    {"_id": "d", "title": "Vitamin <D>", "text": "Cholecalciferol lowers the risk of tumbling."},
    {"_id": "bees", "title": "Honey", "text": "Insects dance to tell where nectar is."},
]


def check(found: Explanation, score: float) -> None:
    """All that an explanation of terms alone must hold."""
    assert found.matched
    assert found.score == pytest.approx(score, rel=1e-4)
    assert sum(item.score for item in found.contributions) == pytest.approx(score, rel=1e-4)
    assert sum(item.share for item in found.contributions) == pytest.approx(1.0, rel=1e-4)
    shares = [item.share for item in found.contributions]
    assert shares == sorted(shares, reverse=True)
    for item in found.contributions:
        assert item.kind in ("latent", "word")
        assert item.weight is not None
        assert item.idf is not None
        assert item.saturation is not None
        assert item.frequency is not None
        assert item.frequency >= 1
        assert 0 < item.saturation < 1
        assert item.weight * item.idf * item.saturation == pytest.approx(item.score, rel=1e-4)


def test_contributions_add_up_to_the_score(
    either: OpenSearch, new_index: Any, load: Any, encoder: LatentEncoder, corpus: Path
) -> None:
    """Of every hit, in each form, on real text; rescored hits too."""
    index = new_index(either)
    load(either, index, corpus)
    rewriter = QueryRewriter.from_index(either, index, encoder)
    for form in Form:
        options: dict[str, Any] = {"form": form, "size": 5}
        answer = either.search(index=index, body=rewriter.rewrite(QUESTION, **options))
        assert len(answer["hits"]["hits"]) == 5
        for hit in answer["hits"]["hits"]:
            found = explain(either, rewriter, QUESTION, hit["_id"], **options)
            check(found, hit["_score"])
            assert len(found.contributions) > 10
            assert (found.share("word") > 0) <= form.startswith("hybrid")
        first = answer["hits"]["hits"][0]["_id"]
        found = explain(either, rewriter, QUESTION, first, **options)
        assert (found.share("word") > 0) == form.startswith("hybrid")
        labels = {item.label for item in found.contributions if item.kind == "latent"}
        assert "pattern" in labels


def test_latent_weights_are_those_of_the_question(
    client: OpenSearch, new_index: Any, load: Any, encoder: LatentEncoder
) -> None:
    index = new_index()
    load(client, index, map(json.dumps, ROWS))
    rewriter = QueryRewriter.from_index(client, index, encoder)
    found = explain(client, rewriter, "vitamin D falls", "d", form="latent")
    weights = {item.term: item.weight for item in rewriter.terms("vitamin D falls")}
    stored = client.get(index=index, id="d")["_source"]["latent"].split()
    assert found.contributions
    for item in found.contributions:
        assert item.weight == pytest.approx(weights[item.term], rel=1e-3)
        assert item.frequency == stored.count(item.term)


def test_requests_of_other_shapes_add_up(
    client: OpenSearch, new_index: Any, load: Any, encoder: LatentEncoder
) -> None:
    """The best of several fields and ties, boosts, functions, constants, weighted rescores."""
    index = new_index()
    load(client, index, map(json.dumps, ROWS))
    rewriter = QueryRewriter.from_index(client, index, encoder)
    latent = rewriter.rewrite("vitamin D", form="latent")["query"]
    fields = ["title", "text"]
    several = {"multi_match": {"query": "vitamin honey tumbling risk", "fields": fields}}
    tied = {"multi_match": {**several["multi_match"], "tie_breaker": 0.3}}
    doubled = {"function_score": {"query": latent, "functions": [{"weight": 2}]}}
    constant = {"constant_score": {"filter": {"exists": {"field": "text"}}, "boost": 3}}
    rescore = {
        "window_size": 50,
        "query": {"rescore_query": latent, "query_weight": 0.5, "rescore_query_weight": 2.0},
    }
    bodies: dict[str, dict[str, Any]] = {
        "several": {"query": several},
        "tied": {"query": tied},
        "doubled": {"query": doubled},
        "constant": {"query": {"bool": {"should": [constant, tied, latent], "boost": 1.5}}},
        "filtered": {"query": {"bool": {"must": [latent], "filter": [constant]}}},
        "rescore": {"query": tied, "rescore": rescore},
        "phrase": {"query": {"match_phrase": {"text": "risk of tumbling"}}},
    }
    for name, body in bodies.items():
        (hit, *_) = client.search(index=index, body=body)["hits"]["hits"]
        assert hit["_id"] == "d", name
        found = explain_request(client, hit, body, latent_field=rewriter.field)
        total = sum(item.score for item in found.contributions)
        assert total == pytest.approx(hit["_score"], rel=1e-4), name
        assert found.score == pytest.approx(hit["_score"], rel=1e-4), name
        assert (found.share("other") > 0) == (name == "constant"), name


def test_what_is_no_sum_is_one_contribution(client: OpenSearch, new_index: Any, load: Any) -> None:
    """A product is none, though two times two is two and two."""
    index = new_index()
    load(client, index, map(json.dumps, ROWS))
    two = {"constant_score": {"filter": {"match": {"text": "nectar"}}, "boost": 2}}
    for mode, parts in (("multiply", 1), ("sum", 2)):
        scored = {"query": two, "functions": [{"weight": 2}], "boost_mode": mode}
        body = {"query": {"function_score": scored}}
        (hit,) = client.search(index=index, body=body)["hits"]["hits"]
        found = explain_request(client, hit, body, latent_field="latent")
        assert hit["_score"] == found.score == 4
        assert sum(item.score for item in found.contributions) == 4
        assert len(found.contributions) == parts, found


def test_routed_documents_are_found_and_explained(
    client: OpenSearch, run: Any, new_index: Any, load: Any, encoder: LatentEncoder
) -> None:
    """No shard but that of its routing knows a document."""
    index = new_index()
    load(client, index, map(json.dumps, ROWS))
    ((_, made),) = client.indices.get(index=index).items()
    routed = new_index()
    settings = {name: made["settings"]["index"][name] for name in ("analysis", "similarity")}
    body = {"settings": {**settings, "number_of_shards": 3}, "mappings": made["mappings"]}
    client.indices.create(index=routed, body=body)
    for routing in "abcdef":
        source = client.get(index=index, id="d")["_source"]
        client.index(index=routed, id=f"d-{routing}", routing=routing, body=source)
    client.indices.refresh(index=routed)
    rewriter = QueryRewriter.from_index(client, routed, encoder)
    for routing in "abcdef":
        assert find_hit(client, routed, f"d-{routing}")["_routing"] == routing
        found = explain(client, rewriter, "vitamin D falls", f"d-{routing}", form="latent")
        assert found.matched
        assert len(found.contributions) > 5
    page = run("search", "vitamin D falls", "--index", routed, "--explain", "--json")
    hits = json.loads(page.stdout)["hits"]["hits"]
    assert len(hits) == 6
    assert all(hit["contributions"] for hit in hits)


def test_documents_that_are_not_found(
    client: OpenSearch, new_index: Any, load: Any, encoder: LatentEncoder
) -> None:
    index = new_index()
    load(client, index, map(json.dumps, ROWS))
    rewriter = QueryRewriter.from_index(client, index, encoder)
    with pytest.raises(InputError, match=rf"no document 'x/y' in index {index}"):
        explain(client, rewriter, QUESTION, "x/y")
    body = {"query": {"match": {"text": "nectar"}}}
    found = explain_request(client, find_hit(client, index, "d"), body, latent_field="latent")
    assert (found.matched, found.score, found.contributions) == (False, 0.0, [])


def test_labels_of_a_model() -> None:
    folder = Path("model")
    folder.mkdir()
    assert read_labels(folder) == {}
    (folder / "labels.json").write_text('{"12": "glob patterns"}')
    assert read_labels(folder) == {12: "glob patterns"}
    for bad in ('["a"]', '{"x": "y"}', "{"):
        (folder / "labels.json").write_text(bad)
        with pytest.raises(ModelError, match=r"labels.json: not an object of latent numbers"):
            read_labels(folder)


@pytest.fixture
def run(opensearch_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("OPENSEARCH_URL", opensearch_url)

    def invoke(*arguments: str) -> Result:
        result = CliRunner().invoke(cli, [*arguments, "--device", "cpu"])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return invoke


def test_the_commands_print_why(run: Any, client: OpenSearch, new_index: Any, load: Any) -> None:
    """For people and for programs, without control characters."""
    index = new_index()
    load(client, index, map(json.dumps, ROWS))
    question = "does vitamin D prevent falls"
    table = run("explain", question, "--index", index, "--id", "d")
    assert table.exit_code == 0, table.stderr
    first, _, heads, *rows = table.stdout.splitlines()
    assert first.startswith(f"d in {index}, hybrid: ")
    assert heads.split() == ["share", "score", "term", "means", "weight", "idf", "freq"]
    assert len(rows) == 16
    assert "; --all shows them" in rows[-1]
    whole = run("explain", question, "--index", index, "--id", "d", "--all").stdout.splitlines()
    told = json.loads(run("explain", question, "--index", index, "--id", "d", "--json").stdout)
    assert len(whole) - 3 == len(told["contributions"]) > 15
    total = sum(item["score"] for item in told["contributions"])
    assert total == pytest.approx(told["score"], rel=1e-4)

    nowhere = run("explain", question, "--index", index, "--id", "nope")
    assert nowhere.exit_code == 2
    assert nowhere.stderr.strip().endswith("name one by its _id")

    options = ["--index", index, "--highlight", "--explain"]
    page = run("search", question, *options)
    assert page.exit_code == 0, page.stderr
    assert "\x1b" not in page.stdout + table.stdout
    hit, passage, why, *_ = page.stdout.splitlines()
    assert hit.split()[::2][:2] == ["1", "d"]
    assert hit.endswith("Vitamin <D>")
    assert passage.strip() in ROWS[0]["text"]
    assert "vitamin" in why
    assert "%" in why

    answer = json.loads(run("search", question, *options, "--json").stdout)
    best = answer["hits"]["hits"][0]
    assert "<em>" in best["highlight"]["text"][0]
    assert "&lt;" in best["highlight"]["title"][0]
    assert sum(item["score"] for item in best["contributions"]) == pytest.approx(
        best["_score"], rel=1e-4
    )
    both = run("search", question, "--index", index, "--compare", "--explain")
    assert both.exit_code == 2
    compared = run("search", question, "--index", index, "--compare", "--highlight")
    assert compared.stdout.count(ROWS[0]["text"]) >= 2


def test_search_of_several_text_fields(
    run: Any, client: OpenSearch, new_index: Any, load: Any
) -> None:
    """Each is highlighted, and shown."""
    index = new_index()
    rows = [
        {"_id": "a", "name": "Falls", "abstract": "Old people tumble.", "body": "Vitamin D helps."}
    ]
    fields = ("name", "abstract", "body")
    load(client, index, map(json.dumps, rows), wanted={"text_fields": fields})
    question = "does vitamin D prevent falls of the elderly"
    plain = run("search", question, "--index", index)
    first, second = plain.stdout.splitlines()
    assert first.endswith("  a  Falls")
    assert second == "     Old people tumble. Vitamin D helps."
    answer = json.loads(run("search", question, "--index", index, "--highlight", "--json").stdout)
    (hit,) = answer["hits"]["hits"]
    assert set(hit["highlight"]) <= set(fields)
    assert {"name", "body"} <= set(hit["highlight"])


def test_words_that_the_engine_finds_are_marked_too(
    run: Any, client: OpenSearch, new_index: Any, load: Any
) -> None:
    """In forms whose scores are of words, whatever latent terms say of these words."""
    index = new_index()
    text = (
        "Vitamin D was given to all. The elderly walk in Oslo harbour, they were asked about ships."
    )
    load(client, index, [json.dumps({"_id": "a", "title": "Falls", "text": text})])
    marked = {}
    for form in ("hybrid", "latent"):
        asked = ["vitamin ship asking", "--index", index, "--highlight", "--json", "--form", form]
        (hit,) = json.loads(run("search", *asked).stdout)["hits"]["hits"]
        marked[form] = set(re.findall("<em>(.*?)</em>", " ".join(hit["highlight"]["text"])))
    assert {"Vitamin", "asked", "ships"} <= marked["hybrid"]
    assert "asked" not in marked["latent"]
