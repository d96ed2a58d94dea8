"""Ingest into a real engine: nothing is lost, doubled or changed."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tenacity
from opensearchpy import OpenSearch
from opensearchpy.exceptions import ConnectionError as NoConnection
from opensearchpy.exceptions import TransportError

from latent_ingest.connector.corpus import text_hash
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.errors import EngineError, InputError, MismatchError
from latent_ingest.connector.index_meta import IndexMeta
from latent_ingest.connector.indexing import bulk, ingest
from latent_ingest.connector.indexing.index import open_index
from latent_ingest.connector.indexing.ingest import Ingest
from latent_ingest.connector.indexing.report import IngestReport
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.mappings import MappingConfig, index_body


@pytest.fixture
def index(new_index: Any) -> str:
    name: str = new_index()
    return name


def line(identifier: str | None, text: str = "a text about bees", **fields: Any) -> str:
    return json.dumps({**({"_id": identifier} if identifier else {}), "text": text, **fields})


def adds_up(report: IngestReport) -> bool:
    ends = report.indexed + report.replaced + report.failed + report.not_sent + report.blank
    return report.lines == ends


def failures(report: IngestReport) -> list[dict[str, Any]]:
    assert report.failures_file is not None
    return [json.loads(row) for row in Path(report.failures_file).read_text().splitlines()]


BAD_LINES = {
    "not json at all": "not JSON",
    '["a"]': "an array, not an object",
    '{"_id": "n", "body": "x"}': "no text field: no 'title' or 'text'",
    '{"_id": {}, "text": "x"}': "the id is an object",
    '{"_id": "t", "text": 7}': "field 'text' is a number: 7",
    '{"_id": "l", "text": "x", "latent": "mine"}': "field 'latent' is where latent terms go",
    '{"_id": "h", "text": "x", "latent_hash": 1}': "field 'latent_hash' is where latent terms go",
    b'{"_id": "u", "text": "\xff"}': "not UTF-8: byte 0xff",
}


def test_bad_lines_are_named_and_the_good_ones_indexed(
    client: OpenSearch, index: str, load: Any
) -> None:
    good = [line(f"good-{number}") for number in range(len(BAD_LINES))]
    mixed = [row for pair in zip(BAD_LINES, good, strict=True) for row in pair]
    warned: list[str] = []
    report = load(client, index, [*mixed, "", "  "], warn=warned.append)
    assert adds_up(report)
    assert (report.indexed, report.failed, report.blank) == (8, 8, 2)
    assert report.lines == 18
    assert not report.ok
    assert client.count(index=index)["count"] == 8
    assert warned == [f"corpus.jsonl: line 1: {failures(report)[0]['_failure']['reason']}"]
    for number, (failure, message) in enumerate(
        zip(failures(report), BAD_LINES.values(), strict=True)
    ):
        assert failure["_failure"]["file"] == "corpus.jsonl"
        assert failure["_failure"]["line"] == 2 * number + 1
        assert message in failure["_failure"]["reason"]


def test_a_document_the_engine_rejects_is_named_and_can_be_mended(
    client: OpenSearch, index: str, load: Any
) -> None:
    rows = [line("a", year=2020), line("b", "", year="soon"), line("c", year=2021)]
    report = load(client, index, rows)
    assert (report.indexed, report.failed, report.empty) == (2, 1, 0)
    (failure,) = failures(report)
    assert failure["_failure"]["line"] == 2
    assert "document 'b' rejected: failed to parse field [year]" in failure["_failure"]["reason"]
    mended = Path(report.failures_file)
    mended.write_text(mended.read_text().replace('"soon"', "2022"))
    again = load(client, index, mended)
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
    client: OpenSearch, index: str, load: Any
) -> None:
    warned: list[str] = []
    rows = [line(None, "one"), line(None, "two"), line("c")]
    for _ in range(2):
        report = load(client, index, rows, warn=warned.append)
        assert (report.indexed, report.generated_ids) == (3, 2)
    assert client.count(index=index)["count"] == 3
    assert len(warned) == 2  # once a run
    assert "some documents have no id (field '_id' or 'id')" in warned[0]


def test_empty_and_too_long_texts_are_indexed_and_counted(
    client: OpenSearch, index: str, load: Any
) -> None:
    report = load(client, index, [line("e", ""), line("l", "word " * 2000), line("s", "word")])
    assert report.ok
    assert (report.indexed, report.empty, report.truncated) == (3, 1, 1)
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
    assert "gives NaN for 'a zebra'; try --dtype float32" in failure["_failure"]["reason"]


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


def test_options_that_contradict_the_index_are_refused(
    client: OpenSearch, index: str, load: Any
) -> None:
    load(client, index, [line("a")])
    with pytest.raises(MismatchError, match="was made with spelling 'repeat', not 'delimited'"):
        load(client, index, [line("b")], wanted={"spelling": "delimited"})
    assert load(client, index, [line("b")], wanted={"spelling": "repeat"}).ok


def test_an_index_made_before_there_were_hashes_goes_on_without(
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
        ("latent-ingest-test-Upper", {}, "cannot be made: .*must be lowercase"),
        (None, {"analyzer": "klingon"}, "cannot be made: .*klingon"),
        (None, {"scale": -1.0}, "scale -1.0: must be above 0"),
        (None, {"latent_field": "text"}, "field 'text' is used twice"),
    ],
)
def test_what_no_index_can_be_is_said(
    client: OpenSearch, index: str, load: Any, name: str | None, wanted: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load(client, name or index, [line("a")], wanted=wanted)


@pytest.mark.parametrize(("before", "after"), [(None, None), ("7s", "7s"), ("-1", None)])
def test_refresh_is_put_back(
    client: OpenSearch, index: str, load: Any, before: str | None, after: str | None
) -> None:
    """-1 was left by a load that was killed: it goes back to the engine's default."""
    load(client, index, [line("a")])
    client.indices.put_settings(index=index, body={"index": {"refresh_interval": before}})
    load(client, index, [line("b")])
    settings = client.indices.get_settings(index=index)[index]["settings"]["index"]
    assert settings.get("refresh_interval") == after
    assert client.count(index=index)["count"] == 2


