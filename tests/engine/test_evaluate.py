"""nDCG@10 through the engine: of a collection made here, and of a real one with a floor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from latent_ingest.cli.main import cli

ROOT = Path(__file__).parent.parent.parent
NFCORPUS = ROOT.parent / "shared" / "data" / "nfcorpus"

SYSTEMS = {"words", "dense", "latent", "two_phase", "hybrid"}


def evaluate(url: str, folder: Path, *options: str) -> dict[str, Any]:
    done = CliRunner().invoke(cli, ["evaluate", str(folder), "--url", url, *options, "--json"])
    assert done.exit_code == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def collection(folder: Path, documents: list[dict[str, str]]) -> Path:
    """Each document's own text as a question, judged by itself alone."""
    (folder / "qrels").mkdir(parents=True)
    rows = [json.dumps(document) for document in documents]
    (folder / "corpus.jsonl").write_text("\n".join(rows))
    queries = [{"_id": f"q{n}", "text": d["text"][:200]} for n, d in enumerate(documents)]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    judged = [f"q{n}\t{d['_id']}\t1" for n, d in enumerate(documents)]
    header = "query-id\tcorpus-id\tscore"
    (folder / "qrels" / "test.tsv").write_text("\n".join([header, *judged]))
    return folder


def test_a_document_is_found_by_its_own_words(
    opensearch_url: str, new_index: Any, documents: list[dict[str, str]], tmp_path: Path
) -> None:
    folder = collection(tmp_path / "own", documents[:40])
    index = new_index()
    first = evaluate(opensearch_url, folder, "--index", index)
    assert first["collection"] == "own"
    assert set(first["systems"]) == SYSTEMS
    for system, measures in first["systems"].items():
        assert 0.9 < measures["nDCG@10"] <= 1.0, system
    # The index is there now, and used as it is.
    again = evaluate(opensearch_url, folder, "--index", index, "--systems", "latent")
    assert again["systems"] == {"latent": first["systems"]["latent"]}


def test_judgements_turned_round_count_nothing(
    opensearch_url: str, new_index: Any, documents: list[dict[str, str]], tmp_path: Path
) -> None:
    """So that a perfect figure above is not one that cannot be missed."""
    folder = collection(tmp_path / "own", documents[:40])
    path = folder / "qrels" / "test.tsv"
    path.write_text(path.read_text().replace("\t1", "\t0"))
    figures = evaluate(opensearch_url, folder, "--index", new_index())["systems"]
    assert {measures["nDCG@10"] for measures in figures.values()} == {0.0}


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("qrels/test.tsv", "q1\td1\n", "line 1: .* is no judgement"),
        ("qrels/test.tsv", "q1\td1\tgood\n", "line 1: .* is no judgement"),
        ("qrels/test.tsv", "other\td1\t1\n", "query 'other' is not in queries.jsonl"),
        ("qrels/test.tsv", "\n", "is no judgement"),
        ("queries.jsonl", "{", "queries.jsonl: line 1: not JSON"),
    ],
)
def test_a_broken_collection_is_said(
    opensearch_url: str,
    documents: list[dict[str, str]],
    tmp_path: Path,
    file: str,
    content: str,
    message: str,
) -> None:
    import re

    folder = collection(tmp_path / "own", documents[:3])
    (folder / file).write_text(content)
    done = CliRunner().invoke(cli, ["evaluate", str(folder), "--url", opensearch_url])
    assert done.exit_code == 2
    assert re.search(message, done.stderr), done.stderr


@pytest.mark.skipif(not NFCORPUS.is_dir(), reason=f"no {NFCORPUS.name} beside the checkout")
def test_nfcorpus_has_a_floor(opensearch_url: str, new_index: Any) -> None:
    """3,633 documents and 323 questions; about two minutes on two cores."""
    figures = evaluate(
        opensearch_url, NFCORPUS, "--index", new_index(), "--systems", "words,latent,hybrid"
    )["systems"]
    ndcg = {system: measures["nDCG@10"] for system, measures in figures.items()}
    assert 0.31 < ndcg["words"] < 0.33
    assert ndcg["latent"] >= 0.328
    assert ndcg["hybrid"] >= 0.350
