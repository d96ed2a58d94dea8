"""The command `tune`: what it selects, what it never reads, and what it stores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
from opensearchpy import OpenSearch
from opensearchpy.client.indices import IndicesClient
from tuned import HEADER, call, k1_of, state, tuned

from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import EngineError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.tuning import tuned_index
from latent_ingest.connector.tuning.knobs import Settings
from latent_ingest.connector.tuning.splits import halved
from latent_ingest.connector.tuning.trials import Trials
from latent_ingest.mappings import MappingConfig


def rewritten(source: Path, target: Path, name: str, lines: list[str]) -> Path:
    """The collection with other judgements in one file."""
    (target / "qrels").mkdir(parents=True)
    for file in source.rglob("*.*"):
        (target / file.relative_to(source)).write_bytes(file.read_bytes())
    (target / "qrels" / name).write_text(HEADER + "".join(lines))
    return target


def decided(answer: dict[str, Any]) -> Any:
    """The selected settings and all figures that selected them, without times."""
    curves = [
        {**c, "points": [{**p, "took_p50": 0} for p in c["points"]]} for c in answer["curves"]
    ]
    return answer["after"], curves


def judged(folder: Path, name: str) -> list[list[str]]:
    return [line.split("\t") for line in (folder / "qrels" / name).read_text().splitlines()[1:]]


@pytest.mark.slow
def test_garbled_test_judgements_change_no_selected_setting(
    opensearch_url: str, made: str, folder: Path, tmp_path: Path
) -> None:
    """Each question is judged by another's document instead."""
    rows = judged(folder, "test.tsv")
    moved = [
        f"{q}\t{other[1]}\t1\n" for (q, *_), other in zip(rows, rows[7:] + rows[:7], strict=True)
    ]
    garbled = rewritten(folder, tmp_path / "docs", "test.tsv", moved)
    options = ("--split", "dev", "--copy", "--knobs", "latent_boost,k1")
    honest = tuned(opensearch_url, folder, made, *options)
    other = tuned(opensearch_url, garbled, made, *options)
    assert decided(honest) == decided(other)
    assert len(honest["curves"]) == 3  # the boost twice
    values = [answer["held_out"]["forms"][0]["after"] for answer in (honest, other)]
    assert values[0] > 0.8 > 0.2 > values[1]


@pytest.mark.slow
def test_garbled_judgements_of_the_other_half_change_no_selected_setting(
    opensearch_url: str, made: str, folder: Path, tmp_path: Path
) -> None:
    split = halved(Collection.load(folder, "all"), None, 3, "")
    assert split.held_out is not None
    held = split.held_out.queries
    rows = judged(folder, "all.tsv")
    moved = [f"{q}\t{rows[0][1] if q in held else d}\t{g}\n" for q, d, g in rows]
    garbled = rewritten(folder, tmp_path / "docs", "all.tsv", moved)
    options = ("--split", "all", "--report", "all", "--seed", "3", "--knobs", "latent_boost")
    honest = tuned(opensearch_url, folder, made, *options)
    other = tuned(opensearch_url, garbled, made, *options)
    assert decided(honest) == decided(other)
    assert honest["held_out"] != other["held_out"]


def test_few_queries_are_cross_validated(
    opensearch_url: str, client: OpenSearch, made: str, folder: Path, tmp_path: Path
) -> None:
    before = state(client, made)
    options = ("--split", "few", "--report", "few", "--knobs", "latent_boost,head_terms")
    answer = tuned(opensearch_url, folder, made, *options, "--out", str(tmp_path / "out"))
    assert answer["description"].startswith("15 queries of")
    assert len(answer["folds"]) == 5
    forms = [outcome["form"] for outcome in answer["held_out"]["forms"]]
    assert forms == ["hybrid", "hybrid_two_phase", "latent"]
    assert 0 < answer["held_out"]["forms"][0]["p"] <= 1
    written = json.loads((tmp_path / "out" / "tune.json").read_text())
    assert written == answer
    pictures = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert pictures == ["head-terms.png", "latent-boost.png"]
    assert state(client, made) == before
    # A disk that is full in the end; what was found is said all the same.
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "tune.json").symlink_to("/dev/full")
    few = (*options, "--limit-queries", "10", "--out", str(tmp_path / "full"))
    done = call(opensearch_url, folder, made, *few)
    assert (done.exit_code, "cannot be written: No space left" in done.stderr) == (2, True)
    assert "10 queries of" in done.stdout
    assert "hybrid_two_phase" in done.stdout


def test_a_dry_run_leaves_the_index_as_it_was(
    opensearch_url: str, client: OpenSearch, made: str, folder: Path
) -> None:
    before = state(client, made)
    done = call(opensearch_url, folder, made, "--split", "dev", "--knobs", "k1,b", "--yes")
    assert done.exit_code == 0, done.stderr
    assert "nothing was changed" in done.stdout
    assert state(client, made) == before


