"""Runs that write to one index at once, or were killed: each has its number, and leaves nothing."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from opensearchpy import OpenSearch

from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.engine.retry import Retry
from latent_ingest.connector.index import guard
from latent_ingest.connector.index.guard import Guard, Loading
from latent_ingest.connector.index.index import Index
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.index.opening import open_index


@pytest.fixture
def made(client: OpenSearch, index: str, encoder: LatentEncoder) -> str:
    """An index that is refreshed every seven seconds."""
    open_index(client, index, encoder, {})
    client.indices.put_settings(index=index, body={"index": {"refresh_interval": "7s"}})
    return index


def job(client: OpenSearch, index: str, corpus: str) -> Loading:
    return Loading(Index(client, index), corpus, Retry(client))


def begun(client: OpenSearch, index: str, corpus: str) -> Loading:
    run = job(client, index, corpus)
    run.begin()
    return run


def interval(client: OpenSearch, index: str) -> str | None:
    found = client.indices.get_settings(index=index)[index]["settings"]["index"]
    value: str | None = found.get("refresh_interval")
    return value


def aliases(client: OpenSearch, index: str) -> list[str]:
    return sorted(client.indices.get_alias(index=index)[index]["aliases"])


def meta_of(client: OpenSearch, index: str) -> IndexMeta:
    meta = IndexMeta.read(client, index)
    assert meta is not None
    return meta


def test_two_files_of_one_name_do_not_share_a_guard(client: OpenSearch, made: str) -> None:
    """Each run starts in its own folder, so that the path is typed the same."""
    runs = []
    for folder in ("a", "b"):
        Path(folder).mkdir()
        os.chdir(folder)
        runs.append(job(client, made, "part.jsonl"))
        os.chdir("..")
    first, second = (run.begin() for run in runs)
    assert first != second
    runs[0].end()
    body = b'{"index": {"_id": "x"}}\n{"text": "bees"}\n'
    assert client.bulk(body=body, **second)["errors"] is False
    assert client.bulk(body=body, **first)["errors"] is True
    runs[1].end()
    assert aliases(client, made) == []


@pytest.mark.parametrize("again", ["./c.jsonl", "other.jsonl"])
def test_a_killed_run_leaves_no_alias_once_it_is_resumed(
    client: OpenSearch, made: str, again: str
) -> None:
    """Also if its path is written differently."""
    begun(client, made, "c.jsonl")  # is killed
    if again == "other.jsonl":
        begun(client, made, again).end()
        assert len(aliases(client, made)) == 1
        again = "c.jsonl"
    begun(client, made, again).end()
    assert aliases(client, made) == []


def test_an_index_is_loaded_by_the_name_of_an_alias_too(client: OpenSearch, made: str) -> None:
    client.indices.put_alias(index=made, name=f"{made}-alias")
    run = job(client, f"{made}-alias", "c.jsonl")
    assert run.begin()["require_alias"]
    run.end()
    assert aliases(client, made) == [f"{made}-alias"]


def test_two_runs_that_begin_at_once_have_two_numbers(
    client: OpenSearch, made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "COLLISION_SECONDS", 0.05)
    together, put = threading.Barrier(2), Guard.put
    waited: set[Guard] = set()

    def put_together(self: Guard, number: int = 0) -> None:
        if self not in waited:
            waited.add(self)
            together.wait(60)
        put(self, number)

    runs = [job(client, made, corpus) for corpus in ("a.jsonl", "b.jsonl")]
    threads = [threading.Thread(target=run.begin) for run in runs]
    with monkeypatch.context() as patch:
        patch.setattr(Guard, "put", put_together)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {run.number for run in runs} == {1, 2}
    for run in runs:
        run.end()
    assert aliases(client, made) == []
    assert begun(client, made, "c.jsonl").number == 3


def test_a_number_that_was_written_over_is_not_given_again(client: OpenSearch, made: str) -> None:
    """`_meta` is replaced as a whole, also by a run that read it before."""
    first = begun(client, made, "a.jsonl")
    Index(client, made).update_meta(runs=0)
    second = begun(client, made, "b.jsonl")
    Index(client, made).update_meta(runs=1)
    assert (first.number, second.number) == (1, 2)
    second.end()
    first.end()
    assert meta_of(client, made).runs == 2
    resumed = begun(client, made, "a.jsonl")
    assert resumed.number == meta_of(client, made).runs == 3
    resumed.end()


@pytest.mark.parametrize("last", [0, 1])
def test_refreshing_is_as_it_was_after_two_runs_at_once_or_one_that_was_killed(
    client: OpenSearch, made: str, last: int
) -> None:
    runs = [begun(client, made, corpus) for corpus in ("a.jsonl", "b.jsonl")]
    assert interval(client, made) == "-1"
    runs[1 - last].end()
    begun(client, made, "c.jsonl")  # is killed
    assert interval(client, made) == "-1"
    runs[last].end()
    assert interval(client, made) == "7s"
    begun(client, made, "d.jsonl")  # is killed
    assert interval(client, made) == "-1"
    begun(client, made, "e.jsonl").end()
    assert interval(client, made) == "7s"
    assert meta_of(client, made).loading is None


def test_refreshing_is_restored_by_a_run_that_began_while_another_ended(
    client: OpenSearch, made: str
) -> None:
    """The other run removed the note, but restored the interval before this one changed it."""
    run = begun(client, made, "a.jsonl")
    Index(client, made).update_meta(loading=None)
    run.end()
    assert interval(client, made) == "7s"
    again = begun(client, made, "a.jsonl")
    client.indices.put_settings(index=made, body={"index": {"refresh_interval": "9s"}})
    again.end()
    assert interval(client, made) == "9s", "what somebody sets meanwhile stays"
