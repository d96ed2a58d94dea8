"""enrich: an index that is not ours gets latent terms, keeps them, and loses nothing else."""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tenacity
from click.testing import CliRunner, Result
from faults import FaultProxy
from killed import Killed
from opensearchpy import OpenSearch
from opensearchpy.exceptions import ConnectionError as NoConnection
from opensearchpy.exceptions import TransportError
from shop import MAPPING, TEXT, all_done, make, sources

from latent_ingest.cli.main import cli
from latent_ingest.connector.document_text import text_hash
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine import client as client_module
from latent_ingest.connector.engine import retry
from latent_ingest.connector.engine.client import Connection
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.errors import InputError, LatentIngestError, MismatchError
from latent_ingest.connector.index import creation as index_module
from latent_ingest.connector.index import reading
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.preparing import ExistingIndex, plan, prepare
from latent_ingest.connector.indexing import enrich, outcomes, sender
from latent_ingest.connector.indexing.actions import term_strings
from latent_ingest.connector.indexing.enrich import Enrich
from latent_ingest.connector.indexing.outcomes import EnrichReport
from latent_ingest.connector.querying.rewriter import QueryRewriter
from latent_ingest.mappings import MappingConfig, index_body

# In requests of three documents, killed before the fifth.
KILLED = Killed(
    "opensearchpy.OpenSearch.bulk",
    call=5,
    constants={"latent_ingest.connector.indexing.sender.MAX_DOCUMENTS": 3},
)

FIELDS = {"text_fields": ("title", "body")}


@pytest.fixture
def rows(documents: list[dict[str, str]]) -> list[dict[str, Any]]:
    return [
        {
            "_id": document["_id"],
            "title": document["_id"],
            "body": document["text"][:100],
            "year": n,
        }
        for n, document in enumerate(documents[:32])
    ]


@pytest.fixture
def index(new_index: Any, client: OpenSearch, rows: list[dict[str, Any]]) -> str:
    name: str = new_index()
    make(client, name, rows)
    return name


Run = Callable[..., EnrichReport]


