"""Texts longer than the backbone window: every token once, with context, in bounded memory."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toys import SPACES, toy_tokenizer

from latent_ingest.connector.encoding import pooling, windows
from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder
from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.hub import DEFAULT_BACKBONE, find_folder
from latent_ingest.connector.encoding.model_folder import SHIPPED_MODEL
from latent_ingest.connector.encoding.vectors import LatentVectors
from latent_ingest.connector.errors import ModelError

Row = dict[int, float]
Window = windows.Window


def row(vectors: LatentVectors, number: int) -> Row:
    indices, values = vectors[number]
    return dict(zip(indices.tolist(), values.tolist(), strict=True))


def added(rows: list[Row], add: Callable[[float, float], float] = lambda a, b: a + b) -> Row:
    total: Row = {}
    for each in rows:
        for latent, value in each.items():
            total[latent] = add(total[latent], value) if latent in total else value
    return total


def tokens_in(encoder: LatentEncoder, text: str) -> int:
    return len(encoder.backbone._tokenizer(text, add_special_tokens=False, verbose=False).input_ids)


@pytest.fixture(scope="module")
def long_text(encoder: LatentEncoder, documents: list[dict[str, str]]) -> str:
    """Real text that has several windows."""
    text = " ".join(document["text"] for document in documents)[:2800]
    assert 444 < tokens_in(encoder, text) < 1000
    return text


def cut(encoder: LatentEncoder, text: str, *, prompt: str = "", long: str = "pool") -> list[Window]:
    return windows.windows_of(
        encoder.backbone._tokenizer,
        [text],
        prompt=prompt,
        max_tokens=encoder.backbone.max_tokens,
        long=long,
    )


def plain_windows(encoder: LatentEncoder, text: str) -> list[tuple[torch.Tensor, Window]]:
    """Activations of each window's tokens, `[n, n_latents]`, by transformers called directly."""
    backbone, tokenizer = encoder.backbone, encoder.backbone._tokenizer
    ids = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    found = []
    for window in cut(encoder, text):
        inputs = torch.tensor([[101, *ids[window.start : window.end], 102]])
        with torch.inference_mode():
            hidden = backbone._model(input_ids=inputs).last_hidden_state[0, 1:-1]
            latents = encoder._autoencoder.encode(hidden, k=encoder.k)
        dense = torch.zeros(len(hidden), encoder.n_latents)
        found.append((dense.scatter_(1, latents.top_indices, latents.top_acts), window))
    return found


def test_the_pooled_vector_is_the_sum_over_tokens_each_counted_once(
    encoder: LatentEncoder, long_text: str
) -> None:
    """Compared with windows made here: a token dropped, or counted twice, changes the sum."""
    expected = torch.zeros(encoder.n_latents)
    counted: list[int] = []
    for acts, window in plain_windows(encoder, long_text):
        expected += acts[window.first - window.start : window.last - window.start].sum(dim=0)
        counted += range(window.first, window.last)
    vectors = encoder.encode([long_text])
    assert counted == list(range(tokens_in(encoder, long_text)))
    assert vectors.n_tokens.tolist() == [len(counted)]
    assert vectors.n_windows.tolist()[0] >= 3
    assert vectors.truncated.tolist() == [False]
    latents = expected.nonzero().flatten().tolist()
    assert row(vectors, 0) == pytest.approx(
        {latent: expected[latent].item() for latent in latents}, rel=1e-3, abs=1e-3
    )


def test_a_token_of_the_overlap_counts_where_it_has_more_context(
    encoder: LatentEncoder, long_text: str
) -> None:
    found = cut(encoder, long_text)
    for before, after in itertools.pairwise(found):
        assert before.end - after.start == windows.OVERLAP
        assert before.last == after.first
        assert before.end - before.last >= windows.OVERLAP // 4
        assert after.first - after.start >= windows.OVERLAP // 4


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.sampled_from(["vitamin", "unbelievably", "x", "—", "日本語", " ", "\n"]), max_size=90
    ),
    st.integers(3, 40),
    st.sampled_from([1, 7, 40, 10_000]),
    st.sampled_from(["", "passage: "]),
)
def test_windows_cover_every_token_once_within_their_length(
    encoder: LatentEncoder, words: list[str], room: int, section: int, prompt: str
) -> None:
    text = " ".join(words)
    tokenizer = encoder.backbone._tokenizer
    max_tokens = room + 2 + len(tokenizer(prompt, add_special_tokens=False).input_ids)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "SECTION", section)
        found = windows.windows_of(
            tokenizer, [text], prompt=prompt, max_tokens=max_tokens, long="pool"
        )
        patch.undo()
        patch.setattr(windows, "SECTION", 10**9)
        (whole,) = windows.tokenize(tokenizer, [text], "")
    tokens = found[0].tokens
    if section >= 40:  # a word is not divided
        assert tokens.ids.tolist() == whole.ids.tolist()
        assert tokens.spans.tolist() == whole.spans.tolist()
    counted = [token for window in found for token in range(window.first, window.last)]
    assert counted == list(range(len(tokens.ids)))
    characters = [window.characters for window in found]
    assert [start for start, _ in characters] == [0, *(end for _, end in characters[:-1])]
    assert characters[-1][1] == len(text)
    for window in found:
        assert window.start <= window.first <= window.last <= window.end
        assert window.length <= max_tokens
        assert tokens.before.tolist() == [101, *tokenizer(prompt).input_ids[1:-1]]
    batches = windows.batches(found, max_tokens=max_tokens, budget=100, padding=0)
    seen = [
        (window.first, ids[mask].tolist())
        for batch in batches
        for window, ids, mask in zip(batch.windows, batch.input_ids, batch.counted, strict=True)
    ]
    ids = [token for _, part in sorted(seen) for token in part]
    assert ids == tokens.ids.tolist()


