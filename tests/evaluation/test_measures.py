"""Measures, fusion, templates and run files against values worked out by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from evaluation.reports import report

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.evaluation.evaluated_index import fields_in
from latent_ingest.connector.evaluation.measures import (
    DEFAULT_MEASURES,
    mean_ndcg,
    means,
    parse_measures,
    per_query,
)
from latent_ingest.connector.evaluation.rankings import hits_of
from latent_ingest.connector.evaluation.report import make_folder, write_report
from latent_ingest.connector.evaluation.runs import Run, reciprocal_rank_fusion
from latent_ingest.connector.evaluation.systems import Template

QRELS = {"q1": {"a": 2, "b": 1, "c": 0}, "q2": {"d": 1}, "q3": {"e": 1}}
RANKING = {"q1": {"c": 3.0, "b": 2.0, "a": 1.0}, "q2": {"x": 2.0, "d": 1.0}, "q3": {}}


def test_measures_equal_those_computed_by_hand() -> None:
    """Gains 0, 1, 2 at ranks 1, 2, 3; the best order has 2, 1."""
    got = (1 / math.log2(3) + 2 / math.log2(4)) / (2 + 1 / math.log2(3))
    other = 1 / math.log2(3)
    measures = parse_measures(DEFAULT_MEASURES)
    values = per_query(QRELS, RANKING, measures)
    assert values["q1"] == pytest.approx(
        {"nDCG@10": got, "R@100": 1.0, "RR@10": 0.5, "AP@100": (1 / 2 + 2 / 3) / 2}
    )
    assert values["q2"]["nDCG@10"] == pytest.approx(other)
    assert set(values["q3"].values()) == {0.0}
    summed = means(values, measures)
    assert summed["nDCG@10"] == pytest.approx((got + other) / 3)
    assert summed["R@100"] == pytest.approx(2 / 3)
    assert mean_ndcg(QRELS, RANKING) == pytest.approx(summed["nDCG@10"])


@pytest.mark.parametrize("name", ["nDCG@ten", "Goodness", "nDCG@", "P(", ""])
def test_an_error_names_an_unknown_measure(name: str) -> None:
    with pytest.raises(InputError, match=r"measure '.*': ir-measures cannot compute it"):
        parse_measures(["nDCG@10", name])


def test_reciprocal_ranks_are_summed_and_costs_added() -> None:
    words = Run({"q": {"a": 9.0, "b": 8.0, "c": 7.0}}, [0.5], [1.0], [2.0], [3], [4])
    latent = Run({"q": {"c": 99.0, "a": 98.0}}, [5.0], [10.0], [20.0], [30], [40])
    found = reciprocal_rank_fusion(words, latent)
    assert list(found.ranking["q"]) == ["a", "c", "b"]
    expected = {"a": 1 / 61 + 1 / 62, "c": 1 / 63 + 1 / 61, "b": 1 / 62}
    assert found.ranking["q"] == pytest.approx(expected)
    assert (found.rewrite_ms, found.took_ms, found.client_ms) == ([5.5], [11.0], [22.0])
    assert found.clauses == [33]
    assert found.hits == []


def test_a_template_takes_the_question_at_every_placeholder(tmp_path: Path) -> None:
    file = tmp_path / "body.json"
    clause = {"match": {"text": {"query": "{{question}}"}}}
    phrase = {"match_phrase": {"text": "about {{question}}"}}
    file.write_text(json.dumps({"query": {"bool": {"should": [clause, phrase]}}, "size": 3}))
    body = Template.load(f"mine={file}").body('a "bee"', 101)
    assert body["query"]["bool"]["should"] == [
        {"match": {"text": {"query": 'a "bee"'}}},
        {"match_phrase": {"text": 'about a "bee"'}},
    ]
    assert body["size"] == 101


def test_a_template_asks_for_the_documents_of_chunks() -> None:
    plain = Template("mine", {"query": {"match": {"text": "{{question}}"}}, "fields": ["year"]})
    body = plain.body("bees", 101, "parent_id")
    assert body["collapse"] == {"field": "parent_id"}
    assert (body["fields"], body["docvalue_fields"]) == (["year"], ["parent_id"])
    own = Template("mine", {"collapse": {"field": "url"}, "docvalue_fields": ["year"]})
    body = own.body("bees", 101, "parent_id")
    assert body["collapse"] == {"field": "url"}
    assert body["docvalue_fields"] == ["year", "parent_id"]
    assert "collapse" not in plain.body("bees", 101)


def test_the_best_chunk_stands_for_its_document() -> None:
    def hit(id: str, parent: str, score: float | None) -> dict[str, Any]:
        return {"_id": id, "_score": score, "fields": {"parent_id": [parent]}}

    hits = [hit("a#1", "a", 3.0), hit("b#0", "b", 2.0), hit("a#0", "a", 1.0)]
    assert hits_of({"hits": {"hits": hits}}) == {"a": 3.0, "b": 2.0}
    by_date = [hit("b#0", "b", None), hit("a#0", "a", None)]
    assert list(hits_of({"hits": {"hits": by_date}})) == ["b", "a"]
    assert hits_of({"hits": {"hits": by_date}})["b"] > hits_of({"hits": {"hits": by_date}})["a"]


@pytest.mark.parametrize(
    ("spec", "content", "message"),
    [
        ("mine={}", '{"query": {"match": {"text": "bees"}}}', r"no \{\{question\}\}; put it in"),
        ("mine={}", '{"{{question}}": 1}', r"no \{\{question\}\}"),
        ("mine={}", "{", "not JSON"),
        ("mine={}", "[]", "not a request body"),
        ("{}", "{}", "write NAME=FILE"),
        ("a/b={}", "{}", "write NAME=FILE"),
        ("words={}", "{}", "the name words is taken"),
        ("mine=nowhere.json", "", "nowhere.json: cannot be read: No such file"),
    ],
)
def test_an_error_names_a_template_that_cannot_be_used(
    tmp_path: Path, spec: str, content: str, message: str
) -> None:
    (tmp_path / "body.json").write_text(content)
    with pytest.raises(InputError, match=message):
        Template.load(spec.format(tmp_path / "body.json"))


def test_run_files_and_values_are_read_back(tmp_path: Path) -> None:
    import ir_measures
    import pytrec_eval

    measures = parse_measures(["nDCG@10"])
    values = {"q0": {"nDCG@10": 0.0}, **per_query(QRELS, RANKING, measures)}
    written = report(name="ours")
    written["collections"][0]["systems"]["mine"] = {
        **written["collections"][0]["systems"]["words"], "per_query": values
    }  # fmt: skip
    folder = tmp_path / "new" / "out"
    make_folder(folder)
    write_report(folder, written, {"mine": Run(RANKING)})
    assert json.loads((folder / "report.json").read_text()) == written
    assert "ours" in (folder / "report.html").read_text()
    assert json.loads((folder / "ours.mine.per_query.json").read_text()) == values
    read = list(ir_measures.read_trec_run(str(folder / "ours.mine.run")))
    assert [(r.query_id, r.doc_id, r.score) for r in read] == [
        ("q1", "c", 3.0), ("q1", "b", 2.0), ("q1", "a", 1.0), ("q2", "x", 2.0), ("q2", "d", 1.0),
    ]  # fmt: skip
    with (folder / "ours.mine.run").open() as file:
        parsed = pytrec_eval.parse_run(file)
    assert parsed == {query: hits for query, hits in RANKING.items() if hits}
    theirs = pytrec_eval.RelevanceEvaluator(QRELS, {"ndcg_cut_10"}).evaluate(parsed)
    for query, row in theirs.items():
        assert row == {"ndcg_cut_10": pytest.approx(values[query]["nDCG@10"])}


def test_an_error_names_a_report_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/report")):
        with pytest.raises(InputError, match=r"--out .*: cannot be written: .*; name a writable"):
            make_folder(path)


def test_bytes_of_fields_are_summed_over_indices() -> None:
    """An answer as Elasticsearch's reference shows it, for an alias of two indices."""
    field = {"total_in_bytes": 7, "inverted_index": {"total_in_bytes": 5}}
    answer = {
        "_shards": {"total": 2, "successful": 2, "failed": 0},
        "a": {"store_size_in_bytes": 20, "fields": {"text": field, "_id": field}},
        "b": {"store_size_in_bytes": 20, "fields": {"text": field}},
    }
    assert fields_in(answer) == {"text": 14, "_id": 7}
