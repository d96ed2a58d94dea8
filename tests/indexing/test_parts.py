"""The parts of ingest that need no server."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Generator
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latent_ingest.connector.corpus.corpus import Corpus
from latent_ingest.connector.corpus.finding import short_name
from latent_ingest.connector.document import BadLine, Document
from latent_ingest.connector.encoding.encoder import LatentEncoder
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.meta import IndexMeta
from latent_ingest.connector.indexing import batches, sender
from latent_ingest.connector.indexing.actions import IndexAction
from latent_ingest.connector.indexing.batches import Batches
from latent_ingest.connector.indexing.outcomes import (
    FailuresFile,
    check_writable,
    default_path,
)
from latent_ingest.connector.prefetch import prefetch
from latent_ingest.connector.seen_keys import SeenKeys
from latent_ingest.mappings import MappingConfig


def action(identifier: str, size: int = 10, line: int = 1) -> IndexAction:
    document = Document(line, identifier, False, "", {})
    return IndexAction(id=identifier, body=b"x" * size, document=document, version=line)


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 40)), max_size=60),
    st.integers(1, 10),
    st.integers(1, 100),
)
def test_requests_keep_order_and_limits_and_hold_no_id_twice(
    items: list[tuple[str, int]], count: int, size: int
) -> None:
    actions = [action(identifier, length) for identifier, length in items]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sender, "MAX_DOCUMENTS", count)
        patch.setattr(sender, "MAX_BYTES", size)
        cut = list(sender.requests(actions))
    assert [item for request in cut for item in request] == actions
    for request in cut:
        ids = [item.document.id for item in request]
        assert len(ids) == len(set(ids)) <= count
        assert len(request) == 1 or sum(len(item.body) for item in request) <= size


@pytest.mark.parametrize(
    ("limit", "lines"), [("characters", 4), ("MAX_BATCH_BYTES", 2), ("MAX_BATCH_LINES", 3)]
)
def test_a_batch_is_bounded_in_text_and_bytes_and_lines(
    limit: str, lines: int, encoder: LatentEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes are those of whole lines, of which little may be text."""
    rows = [json.dumps({"_id": str(n), "text": "ten chars.", "n": "x" * 1000}) for n in range(10)]
    Path("c.jsonl").write_text("".join(f"{row}\n" for row in rows))
    if limit != "characters":
        monkeypatch.setattr(batches, limit, {"MAX_BATCH_BYTES": 2000, "MAX_BATCH_LINES": 3}[limit])
    meta = IndexMeta.of(encoder, MappingConfig())
    with Corpus("c.jsonl") as file:
        read = list(Batches(file, ("_id",), meta, 40).read())
    assert max(batch.lines for batch in read) == lines
    assert [document.id for batch in read for document in batch.documents] == list("0123456789")


@pytest.mark.parametrize(("long", "lines"), [("pool", 10), ("chunks", 4)])
def test_fields_count_for_each_chunk_that_has_them(
    long: str, lines: int, encoder: LatentEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [json.dumps({"_id": str(n), "text": "word " * 500, "n": "x" * 5000}) for n in range(10)]
    Path("c.jsonl").write_text("".join(f"{row}\n" for row in rows))
    monkeypatch.setattr(batches, "MAX_BATCH_BYTES", 100_000)
    meta = IndexMeta.of(encoder, MappingConfig(long=long))
    with Corpus("c.jsonl") as file:
        read = list(Batches(file, ("_id",), meta, 10**6).read())
    assert max(batch.lines for batch in read) == lines


def numbers(closed: threading.Event, fail_at: int | None = None) -> Generator[int, None, None]:
    try:
        for number in range(100):
            if number == fail_at:
                raise InputError("the source broke")
            yield number
    finally:
        closed.set()


def test_prefetch_gives_all_items_in_order() -> None:
    closed = threading.Event()
    assert list(prefetch(numbers(closed), 3)) == list(range(100))
    assert closed.is_set()


def test_an_error_comes_after_the_items_before_it() -> None:
    ahead = prefetch(numbers(threading.Event(), fail_at=7), 3)
    assert list(islice(ahead, 7)) == list(range(7))
    with pytest.raises(InputError, match="the source broke"):
        next(ahead)


def test_closing_early_closes_the_source() -> None:
    closed = threading.Event()
    ahead = prefetch(numbers(closed), 3)
    assert next(ahead) == 0
    ahead.close()
    assert closed.is_set()


def test_prefetch_stays_only_so_far_ahead() -> None:
    made: list[int] = []

    def source() -> Generator[int, None, None]:
        for number in range(50):
            made.append(number)
            yield number

    ahead = prefetch(source(), 2)
    next(ahead)
    time.sleep(0.5)
    assert len(made) <= 5
    ahead.close()


@given(st.lists(st.lists(st.text(max_size=3), max_size=8), max_size=8))
def test_seen_keys_counts_what_is_new(batches: list[list[str]]) -> None:
    seen, known = SeenKeys(), set[str]()
    for batch in batches:
        assert seen.add(batch) == len(set(batch) - known)
        known |= set(batch)
    seen.close()


def test_an_older_failures_file_is_kept(tmp_path: Path) -> None:
    wanted = tmp_path / "c.failed.jsonl"
    wanted.write_text("from before\n")
    file = FailuresFile(wanted, "c.jsonl")
    assert file.path is None
    file.write(BadLine(3, "why", b"{}"))
    file.close()
    assert file.path == tmp_path / "c.failed-2.jsonl"
    assert wanted.read_text() == "from before\n"
    assert '"line": 3, "reason": "why"' in file.path.read_text()


def test_a_failures_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"f.jsonl: cannot be written: No such.*--failures"):
        check_writable(tmp_path / "none" / "f.jsonl")
    check_writable(tmp_path / "f.jsonl")