def test_chunks_are_the_windows_and_begin_with_a_word(
    encoder: LatentEncoder, long_text: str
) -> None:
    texts = ["short", long_text, "", long_text[:1400]]
    whole, chunks = encoder.encode(texts), encoder.encode_chunks(texts)
    assert chunks.texts.tolist() == np.repeat(np.arange(4), whole.n_windows).tolist()
    assert whole.n_windows.tolist()[::2] == [1, 1]
    for number, text in enumerate(texts):
        rows = np.flatnonzero(chunks.texts == number).tolist()
        parts = [text[start:end] for start, end in chunks.spans[rows].tolist()]
        assert "".join(parts) == text
        assert [word for part in parts for word in part.split()] == text.split()
        assert row(whole, number) == pytest.approx(
            added([row(chunks.vectors, i) for i in rows]), rel=1e-5
        )
        assert chunks.vectors.n_tokens[rows].sum() == whole.n_tokens[number]


@pytest.mark.parametrize("name", ["max", "max_log1p"])
def test_other_poolings_take_the_largest_over_windows(
    encoder: LatentEncoder, long_text: str, name: str
) -> None:
    autoencoder = TokenAutoencoder.load(SHIPPED_MODEL)
    autoencoder.config = dataclasses.replace(autoencoder.config, pooling=name)
    largest = LatentEncoder(encoder.backbone, autoencoder)
    text = long_text[:1400]
    chunks = largest.encode_chunks([text]).vectors
    assert len(chunks) > 1
    expected = added([row(chunks, i) for i in range(len(chunks))], max)
    assert row(largest.encode([text]), 0) == expected


def test_truncate_is_the_first_window_alone(encoder: LatentEncoder, long_text: str) -> None:
    texts = [long_text, "short"]
    vectors = encoder.encode(texts, long="truncate")
    assert vectors.truncated.tolist() == [True, False]
    assert vectors.n_tokens.tolist() == [254, 1]
    assert vectors.n_windows.tolist() == [1, 1]
    (window, *_) = plain_windows(encoder, long_text)
    expected = window[0].sum(dim=0)
    latents = expected.nonzero().flatten().tolist()
    assert row(vectors, 0) == pytest.approx(
        {latent: expected[latent].item() for latent in latents}, rel=1e-3, abs=1e-3
    )


def test_short_texts_are_the_same_bits_with_pool_and_truncate(
    encoder: LatentEncoder, documents: list[dict[str, str]]
) -> None:
    texts = [d["text"] for d in documents[:25] if tokens_in(encoder, d["text"]) <= 254]
    assert len(texts) > 15
    pooled, cut = encoder.encode(texts), encoder.encode(texts, long="truncate")
    assert pooled.n_windows.tolist() == [1] * len(texts)
    for name in ("indices", "values", "offsets", "n_tokens"):
        assert np.array_equal(getattr(pooled, name), getattr(cut, name)), name


def test_values_merged_as_they_come_are_those_merged_at_the_end(
    encoder: LatentEncoder, long_text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [long_text, "short", long_text[500:]]
    at_the_end = encoder.encode(texts)
    monkeypatch.setattr(pooling, "MERGE_AT", 500)
    as_they_come = encoder.encode(texts)
    assert np.array_equal(at_the_end.indices, as_they_come.indices)
    assert np.array_equal(at_the_end.offsets, as_they_come.offsets)
    assert np.allclose(at_the_end.values, as_they_come.values, rtol=1e-5)


def prompted(folder: Path, prompt: str) -> LatentEncoder:
    """The shipped encoder with a prompt for documents."""
    shutil.copytree(find_folder(DEFAULT_BACKBONE), folder)
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"document": prompt}})
    )
    backbone = Backbone.load(str(folder), device="cpu", dtype="float32")
    return LatentEncoder(backbone, TokenAutoencoder.load(SHIPPED_MODEL))