def test_a_partial_update_keeps_the_latents(
    client: OpenSearch, index: str, load: Any, encoder: LatentEncoder
) -> None:
    load(client, index, [line("a"), line("b", "mortgages and banks")])
    client.update(index=index, id="a", body={"doc": {"year": 1}}, refresh=True)
    body = QueryRewriter.from_index(client, index, encoder).rewrite("honey", form="latent")
    assert client.search(index=index, body=body)["hits"]["hits"][0]["_id"] == "a"


def test_lean_leaves_latents_out_of_the_source_and_merge_drops_the_hidden_copies(
    client: OpenSearch,
    index: str,
    new_index: Any,
    load: Any,
    encoder: LatentEncoder,
    corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk, "MAX_DOCUMENTS", 40)
    before = load(client, new_index(), corpus, wanted={"lean": True})
    report = load(client, index, corpus, wanted={"lean": True}, merge_after=True)
    assert report.bytes_a_document < 0.75 * before.bytes_a_document
    rewriter = QueryRewriter.from_index(client, index, encoder)
    hits = client.search(index=index, body=rewriter.rewrite("file names"))["hits"]["hits"]
    assert hits
    assert "latent" not in client.get(index=index, id=hits[0]["_id"])["_source"]


class Failing:
    """A client whose bulk requests are made to fail, on an engine that is real."""

    def __init__(self, client: OpenSearch, answer: Callable[[int, bytes], Exception | None]):
        self._client = client
        self._answer = answer
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def bulk(self, body: bytes, **options: Any) -> Any:
        self.calls += 1
        if error := self._answer(self.calls, body):
            raise error
        return self._client.bulk(body=body, **options)


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "WAIT", tenacity.wait_none())


@pytest.mark.usefixtures("no_waits")
@pytest.mark.parametrize(
    "error",
    [TransportError(status, "busy") for status in (429, 502, 503, 504)]
    + [NoConnection("N/A", "reset", OSError("reset"))],
    ids=["429", "502", "503", "504", "connection"],
)
def test_failures_that_pass_are_tried_again(
    client: OpenSearch, index: str, load: Any, error: Exception
) -> None:
    failing = Failing(client, lambda call, body: error if call < bulk.ATTEMPTS else None)
    report = load(failing, index, [line("a"), line("b")])
    assert failing.calls == bulk.ATTEMPTS
    assert report.ok
    assert report.indexed == client.count(index=index)["count"] == 2


@pytest.mark.usefixtures("no_waits")
def test_an_engine_that_stays_away_ends_the_run_and_loses_nothing(
    client: OpenSearch, index: str, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "MAX_DOCUMENTS", 2)
    gone = NoConnection("N/A", "refused", OSError("refused"))
    failing = Failing(client, lambda call, body: gone if call > 1 else None)
    report = load(failing, index, [line(name) for name in "abcdef"])
    assert failing.calls == 1 + bulk.ATTEMPTS
    assert adds_up(report)
    assert (report.indexed, report.not_sent, report.lines) == (2, 2, 4)
    assert "nothing answers at" in (report.stopped or "")
    assert [failure["_id"] for failure in failures(report)] == ["c", "d"]
    settings = client.indices.get_settings(index=index)[index]["settings"]["index"]
    assert "refresh_interval" not in settings


