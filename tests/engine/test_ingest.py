"""Ingest into a real engine: nothing is lost, doubled or changed."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from lines import adds_up, failures, line, logged
from opensearchpy import OpenSearch

from latent_ingest.connector.document_text import text_hash
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.errors import EngineError, InputError, MismatchError
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.opening import open_index
from latent_ingest.connector.indexing import outcomes, sender
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.connector.terms import SPELLINGS
from latent_ingest.mappings import MappingConfig, index_body

ROOT = Path(__file__).parent.parent.parent

BAD_LINES = {
    "not json at all": "not JSON",
    '["a"]': "an array, not an object",
    '{"_id": "n", "body": "x"}': "no text field: no 'title' or 'text'",
    '{"_id": {}, "text": "x"}': "the id is an object",
    '{"_id": "t", "text": 7}': "field 'text' is a number: 7",
    '{"_id": "l", "text": "x", "latent": "mine"}': "field 'latent' is reserved for latent terms",
    '{"_id": "h", "text": "x", "latent_hash": 1}': "field 'latent_hash' is reserved",
    b'{"_id": "u", "text": "\xff"}': "not UTF-8: byte 0xff",
}


def test_bad_lines_are_named_and_the_good_ones_indexed(
    client: OpenSearch, index: str, load: Any, caplog: pytest.LogCaptureFixture
) -> None:
    good = [line(f"good-{number}") for number in range(len(BAD_LINES))]
    mixed = [row for pair in zip(BAD_LINES, good, strict=True) for row in pair]
    report = load(client, index, [*mixed, "", "  "])
    assert adds_up(report)
    assert (report.indexed, report.failed, report.blank) == (8, 8, 2)
    assert report.lines == 18
    assert not report.ok
    assert client.count(index=index)["count"] == 8
    assert logged(caplog) == [f"corpus.jsonl: line 1: {failures(report)[0]['_failure']['reason']}"]
    for number, (failure, message) in enumerate(
        zip(failures(report), BAD_LINES.values(), strict=True)
    ):
        assert failure["_failure"]["file"] == "corpus.jsonl"
        assert failure["_failure"]["line"] == 2 * number + 1
        assert message in failure["_failure"]["reason"]


def test_a_document_the_engine_rejects_is_named_and_can_be_corrected(
    client: OpenSearch, index: str, load: Any
) -> None:
    rows = [line("a", year=2020), line("b", "", year="soon"), line("c", year=2021)]
    report = load(client, index, rows)
    assert (report.indexed, report.failed, report.empty) == (2, 1, 0)
    (failure,) = failures(report)
    assert failure["_failure"]["line"] == 2
    assert "document 'b' rejected: failed to parse field [year]" in failure["_failure"]["reason"]
    corrected = Path(report.failures_file)
    corrected.write_text(corrected.read_text().replace('"soon"', "2022"))
    again = load(client, index, corrected)
    assert again.ok
    assert again.indexed == 1
    assert client.get(index=index, id="b")["_source"]["year"] == 2022
    assert client.count(index=index)["count"] == 3


def test_of_two_lines_with_one_id_the_last_wins_and_is_counted(
    client: OpenSearch, index: str, load: Any
) -> None:
    rows = [line("a", version=1), line("b"), line("a", version=2), line("a", version=3)]
    report = load(client, index, rows)
    assert adds_up(report)
    assert (report.indexed, report.replaced, report.lines) == (2, 2, 4)
    assert client.get(index=index, id="a")["_source"]["version"] == 3


def test_documents_without_id_get_the_same_one_each_time(
    client: OpenSearch, index: str, load: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "latent_ingest")
    rows = [line(None, "one"), line(None, "two"), line("c")]
    for _ in range(2):
        report = load(client, index, rows)
        assert (report.indexed, report.generated_ids) == (3, 2)
    assert client.count(index=index)["count"] == 3
    assert len(logged(caplog)) == 2  # once a run
    assert "some documents have no id (field '_id' or 'id')" in logged(caplog)[0]


def test_empty_and_too_long_texts_are_indexed_and_counted(
    client: OpenSearch, index: str, load: Any
) -> None:
    report = load(client, index, [line("e", ""), line("l", "word " * 2000), line("s", "word")])
    assert report.ok
    assert (report.indexed, report.empty, report.pooled, report.truncated) == (3, 1, 1, 0)
    assert client.get(index=index, id="e")["_source"]["latent"] == ""
    assert client.get(index=index, id="l")["_source"]["text"] == "word " * 2000


def test_a_truncated_gz_keeps_what_came_before(client: OpenSearch, index: str, load: Any) -> None:
    rows = "".join(line(str(n), f"text {n * 7919 % 1000}") + "\n" for n in range(2000))
    whole = gzip.compress(rows.encode())
    Path("c.jsonl.gz").write_bytes(whole[:400])
    report = load(client, index, Path("c.jsonl.gz"))
    assert adds_up(report)
    assert 10 < report.indexed == client.count(index=index)["count"] < 2000
    assert f"c.jsonl.gz: broken after line {report.lines}" in (report.stopped or "")
    assert not report.ok


def test_nan_in_the_hidden_states_fails_that_document_only(
    client: OpenSearch, index: str, load: Any
) -> None:
    encoder = LatentEncoder.load(device="cpu", dtype="float32")
    token = encoder.backbone._tokenizer.convert_tokens_to_ids("zebra")
    encoder.backbone._model.embeddings.word_embeddings.weight.data[token] = float("nan")
    rows = [line("a", "a horse"), line("z", "a zebra"), line("c", "a cow")]
    report = load(client, index, rows, encoder=encoder)
    assert (report.indexed, report.failed) == (2, 1)
    (failure,) = failures(report)
    assert (failure["_id"], failure["_failure"]["line"]) == ("z", 2)
    assert (
        "gives NaN or infinity for 'a zebra' in float32; check its weights"
        in failure["_failure"]["reason"]
    )


def test_other_fields_stay_and_are_searchable(client: OpenSearch, index: str, load: Any) -> None:
    load(client, index, [line("a", title="Bees", year=2020, authors=["Ann", "Bo"], id="own")])
    source = client.get(index=index, id="a")["_source"]
    assert source.pop("latent")
    assert source.pop("latent_hash") == text_hash("Bees a text about bees")
    assert source == {
        "text": "a text about bees",
        "title": "Bees",
        "year": 2020,
        "authors": ["Ann", "Bo"],
        "id": "own",
    }
    for query in (
        {"range": {"year": {"gte": 2020}}},
        {"match": {"authors": "ann"}},
        {"match": {"words": "bee"}},
        {"match": {"title": "bees"}},
    ):
        hits = client.search(index=index, body={"query": query})["hits"]["hits"]
        assert [hit["_id"] for hit in hits] == ["a"], query


def test_the_index_says_what_made_it(
    client: OpenSearch, index: str, load: Any, encoder: LatentEncoder
) -> None:
    load(client, index, [line("a")], wanted={"scale": 2.0, "text_fields": ("text",)})
    meta = IndexMeta.read(client, index)
    assert meta is not None
    assert (meta.model, meta.fingerprint) == ("minilm-32k", encoder.fingerprint.digest)
    assert (meta.n_latents, meta.k, meta.pooling) == (32768, 16, "sum")
    assert (meta.scale, meta.k1, meta.b, meta.spelling) == (2.0, 4.0, 0.7, "repeat")
    assert (meta.text_fields, meta.hash_field) == (["text"], "latent_hash")
    settings = client.indices.get_settings(index=index)[index]["settings"]["index"]
    assert settings["similarity"]["latent_bm25"] == {"type": "BM25", "k1": "4.0", "b": "0.7"}
    assert settings["codec"] == "best_compression"


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_index_put_by_hand_from_mappings_is_taken(
    client: OpenSearch, index: str, load: Any, encoder: LatentEncoder, spelling: str
) -> None:
    by_hand = json.loads((ROOT / "mappings" / f"{spelling}.json").read_text())
    by_hand["mappings"]["properties"]["year"] = {"type": "short"}
    by_hand["mappings"]["_meta"] = {"owner": "ann"}
    client.indices.create(index=index, body=by_hand)
    assert load(client, index, [line("a", year=2020)]).ok
    (found,) = client.indices.get_mapping(index=index).values()
    noted, fields = found["mappings"]["_meta"], found["mappings"]["properties"]
    assert (noted["owner"], noted["latent_ingest"]["spelling"]) == ("ann", spelling)
    assert (fields.keys(), fields["year"]) == (
        by_hand["mappings"]["properties"].keys(),
        {"type": "short"},
    )
    body = QueryRewriter.from_index(client, index, encoder).rewrite("bees", form="latent")
    assert client.search(index=index, body=body)["hits"]["hits"]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("holds documents", "has no latent terms"),
        ("no such similarity", "has no latent terms"),
        ("k1", "was made by hand with another mapping"),
        ("latent is no such field", "was made by hand with another mapping"),
        ("lean", "was made by hand with another mapping"),
    ],
)
def test_an_index_put_by_hand_that_is_another_stays_as_it_is(
    client: OpenSearch, index: str, load: Any, what: str, message: str
) -> None:
    by_hand = json.loads((ROOT / "mappings" / "repeat.json").read_text())
    if what == "k1":
        by_hand["settings"]["index"]["similarity"]["latent_bm25"]["k1"] = 1.2
    if what == "no such similarity":
        by_hand = {}
    if what == "latent is no such field":
        by_hand["mappings"]["properties"]["latent"] = {"type": "text"}
    client.indices.create(index=index, body=by_hand)
    if what == "holds documents":
        client.index(index=index, body={"text": "x"})
    before = client.indices.get(index=index)
    options = {"lean": True} if what == "lean" else {}
    with pytest.raises(MismatchError, match=message):
        load(client, index, [line("a")], wanted=options)
    assert client.indices.get(index=index) == before


def test_options_that_contradict_the_index_are_refused(
    client: OpenSearch, index: str, load: Any
) -> None:
    load(client, index, [line("a")])
    with pytest.raises(MismatchError, match="was made with spelling 'repeat', not 'delimited'"):
        load(client, index, [line("b")], wanted={"spelling": "delimited"})
    assert load(client, index, [line("b")], wanted={"spelling": "repeat"}).ok


def test_an_index_made_before_there_were_hashes_stays_without(
    client: OpenSearch, index: str, load: Any, encoder: LatentEncoder
) -> None:
    mapping = MappingConfig()
    body = index_body(mapping, IndexMeta.of(encoder, mapping).to_json())
    del body["mappings"]["properties"]["latent_hash"]
    del body["mappings"]["_meta"]["latent_ingest"]["hash_field"]
    client.indices.create(index=index, body=body)
    assert load(client, index, [line("a"), line("b", latent_hash="mine")]).indexed == 2
    sources = [client.get(index=index, id=name)["_source"] for name in ("a", "b")]
    assert [source.get("latent_hash") for source in sources] == [None, "mine"]
    asked = QueryRewriter.from_index(client, index, encoder).rewrite("bees", form="latent")
    assert len(client.search(index=index, body=asked)["hits"]["hits"]) == 2


@pytest.mark.parametrize(
    ("name", "wanted", "message"),
    [
        ("latent-ingest-test-Upper", {}, "cannot be created: .*must be lowercase"),
        (None, {"analyzer": "klingon"}, "cannot be created: .*klingon"),
        (None, {"scale": -1.0}, "scale -1.0: must be above 0"),
        (None, {"latent_field": "text"}, "field 'text' is used twice"),
    ],
)
def test_what_no_index_can_be_is_said(
    client: OpenSearch, index: str, load: Any, name: str | None, wanted: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load(client, name or index, [line("a")], wanted=wanted)


@pytest.mark.parametrize("before", [None, "7s", "-1"])
def test_the_refresh_interval_is_restored(
    client: OpenSearch, index: str, load: Any, before: str | None
) -> None:
    load(client, index, [line("a")])
    client.indices.put_settings(index=index, body={"index": {"refresh_interval": before}})
    load(client, index, [line("b")])
    settings = client.indices.get_settings(index=index)[index]["settings"]["index"]
    assert settings.get("refresh_interval") == before
    assert client.count(index=index)["count"] == 2


def test_a_partial_update_keeps_the_latents(
    client: OpenSearch, index: str, load: Any, encoder: LatentEncoder
) -> None:
    load(client, index, [line("a"), line("b", "mortgages and banks")])
    client.update(index=index, id="a", body={"doc": {"year": 1}}, refresh=True)
    body = QueryRewriter.from_index(client, index, encoder).rewrite("honey", form="latent")
    assert client.search(index=index, body=body)["hits"]["hits"][0]["_id"] == "a"


@pytest.mark.slow
def test_lean_leaves_latents_out_of_the_source_and_merge_drops_the_hidden_copies(
    client: OpenSearch,
    index: str,
    new_index: Any,
    load: Any,
    encoder: LatentEncoder,
    corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sender, "MAX_DOCUMENTS", 40)
    before = load(client, new_index(), corpus, wanted={"lean": True})
    report = load(client, index, corpus, wanted={"lean": True}, merge_after=True)
    assert report.bytes_a_document < 0.75 * before.bytes_a_document
    rewriter = QueryRewriter.from_index(client, index, encoder)
    hits = client.search(index=index, body=rewriter.rewrite("file names"))["hits"]["hits"]
    assert hits
    assert "latent" not in client.get(index=index, id=hits[0]["_id"])["_source"]


@pytest.mark.parametrize(("limit", "ends"), [(None, True), (6, True), (7, False)])
def test_too_many_failures_end_the_run_early(
    client: OpenSearch,
    index: str,
    load: Any,
    limit: int | None,
    ends: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sender, "MAX_DOCUMENTS", 2)
    monkeypatch.setattr(outcomes, "MAX_FAILED", 6)
    rows = [line("n", n=1), *(line(f"r{number}", n="no number") for number in range(7))]
    report = load(client, index, [*rows, line("a"), line("b")], max_rejected=limit, concurrency=1)
    assert adds_up(report)
    if ends:
        assert "7 lines failed, more than 6; corpus.failed.jsonl says why" in report.stopped
        assert (report.indexed, report.failed) == (1, 7)
    else:
        assert report.stopped is None
        assert (report.indexed, report.failed) == (3, 7)


def test_too_many_lines_that_are_no_documents_end_the_run_too(
    client: OpenSearch, index: str, load: Any
) -> None:
    report = load(client, index, ["no json"] * 5, max_rejected=4)
    assert "5 lines failed, more than 4" in report.stopped
    assert adds_up(report)


def test_an_engine_that_cannot_be_asked_is_an_error(encoder: LatentEncoder) -> None:
    from latent_ingest.connector.engine.client import Connection
    from latent_ingest.connector.engine.local import free_port

    client = Connection(f"http://127.0.0.1:{free_port()}").open()
    with pytest.raises(EngineError, match="nothing answers at"):
        open_index(client, "papers", encoder, {})


@pytest.mark.parametrize("pattern", ["*", "?", ",other"])
def test_a_pattern_is_no_name_of_an_index(
    pattern: str, client: OpenSearch, index: str, load: Any
) -> None:
    """Even if it matches one index alone."""
    load(client, index, [line("a", "bees")])
    with pytest.raises(InputError, match="is a pattern or a list; name one index"):
        load(client, f"{index[:-1]}{pattern}", [line("b", "ants")])
    assert client.count(index=index)["count"] == 1
