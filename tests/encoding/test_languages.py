"""Texts in scripts with and without spaces: words, windows and sentences by a Unigram tokenizer."""

from __future__ import annotations

import unicodedata
from itertools import pairwise
from pathlib import Path

import pytest
from architectures import SAMPLE, WINDOW, write_backbone

from latent_ingest.connector.encoding import windows
from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.encoding.words import word_spans
from latent_ingest.connector.inspection.highlight import sentence_spans


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    folder = write_backbone(tmp_path_factory.mktemp("m") / "XLM-R", "XLM-R")
    return Backbone.load(str(folder), device="cpu", dtype="float32")


def words_in(retriever: Backbone, text: str) -> list[str]:
    (tokens,) = windows.tokenize(retriever._tokenizer, [text], "")
    return [text[start:end] for start, end in word_spans(text, tokens.spans)[0]]


def test_words_are_those_between_spaces_where_there_are_spaces(retriever: Backbone) -> None:
    """A German compound is one word, however many tokens it is, and so is an Arabic word."""
    for name in ("german", "arabic", "english"):
        for word in words_in(retriever, SAMPLE[name]):
            assert " " not in word
    assert "Donaudampfschifffahrtsgesellschaft" in words_in(retriever, SAMPLE["german"])
    assert "الدراسات" in words_in(retriever, SAMPLE["arabic"])
    assert "تُظهر" in words_in(retriever, SAMPLE["arabic"])


@pytest.mark.parametrize("name", ["chinese", "japanese", "thai"])
def test_without_spaces_each_token_is_a_word(retriever: Backbone, name: str) -> None:
    """A sentence is not one word, and no word begins with a mark over the letter before."""
    text = SAMPLE[name]
    (tokens,) = windows.tokenize(retriever._tokenizer, [text], "")
    words = words_in(retriever, text)
    assert len(words) > len(text.split()) + 10
    longest = max(end - start for start, end in tokens.spans.tolist())
    assert max(map(len, words)) <= longest + 4  # marks over the last letter
    assert not [word for word in words if unicodedata.category(word[0])[0] == "M"]
    assert "".join("".join(words).split()) == "".join(text.split())


@pytest.mark.parametrize("name", list(SAMPLE))
def test_windows_of_a_text_touch_and_have_each_token_once(retriever: Backbone, name: str) -> None:
    text = SAMPLE[name].replace(" ", "") * 5
    cut = windows.windows_of(
        retriever._tokenizer, [text], prompt="", max_tokens=WINDOW, long="pool"
    )
    assert len(cut) > 3
    assert cut[0].first == 0
    assert cut[-1].last == len(cut[0].tokens.ids)
    for one, other in pairwise(cut):
        assert one.last == other.first
        assert one.characters[1] == other.characters[0]
    assert (cut[0].characters[0], cut[-1].characters[1]) == (0, len(text))


def test_windows_do_not_divide_a_character_of_several_tokens(tmp_path: Path) -> None:
    """Byte-level tokens: what is before a border ends there."""
    folder = write_backbone(tmp_path / "m", "ModernBERT")
    retriever = Backbone.load(str(folder), device="cpu", dtype="float32")
    text = "鬱龜齒" * 40
    cut = windows.windows_of(
        retriever._tokenizer, [text], prompt="", max_tokens=WINDOW, long="pool"
    )
    assert len(cut) > 3
    spans = cut[0].tokens.spans
    assert len(spans) > 2 * len(text)
    for window in cut[:-1]:
        assert spans[window.last, 0] >= spans[window.last - 1, 1]
        assert window.characters[1] == spans[window.last, 0]


def test_a_very_long_text_without_spaces_is_tokenized_in_sections(
    retriever: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost at the borders of sections, and spans go on."""
    monkeypatch.setattr(windows, "SECTION", 50)
    text = SAMPLE["chinese"] * 5
    (tokens,) = windows.tokenize(retriever._tokenizer, [text], "")
    spans = tokens.spans.tolist()
    assert spans == sorted(spans)
    assert {at for start, end in spans for at in range(start, end)} == set(range(len(text)))


def test_sentences_end_as_each_script_ends_them() -> None:
    arabic = "هل يمنع؟ لا نعرف السبب."
    hindi = "यह एक वाक्य है। यह दूसरा है।"
    urdu = "یہ ایک ہے۔ یہ دوسرا ہے۔"
    for text in (arabic, hindi, urdu):
        assert len(list(sentence_spans(text, 150))) == 2
    assert len(list(sentence_spans(SAMPLE["chinese"], 150))) == 3


def test_a_long_sentence_is_not_cut_before_a_mark() -> None:
    text = "ที่นี่น้ำ" * 30
    for size in range(10, 20):
        spans = list(sentence_spans(text, size))
        assert "".join(text[start:end] for start, end in spans) == text
        assert not [start for start, _ in spans if unicodedata.category(text[start])[0] == "M"]