def test_questions_use_the_applied_settings(
    opensearch_url: str,
    client: OpenSearch,
    encoder: LatentEncoder,
    folder: Path,
    made: str,
    tmp_path: Path,
) -> None:
    index = f"{made}-applied"
    client.reindex(body={"source": {"index": made}, "dest": {"index": copied(client, made, index)}})
    try:
        client.indices.refresh(index=index)
        agreeing = rewritten(
            folder, tmp_path / "docs", "dev.tsv", found_by_latents(client, made, encoder, folder)
        )
        options = ("--split", "dev", "--copy", "--yes", "--apply")
        options += ("--knobs", "latent_boost,b,max_query_terms,head_terms")
        answer = tuned(opensearch_url, agreeing, index, *options)
        after = answer["after"]
        assert answer["applied"]
        assert after != answer["before"]
        similarity = state(client, index)["settings"]["index"]["similarity"]["latent_bm25"]
        assert (float(similarity["k1"]), float(similarity["b"])) == (after["k1"], after["b"])
        rewriter = QueryRewriter.from_index(client, index, encoder)
        assert rewriter.latent_boost == after["latent_boost"] != 0.15
        assert rewriter.max_query_terms == after["max_query_terms"]
        assert boost_of(rewriter) == pytest.approx(after["latent_boost"], rel=1e-5)
        own = QueryRewriter.from_index(client, index, encoder, latent_boost=0.9, max_query_terms=7)
        assert boost_of(own) == pytest.approx(0.9, rel=1e-5)
        assert len(own.terms("a pattern of file names")) == 7
        meta = IndexMeta.read(client, index)
        assert meta is not None
        assert (meta.k1, meta.b, meta.tuning) == (after["k1"], after["b"], None)
        # More terms than heads, so that there is a second phase whatever was selected.
        heads = after["head_terms"]
        rewriter = QueryRewriter.from_index(client, index, encoder, max_query_terms=heads + 1)
        long = "the names of files in a directory that match a pattern, sorted by time and size"
        two = rewriter.rewrite(long, form="two_phase")
        assert two["rescore"]["window_size"] == after["window"]
        assert len(two["query"]["bool"]["should"]) == heads
    finally:
        client.indices.delete(index=index)


def boost_of(rewriter: QueryRewriter) -> float:
    """The boost of latent terms in a hybrid request."""
    text = "a pattern of file names"
    _, latent = rewriter.rewrite(text)["query"]["bool"]["should"]
    term = latent["bool"]["should"][0]["term"]["latent"]
    return float(term["boost"]) / rewriter.terms(text)[0].weight


def found_by_latents(
    client: OpenSearch, index: str, encoder: LatentEncoder, folder: Path
) -> list[str]:
    """Judgements that agree with latent scores only, so that a higher boost is better."""
    rewriter = QueryRewriter.from_index(client, index, encoder)
    texts = Collection.load(folder, "dev").queries
    lines = []
    for query, text in texts.items():
        body = rewriter.rewrite(text, form="latent", size=5)
        hits = client.search(index=index, body=body)["hits"]["hits"]
        lines += [f"{query}\t{hit['_id']}\t{5 - rank}\n" for rank, hit in enumerate(hits)]
    return lines


def copied(client: OpenSearch, source: str, target: str) -> str:
    """An empty index like another."""
    (content,) = client.indices.get(index=source).values()
    settings = {"similarity": content["settings"]["index"]["similarity"]}
    settings["analysis"] = content["settings"]["index"]["analysis"]
    body = {"settings": {"index": settings}, "mappings": content["mappings"]}
    client.indices.create(index=target, body=body)
    return target


def test_a_result_that_cannot_be_applied_is_not_lost(
    opensearch_url: str, client: OpenSearch, made: str, folder: Path, tmp_path: Path
) -> None:
    block = "index.blocks.read_only"
    client.indices.put_settings(index=made, body={block: True})
    options = ("--split", "dev", "--knobs", "latent_boost", "--apply", "--out", str(tmp_path / "r"))
    try:
        done = call(opensearch_url, folder, made, *options, "--json")
    finally:
        client.indices.put_settings(index=made, body={block: None})
    assert (done.exit_code, "FORBIDDEN" in done.stderr) == (1, True), done.output
    answer = json.loads(done.stdout)
    assert (answer["applied"], len(answer["curves"])) == (False, 2)
    assert json.loads((tmp_path / "r" / "tune.json").read_text()) == answer


