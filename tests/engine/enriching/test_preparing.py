"""enrich: an index that cannot be enriched, or whose preparation fails, stays as it was."""

from __future__ import annotations

from typing import Any

import pytest
from enriched import FIELDS, Run, counts
from opensearchpy import OpenSearch
from shop import MAPPING, TEXT, make

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.errors import InputError, LatentIngestError, MismatchError
from latent_ingest.connector.index import creation as index_module
from latent_ingest.connector.index.preparing import ExistingIndex
from latent_ingest.mappings import MappingConfig, index_body


def test_an_index_is_open_again_when_its_settings_are_refused(
    run: Run, client: OpenSearch, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(config: MappingConfig, meta: dict[str, Any]) -> dict[str, Any]:
        body = index_body(config, meta)
        body["settings"]["analysis"]["analyzer"]["latent_terms"]["tokenizer"] = "klingon"
        return body

    with monkeypatch.context() as patched:
        patched.setattr(index_module, "index_body", broken)
        with pytest.raises(InputError, match=r"refuses latent terms: .*latent_terms"):
            run()
    assert ExistingIndex.read(client, index).open
    assert client.count(index=index)["count"] == 32
    assert (
        "latent_ingest" not in client.indices.get_mapping(index=index)[index]["mappings"]["_meta"]
    )
    assert counts(run()) == (32, 0, 32, 0, 0)


def test_an_index_is_open_again_after_ctrl_c_and_opened_when_it_was_left_closed(
    run: Run, client: OpenSearch, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(**_options: Any) -> None:
        assert not ExistingIndex.read(client, index).open
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(client.indices, "put_settings", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert ExistingIndex.read(client, index).open
    client.indices.close(index=index)
    assert counts(run()) == (32, 0, 32, 0, 0)
    client.indices.close(index=index)
    assert counts(run()) == (32, 32, 0, 0, 0)


WRONG: dict[str, tuple[dict[str, Any], dict[str, Any], type[LatentIngestError], str]] = {
    "no such field": (
        {},
        {"text_fields": ("bodi",)},
        InputError,
        r"no field 'bodi' in index .*\(it has body, more.summary, title\)",
    ),
    "no field named": ({}, {"spelling": "repeat"}, InputError, "name the fields to encode"),
    "a number": ({}, {"text_fields": ("year",)}, InputError, "'year' .* is of type integer"),
    "an object": ({}, {"text_fields": ("more",)}, InputError, "'more' .* is of type object"),
    "nested": ({}, {"text_fields": ("notes.text",)}, InputError, "inside nested objects"),
    "multi-field": ({}, {"text_fields": ("title.raw",)}, InputError, "is derived from 'title'"),
    "twice": ({}, {**FIELDS, "latent_field": "title"}, InputError, "'title' is used twice"),
    "taken": (
        {"properties": {"title": TEXT, "body": TEXT, "latent": {"type": "text"}}},
        FIELDS,
        MismatchError,
        "has a field 'latent' of its own; name another for latent terms with --latent-field",
    ),
    "no source": ({"_source": {"enabled": False}}, FIELDS, MismatchError, "_source is disabled"),
    "half a source": ({"_source": {"excludes": ["x"]}}, FIELDS, MismatchError, "only a part"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_enriched_is_said_and_left_as_it_was(
    run: Run, client: OpenSearch, new_index: Any, case: str
) -> None:
    mapping, wanted, error, message = WRONG[case]
    name = new_index()
    make(client, name, [{"_id": "a", "title": "bees"}], **mapping)
    before = client.indices.get(index=name)
    with pytest.raises(error, match=message):
        run(name, wanted)
    assert client.indices.get(index=name) == before


def test_settings_of_its_own_are_not_changed(run: Run, client: OpenSearch, new_index: Any) -> None:
    name = new_index()
    own = {"index": {"similarity": {"latent_bm25": {"type": "BM25", "k1": 1.5}}}}
    client.indices.create(index=name, body={"settings": own, "mappings": MAPPING})
    with pytest.raises(MismatchError, match=r"setting index.similarity.latent_bm25.k1 of its own"):
        run(name)


def test_another_model_is_refused(run: Run) -> None:
    run()
    with pytest.raises(MismatchError, match="was made by model minilm-32k"):
        run(encoder=LatentEncoder.load(device="cpu", dtype="float32", k=8))