@pytest.mark.usefixtures("no_waits")
def test_one_document_turned_away_for_now_is_sent_again_alone(
    client: OpenSearch, index: str, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """429 for an item within an answer of status 200, as a full write queue gives."""
    sent: list[int] = []
    real = OpenSearch.bulk

    def turn_one_away(self: OpenSearch, body: bytes, **options: Any) -> Any:
        ids = [json.loads(row)["index"]["_id"] for row in body.splitlines()[::2]]
        sent.append(len(ids))
        answer = real(self, body=body, **options)
        if len(sent) <= 2:
            answer["items"][-1]["index"] = {"status": 429, "error": {"type": "busy"}}
        return answer

    monkeypatch.setattr(OpenSearch, "bulk", turn_one_away)
    report = load(client, index, [line("a"), line("b"), line("c")])
    assert sent == [3, 1, 1]
    assert report.ok
    assert (report.indexed, report.replaced) == (3, 0)


@pytest.mark.usefixtures("no_waits")
def test_a_document_that_stays_turned_away_fails_and_can_be_fed_back_in(
    client: OpenSearch, index: str, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = OpenSearch.bulk
    calls = []

    def turn_away_b(self: OpenSearch, body: bytes, **options: Any) -> Any:
        calls.append(body)
        answer = real(self, body=body, **options)
        for item in answer["items"]:
            if item["index"]["_id"] == "b":
                item["index"] = {"status": 429, "error": {"type": "busy"}}
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(OpenSearch, "bulk", turn_away_b)
        report = load(client, index, [line("a"), line("b")])
    assert len(calls) == bulk.ATTEMPTS
    assert (report.indexed, report.failed) == (1, 1)
    assert "still too busy after 10 attempts" in failures(report)[0]["_failure"]["reason"]
    assert load(client, index, Path(report.failures_file)).ok


def test_a_request_too_large_is_halved_until_it_fits(
    client: OpenSearch, index: str, load: Any
) -> None:
    def too_large(_call: int, body: bytes) -> Exception | None:
        return TransportError(413, "too large") if len(body) > 1500 else None

    rows = [line(str(number)) for number in range(9)]
    report = load(Failing(client, too_large), index, [*rows, line("big", "word " * 400)])
    assert adds_up(report)
    assert (report.indexed, report.failed) == (9, 1)
    (failure,) = failures(report)
    assert failure["_id"] == "big"
    assert "too large for the engine" in failure["_failure"]["reason"]


def test_a_refusal_is_not_tried_again(client: OpenSearch, index: str, load: Any) -> None:
    failing = Failing(client, lambda call, body: TransportError(403, "forbidden", {}))
    report = load(failing, index, [line("a")])
    assert failing.calls == 1
    assert "forbids this" in (report.stopped or "")
    assert (report.not_sent, report.lines) == (1, 1)


@pytest.mark.parametrize(("limit", "ends"), [(None, True), (6, True), (7, False)])
def test_too_many_failures_end_the_run_early(
    client: OpenSearch,
    index: str,
    load: Any,
    limit: int | None,
    ends: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk, "MAX_DOCUMENTS", 2)
    monkeypatch.setattr(ingest, "MAX_REJECTED", 6)
    rows = [line("n", n=1), *(line(f"r{number}", n="no number") for number in range(7))]
    report = load(client, index, [*rows, line("a"), line("b")], max_rejected=limit)
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


def test_stop_ends_after_the_request_in_flight(
    client: OpenSearch, index: str, encoder: LatentEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "MAX_DOCUMENTS", 3)
    Path("c.jsonl").write_text("".join(line(str(n)) + "\n" for n in range(20)))
    meta = open_index(client, index, encoder, {})
    job = Ingest(client, index, encoder, meta, "c.jsonl")
    report = job.run(lambda report, position: job.stop())
    assert report.stopped == "interrupted"
    assert adds_up(report)
    assert report.indexed == report.lines == client.count(index=index)["count"] == 3


def test_an_engine_that_cannot_be_asked_is_an_error(encoder: LatentEncoder) -> None:
    from latent_ingest.connector.client import Connection
    from latent_ingest.connector.engine.local import free_port

    client = Connection(f"http://127.0.0.1:{free_port()}").open()
    with pytest.raises(EngineError, match="nothing answers at"):
        open_index(client, "papers", encoder, {})