def test_each_window_has_the_prompt_and_does_not_count_it(tmp_path: Path, long_text: str) -> None:
    prompt = "passage about computers: "
    encoder = prompted(tmp_path / "prompted", prompt)
    text = long_text[:1400]
    tokenizer = encoder.backbone._tokenizer
    n_tokens = tokens_in(encoder, text)
    assert encoder.encode([text]).n_tokens.tolist() == [n_tokens]
    own = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    before = [101, *tokenizer(prompt, add_special_tokens=False).input_ids]
    found = cut(encoder, text, prompt=prompt)
    assert len(found) > 1
    expected = []
    for window in found:
        ids = [*before, *own[window.start : window.end], 102]
        assert len(ids) <= 256
        with torch.inference_mode():
            hidden = encoder.backbone._model(input_ids=torch.tensor([ids])).last_hidden_state[0]
            shift = len(before) - window.start
            counted = hidden[window.first + shift : window.last + shift]
            latents = encoder._autoencoder.encode(counted, k=encoder.k)
        tokens = zip(latents.top_indices.tolist(), latents.top_acts.tolist(), strict=True)
        expected += [dict(zip(i, v, strict=True)) for i, v in tokens]
    positive = {latent: value for latent, value in added(expected).items() if value > 0}
    assert row(encoder.encode([text]), 0) == pytest.approx(positive, rel=1e-3, abs=1e-3)


def test_a_prompt_that_fills_the_window_is_said(tmp_path: Path) -> None:
    encoder = prompted(tmp_path / "prompted", "a prompt " * 200)
    with pytest.raises(ModelError, match=r"the prompt 'a prompt .* fills the window of 256 tokens"):
        encoder.encode(["a text"])


def test_nan_in_any_window_spoils_the_text_and_no_other(long_text: str) -> None:
    encoder = LatentEncoder.load(device="cpu", dtype="float32")
    backbone = encoder.backbone
    backbone._model = copy.deepcopy(backbone._model)
    token = backbone._tokenizer.convert_tokens_to_ids("zebra")
    backbone._model.embeddings.word_embeddings.weight.data[token] = float("nan")
    texts = [long_text + " zebra", "a horse", "zebra " + long_text]
    vectors = encoder.encode(texts, allow_nan=True)
    assert vectors.finite.tolist() == [False, True, False]
    assert np.diff(vectors.offsets).astype(bool).tolist() == [False, True, False]
    chunks = encoder.encode_chunks(texts, allow_nan=True)
    spoilt = chunks.texts[~chunks.vectors.finite].tolist()
    assert set(spoilt) == {0, 2}
    assert len(spoilt) < np.bincount(chunks.texts)[[0, 2]].sum()
    with pytest.raises(ModelError, match="gives NaN or infinity for"):
        encoder.encode_chunks(texts)


def test_a_huge_text_is_tokenized_in_sections_cut_before_a_space() -> None:
    texts = ["short", "word " * 200_000, "", "x" * 600_000]
    found = list(windows.groups(texts))
    sections = [section for group in found for section in group]
    for group in found:
        assert sum(len(text) for _, text, _ in group) < 2 * windows.SECTION
    ends = [number for number, (_, _, is_last) in enumerate(sections) if is_last]
    assert len(ends) == len(texts)
    for text, first, last in zip(texts, [0, *(end + 1 for end in ends)], ends, strict=False):
        parts = sections[first : last + 1]
        assert "".join(part for _, part, _ in parts) == text
        for start, part, _ in parts:
            assert text[start : start + len(part)] == part
            assert start == 0 or "x" in text or part.startswith(" ")


def test_an_unknown_way_is_refused(encoder: LatentEncoder) -> None:
    with pytest.raises(ValueError, match="use pool or truncate"):
        encoder.encode(["x"], long="fold")


@pytest.mark.parametrize("kind", list(SPACES))
@pytest.mark.parametrize("prompt", ["", "query: ", "query:"])
def test_words_after_a_prompt_count_whatever_token_has_the_space(kind: str, prompt: str) -> None:
    tokenizer = toy_tokenizer(kind)
    for text, words in (("find files", ["find", "files"]), (" find", ["find"]), ("", [])):
        (window,) = windows.windows_of(tokenizer, [text], prompt=prompt, max_tokens=9, long="pool")
        tokens = window.tokens
        spans = [text[start:end].strip() for start, end in tokens.spans.tolist()]
        assert [span for span in spans if span] == words
        whole = [*tokens.before, *tokens.ids, *tokens.after]
        assert whole == tokenizer(prompt + text)["input_ids"]