def test_a_failures_file_that_does_not_fit_is_said_and_keeps_what_it_has(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    file = FailuresFile(tmp_path / "f.jsonl", "c")
    file.write(BadLine(1, "why", b""))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:  # no file may be longer than this one, as if the disk were full
        resource.setrlimit(resource.RLIMIT_FSIZE, (file.save(), before[1]))
        with (
            pytest.raises(InputError, match=r"f.jsonl: cannot be written.*--failures"),
            closing(file),
        ):
            file.write(BadLine(2, "why", b""))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert file.path is not None
    assert '"line": 1' in file.path.read_text()


def lines_of(path: Path) -> list[int]:
    return [json.loads(row)["_failure"]["line"] for row in path.read_text().splitlines()]


def test_a_failures_file_is_continued_where_it_was_noted(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    with closing(FailuresFile(path, "c")) as file:
        file.write(BadLine(1, "why", b""))
        noted = file.save()
        file.write(BadLine(2, "why", b""))
    with closing(FailuresFile(path, "c")) as file:
        assert file.resume(path, noted)
        file.write(BadLine(3, "why", b""))
    assert lines_of(path) == [1, 3]


@pytest.mark.parametrize(
    "corrected",
    ["", '{"_id": "a"}\n', '{"_failure": {"reason": "%s"}, "_id": "a"}\n' % ("long " * 90), None],
    ids=["emptied", "shorter", "longer", "moved"],
)
def test_a_failures_file_that_somebody_corrected_stays_as_it_is(
    tmp_path: Path, corrected: str | None
) -> None:
    path = tmp_path / "f.jsonl"
    with closing(FailuresFile(path, "c")) as file:
        for number in range(3):
            file.write(BadLine(number, "why", b""))
        noted = file.save()
    path.unlink() if corrected is None else path.write_text(corrected)
    with closing(FailuresFile(path, "c")) as file:
        assert not file.resume(path, noted)
        assert file.save() == 0
        file.write(BadLine(4, "why", b""))
        assert file.path is not None
        assert lines_of(file.path) == [4]
    if corrected is not None:
        assert path.read_text() == corrected
        with closing(FailuresFile(path, "c")) as file:  # nothing of the run's is known to be there
            assert not file.resume(path, 0)


def test_failures_are_on_disk_before_the_journal_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.fstat(number).st_size))
    with closing(FailuresFile(tmp_path / "f.jsonl", "c")) as file:
        assert file.save() == 0
        file.write(BadLine(1, "why", b""))
        assert [file.save(), file.save()] == synced * 2
        assert len(synced) == 1


@pytest.mark.parametrize(
    ("corpus", "path"),
    [
        ("/a/b.jsonl", "b"),
        ("b.jsonl.gz", "b"),
        ("b.parquet", "b"),
        ("b.csv.xz", "b"),
        ("b.txt", "b.txt"),
        ("-", "papers"),
        ("data/*.csv", "papers"),
    ],
)
def test_where_failures_go(corpus: str, path: str) -> None:
    assert default_path(short_name(corpus), "papers") == Path(f"{path}.failed.jsonl")