def test_an_answer_of_some_shards_measures_nothing(
    client: OpenSearch, made: str, encoder: LatentEncoder
) -> None:
    class Partly:
        """An engine one of whose shards fails."""

        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

        def msearch(self, **request: Any) -> Any:
            answer = client.msearch(**request)
            answer["responses"][1]["_shards"]["failed"] = 1
            return answer

    questions = {"q1": "file names", "q2": "a pattern"}
    qrels = {query: {"d": 1} for query in questions}
    index = Index(cast(OpenSearch, Partly()), made)
    on = tuned_index.TunedIndex(index, index, None, Retry(client))
    trials = Trials(on, Collection("c", None, questions, qrels), QueryEncoder(encoder))
    with pytest.raises(EngineError, match=r"query 'q2' \(hybrid\): not all shards of .* answered"):
        trials(Settings(2.0, 0.7), "hybrid")


def test_an_index_whose_k1_was_set_by_hand_is_tuned_from_there(
    opensearch_url: str,
    client: OpenSearch,
    folder: Path,
    load: Any,
    index: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The index is not closed for a knob that is not one of its settings."""
    assert load(client, index, folder / "corpus.jsonl").ok
    Index(client, index).put_settings_closed(tuned_index.similarity(5.0, 0.4), Retry(client))
    monkeypatch.setattr(IndicesClient, "close", None)
    options = ("--split", "few", "--report", "few", "--knobs", "latent_boost", "--apply")
    answer = tuned(opensearch_url, folder, index, *options)
    for settings in (answer["before"], answer["after"]):
        assert (settings["k1"], settings["b"]) == (5.0, 0.4)
    assert k1_of(client, index) == 5.0
    meta = IndexMeta.read(client, index)
    assert meta is not None
    assert (meta.k1, meta.b) == (5.0, 0.4)


def test_titles_and_sentences_do_without_judgements(
    opensearch_url: str, made: str, folder: Path
) -> None:
    options = ("--from-titles", "--knobs", "latent_boost")
    done = call(opensearch_url, folder / "corpus.jsonl", made, *options)
    assert done.exit_code == 0, done.stderr
    assert "No user asked them" in done.stdout
    assert "cross-validated" in done.stdout


def test_an_index_of_chunks_has_no_knobs_of_two_phases(
    opensearch_url: str, folder: Path, load: Any, client: OpenSearch, index: str
) -> None:
    assert load(client, index, folder / "corpus.jsonl", wanted={"long": "chunks"}).ok
    options = ("--split", "dev", "--knobs", "latent_boost,head_terms,window")
    answer = tuned(opensearch_url, folder, index, *options)
    assert {curve["knob"] for curve in answer["curves"]} == {"latent_boost"}
    assert answer["held_out"]["forms"][0]["after"] > 0.8


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (("--split", "none"), 2, "no qrels/none.tsv; name one with --split (existing: all, dev"),
        (("--knobs", "speed"), 2, "'speed': use some of latent_boost,k1"),
        (("--split", "dev"), 2, "agree with --yes, or try on a clone with --copy"),
        (("--split", "dev", "--from-titles"), 2, "leave out --split and --report"),
        (("--split", "dev", "--report", "tset"), 2, "no qrels/tset.tsv; name one with --report"),
        (("--split", "dev", "--form", "latent", "--knobs", "latent_boost"), 2, "has none of these"),
        (("--split", "dev", "--out", "/dev/null/report"), 2, "cannot be written"),
    ],
)
def test_wrong_input_gives_one_line(
    opensearch_url: str, made: str, folder: Path, options: Any, status: int, message: str
) -> None:
    done = call(opensearch_url, folder, made, *options)
    assert done.exit_code == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_an_index_that_cannot_be_tuned_gives_one_line(
    opensearch_url: str, client: OpenSearch, folder: Path, index: str, encoder: LatentEncoder
) -> None:
    done = call(opensearch_url, folder, index, "--split", "dev", "--copy", "--out", "out")
    assert (done.exit_code, f"no index {index}" in done.stderr) == (2, True)
    assert list(Path("out").iterdir()) == []
    client.indices.create(index=index, body={"mappings": {"properties": {"a": {"type": "text"}}}})
    done = call(opensearch_url, folder, index, "--split", "dev", "--copy")
    assert (done.exit_code, "has no latent terms" in done.stderr) == (1, True)
    client.indices.delete(index=index)
    open_index(client, index, encoder, {"long": MappingConfig().long})
    done = call(opensearch_url, folder, index, "--split", "dev", "--copy")
    assert (done.exit_code, "lacks 37 of the 37 documents" in done.stderr) == (2, True), done.stderr
    client.indices.close(index=index)
    done = call(opensearch_url, folder, index, "--split", "dev", "--copy")
    assert (done.exit_code, f"index {index} is closed; open it" in done.stderr) == (2, True)
