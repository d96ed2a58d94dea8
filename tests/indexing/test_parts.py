"""The parts of ingest that need no server."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latent_ingest.connector.corpus import BadLine, Document
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.indexing import bulk
from latent_ingest.connector.indexing.actions import Action, make_action
from latent_ingest.connector.indexing.failures import FailuresFile, default_path
from latent_ingest.connector.indexing.pipeline import prefetch
from latent_ingest.connector.seen_keys import SeenKeys


def action(identifier: str, size: int = 10, line: int = 1) -> Action:
    document = Document(line, identifier, False, "", {})
    return Action(document, line, b"x" * size, empty=False, truncated=False)


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
        patch.setattr(bulk, "MAX_DOCUMENTS", count)
        patch.setattr(bulk, "MAX_BYTES", size)
        cut = list(bulk.requests(actions))
    assert [item for request in cut for item in request] == actions
    for request in cut:
        ids = [item.document.id for item in request]
        assert len(ids) == len(set(ids)) <= count
        assert len(request) == 1 or sum(len(item.body) for item in request) <= size


def test_a_lone_surrogate_does_not_break_a_request() -> None:
    document = Document(1, "a", False, "x", {"text": "\ud800 x"})
    made = make_action(document, 1, "latent", "f1 f1")
    assert made.body.decode().endswith('{"text": "? x", "latent": "f1 f1"}\n')


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
    with pytest.raises(InputError, match=r"cannot be written.*--failures"):
        FailuresFile(tmp_path / "none" / "f.jsonl", "c").write(BadLine(1, "why", b""))


def test_a_failures_file_that_does_not_fit_is_said_and_keeps_what_it_has(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    file = FailuresFile(tmp_path / "f.jsonl", "c")
    file.write(BadLine(1, "why", b""))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:  # no file may be longer than this one, as if the disk were full
        resource.setrlimit(resource.RLIMIT_FSIZE, (file.bytes, before[1]))
        with pytest.raises(InputError, match=r"f.jsonl: cannot be written.*--failures"):
            file.write(BadLine(2, "why", b""))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert file.path is not None
    assert '"line": 1' in file.path.read_text()


@pytest.mark.parametrize(
    ("corpus", "path"),
    [("/a/b.jsonl", "b"), ("b.jsonl.gz", "b"), ("b.txt", "b.txt"), ("-", "papers")],
)
def test_where_failures_go(corpus: str, path: str) -> None:
    assert default_path(corpus, "papers") == Path(f"{path}.failed.jsonl")
