"""The command `tune` with feedback, and with questions by table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from opensearchpy import OpenSearch
from tuned import HEADER, call, tuned

from latent_ingest.cli.main import cli
from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.model_folder import SHIPPED_MODEL
from latent_ingest.connector.evaluation.measures import parse_measures, per_query
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.querying.searcher import Searcher

BOOST = ("--split", "dev", "--knobs", "latent_boost")


@pytest.fixture
def folder(documents: list[dict[str, str]], tmp_path: Path) -> Path:
    """Questions are four words of a document, every seventh, so that some are hard to find."""
    folder = tmp_path / "docs"
    (folder / "qrels").mkdir(parents=True)
    chosen = documents[:50]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(d) + "\n" for d in chosen))
    asked = [" ".join(document["text"].split()[::7][:4]) for document in chosen]
    queries = [json.dumps({"_id": f"q{n}", "text": text}) for n, text in enumerate(asked)]
    (folder / "queries.jsonl").write_text("\n".join(queries))
    judged = [f"q{n}\t{document['_id']}\t1\n" for n, document in enumerate(chosen)]
    for name, some in (("dev", judged[::2]), ("test", judged[1::2])):
        lines = HEADER + "".join(some)
        (folder / "qrels" / f"{name}.tsv").write_text(lines)
    return folder


def found_by(searcher: Searcher, folder: Path, **options: Any) -> float:
    """nDCG@10 of the questions of test."""
    collection = Collection.load(folder, "test")
    ranking = {}
    for query, text in collection.queries.items():
        hits = searcher.search(text, form="hybrid", **options)["hits"]["hits"]
        ranking[query] = {hit["_id"]: hit["_score"] for hit in hits}
    rows = per_query(collection.qrels, ranking, parse_measures(["nDCG@10"])).values()
    return sum(row["nDCG@10"] for row in rows) / len(rows)


def test_questions_are_asked_as_search_with_feedback_asks_them(
    opensearch_url: str,
    client: OpenSearch,
    encoder: LatentEncoder,
    index: str,
    load: Any,
    folder: Path,
) -> None:
    assert load(client, index, folder / "corpus.jsonl").ok
    searcher = Searcher(client, index, [encoder])
    values = [found_by(searcher, folder, feedback=feedback) for feedback in (True, False)]
    assert values[0] != values[1]
    rewriter = searcher.rewriter
    clauses = []
    for options, expected in zip((("--feedback",), ()), values, strict=True):
        answer = tuned(opensearch_url, folder, index, *BOOST, *options)
        assert answer["feedback"] is bool(options)
        hybrid, two_phase, _ = answer["held_out"]["forms"]
        assert hybrid["before"] == pytest.approx(expected)
        clauses.append(hybrid["clauses_before"])
        assert two_phase["clauses_before"] == pytest.approx(clauses[-1])
    # Of both requests: that without feedback, and one with as many terms or more.
    added = clauses[0] - 2 * clauses[1]
    assert 0 < added <= 32
    assert rewriter.max_query_terms > 32
    shown = call(opensearch_url, folder, index, *BOOST, "--feedback").stdout
    assert "took and clauses are of both requests" in shown


@pytest.mark.question_tables
def test_questions_by_the_table_of_the_index(
    opensearch_url: str, client: OpenSearch, encoder: LatentEncoder, index: str, folder: Path
) -> None:
    arguments = ["ingest", str(folder / "corpus.jsonl"), "--index", index, "--url", opensearch_url]
    done = CliRunner().invoke(cli, [*arguments, "--dtype", "float32"])
    assert done.exit_code == 0, done.stderr
    rewriter = QueryRewriter.from_index(client, index, questions="table")
    assert "table of the index" in (rewriter.table or "")
    answers = {
        questions: tuned(opensearch_url, folder, index, *BOOST, "--questions", questions)
        for questions in ("model", "table")
    }
    assert answers["table"]["questions"] == "table"
    by_table = Searcher(client, index, [QueryEncoder(questions="table")])
    for questions, searcher in {
        "table": by_table,
        "model": Searcher(client, index, [encoder]),
    }.items():
        before = answers[questions]["held_out"]["forms"][0]["before"]
        assert before == pytest.approx(found_by(searcher, folder)), questions
    clauses = [answer["held_out"]["forms"][0]["clauses_before"] for answer in answers.values()]
    assert clauses[0] != clauses[1]
    # A copy has the table too; and a table has no k.
    options = ("--split", "dev", "--copy", "--knobs", "k1,query_k", "--questions", "table")
    answer = tuned(opensearch_url, folder, index, *options, "--feedback")
    assert [curve["knob"] for curve in answer["curves"]] == ["k1"]
    expected = found_by(by_table, folder, feedback=True)
    assert answer["held_out"]["forms"][0]["before"] == pytest.approx(expected)
    one = ("--split", "dev", "--knobs", "query_k", "--questions", "table")
    done = call(opensearch_url, folder, index, *one)
    assert (done.exit_code, "has none of these" in done.stderr) == (2, True)


def test_a_lean_index_is_tuned_as_without_feedback(
    opensearch_url: str, client: OpenSearch, index: str, load: Any, folder: Path
) -> None:
    assert load(client, index, folder / "corpus.jsonl", wanted={"lean": True}).ok
    plain, fed = (
        tuned(opensearch_url, folder, index, *BOOST, *more) for more in ((), ("--feedback",))
    )
    assert fed["held_out"]["forms"][0]["before"] == plain["held_out"]["forms"][0]["before"]


def test_a_model_without_a_table_gives_one_line(
    opensearch_url: str, client: OpenSearch, index: str, load: Any, folder: Path, tmp_path: Path
) -> None:
    assert load(client, index, folder / "corpus.jsonl").ok
    model = tmp_path / "model"
    model.mkdir()
    for path in SHIPPED_MODEL.iterdir():
        if path.name != "questions.safetensors":
            (model / path.name).symlink_to(path)
    options = (*BOOST, "--questions", "table", "--model", str(model))
    done = call(opensearch_url, folder, index, *options)
    assert done.exit_code == 1
    (error,) = [line for line in done.stderr.splitlines() if not line.startswith("tuning:")]
    assert "questions.safetensors: no such file" in error
