"""Collections read from BEIR's files, from TREC's, and from ir_datasets."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from latent_ingest.connector.collections.catalog import load_ir_dataset
from latent_ingest.connector.collections.collection import Collection
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.evaluation.evaluated_index import seems_english
from latent_ingest.connector.evaluation.report import published

CORPUS = [{"_id": "d1", "text": "bees"}, {"_id": "d2", "text": "wasps"}]

TOPICS = {
    "tabs": "301\tflight of bees\n302\tpaper &amp; wasps\n303\tants\n",
    "tags": """<top>
<num> Number: 301
<title> flight of bees
<desc> Description:
How do bees fly?
</top>

<top>
<num> Number: 302
<title> Topic: paper &amp; wasps

<narr> Narrative: nests.
</top>
<top><num>303<title>ants</top>""",
    "xml": """<?xml version="1.0"?><topics>
<topic number="301"><query>flight of bees</query><question>How?</question></topic>
<topic number="302"><query>paper &amp; wasps</query></topic>
<topic number="303">ants</topic>
</topics>""",
}


def beir(folder: Path, qrels: str, queries: str = '{"_id": "q1", "text": "a bee"}') -> Path:
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, CORPUS)))
    (folder / "queries.jsonl").write_text(queries)
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + qrels)
    return folder


def trec(folder: Path, topics: str, qrels: str) -> Path:
    folder.mkdir()
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, CORPUS)))
    (folder / "topics.mine.txt").write_text(topics)
    (folder / "qrels.mine.txt").write_text(qrels)
    return folder


@pytest.mark.parametrize("form", list(TOPICS))
def test_topics_and_judgements_of_trec_are_read(tmp_path: Path, form: str) -> None:
    qrels = "301 0 d1 2\n301 0 d2 0\n302 Q0 d2 1\n"
    found = Collection.load(trec(tmp_path / "mine", TOPICS[form], qrels))
    assert found.queries == {"301": "flight of bees", "302": "paper & wasps"}
    assert found.qrels == {"301": {"d1": 2, "d2": 0}, "302": {"d2": 1}}
    assert found.left_out == {"without_judgements": 1}
    assert found.contents.ids == ["d1", "d2"]


def test_trec_has_no_other_judgements(tmp_path: Path) -> None:
    folder = trec(tmp_path / "mine", TOPICS["tags"], "301 0 d1 2\n")
    with pytest.raises(
        InputError, match="TREC layout has one judgement file, not 'dev'; leave --split out"
    ):
        Collection.load(folder, "dev")


def test_topics_may_be_compressed(tmp_path: Path) -> None:
    folder = trec(tmp_path / "mine", "", "301 0 d1 1\n")
    (folder / "topics.mine.txt").unlink()
    (folder / "topics.mine.txt.gz").write_bytes(gzip.compress(TOPICS["tags"].encode()))
    assert Collection.load(folder).queries == {"301": "flight of bees"}


def test_judgements_may_be_repeated_with_blank_lines_and_grades_like_1_0(
    tmp_path: Path,
) -> None:
    qrels = "q1\td1\t2.0\n\nq1\td2\t0\nq1\td1\t2\n \n"
    assert Collection.load(beir(tmp_path / "c", qrels)).qrels == {"q1": {"d1": 2, "d2": 0}}


@pytest.mark.parametrize(
    ("qrels", "message"),
    [
        ("q1\td1\t1\nq1\td2\tgood\n", r"test.tsv: line 3: 'q1\\td2\\tgood' is not a judgement"),
        ("q1\td1\t0.5\n", r"line 2: 'q1\\td1\\t0.5' is not a judgement"),
        ("q1\td1\tnan\n", r"line 2: 'q1\\td1\\tnan' is not a judgement"),
        (
            "q1\td1\t1\nq1\td2\t1\nq1\td1\t0\n",
            r"line 4: document 'd1' has grade 0 for query 'q1', and 1 in an earlier line; keep one",
        ),
        ("q1\td1\t1\nq7\td2\t1\n", r"test.tsv: line 3: query 'q7' is not in queries.jsonl"),
        ("", "test.tsv: no judgements"),
    ],
)
def test_errors_name_file_and_line_of_malformed_judgements(
    tmp_path: Path, qrels: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Collection.load(beir(tmp_path / "c", qrels))


@pytest.mark.parametrize(
    ("topics", "message"),
    [
        ("301\tbees\n302 wasps\n", r"topics.mine.txt: line 2: '302 wasps' is not a topic"),
        ("<top><num> Number: 301 <title> </top>", r"topic 301 has no number or no text"),
        ("<top><title> bees </top>", r"topic 1 has no number or no text"),
        ("\n", r"topics.mine.txt: no topics"),
    ],
)
def test_errors_name_malformed_topics(tmp_path: Path, topics: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Collection.load(trec(tmp_path / "mine", topics, "301 0 d1 1\n"))


def test_errors_name_missing_files_and_duplicates(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        Collection.load(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"neither queries.jsonl and qrels"):
        Collection.load(tmp_path)
    folder = trec(tmp_path / "mine", TOPICS["tabs"], "301 0 d1 1\n")
    (folder / "topics.other.txt").write_text("")
    with pytest.raises(InputError, match=r"2 files topics\* \(topics.mine.txt, topics.other.txt\)"):
        Collection.load(folder)
    with pytest.raises(InputError, match=r"queries.jsonl: query 'q1' has no text"):
        Collection.load(beir(tmp_path / "c", "q1\td1\t1\n", '{"_id": "q1", "text": " "}'))


def test_judged_documents_missing_from_the_corpus_are_named_by_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    some = Collection.load(beir(tmp_path / "some", "q1\td1\t1\nq1\tx\t1\nq1\ty\t1\n"))
    some.check_judged(some.contents.ids)
    (line,) = caplog.messages
    assert re.search(r"test.tsv: line 3: document 'x' .* 2 of the 3 judged", line)
    every = Collection.load(beir(tmp_path / "every", "q1\td1\t1\nq1\td2\t1\n"))
    every.check_judged(every.contents.ids)
    assert caplog.messages == [line]
    none = Collection.load(beir(tmp_path / "none", "q1\tx\t1\n"))
    with pytest.raises(InputError, match=r"line 2: document 'x' is not in the corpus, nor is any"):
        none.check_judged(none.contents.ids)


def test_errors_name_an_empty_or_missing_corpus(tmp_path: Path) -> None:
    folder = beir(tmp_path / "c", "q1\td1\t1\n")
    (folder / "corpus.jsonl").write_text("\n")
    with pytest.raises(InputError, match=r"corpus.jsonl: no documents"):
        _ = Collection.load(folder).contents
    (folder / "corpus.jsonl").unlink()
    with pytest.raises(InputError, match=r"c: no corpus.jsonl"):
        _ = Collection.load(folder).contents


def test_the_digest_is_of_ids_and_texts(tmp_path: Path) -> None:
    folder = beir(tmp_path / "c", "q1\td1\t1\n")
    first = Collection.load(folder).contents.digest
    assert first == Collection.load(folder).contents.digest
    (folder / "corpus.jsonl").write_text(
        "\n".join(map(json.dumps, CORPUS)).replace("bees", "fleas")
    )
    assert first != Collection.load(folder).contents.digest


def test_a_limit_draws_the_same_queries_each_time(tmp_path: Path) -> None:
    rows = "\n".join(json.dumps({"_id": f"q{n}", "text": "bee"}) for n in range(50))
    qrels = "".join(f"q{n}\td1\t1\n" for n in range(40))
    whole = Collection.load(beir(tmp_path / "c", qrels, rows))
    some = whole.limited(10)
    assert len(some.queries) == 10
    assert some.qrels.keys() == some.queries.keys() < whole.queries.keys()
    assert some.queries == whole.limited(10).queries
    assert list(some.queries) != list(whole.queries)[:10]
    assert some.left_out == {"without_judgements": 10, "limit_queries": 30}
    assert whole.limited(40) is whole


class Record(NamedTuple):
    """A document or a query as ir_datasets has it."""

    id: str
    text: str

    @property
    def doc_id(self) -> str:
        return self.id

    @property
    def query_id(self) -> str:
        return self.id

    def default_text(self) -> str:
        return self.text


class Qrel(NamedTuple):
    query_id: str
    doc_id: str
    relevance: int


def test_a_collection_of_ir_datasets_becomes_a_corpus_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IR_DATASETS_HOME", str(tmp_path / "home"))
    import ir_datasets
    from ir_datasets.datasets.base import Dataset
    from ir_datasets.formats import BaseDocs, BaseQrels, BaseQueries

    class Docs(BaseDocs):  # type: ignore[misc]
        def docs_iter(self) -> object:
            return iter([Record("d1", "On bees they dance"), Record("d2", "wasps")])

    class Queries(BaseQueries):  # type: ignore[misc]
        def queries_iter(self) -> object:
            return iter([Record("q1", "who dances"), Record("q2", "nobody")])

    class Qrels(BaseQrels):  # type: ignore[misc]
        def qrels_iter(self) -> object:
            return iter([Qrel("q1", "d1", 2), Qrel("gone", "d1", 1)])

    made = Dataset(Docs(), Queries(), Qrels())
    monkeypatch.setitem(ir_datasets.registry._registered, "ours/made/test", made)
    monkeypatch.setitem(ir_datasets.registry._registered, "ours/bare", Dataset(Docs()))
    found = load_ir_dataset("ours/made/test", tmp_path)
    assert (found.name, found.split) == ("ours-made-test", "test")
    assert found.queries == {"q1": "who dances"}
    assert found.qrels == {"q1": {"d1": 2}}
    assert found.left_out == {"without_judgements": 1}
    documents = [(document.id, document.text) for document in found.documents()]
    assert documents == [("d1", "On bees they dance"), ("d2", "wasps")]
    with pytest.raises(InputError, match="ir_datasets:ours/bare: has no queries"):
        load_ir_dataset("ours/bare", tmp_path)
    with pytest.raises(InputError, match="ir_datasets:ours/none: no such collection"):
        load_ir_dataset("ours/none", tmp_path)


def test_english_is_told_from_other_languages() -> None:
    assert seems_english(["A list of the ways in which bees fly, and of those that wasps have."])
    assert seems_english([])
    for text in (
        "Die Bienen fliegen in den Garten, und was sie dort tun, weiß man nicht.",
        "Les abeilles volent dans le jardin et personne ne sait ce qu'elles y font.",
        "Пчёлы летают в саду, и никто не знает, что они там делают.",
        "蜜蜂在花园里飞舞,没有人知道它们在那里做什么。",
    ):
        assert not seems_english([text])


def test_published_figures_are_of_the_same_documents_and_queries() -> None:
    found = published("scifact", "test", 5183, 300)
    assert ("SPLADE-v3", 0.710) in [(row["system"], row["value"]) for row in found]
    assert all(row["source"] and row["measure"] == "nDCG@10" for row in found)
    assert published("beir-scifact-test", "test", 5183, 300) == found
    assert published("scifact", "test", 5183, 299) == []
    assert published("scifact", "train", 5183, 300) == []
    assert published("mine", "test", 5183, 300) == []