@pytest.fixture
def run(client: OpenSearch, index: str, encoder: LatentEncoder) -> Run:
    """Enrich the index, or another."""

    def enriched(
        name: str = index,
        wanted: dict[str, Any] | None = None,
        *,
        on: Any = client,
        encoder: LatentEncoder = encoder,
        on_progress: Callable[[Enrich], None] = lambda job: None,
        **options: Any,
    ) -> EnrichReport:
        preparation = plan(
            ExistingIndex.read(on, name), encoder, FIELDS if wanted is None else wanted
        )
        prepare(preparation, Retry(on))
        job = Enrich(on, preparation, encoder, **{"give_up_after": 1, **options})
        return job.run(lambda report: on_progress(job))

    return enriched


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages, batches and requests of a few documents."""
    monkeypatch.setattr(reading, "PAGE", 7)
    monkeypatch.setattr(enrich, "PAGE", 7)
    monkeypatch.setattr(enrich, "MAX_BATCH_DOCUMENTS", 5)
    monkeypatch.setattr(sender, "MAX_DOCUMENTS", 3)
    monkeypatch.setattr(retry, "WAIT", tenacity.wait_fixed(0.01))


def counts(report: EnrichReport) -> tuple[int, ...]:
    ended = report.up_to_date + report.encoded + report.deleted + report.failed
    assert report.read == ended + report.left
    return report.read, report.up_to_date, report.encoded, report.failed, report.left


class Between:
    """A client that lets something happen before its bulk requests, on an engine that is real."""

    def __init__(self, client: OpenSearch, happen: Callable[[int], None]) -> None:
        self._client = client
        self._happen = happen
        self._one_at_a_time = threading.Lock()
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def bulk(self, **options: Any) -> Any:
        with self._one_at_a_time:
            self.calls += 1
            self._happen(self.calls)
        return self._client.bulk(**options)


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


@pytest.mark.usefixtures("small")
def test_a_change_between_reading_and_writing_is_not_overwritten(
    run: Run, client: OpenSearch, index: str, rows: list[dict[str, Any]], encoder: LatentEncoder
) -> None:
    """By others: to one document again and again, to another once; and one is deleted."""
    busy, once, gone = (row["_id"] for row in rows[:3])

    def others(call: int) -> None:
        if call == 1:
            client.update(index=index, id=once, body={"doc": {"body": "changed once"}})
            client.delete(index=index, id=gone)
        if call <= 18:
            client.update(index=index, id=busy, body={"doc": {"body": f"change {call}"}})

    between = Between(client, others)
    report = run(on=between)
    assert between.calls > 18
    assert report.ok
    assert report.read == 32
    assert report.encoded == 31
    assert report.deleted == 1
    assert report.conflicts >= 3
    after = sources(client, index)
    assert after[once]["body"] == "changed once"
    assert after[busy]["body"] == "change 18"
    assert gone not in after
    assert all_done(client, index, encoder)
    assert counts(run()) == (31, 31, 0, 0, 0)


@pytest.mark.usefixtures("small")
def test_a_document_that_never_rests_fails_in_the_end(
    run: Run, client: OpenSearch, index: str, rows: list[dict[str, Any]]
) -> None:
    busy = rows[0]["_id"]

    def other(call: int) -> None:
        client.update(index=index, id=busy, body={"doc": {"body": f"change {call}"}})

    report = run(on=Between(client, other))
    assert counts(report) == (32, 0, 31, 1, 0)
    assert not report.ok
    assert report.failures_file == f"{index}.failed.jsonl"
    (failure,) = map(json.loads, Path(report.failures_file).read_text().splitlines())
    assert failure["_id"] == busy
    assert "changed 10 times while it was encoded" in failure["_failure"]["reason"]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("cut", ["stop", "gone", "crash"])
def test_an_interrupted_run_resumes(
    run: Run, client: OpenSearch, index: str, encoder: LatentEncoder, cut: str
) -> None:
    stopped = threading.Event()

    def break_off(call: int) -> None:
        if call > 4 and cut == "gone":
            raise NoConnection("N/A", "refused", OSError("refused"))
        if call > 4 and cut == "crash":
            raise KeyboardInterrupt
        if call > 3 and cut == "stop":
            stopped.wait(30)

    def stop(job: Enrich) -> None:
        if job.report.encoded >= 6 and cut == "stop":
            job.stop()
            stopped.set()

    if cut == "crash":
        with pytest.raises(KeyboardInterrupt):
            run(on=Between(client, break_off))
    else:
        report = run(on=Between(client, break_off), on_progress=stop)
        assert not report.ok
        counts(report)
        message = "interrupted" if cut == "stop" else "nothing answers at"
        assert message in (report.stopped or "")
    done = sum("latent" in source for source in sources(client, index).values())
    assert 0 < done < 32
    assert counts(run()) == (32, done, 32 - done, 0, 0)
    assert all_done(client, index, encoder)


@pytest.mark.usefixtures("small")
def test_failures_that_pass_are_tried_again(
    run: Run, client: OpenSearch, index: str, encoder: LatentEncoder
) -> None:
    """Also an answer that is lost after the engine did what it was asked."""

    refused: list[int] = []

    class Losing(Between):
        def bulk(self, **options: Any) -> Any:
            if options["body"].count(b"\n") > 4:
                refused.append(len(options["body"]))
                raise TransportError(413, "too large", {})
            answer = super().bulk(**options)
            if self.calls % 3 == 0:
                raise NoConnection("N/A", "reset", OSError("reset"))
            return answer

    def busy(call: int) -> None:
        if call % 5 == 0:
            raise TransportError(429, "busy", {})

    report = run(on=Losing(client, busy), concurrency=1)
    assert report.ok
    assert counts(report) == (32, 0, 32, 0, 0)
    assert report.conflicts > 0
    assert all_done(client, index, encoder)
    assert sorted(set(refused), reverse=True) == refused != [], "what is too large is remembered"
    assert client.indices.get_alias(index=index)[index]["aliases"] == {}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("status", [401, 403])
def test_a_document_that_is_forbidden_ends_the_run(
    run: Run, client: OpenSearch, status: int
) -> None:
    """And is not one of those that fail; what the engine took of the same request counts."""

    class Forbidding(Between):
        def bulk(self, **options: Any) -> Any:
            answer = super().bulk(**options)
            if self.calls == 2:
                error = {"type": "security_exception", "reason": "no permissions"}
                answer["items"][1]["update"] = {"status": status, "error": error}
            return answer

    report = run(on=Forbidding(client, lambda call: None), concurrency=1)
    assert "forbids this (no permissions); ask for the rights" in (report.stopped or "")
    assert (report.encoded, report.failed) == (5, 0)
    counts(report)


@pytest.mark.slow
def test_whatever_is_spoilt_and_changed_meanwhile_each_document_has_the_latents_of_its_text(
    run: Run,
    client: OpenSearch,
    opensearch_url: str,
    new_index: Any,
    encoder: LatentEncoder,
    documents: list[dict[str, str]],
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An application updates, replaces, adds and deletes documents all along."""
    for module, name, value in (
        (reading, "PAGE", 10), (enrich, "PAGE", 10), (enrich, "MAX_BATCH_DOCUMENTS", 20),
        (sender, "MAX_DOCUMENTS", 4), (retry, "WAIT", tenacity.wait_random(0, 0.02)),
        (client_module, "REQUEST_SECONDS", 0.6),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    texts = {str(n): documents[n % len(documents)]["text"][:60] for n in range(60)}
    index = new_index()
    make(client, index, [{"_id": name, "title": "", "body": text} for name, text in texts.items()])
    preparation = plan(ExistingIndex.read(client, index), encoder, FIELDS)
    prepare(preparation, Retry(client))
    chance = random.Random(seed)

    def application(_: EnrichReport) -> None:
        name, text = chance.choice([*texts]), f"{chance.random()} bees"
        what = chance.choice(["update", "replace", "add", "delete"])
        if what == "delete":
            client.delete(index=index, id=name)
            del texts[name]
            return
        name = f"new {text}" if what == "add" else name
        if what == "update":
            doc = {"doc": {"body": text}}
            client.update(index=index, id=name, body=doc, params={"retry_on_conflict": 9})
        else:
            client.index(index=index, id=name, body={"title": "", "body": text})
        texts[name] = text

    proxy = FaultProxy(opensearch_url, seed, others=0.2, timeout=0.6)
    with proxy.listening() as url:
        job = Enrich(Connection(url).open(), preparation, encoder, give_up_after=60)
        report = job.run(application)
    assert report.ok, report
    assert report.conflicts > 0
    assert proxy.injected.total() >= 10, proxy.injected
    run(index)  # what was added, or changed after it was encoded
    after = sources(client, index)
    assert {name: source["body"] for name, source in after.items()} == texts
    names = list(after)
    vectors = encoder.encode([after[name]["body"] for name in names])
    meta = IndexMeta.read(client, index)
    assert meta is not None
    for name, string in zip(names, term_strings(vectors, meta), strict=True):
        assert after[name]["latent_hash"] == text_hash(texts[name])
        # Batches of other texts differ in the last bit, which moves a count at the edge.
        found, expected = {*after[name]["latent"].split()}, {*string.split()}
        assert len(found ^ expected) <= 0.02 * len(expected), name


@pytest.mark.usefixtures("small")
def test_too_many_failures_end_the_run_early(
    run: Run, client: OpenSearch, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "MAX_FAILED", 2)

    class Spoiling(Between):
        def bulk(self, **options: Any) -> Any:
            if self.calls:  # an object where the engine wants text
                options["body"] = options["body"].replace(b'"latent": "', b'"latent": {}, "_": "')
            return super().bulk(**options)

    report = run(on=Spoiling(client, lambda call: None), concurrency=1)
    counts(report)
    assert report.encoded == 3
    assert 3 <= report.failed < 29, "requests in flight end"
    assert len(Path(f"{index}.failed.jsonl").read_text().splitlines()) == report.failed
    assert "3 documents failed, more than 2" in (report.stopped or "")


@pytest.mark.usefixtures("small")
def test_an_engine_that_forgets_where_we_are_ends_the_run(
    run: Run, client: OpenSearch, index: str, encoder: LatentEncoder
) -> None:
    class Forgetting(Between):
        def search(self, **options: Any) -> Any:
            self._happen(0)
            return self._client.search(**options)

    searches: list[int] = []

    def forget(_call: int) -> None:
        searches.append(1)
        if len(searches) >= 4:  # two shards are read at the same time
            client.delete_all_pits()

    report = run(on=Forgetting(client, forget))
    assert f"has lost the reading position in index {index}" in (report.stopped or "")
    assert not report.ok
    assert run().ok
    assert all_done(client, index, encoder)


@pytest.mark.usefixtures("small")
def test_an_index_deleted_under_our_feet_ends_the_run(
    run: Run, client: OpenSearch, index: str
) -> None:
    def delete(call: int) -> None:
        if call == 2:
            client.indices.delete(index=index)

    report = run(on=Between(client, delete), concurrency=1)
    assert not report.ok
    assert "the index was deleted" in (report.stopped or "")
    assert (report.encoded, report.failed, report.deleted) == (3, 0, 0)
    assert not client.indices.exists(index=index), "the engine makes it again of what is sent"


@pytest.mark.usefixtures("small")
def test_an_index_deleted_after_the_last_update_is_no_success(
    run: Run, client: OpenSearch, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    update_all = Enrich._update_all

    def then_delete(job: Enrich, target: Any) -> None:
        update_all(job, target)
        client.indices.delete(index=index)

    monkeypatch.setattr(Enrich, "_update_all", then_delete)
    report = run()
    assert report.encoded
    assert not report.ok
    assert f"no such index [{index}]" in (report.stopped or "")


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


Command = Callable[..., Result]


@pytest.fixture
def command(opensearch_url: str, monkeypatch: pytest.MonkeyPatch, index: str) -> Command:
    monkeypatch.setenv("OPENSEARCH_URL", opensearch_url)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["enrich", "--index", index, *arguments])

    return invoke


def test_the_command_asks_before_it_closes_an_index(
    command: Command, client: OpenSearch, index: str
) -> None:
    fields = ("--text-fields", "title,body")
    refused = command(*fields)
    assert refused.exit_code == 2
    assert "will be closed for a moment" in refused.stderr
    assert "agree with --yes" in refused.stderr
    assert "latent" not in client.indices.get_mapping(index=index)[index]["mappings"]["properties"]
    client.indices.put_alias(index=index, name=f"{index}-alias")
    done = command("--index", f"{index}-alias", *fields, "--yes")
    assert done.exit_code == 0, done.output
    first, second = done.stdout.splitlines()
    assert first.startswith(f"index {index}: 32 documents encoded in ")
    assert second == "32 documents read = 32 encoded"
    again = command("--json")  # nothing to close, so nothing to ask
    assert again.exit_code == 0, again.output
    report = json.loads(again.stdout)
    assert (report["read"], report["up_to_date"], report["encoded"]) == (32, 32, 0)
    shown = CliRunner().invoke(cli, ["runs"]).stdout
    assert f"index:{index} → {index}: done" in shown


def test_the_same_command_resumes_one_that_was_killed(
    command: Command, client: OpenSearch, index: str, encoder: LatentEncoder
) -> None:
    arguments = ["--text-fields", "title,body", "--yes"]
    KILLED.run("enrich", "--index", index, *arguments)
    shown = CliRunner().invoke(cli, ["runs"]).stdout
    assert f"index:{index} → {index}: interrupted" in shown
    assert f"resume with: cd {Path.cwd()} && latent-ingest enrich --index {index}" in shown
    done = command(*arguments)
    assert done.exit_code == 0, done.output
    counts = re.search(
        r"32 documents read = (\d+) up to date already \+ (\d+) encoded", done.stdout
    )
    assert counts, done.stdout
    # Several requests were under way when it was killed.
    assert 0 < int(counts[1]) < 32 == int(counts[1]) + int(counts[2])
    assert all_done(client, index, encoder)


def test_the_command_refuses_in_one_line(command: Command) -> None:
    for arguments, message in {
        ("--index", "not-there"): "no index not-there; check --index",
        ("--text-fields", "bodi"): "no field 'bodi' in index",
        ("--text-fields", ","): "write at least one name",
        ("--url", "http://127.0.0.1:1"): "nothing answers at http://127.0.0.1:1",
    }.items():
        done = command(*arguments)
        assert done.exit_code == (1 if "--url" in arguments else 2)
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_giving_up_ends_with_status_1(command: Command, client: OpenSearch, index: str) -> None:
    """An index that its operator has made read-only for documents."""
    assert command("--text-fields", "title", "--yes").exit_code == 0
    name = next(iter(sources(client, index)))
    client.update(index=index, id=name, body={"doc": {"title": "bees"}}, refresh=True)
    client.indices.put_settings(index=index, body={"index.blocks.write": True})
    done = command("--give-up-after", "1s")
    client.indices.put_settings(index=index, body={"index.blocks.write": False})
    assert done.exit_code == 1
    assert "32 documents read = 31 up to date already + 1 left" in done.stdout
    assert "blocked by" in done.stderr
    assert "gave up after 1 s" in done.stderr
    assert command().exit_code == 0
