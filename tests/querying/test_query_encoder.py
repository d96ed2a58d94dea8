"""One model per process, loaded on first use, and the cache of encodings."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.encoding.model_folder import SHIPPED_MODEL
from latent_ingest.connector.errors import ModelError
from latent_ingest.connector.querying.query_encoder import (
    LONGEST_CACHED,
    CacheInfo,
    NotCached,
    QueryEncoder,
)
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.querying.term_weights import Weigher


def test_a_question_that_is_kept_is_not_encoded_again(encoder: LatentEncoder) -> None:
    queries = QueryEncoder(encoder, cache_size=2)
    first = queries.encode(["bees", "storms", "bees"])
    assert queries.cache_info() == CacheInfo(hits=1, misses=2, maxsize=2, currsize=2)
    latents, values = encoder.encode(["bees"], kind="query")[0]
    np.testing.assert_array_equal(first[0].latents, latents)
    np.testing.assert_allclose(first[0].weights, np.sqrt(values), rtol=1e-4)
    with encoder.backbone.lock:  # no thread can encode
        again = queries.encode(["bees"])[0]
    np.testing.assert_array_equal(again.latents, latents)
    assert queries.cache_info() == CacheInfo(2, 2, 2, 2)
    queries.encode(["loans"])
    assert [queries.keeps(text) for text in ("bees", "storms", "loans")] == [True, False, True]
    bees, loans = queries.cached(["bees", "loans"])
    np.testing.assert_array_equal(bees.latents, latents)
    assert len(loans.latents) > 10
    with pytest.raises(NotCached):
        queries.cached(["bees", "storms"])
    assert queries.cache_info()[:2] == (4, 3), "a question that is not kept is not counted twice"
    queries.encode(["storms"])
    with pytest.raises(NotCached):
        queries.cached(["bees"])
    queries.cache_clear()
    assert queries.cache_info() == CacheInfo(0, 0, 2, 0)


def test_without_a_cache_and_for_long_texts_nothing_is_kept(encoder: LatentEncoder) -> None:
    none, some = QueryEncoder(encoder, cache_size=0), QueryEncoder(encoder)
    assert len(none.encode(["bees"])[0].latents) > 10
    assert none.cache_info().currsize == 0
    long = "bee " * (LONGEST_CACHED // 4) + "!"
    assert len(some.encode([long])[0].latents) > 10
    assert some.cache_info().currsize == 0


def test_threads_that_ask_the_same_encode_it_once(
    encoder: LatentEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    encode = LatentEncoder.encode
    monkeypatch.setattr(
        LatentEncoder, "encode", lambda self, t, **o: [asked.extend(t), encode(self, t, **o)][1]
    )
    queries = QueryEncoder(encoder)
    threads = [threading.Thread(target=queries.encode, args=(["bees", "rain"],)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(asked) == ["bees", "rain"]


def test_a_process_has_one_model(encoder: LatentEncoder) -> None:
    options = {"device": "cpu", "dtype": "float32"}
    found: list[LatentEncoder] = []
    threads = [
        threading.Thread(target=lambda: found.append(QueryEncoder(**options).load()))  # type: ignore[arg-type]
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    same = LatentEncoder.shared(str(SHIPPED_MODEL) + "/.", **options)  # type: ignore[arg-type]
    assert [model is same for model in found] == [True] * 4
    assert LatentEncoder.shared(k=4, **options) is not same  # type: ignore[arg-type]
    assert same.fingerprint == encoder.fingerprint
    with pytest.raises(ModelError, match="no such model folder"):
        QueryEncoder("/nowhere").load()


def test_no_torch_before_the_first_question() -> None:
    script = """
import sys
import latent_ingest.connector as c
rewriter = c.QueryRewriter(c.QueryEncoder(device="cpu", dtype="float32"))
c.Searcher, c.AsyncSearcher
assert 'torch' not in sys.modules and 'transformers' not in sys.modules
assert rewriter.terms("bees")
assert 'torch' in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_rewriter_of_a_lazy_model_is_that_of_a_loaded_one(encoder: LatentEncoder) -> None:
    lazy = QueryRewriter(QueryEncoder(device="cpu", dtype="float32"))
    assert lazy.rewrite("how do bees tell of flowers") == QueryRewriter(encoder).rewrite(
        "how do bees tell of flowers"
    )
    assert lazy.cache_info() == CacheInfo(0, 1, 4096, 1)
    assert lazy.encoder.fingerprint == encoder.fingerprint


def test_threads_may_check_a_model_at_the_same_time(encoder: LatentEncoder) -> None:
    """One that has begun is not disturbed by another that is done."""

    class CheckedMeanwhile:
        def __bool__(self) -> bool:
            weigher.unchecked = None
            return True

        def check(self, model: LatentEncoder) -> None:
            assert model is encoder

    weigher = Weigher(QueryEncoder(encoder), None, CheckedMeanwhile(), None)  # type: ignore[arg-type]
    assert weigher.model() is encoder
    assert weigher(["bees"])[0]
