"""The doctor against real engines: what is found in good order, and each thing that is not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from click.testing import CliRunner, Result
from elastic_proxy import USER, Elastic, ElasticProxy
from opensearchpy import OpenSearch
from opensearchpy.exceptions import ConnectionTimeout

from latent_ingest.cli.main import cli
from latent_ingest.connector.diagnosis.cluster import required_free
from latent_ingest.connector.diagnosis.doctor import examine
from latent_ingest.connector.diagnosis.finding import Finding
from latent_ingest.connector.diagnosis.trial import PREFIX, STEPS, Trial
from latent_ingest.connector.engine.client import Connection, url_of
from latent_ingest.connector.errors import EngineError, InputError

ROWS = [
    '{"_id": "bees", "title": "Honey", "text": "Insects dance to tell where nectar is."}',
    '{"_id": "law", "title": "Appeal", "text": "The court denied it."}',
]

STEP_NAMES = {name for name, _, _ in STEPS}


@pytest.fixture
def loaded(either: OpenSearch, new_index: Any, load: Any) -> str:
    name: str = new_index(either)
    load(either, name, ROWS)
    either.indices.refresh(index=name)
    return name


def by_check(findings: Sequence[Finding] | Iterator[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}


def state(client: OpenSearch, index: str, check: str) -> tuple[str, str]:
    found = by_check(examine(client, index))[check]
    return found.state, found.found


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["doctor", *arguments])


def test_an_engine_and_an_index_in_good_order(either: OpenSearch, loaded: str) -> None:
    found = by_check(examine(either, loaded, write=True))
    bad = [one for one in found.values() if one.state in ("warning", "problem")]
    assert bad == []
    assert found["version"].state == "ok"
    assert found["model"].state == "ok"
    assert found["latent terms"].found.startswith("2 documents, 0 of them")
    assert found["question table"].state == "note"
    assert [one.found for one in found.values() if one.found.startswith("refused")] == []
    assert set(found) >= STEP_NAMES
    assert not either.indices.exists(index=f"{PREFIX}*", allow_no_indices=False)


def test_nothing_is_made_without_write(either: OpenSearch, loaded: str) -> None:
    before = sorted(either.indices.get(index="*"))
    found = by_check(examine(either, loaded))
    assert not STEP_NAMES & set(found)
    assert sorted(either.indices.get(index="*")) == before


def test_what_is_wrong_with_an_index_is_found(either: OpenSearch, loaded: str) -> None:
    either.index(index=loaded, id="new", body={"title": "No terms", "text": "yet"}, refresh=True)
    assert state(either, loaded, "latent terms") == (
        "warning",
        "3 documents, 1 of them with text and without latent terms",
    )
    settings = {"index": {"refresh_interval": "-1"}}
    either.indices.put_settings(index=loaded, body=settings)
    assert state(either, loaded, "refresh") == ("warning", "off")
    either.indices.put_settings(index=loaded, body={"index": {"refresh_interval": "5m"}})
    assert state(either, loaded, "refresh") == ("note", "5m")
    either.indices.put_settings(index=loaded, body={"index": {"number_of_replicas": 0}})
    assert state(either, loaded, "replicas") == ("ok", "0")
    either.delete_by_query(
        index=loaded, body={"query": {"ids": {"values": ["law", "new"]}}}, refresh=True
    )
    assert state(either, loaded, "deleted documents")[0] in ("note", "ok")  # merged away, or not
    either.indices.put_settings(index=loaded, body={"index": {"blocks.write": True}})
    assert state(either, loaded, "index blocks") == ("warning", "index.blocks.write")
    either.indices.put_settings(index=loaded, body={"index": {"blocks.write": None}})

    meta = either.indices.get_mapping(index=loaded)[loaded]["mappings"]["_meta"]
    other = {**meta, "latent_ingest": {**meta["latent_ingest"], "fingerprint": "0" * 16}}
    either.indices.put_mapping(index=loaded, body={"_meta": other})
    found = by_check(examine(either, loaded))["model"]
    assert (found.state, "the model here is another" in found.advice) == ("warning", True)
    assert by_check(examine(either, loaded, model="no-such"))["model"].state == "unknown"
    less = {key: value for key, value in meta["latent_ingest"].items() if key != "k1"}
    either.indices.put_mapping(index=loaded, body={"_meta": {"latent_ingest": less}})
    assert state(either, loaded, "model")[0] == "problem"
    either.indices.put_mapping(index=loaded, body={"_meta": {}})
    assert state(either, loaded, "index") == ("warning", f"{loaded} has no latent terms")

    either.indices.close(index=loaded)
    found_when_closed = list(examine(either, loaded))
    assert found_when_closed[-1].state == "problem"
    assert f"{loaded} is closed" in found_when_closed[-1].found


def test_settings_of_the_cluster_are_found(either: OpenSearch) -> None:
    changes = {
        "cluster.indices.close.enable": ("closing", "false", "warning"),
        "cluster.blocks.read_only": ("blocks", "true", "problem"),
        "cluster.routing.allocation.disk.watermark.flood_stage": ("disk", "0.03", "problem"),
    }
    low = "cluster.routing.allocation.disk.watermark"
    others = {f"{low}.low": "0.01", f"{low}.high": "0.02"}
    for name, (check, value, expected) in changes.items():
        whole = {name: value, **(others if check == "disk" else {})}
        either.cluster.put_settings(body={"transient": whole})
        try:
            assert by_check(examine(either))[check].state == expected
        finally:
            either.cluster.put_settings(body={"transient": dict.fromkeys(whole)})
        assert by_check(examine(either))[check].state == "ok"


Behind = tuple[ElasticProxy, OpenSearch]


@pytest.fixture
def behind(client: OpenSearch) -> Iterator[Behind]:
    """OpenSearch behind a login whose rights a test chooses by path."""
    proxy = ElasticProxy(url_of(client))
    user, password = USER
    with proxy.listening(Elastic) as url:
        opened = Connection(url, user=user, password=password).open()
        yield proxy, opened
        opened.close()


def test_what_a_login_may_not_is_said(behind: Behind) -> None:
    proxy, login = behind
    proxy.refuse = lambda path: 403 if path.startswith(("/_cluster/", "/_nodes")) else None
    found = by_check(examine(login))
    assert found["closing"].state == found["health"].state == "unknown"
    assert "403" in found["closing"].found
    assert found["clause limit"].state == "ok"  # the engine's default is assumed

    proxy.refuse = lambda path: 403 if path.endswith("/_close") else None
    found = by_check(examine(login, write=True))
    assert found["close and open"].state == "warning"
    assert "403, not /latent-ingest-doctor-" in found["close and open"].found
    assert found["delete"].state == "ok"

    proxy.refuse = lambda path: 403 if path.startswith(f"/{PREFIX}") else None
    trial = [one for one in examine(login, write=True) if one.check in STEP_NAMES]
    assert [(one.check, one.state) for one in trial] == [("create an index", "problem")]


def test_an_index_that_a_trial_may_not_delete_is_named(behind: Behind, client: OpenSearch) -> None:
    proxy, login = behind
    deletes: list[str] = []

    def refuse(path: str) -> int | None:
        named = path.startswith(f"/{PREFIX}") and path.count("/") == 1
        if named:
            deletes.append(path)
        # The first two requests to the bare name create the index and read it.
        return 403 if named and len(deletes) > 2 else None

    proxy.refuse = refuse
    found = by_check(examine(login, write=True))["delete"]
    (left,) = client.indices.get(index=f"{PREFIX}*")
    client.indices.delete(index=left)
    assert found.state == "warning"
    assert left in found.found


def test_an_index_whose_creation_is_not_answered_is_deleted(
    client: OpenSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Trial._create_an_index

    def unanswered(trial: Trial) -> None:
        create(trial)
        assert client.indices.exists(index=trial.index)
        raise ConnectionTimeout("TIMEOUT", "no answer", OSError("no answer"))

    monkeypatch.setattr(Trial, "_create_an_index", unanswered)
    with pytest.raises(EngineError, match="did not answer"):
        list(examine(client, write=True))
    assert not client.indices.exists(index=f"{PREFIX}*", allow_no_indices=False)


def test_the_command(client: OpenSearch, index: str, load: Any) -> None:
    url = ("--url", url_of(client))
    load(client, index, ROWS)
    done = call(*url, "--index", index)
    assert done.exit_code == 0, done.output
    assert "version            ok       opensearch 3" in done.output
    assert done.output.splitlines()[-1].startswith("0 problems, 0 warnings, ")

    client.indices.close(index=index)
    done = call(*url, "--index", index, "--json")
    assert done.exit_code == 1
    printed = json.loads(done.stdout)
    problems = {one["check"] for one in printed["findings"] if one["state"] == "problem"}
    assert "index" in problems
    assert printed["problem"] == len(problems)

    done = call(*url, "--index", "no-such-index")
    assert done.exit_code == 2
    assert "no index or alias no-such-index" in done.stderr
    done = call("--url", "http://127.0.0.1:9")
    assert done.exit_code == 1
    assert "nothing answers at http://127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.output


def test_several_indices_behind_a_name(client: OpenSearch, new_index: Any, load: Any) -> None:
    names = [new_index(), new_index()]
    for name in names:
        load(client, name, ROWS)
    with pytest.raises(InputError, match="2 indices"):
        list(examine(client, ",".join(names)))


def test_a_login_that_is_refused(behind: Behind) -> None:
    proxy, login = behind
    proxy.refuse = lambda path: 401
    with pytest.raises(EngineError, match="refuses the user name or the password"):
        list(examine(login))


@pytest.mark.parametrize(
    ("watermark", "free"),
    [("85%", 150), ("0.95", 50), (".9", 100), ("1kb", 1024), ("2b", 2), (None, 0), ("off", 0)],
)
def test_watermarks(watermark: str | None, free: float) -> None:
    assert required_free(watermark, 1000) == pytest.approx(free)
