"""Token embeddings: batches, the cache on disk, and resuming."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.training import embeddings
from latent_ingest.connector.training.embeddings import (
    CachedTokens,
    EmbeddingCache,
    TextTokens,
    TokenBatches,
    embedded,
)
from latent_ingest.connector.training.texts import Source, TrainingTexts

NONE: frozenset[str] = frozenset()


@pytest.fixture
def texts(corpus: Path) -> TrainingTexts:
    return TrainingTexts([Source(str(corpus))])


def batches(source: TextTokens | CachedTokens) -> TokenBatches:
    return TokenBatches(
        source,
        batch_tokens=100,
        buffer_tokens=1000,
        generator=torch.Generator().manual_seed(0),
        device=torch.device("cpu"),
    )


def rows(tensor: torch.Tensor) -> set[bytes]:
    return {row.numpy().tobytes() for row in tensor}


def test_batches_hold_the_embedded_tokens_each_once(
    backbone: Backbone, texts: TrainingTexts
) -> None:
    source = TextTokens(backbone, texts)
    got = torch.cat(list(islice(batches(source), 20)))
    assert got.shape == (2000, 384)
    assert len(rows(got)) == 2000
    every = torch.cat(list(islice(source.blocks(0), 40)))
    assert rows(got) <= rows(every)


def test_held_out_texts_are_passed_over_in_every_round(
    backbone: Backbone, texts: TrainingTexts
) -> None:
    every = list(texts.round())
    held_out = frozenset(every[:80])
    wanted = sum(len(embedded(backbone, [text])) for text in every[80:])
    source = TextTokens(backbone, texts, held_out)
    got = torch.cat(list(islice(source.blocks(0), 8)))  # four rounds of eight texts and two
    assert len(got) == 4 * wanted
    assert source.rounds == 3


def test_long_texts_are_trained_on_to_their_end(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In windows; a text too long to be embedded at once, in parts."""
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps({"text": "word " * 1000}) + "\n" + json.dumps({"text": "x"}) + "\n")
    for most in (1_000_000, 1000):
        monkeypatch.setattr(embeddings, "CHARACTERS_PER_BLOCK", most)
        blocks = TextTokens(backbone, TrainingTexts([Source(str(path))])).blocks(0)
        tokens = [len(block) for block in islice(blocks, 1 if most > 5000 else 6)]
        assert sum(tokens) == 1001
        assert max(tokens) <= most


def test_texts_without_tokens_end_instead_of_turning_for_ever(
    backbone: Backbone, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "\\u200b"}\n{"text": "\\u200b\\u200b"}\n')
    source = TextTokens(backbone, TrainingTexts([Source(str(path))]))
    with pytest.raises(InputError, match="the texts have no tokens to train on"):
        next(batches(source))


def test_a_device_without_memory_embeds_in_smaller_batches(
    texts: TrainingTexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = Backbone.load(device="cpu", dtype="float32")
    block = list(texts.round())[:40]
    wanted = embedded(backbone, block)
    real = backbone._model.forward

    def small_device(input_ids: torch.Tensor, **others: torch.Tensor) -> object:
        if input_ids.numel() > 1100:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(input_ids=input_ids, **others)

    monkeypatch.setattr(backbone._model, "forward", small_device)
    got = embedded(backbone, block)
    assert backbone.token_budget == 1024
    assert got.shape == wanted.shape
    torch.testing.assert_close(got.sum(dim=0), wanted.sum(dim=0), rtol=1e-4, atol=1e-2)


def test_a_saved_state_resumes_with_the_very_next_batch(
    backbone: Backbone, texts: TrainingTexts
) -> None:
    first = batches(TextTokens(backbone, texts))
    for _ in range(13):
        next(first)
    state = first.state()
    wanted = [next(first) for _ in range(12)]
    again = batches(TextTokens(backbone, texts))
    again.restore(state)
    for batch, other in zip(wanted, again, strict=False):
        assert torch.equal(batch, other)


def test_the_cache_holds_the_tokens_of_the_texts(
    backbone: Backbone, texts: TrainingTexts, tmp_path: Path
) -> None:
    cache = EmbeddingCache(tmp_path / "c", backbone, texts, NONE)
    progress: list[int] = []
    cache.fill(10**7, progress.append)
    assert cache.state.whole_round
    assert progress[-1] == cache.state.tokens
    every = torch.cat(list(islice(TextTokens(backbone, texts).blocks(0), 11)))
    assert np.allclose(cache.tokens()[: len(every)], every.numpy(), atol=2e-3)
    source = CachedTokens(cache, cache.state.tokens, seed=0)
    whole = torch.cat(list(islice(source.blocks(0), source.n_blocks)))
    again = torch.cat(list(islice(source.blocks(source.n_blocks), source.n_blocks)))
    assert source.rounds == 1
    assert len(whole) == len(again) == cache.state.tokens
    assert rows(whole) == rows(again)
    assert not torch.equal(whole, again)
    late = next(source.blocks(5))
    assert torch.equal(late, list(islice(source.blocks(0), 6))[5])


def test_a_round_over_a_part_of_the_texts_is_not_one_over_all(
    backbone: Backbone, texts: TrainingTexts, tmp_path: Path
) -> None:
    cache = EmbeddingCache(tmp_path / "c", backbone, texts, NONE)
    cache.fill(3000)
    assert not cache.state.whole_round
    source = CachedTokens(cache, cache.state.tokens, seed=0)
    assert len(list(islice(source.blocks(0), 2 * source.n_blocks + 1))) > 2
    assert source.rounds == 0


def test_filling_resumes_where_it_was(
    backbone: Backbone, texts: TrainingTexts, tmp_path: Path
) -> None:
    whole = EmbeddingCache(tmp_path / "whole", backbone, texts, NONE)
    whole.fill(3000)
    cut = EmbeddingCache(tmp_path / "cut", backbone, texts, NONE)
    cut.fill(1000)
    held = cut.state.tokens
    with (tmp_path / "cut" / "tokens.bin").open("ab") as file:
        file.write(b"half a block that a killed run left behind")
    again = EmbeddingCache(tmp_path / "cut", backbone, texts, NONE)
    assert again.state.tokens == held < 3000
    again.fill(3000)
    assert again.state == whole.state
    assert np.array_equal(again.tokens(), whole.tokens())


def test_a_cache_of_something_else_is_refused(
    backbone: Backbone, texts: TrainingTexts, corpus: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "c"
    EmbeddingCache(folder, backbone, texts, NONE).fill(500)
    other = TrainingTexts([Source(str(corpus), weight=2.0)])
    with pytest.raises(InputError, match=r"was made with texts .*name another --cache, or delete"):
        EmbeddingCache(folder, backbone, other, NONE)
    (folder / "cache.json").write_text("{")
    with pytest.raises(InputError, match=r"cache.json: does not describe a cache"):
        EmbeddingCache(folder, backbone, texts, NONE)
    (folder / "cache.json").unlink()
    with pytest.raises(InputError, match=r"has other files but no cache.json"):
        EmbeddingCache(folder, backbone, texts, NONE)


def test_a_disk_too_small_is_said_beforehand(
    backbone: Backbone, texts: TrainingTexts, tmp_path: Path
) -> None:
    cache = EmbeddingCache(tmp_path / "c", backbone, texts, NONE)
    with pytest.raises(InputError, match=r"cache of 1,000,000,000,000,000 tokens needs .* GB more"):
        cache.fill(10**15)
    assert not (tmp_path / "c" / "cache.json").exists()
