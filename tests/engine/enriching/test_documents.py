"""enrich: an index that is not ours gets latent terms, keeps them, and loses nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from enriched import FIELDS, Run, counts
from opensearchpy import OpenSearch
from shop import MAPPING, all_done, make, sources

from latent_ingest.connector.document_text import text_hash
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.errors import InputError, MismatchError
from latent_ingest.connector.index import reading
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.preparing import ExistingIndex
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.mappings import MappingConfig, index_body


@pytest.mark.usefixtures("small")
def test_a_foreign_index_gets_latents_and_keeps_all_else(
    run: Run, client: OpenSearch, index: str, rows: list[dict[str, Any]], encoder: LatentEncoder
) -> None:
    report = run()
    assert report.ok
    assert counts(report) == (32, 0, 32, 0, 0)
    assert report.tokens > 32
    assert all_done(client, index, encoder)
    own = {"latent", "latent_hash"}
    kept = {
        name: {field: value for field, value in source.items() if field not in own}
        for name, source in sources(client, index).items()
    }
    assert kept == {row["_id"]: {k: v for k, v in row.items() if k != "_id"} for row in rows}
    mapping = client.indices.get_mapping(index=index)[index]["mappings"]
    assert mapping["_meta"]["owner"] == "shop"
    assert mapping["dynamic"] == "strict"
    for name, field in MAPPING["properties"].items():
        assert mapping["properties"][name] == field


def test_latent_terms_are_those_that_ingest_writes(
    run: Run, client: OpenSearch, index: str, rows: list[dict[str, Any]], load: Any, new_index: Any
) -> None:
    run()
    other = new_index()
    corpus = [json.dumps(row) for row in rows]
    load(client, other, corpus, wanted={"text_fields": ("title", "body")})
    ours, theirs = sources(client, index), sources(client, other)
    assert len(ours) == 32
    # Batches of other texts differ in the last bit, which moves a count at the edge of rounding.
    for name, source in ours.items():
        assert source["latent_hash"] == theirs[name]["latent_hash"]
        terms, others = source["latent"].split(), theirs[name]["latent"].split()
        assert len({*terms} ^ {*others}) <= 0.01 * len({*terms})


@pytest.mark.parametrize("form", ["hybrid", "latent", "two_phase"])
def test_search_needs_nothing_but_the_index(
    run: Run, client: OpenSearch, index: str, encoder: LatentEncoder, form: str
) -> None:
    run()
    client.index(index=index, id="w", body={"title": "zyzzyva", "body": "a weevil"}, refresh=True)
    rewriter = QueryRewriter.from_index(client, index, encoder)
    question = rewriter.rewrite("zyzzyva", form=form)
    hits = client.search(index=index, body=question)["hits"]["hits"]
    assert ("w" in {hit["_id"] for hit in hits}) == (form == "hybrid")  # it has words alone
    assert not {"latent", "latent_hash"} & hits[0]["_source"].keys()
    words = rewriter.words_only("weevil zyzzyva")
    assert [hit["_id"] for hit in client.search(index=index, body=words)["hits"]["hits"]] == ["w"]


@pytest.mark.usefixtures("small")
def test_only_what_is_new_or_changed_is_encoded_again(
    run: Run, client: OpenSearch, index: str, rows: list[dict[str, Any]], encoder: LatentEncoder
) -> None:
    assert counts(run()) == (32, 0, 32, 0, 0)
    before = sources(client, index)
    assert counts(run()) == (32, 32, 0, 0, 0)
    names = [row["_id"] for row in rows]
    client.update(index=index, id=names[0], body={"doc": {"body": "bees dance"}})
    client.update(index=index, id=names[1], body={"doc": {"title": "wasps"}})
    client.index(index=index, id=names[2], body={"title": "replaced", "body": "whole"})
    client.index(index=index, id="added", body={"title": "added", "body": "honey"})
    client.update(index=index, id=names[3], body={"doc": {"year": 9}})  # no text
    client.delete(index=index, id=names[4])
    assert counts(run(wanted={})) == (32, 28, 4, 0, 0)
    assert all_done(client, index, encoder)
    after = sources(client, index)
    assert after[names[3]] == {**before[names[3]], "year": 9}
    changed = {name for name in before if after.get(name) != before[name]}
    assert changed == {*names[:5]}


def test_elasticsearch_is_read_by_scrolling(
    any_elasticsearch: OpenSearch,
    new_index: Any,
    run: Run,
    rows: list[dict[str, Any]],
    encoder: LatentEncoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And a spelling it does not know leaves the index open and as it was."""
    monkeypatch.setattr(reading, "PAGE", 7)
    name = new_index(any_elasticsearch)
    make(any_elasticsearch, name, rows)
    with pytest.raises(InputError, match="this engine needs --spelling repeat"):
        run(name, {**FIELDS, "spelling": "delimited"}, on=any_elasticsearch)
    assert ExistingIndex.read(any_elasticsearch, name).open
    report = run(name, on=any_elasticsearch)
    assert report.stopped is None
    assert counts(report) == (32, 0, 32, 0, 0)
    assert all_done(any_elasticsearch, name, encoder)
    assert counts(run(name, on=any_elasticsearch)) == (32, 32, 0, 0, 0)


