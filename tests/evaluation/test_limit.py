"""Generated LIMIT collections: counted, and read back as any other collection."""

from __future__ import annotations

import hashlib
import json
from itertools import combinations
from pathlib import Path

import pytest
from click.testing import CliRunner

from latent_ingest.cli.main import cli
from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.collections.limit import (
    FIRST_NAMES,
    KINDS,
    LIKES,
    MOST_QUERIES,
    SURNAME_BEGINNINGS,
    SURNAME_ENDINGS,
    THINGS,
    Limit,
)
from latent_ingest.connector.errors import InputError


def likes(text: str) -> set[str]:
    first, last = text.split(" likes ", 1)[1].removesuffix(".").rsplit(" and ", 1)
    things = [*first.split(", "), last]
    assert len(set(things)) == len(things)
    return set(things)


@pytest.mark.parametrize(
    ("documents", "queries"), [(46, 1035), (400, 1000), (120, 1), (60, 10), (90, 3000)]
)
def test_exactly_two_documents_have_what_a_question_asks_for(
    documents: int, queries: int, tmp_path: Path
) -> None:
    made = Limit(documents, queries, seed=7)
    made.write(tmp_path / "limit")
    collection = Collection.load(tmp_path / "limit")
    texts = {document.id: document.text for document in collection.documents()}
    assert (len(texts), len(collection.queries)) == (documents, queries)
    liked = {id: likes(text) for id, text in texts.items()}
    assert {len(things) for things in liked.values()} == {max(LIKES, made.judged - 1)}
    assert all(texts[id].startswith(f"{id} likes ") for id in texts)
    holders: dict[str, set[str]] = {}
    for id, things in liked.items():
        for thing in things:
            holders.setdefault(thing, set()).add(id)
    pairs = []
    for query, text in collection.queries.items():
        asked = text.removeprefix("Who likes ").removesuffix("?")
        assert collection.qrels[query] == dict.fromkeys(holders[asked], 1)
        pairs.append(frozenset(holders[asked]))
    assert {len(pair) for pair in pairs} == {2}
    assert len(set(pairs)) == queries
    judged = set().union(*pairs)
    assert len(judged) <= made.judged
    # As few documents as have so many pairs: with 1,035 questions, all pairs of 46.
    if queries == 1035:
        assert set(pairs) == set(map(frozenset, combinations(texts, 2)))


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    """The digest is the same on every machine and Python; a change of the recipe changes it."""
    digests = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        Limit(300, 200, seed).write(tmp_path / name)
        files = ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv")
        content = b"".join((tmp_path / name / file).read_bytes() for file in files)
        digests[name] = hashlib.sha256(content).hexdigest()
    assert digests["a"] == digests["b"] != digests["c"]
    assert digests["a"] == "0fdce203734d0834beb5dab296f442449992da356002afb76a09d8f023d20f3f"


def test_names_are_all_different_and_many() -> None:
    from random import Random

    people = len(FIRST_NAMES) * len(SURNAME_BEGINNINGS) * len(SURNAME_ENDINGS)
    assert people > 250_000
    name = Limit(people, 10)._names(Random(3))
    assert len({name(place) for place in range(people)}) == people
    name = Limit(people + 1, 10)._names(Random(3))
    assert len({name(place) for place in range(people + 1)}) == people + 1
    assert len(name(0).split()) == 3  # with an initial


def test_things_are_unique() -> None:
    assert len(set(THINGS)) == len(THINGS) > 1600
    assert len(set(KINDS) | set(THINGS)) == len(KINDS) + len(THINGS)


@pytest.mark.parametrize(
    ("documents", "queries", "message"),
    [
        (45, 1000, "45 documents make 990 pairs, .* --documents 46"),
        (1, 1, "1 documents make 0 pairs, .* --documents 2"),
        (-3, 1, "-3 documents make 0 pairs"),
        (10, 0, "--queries 0: must be at least 1"),
        (10**6, MOST_QUERIES + 1, f"the word lists allow at most {MOST_QUERIES}"),
    ],
)
def test_errors_name_impossible_numbers(documents: int, queries: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Limit(documents, queries)


def test_the_command(tmp_path: Path) -> None:
    out = tmp_path / "new" / "limit"
    arguments = ["generate", "limit", "--documents", "60", "--queries", "40", "--out", str(out)]
    done = CliRunner().invoke(cli, [*arguments, "--json"])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout) == {
        "out": str(out), "documents": 60, "queries": 40, "judged_documents": 10, "seed": 0,
    }  # fmt: skip
    assert {path.name for path in out.iterdir()} == {"corpus.jsonl", "queries.jsonl", "qrels"}
    before = (out / "corpus.jsonl").read_bytes()
    again = CliRunner().invoke(cli, [*arguments, "--seed", "1"])
    assert again.exit_code == 2
    assert "exists already; name another folder" in again.stderr
    assert (out / "corpus.jsonl").read_bytes() == before


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(_done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Limit(60, 40).write(tmp_path / "limit", interrupt)
    assert list(tmp_path.iterdir()) == []


def test_an_error_names_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/limit: cannot be written: "):
        Limit(60, 40).write(tmp_path / "file" / "limit")
