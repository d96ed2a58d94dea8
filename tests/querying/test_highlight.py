"""Passages that carry a question's latent score."""

from __future__ import annotations

import html
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.words import word_spans
from latent_ingest.connector.inspection.highlight import (
    Highlighter,
    engine_marks,
    sentence_spans,
    token_contributions,
    values_of,
)
from latent_ingest.connector.querying.rewriter import QueryRewriter

QUESTION = "does vitamin D prevent falls in older adults"
SENTENCES = [
    "The bank raised its interest rate on mortgages by half a percent.",
    "Cholecalciferol supplementation lowers the risk of tumbling among the elderly.",
    "Honey insects dance to tell their hive where nectar can be gathered.",
]


@pytest.fixture(scope="module")
def highlighter(encoder: LatentEncoder) -> Highlighter:
    return Highlighter(QueryRewriter(encoder), QUESTION)


def long_text(documents: list[dict[str, str]]) -> str:
    return " ".join(document["text"] for document in documents)[:5000]


def test_activations_of_tokens_add_up_to_the_pooled_value(
    encoder: LatentEncoder, documents: list[dict[str, str]]
) -> None:
    """Also of a text of several windows, and whatever batches there are."""
    texts = [long_text(documents), "", *SENTENCES]
    pooled = encoder.encode(texts)
    assert pooled.n_windows[0] > 2
    values = values_of(QueryRewriter(encoder).terms(QUESTION), encoder.idf())
    for row, tokens in enumerate(encoder.encode_tokens(texts)):
        assert len(tokens.spans) == pooled.n_tokens[row]
        assert (np.diff(tokens.spans[:, 0]) >= 0).all()
        summed = np.zeros(encoder.n_latents)
        np.add.at(summed, tokens.latents, tokens.activations)
        expected = np.zeros(encoder.n_latents)
        expected[pooled[row][0]] = pooled[row][1]
        np.testing.assert_allclose(summed, expected, rtol=1e-4, atol=1e-5)
        total = token_contributions(tokens, values).sum()
        assert total == pytest.approx((values * expected).sum(), rel=1e-4)
    assert total > 0


def test_the_passage_by_meaning_comes_first(highlighter: Highlighter) -> None:
    """It shares no word with the question; the telling words are marked."""
    (best, *_) = highlighter.highlight(" ".join(SENTENCES))
    assert "Cholecalciferol" in best
    assert best.startswith("Cholecalciferol")
    assert "<em>elderly</em>" in best


def test_the_passage_is_found_in_a_late_window(
    highlighter: Highlighter, documents: list[dict[str, str]]
) -> None:
    text = f"{long_text(documents)}\n\n{SENTENCES[1]}"
    (best, *_) = highlighter.highlight(text)
    assert "<em>" in best
    assert SENTENCES[1][:15] in best.replace("<em>", "").replace("</em>", "")


def test_fields_of_hits_are_highlighted_each(highlighter: Highlighter) -> None:
    """Lists and objects too; what the engine has marked is marked too."""
    source = {
        "title": "Vitamin D & <falls>",
        "body": {"parts": [SENTENCES[0], SENTENCES[1]]},
        "year": 2024,
    }
    hit = {"_source": source, "highlight": {"body.parts": [f"The <em>bank</em>{SENTENCES[0][8:]}"]}}
    (found,) = highlighter.highlight_hits([hit], ["title", "body.parts", "nothing"])
    assert list(found) == ["title", "body.parts"]
    assert (
        html.unescape(found["title"][0].replace("<em>", "").replace("</em>", ""))
        == (source["title"])
    )
    assert "&amp; &lt;" in found["title"][0]
    first, second = found["body.parts"]
    assert "<em>elderly</em>" in first
    assert second.startswith("The <em>bank</em> raised")


def test_marks_of_the_engine_are_found_in_the_text() -> None:
    text = "a < b, and b < c"
    assert engine_marks(text, ["a < <em>b</em>, and <em>b</em> < c"]) == [(4, 5), (11, 12)]
    assert engine_marks(text, ["and <em>b</em> &lt; c"]) == [(11, 12)]
    assert engine_marks(text, ["not <em>here</em>"]) == []


def test_tags_and_escaping_are_the_callers(encoder: LatentEncoder) -> None:
    plain = Highlighter(
        QueryRewriter(encoder), QUESTION, tags=("[", "]"), escape=str, fragment_size=40
    )
    (first, *_) = plain.highlight("Falls & <vitamin D> of the elderly")
    assert "& <" in first
    assert "[" in first
    with pytest.raises(ValueError, match="both must be above 0"):
        Highlighter(QueryRewriter(encoder), QUESTION, fragment_size=0)


anything = st.text(max_size=100) | st.text(
    alphabet=st.sampled_from("abc <>&;\"'. !?\n。水é\u0301🙂emp/\ud800\x1b"), max_size=300
)


@settings(max_examples=12, deadline=None)
@given(text=anything)
def test_fragments_of_any_text_are_escaped_parts_of_it(highlighter: Highlighter, text: str) -> None:
    for padded in (text, f"{text} vitamin D <em>&amp; falls"):
        for fragment in highlighter.highlight(padded):
            assert fragment.count("<em>") == fragment.count("</em>") > 0
            bare = fragment.replace("<em>", "").replace("</em>", "")
            assert not set("<>\"'") & set(bare)
            assert html.unescape(bare) in padded
            assert len(html.unescape(bare)) <= 150
    assert highlighter.highlight(padded)


@given(text=anything, size=st.integers(1, 60))
def test_sentences_hold_a_text_once(text: str, size: int) -> None:
    spans = list(sentence_spans(text, size))
    assert all(0 < end - start <= size for start, end in spans)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    shown = "".join(text[start:end] for start, end in spans)
    assert "".join(shown.split()) == "".join(text.split())


def test_long_sentences_are_cut_between_words() -> None:
    text = "One is short. The other one is longer!  Supercalifragilistic"
    parts = [text[start:end] for start, end in sentence_spans(text, 15)]
    assert parts == [
        "One is short.",
        "The other one",
        "is longer!",
        "Supercalifragil",
        "istic",
    ]


@settings(max_examples=20, deadline=None)
@given(text=anything)
def test_words_of_any_text_do_not_overlap(encoder: LatentEncoder, text: str) -> None:
    (tokens,) = encoder.encode_tokens([text])
    words, places = word_spans(text, tokens.spans)
    assert all(end <= start for (_, end), (start, _) in pairwise(words))
    for place, (start, end) in zip(places.tolist(), tokens.spans.tolist(), strict=True):
        assert words[place][0] <= start
        assert end <= words[place][1]


def test_parts_of_a_word_are_one_word() -> None:
    text = "cholecalciferol, naïve 水水"
    spans = np.array([(0, 5), (5, 15), (15, 16), (17, 19), (19, 22), (23, 24), (24, 25)])
    words, places = word_spans(text, spans)
    assert [text[slice(*word)] for word in words] == ["cholecalciferol", ",", "naïve", "水", "水"]
    assert places.tolist() == [0, 0, 1, 2, 2, 3, 4]