@pytest.mark.parametrize("spelling", ["repeat", "delimited"])
def test_an_index_that_ingest_made(
    client: OpenSearch,
    new_index: Any,
    load: Any,
    run: Run,
    documents: list[dict[str, str]],
    spelling: str,
) -> None:
    name = new_index()
    corpus = [json.dumps(document) for document in documents[::5]]
    assert load(client, name, corpus, wanted={"spelling": spelling}).indexed == 18
    assert counts(run(name, {"spelling": spelling})) == (18, 18, 0, 0, 0)
    source = next(iter(sources(client, name).items()))
    client.update(index=name, id=source[0], body={"doc": {"text": "bees dance"}})
    assert counts(run(name, {"spelling": spelling})) == (18, 17, 1, 0, 0)
    with pytest.raises(MismatchError, match="was made with text_fields"):
        run(name, {"text_fields": ("title",)})


def test_lean_documents_that_lost_their_latents_get_them_back(
    client: OpenSearch, new_index: Any, load: Any, run: Run, encoder: LatentEncoder
) -> None:
    """Which a partial update takes from them; their hash stays."""
    name = new_index()
    texts = {"a": "bees make honey", "b": "banks lend money", "c": "rivers carry water"}
    rows = [json.dumps({"_id": key, "text": text}) for key, text in texts.items()]
    load(client, name, rows, wanted={"lean": True})
    client.update(index=name, id="a", body={"doc": {"year": 1}}, refresh=True)
    question = QueryRewriter.from_index(client, name, encoder).rewrite("honey bees", form="latent")

    def found() -> list[str]:
        return [hit["_id"] for hit in client.search(index=name, body=question)["hits"]["hits"]]

    assert "a" not in found()
    assert counts(run(name, {})) == (3, 2, 1, 0, 0)
    assert found()[0] == "a"
    assert counts(run(name, {})) == (3, 3, 0, 0, 0)


def test_an_index_made_before_there_were_hashes_gets_them(
    client: OpenSearch, new_index: Any, load: Any, run: Run, encoder: LatentEncoder
) -> None:
    name, mapping = new_index(), MappingConfig()
    body = index_body(mapping, IndexMeta.of(encoder, mapping).to_json())
    del body["mappings"]["properties"]["latent_hash"]
    del body["mappings"]["_meta"]["latent_ingest"]["hash_field"]
    client.indices.create(index=name, body=body)
    load(client, name, [json.dumps({"_id": "a", "text": "bees"})])
    assert counts(run(name, {})) == (1, 0, 1, 0, 0)
    assert counts(run(name, {})) == (1, 1, 0, 0, 0)
    assert sources(client, name)["a"]["latent_hash"] == text_hash("bees")


def test_texts_in_arrays_objects_numbers_and_none_at_all(
    client: OpenSearch, new_index: Any, run: Run
) -> None:
    name = new_index()
    rows: dict[str, tuple[dict[str, Any], str]] = {
        "array": ({"title": ["bees", None, "wasps"]}, "bees wasps"),
        "object": ({"more": {"summary": "honey"}}, "honey"),
        "dotted": ({"more.summary": "wax"}, "wax"),
        "objects": ({"title": "x", "more": [{"summary": "y"}, {"summary": ["z"]}]}, "x y z"),
        "number": ({"title": 1984}, "1984"),
        "null": ({"title": None, "year": 3}, ""),
        "none": ({"year": 4}, ""),
    }
    make(client, name, [{"_id": key, **fields} for key, (fields, _) in rows.items()])
    client.index(index=name, id="routed", routing="r", body={"title": "t"}, refresh=True)
    wanted = {"text_fields": ("title", "more.summary")}
    report = run(name, wanted)
    assert counts(report) == (8, 0, 8, 0, 0)
    assert report.empty == 2
    after = sources(client, name)
    for key, (fields, text) in rows.items():
        assert after[key].pop("latent_hash") == text_hash(text), key
        assert bool(after[key].pop("latent")) == bool(text), key
        assert after[key] == fields
    assert after["routed"]["latent"]
    assert counts(run(name, wanted)) == (8, 8, 0, 0, 0)


def test_nan_in_the_hidden_states_fails_that_document_only(
    client: OpenSearch, new_index: Any, run: Run
) -> None:
    encoder = LatentEncoder.load(device="cpu", dtype="float32")
    token = encoder.backbone._tokenizer.convert_tokens_to_ids("zebra")
    encoder.backbone._model.embeddings.word_embeddings.weight.data[token] = float("nan")
    name = new_index()
    make(client, name, [{"_id": "h", "body": "a horse"}, {"_id": "z", "body": "a zebra"}])
    report = run(name, encoder=encoder, failures=Path("f.jsonl"))
    assert counts(report) == (2, 0, 1, 1, 0)
    (failure,) = map(json.loads, Path("f.jsonl").read_text().splitlines())
    assert failure["_id"] == "z"
    assert "gives NaN or infinity for 'a zebra'" in failure["_failure"]["reason"]
