"""Names of several indices: those that agree are searched together; one that does not is named."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from opensearchpy import OpenSearch

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.errors import MismatchError
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.querying.indices.asked_indices import AskedIndices
from latent_ingest.connector.querying.query_encoder import QueryEncoder
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.querying.searcher import Searcher
from latent_ingest.mappings import MappingConfig, index_body

ROWS = {
    "bees": "Honey insects dance to tell their hive where nectar is.",
    "loans": "The bank raised its interest rate on mortgages by half a percent.",
    "rain": "Heavy precipitation flooded the valley after the storm.",
}
QUESTION = "how do bees tell of flowers"


@pytest.fixture
def two(client: OpenSearch, new_index: Any, load: Any) -> list[str]:
    """Two indices that agree; the second has the document that the question asks for."""
    names = sorted([new_index(), new_index()])
    for name, ids in zip(names, (["loans", "rain"], ["bees"]), strict=True):
        load(client, name, [json.dumps({"_id": i, "text": ROWS[i], "tenant": i}) for i in ids])
    return names


@pytest.fixture
def alias(client: OpenSearch, two: list[str]) -> str:
    name = f"{two[0]}-both"
    for index in two:
        client.indices.put_alias(index=index, name=name)
    return name


def test_all_that_a_name_stands_for_is_searched(
    client: OpenSearch, two: list[str], alias: str, encoder: LatentEncoder
) -> None:
    """An alias, a list and a pattern all work, with the document frequencies of all indices."""
    for name in (alias, ",".join(reversed(two)), f"{two[0]}*,{two[1]}"):
        rewriter = QueryRewriter.from_index(client, name, encoder)
        assert rewriter.index == ",".join(two)
        assert rewriter.indices == tuple(two)
        assert rewriter.statistics
        assert rewriter.statistics.frequencies
        assert rewriter.statistics.frequencies.n_documents == 3
        for form in ("latent", "hybrid", "two_phase"):
            body = rewriter.rewrite(QUESTION, form=form)
            hits = client.search(index=rewriter.index, body=body)["hits"]["hits"]
            assert hits[0]["_id"] == "bees"
        searcher = Searcher(client, name, [encoder])
        assert {hit["_id"] for hit in searcher.search("rain honey bank")["hits"]["hits"]} == set(
            ROWS
        )


@pytest.mark.parametrize(
    ("what", "value", "message"),
    [
        ("fingerprint", "0123456789abcdef", r"was made by model minilm-32k \(0123456789abcdef\)"),
        ("spelling", "delimited", "has spelling delimited and .* has repeat, so .* cannot be"),
        ("scale", 4.0, r"has scale 4.0 and .* has 1.0, so"),
        ("latent_field", "text", "has latent_field text and .* has latent, so"),
        ("long", "chunks", "has --long chunks and .* has pool, so .* name indices that agree"),
    ],
)
def test_one_that_disagrees_is_named(
    client: OpenSearch, two: list[str], alias: str, encoder: LatentEncoder, what: str,
    value: Any, message: str,
) -> None:  # fmt: skip
    Index(client, two[1]).update_meta(**{what: value})
    for name in (alias, ",".join(two)):
        with pytest.raises(MismatchError, match=rf"^index {two[1]} {message}"):
            QueryRewriter.from_index(client, name, encoder)
    assert QueryRewriter.from_index(client, two[0], encoder).indices == (two[0],)


def test_a_searcher_keeps_those_that_agreed(
    client: OpenSearch, two: list[str], alias: str, encoder: LatentEncoder
) -> None:
    client.indices.delete_alias(index=two[1], name=alias)
    searcher = Searcher(client, alias, [encoder], renew_seconds=0)
    Index(client, two[1]).update_meta(scale=4.0)
    client.indices.put_alias(index=two[1], name=alias)
    assert {hit["_index"] for hit in searcher.search(QUESTION)["hits"]["hits"]} == {two[0]}
    Index(client, two[1]).update_meta(scale=1.0)
    assert searcher.search(QUESTION)["hits"]["hits"][0]["_index"] == two[1]
    Index(client, two[1]).update_meta(scale=4.0)
    with pytest.raises(MismatchError, match=rf"index {two[1]} has scale 4.0"):
        Searcher(client, alias, [encoder])


def test_the_filter_of_an_alias_holds(
    client: OpenSearch, two: list[str], encoder: LatentEncoder
) -> None:
    """The index lacks the filter, so the alias is searched, and its answers are checked."""
    alias = f"{two[0]}-some"
    only = {"filter": {"term": {"tenant.keyword": "rain"}}}
    client.indices.put_alias(index=two[0], name=alias, body=only)
    rewriter = QueryRewriter.from_index(client, alias, encoder)
    assert (rewriter.index, rewriter.indices) == (alias, (two[0],))
    searcher = Searcher(client, alias, [encoder], renew_seconds=3600)
    assert [hit["_id"] for hit in searcher.search(QUESTION)["hits"]["hits"]] == ["rain"]
    moved = [{"remove": {"index": two[0], "alias": alias}}]
    moved.append({"add": {"index": two[1], "alias": alias, "filter": {"match_all": {}}}})  # type: ignore[dict-item]
    client.indices.update_aliases(body={"actions": moved})
    assert [hit["_id"] for hit in searcher.search(QUESTION)["hits"]["hits"]] == ["bees"]
    assert searcher.rewriter.indices == (two[1],)


def test_indices_that_are_not_ours_or_too_old_are_named(
    client: OpenSearch, two: list[str], new_index: Any, encoder: LatentEncoder
) -> None:
    words, old, lost = new_index(), new_index(), new_index()
    client.indices.create(index=words)
    mapping = MappingConfig()
    meta = IndexMeta.of(encoder, mapping).to_json()
    older = {name: value for name, value in meta.items() if name not in ("scale", "spelling")}
    client.indices.create(index=old, body=index_body(mapping, older))
    body = index_body(mapping, meta)
    del body["mappings"]["properties"]["latent"]
    client.indices.create(index=lost, body=body)
    for index, message in {
        words: rf"index {words} has no latent terms .*latent-ingest enrich --index {words}'",
        old: rf"index {old} was made by another version .* lacks scale, spelling; .*enrich'",
        lost: rf"index {lost} has no field latent, .* new index, .*latent-ingest enrich'",
    }.items():
        for name in (index, f"{two[0]},{index}"):
            with pytest.raises(MismatchError, match=message) as refused:
                QueryRewriter.from_index(client, name, encoder)
            assert "\n" not in str(refused.value)
    for name in ("nowhere-*", f"{two[0]},nowhere"):
        with pytest.raises(MismatchError, match=r"no index or alias nowhere.*; make it with"):
            QueryRewriter.from_index(client, name, encoder)


def test_a_model_that_is_loaded_later_is_checked_then(client: OpenSearch, two: list[str]) -> None:
    lazy = QueryEncoder(device="cpu", dtype="float32", k=4)
    rewriter = QueryRewriter.from_index(client, two[0], lazy)
    searcher = Searcher(client, two[0], [lazy])
    for _ in range(2):
        with pytest.raises(MismatchError, match=f"index {two[0]} was made by model minilm-32k"):
            rewriter.rewrite(QUESTION)
        with pytest.raises(MismatchError, match="use --model with that one"):
            searcher.search(QUESTION)
    with pytest.raises(MismatchError, match="was made by model"):
        QueryRewriter.from_index(client, two[0], lazy)


def test_names_that_no_address_can_hold_are_asked_as_given(encoder: LatentEncoder) -> None:
    meta = IndexMeta.of(encoder, MappingConfig())
    many = AskedIndices("p-*", {f"p-{n:03}": meta for n in range(900)}, limited=False)
    assert many.target == "p-*"
    assert replace(many, metas={"p-1": meta, "p-2": meta}).target == "p-1,p-2"
