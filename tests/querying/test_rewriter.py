"""Requests made by the rewriter, without a server."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from latent_ingest.cli.main import cli
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.client import EngineInfo
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.querying.scoring import hybrid_boost
from latent_ingest.connector.querying.term_weights import WeightedTerm

QUESTION = "does vitamin D prevent falls in older adults"


def terms_in(clauses: list[dict[str, dict[str, dict[str, float]]]], field: str) -> dict[str, float]:
    return {c["term"][field]["value"]: c["term"][field]["boost"] for c in clauses}  # type: ignore[misc]


def test_latent_is_one_term_clause_for_each_latent(encoder: LatentEncoder) -> None:
    """The boost is the square root of the summed activation."""
    body = QueryRewriter(encoder, field="lt").rewrite(QUESTION, form="latent", size=7)
    indices, values = encoder.encode([QUESTION], kind="query")[0]
    expected = {f"f{i}": v**0.5 for i, v in zip(indices.tolist(), values.tolist(), strict=True)}
    assert terms_in(body["query"]["bool"]["should"], "lt") == pytest.approx(expected, abs=1e-4)
    assert body["size"] == 7
    assert body["_source"] == {"excludes": ["lt", "lt_hash"]}
    assert body["track_total_hits"] is False


def test_two_phases_hold_all_terms_once(encoder: LatentEncoder) -> None:
    rewriter = QueryRewriter(encoder)
    whole = rewriter.rewrite(QUESTION, form="latent")["query"]["bool"]["should"]
    body = rewriter.rewrite(QUESTION, form="two_phase", head_terms=10, window=200)
    head = body["query"]["bool"]["should"]
    next, rest = (phase["query"]["rescore_query"]["bool"]["should"] for phase in body["rescore"])
    assert (len(head), len(next), head + next + rest) == (10, 20, whole)
    assert [phase["window_size"] for phase in body["rescore"]] == [200, 50]
    for size, windows in ((100, [200, 100]), (300, [300, 300])):
        body = rewriter.rewrite(QUESTION, form="two_phase", head_terms=10, size=size, window=200)
        assert [phase["window_size"] for phase in body["rescore"]] == windows


def test_few_terms_rescore_the_whole_window(encoder: LatentEncoder) -> None:
    rewriter = QueryRewriter(encoder, max_query_terms=20)
    body = rewriter.rewrite(QUESTION, form="two_phase", head_terms=10, window=200)
    assert body["rescore"]["window_size"] == 200


def test_a_short_query_needs_no_second_phase(encoder: LatentEncoder) -> None:
    body = QueryRewriter(encoder, max_query_terms=5).rewrite(QUESTION, form="two_phase")
    assert "rescore" not in body


def test_the_heaviest_terms_by_weight_and_idf_stay(encoder: LatentEncoder) -> None:
    whole = QueryRewriter(encoder).terms(QUESTION)
    few = QueryRewriter(encoder, max_query_terms=12).terms(QUESTION)
    assert len(whole) > 12
    assert few == whole[:12]
    idf = encoder.idf()
    gains = [item.weight * idf[int(item.term[1:])] for item in whole]
    assert gains == sorted(gains, reverse=True)


def test_hybrid_is_words_and_latents_in_one_bool(encoder: LatentEncoder) -> None:
    rewriter = QueryRewriter(encoder, latent_boost=0.2, words_fields=["w"])
    words, latent = rewriter.rewrite(QUESTION)["query"]["bool"]["should"]
    assert words == {"match": {"w": {"query": QUESTION}}}
    assert list(latent["bool"]) == ["should"]
    alone = {item.term: 0.2 * item.weight for item in rewriter.terms(QUESTION)}
    assert terms_in(latent["bool"]["should"], "latent") == pytest.approx(alone, rel=1e-5)


def test_words_are_searched_in_all_of_their_fields(encoder: LatentEncoder) -> None:
    rewriter = QueryRewriter(encoder, words_fields=["title", "body"])
    words, _ = rewriter.rewrite(QUESTION)["query"]["bool"]["should"]
    assert words["multi_match"]["query"] == QUESTION
    assert words["multi_match"]["fields"] == ["title", "body"]
    assert rewriter.words_only(QUESTION)["query"] == words


@pytest.mark.parametrize("form", ["latent", "two_phase", "hybrid"])
def test_filters_are_passed_through_and_do_not_score(encoder: LatentEncoder, form: str) -> None:
    rewriter = QueryRewriter(encoder)
    clause = {"term": {"year": 2024}}
    plain = rewriter.rewrite(QUESTION, form=form)["query"]
    one = rewriter.rewrite(QUESTION, form=form, filter=clause)["query"]
    many = rewriter.rewrite(QUESTION, form=form, filter=[clause, clause])["query"]
    assert one == {"bool": {"must": [plain], "filter": [clause]}}
    assert many["bool"]["filter"] == [clause, clause]


@pytest.mark.parametrize("text", ["", " \n", "\x00\x07\u200b"])
def test_an_empty_question_is_refused(encoder: LatentEncoder, text: str) -> None:
    """The commands refuse it too, before they load a model or reach the engine."""
    with pytest.raises(InputError, match="the question is empty"):
        QueryRewriter(encoder).rewrite(text)
    for command in ("search", "rewrite", "explain --id d"):
        asked = [*command.split(), "--index", "papers", "--url", "http://127.0.0.1:9", text]
        refused = CliRunner().invoke(cli, asked)
        assert (refused.exit_code, refused.stderr) == (
            2, "Error: the question is empty; write one\n"
        )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "fields", "limit", "stay"),
    [
        (832, 1, 1024, True), (833, 1, 1024, False), (1024, 1, 1024, False), (416, 2, 1024, True),
        (417, 2, 1024, False), (60, 1, 120, True), (61, 1, 120, False),
    ],
)  # fmt: skip
def test_words_stay_while_latent_terms_fit_in_beside_them(
    monkeypatch: pytest.MonkeyPatch, words: int, fields: int, limit: int, stay: bool
) -> None:
    """If they do not stay, the report says so."""
    names = ["title", "text"][:fields]
    rewriter = QueryRewriter(QueryEncoder(), max_clauses=limit, words_fields=names)
    weighed = [WeightedTerm(f"f{number}", 1.0) for number in range(300)]
    monkeypatch.setattr(rewriter, "_weigh", lambda texts: [weighed for _ in texts])
    for form, alone in (("hybrid", "latent"), ("hybrid_two_phase", "two_phase")):
        body, report = rewriter.rewrite_and_report("bee " * words, form=form)
        assert ("match" in json.dumps(body)) == stay
        note = (
            f"{alone} instead of {form}: beside {words * fields:,} words there is too little room"
        )
        assert report.notes == (() if stay else (note,))
        assert report.form == form
    room = limit - words * fields * stay
    _, report = rewriter.rewrite_and_report("bee " * words)
    assert report.rewritten[0].terms == min(room, 192)
    assert rewriter.rewrite_and_report("bee " * words, form="latent")[1].notes == ()


def test_a_report_of_a_question_says_what_was_pruned(encoder: LatentEncoder) -> None:
    body, report = QueryRewriter(encoder, max_query_terms=10).rewrite_and_report(QUESTION, size=3)
    assert body == QueryRewriter(encoder, max_query_terms=10).rewrite(QUESTION, size=3)
    share = report.rewritten[0].share
    assert 0 < share < 1
    assert list(report.losses()) == [
        f"query.match: hybrid, 10 latent terms, {share:.0%} of the weight"
    ]
    assert list(QueryRewriter(encoder).rewrite_and_report(QUESTION)[1].losses()) == []


def test_what_cannot_be_is_refused(encoder: LatentEncoder) -> None:
    with pytest.raises(InputError, match="use one of auto, hybrid, latent, two_phase"):
        QueryRewriter(encoder).rewrite("x", form="dense")
    for number in (0, 1025):
        with pytest.raises(InputError, match="must be 1 to 1024"):
            QueryRewriter(encoder, max_query_terms=number)


def test_the_boost_is_divided_where_the_engine_keeps_its_factor() -> None:
    """Such an engine multiplies latent scores by k1 + 1 = 3 and word scores by 2.2."""
    assert hybrid_boost(EngineInfo("opensearch", (3, 8)), 2.0) == 0.15
    assert hybrid_boost(EngineInfo("elasticsearch", (8, 1)), 2.0) == pytest.approx(0.15 * 2.2 / 3)
