"""Corpus files: what a line holds, and what is said of one that holds nothing."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latent_ingest.connector.corpus.corpus import Corpus
from latent_ingest.connector.corpus_file import CorpusFile, Line, zstd
from latent_ingest.connector.document import BadLine, Document, parse_line
from latent_ingest.connector.errors import InputError


def parsed(content: str | bytes, **options: tuple[str, ...]) -> Document:
    raw = content.encode() if isinstance(content, str) else content
    document = parse_line(Line(7, raw), **options)
    assert isinstance(document, Document), document
    return document


def reason(content: str | bytes) -> str:
    raw = content.encode() if isinstance(content, str) else content
    bad = parse_line(Line(7, raw))
    assert isinstance(bad, BadLine)
    assert (bad.line, bad.content) == (7, raw)
    return bad.reason


def test_title_and_text_are_joined_and_the_fields_kept() -> None:
    document = parsed('{"_id": "a", "title": "T", "text": "x", "year": 2020}')
    assert (document.id, document.text, document.line) == ("a", "T x", 7)
    assert document.fields == {"title": "T", "text": "x", "year": 2020}


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('{"id": 1, "title": "", "text": "x"}', "x"),
        ('{"id": 1, "title": null, "text": "x"}', "x"),
        ('{"id": 1, "title": ["a", "b"], "text": "x"}', "a b x"),
        ('{"id": 1, "text": ""}', ""),
    ],
)
def test_texts_in_other_shapes(line: str, text: str) -> None:
    document = parsed(line)
    assert (document.text, document.id) == (text, "1")
    assert document.fields["id"] == 1


def test_the_first_id_field_that_is_there_counts() -> None:
    assert parsed('{"id": "b", "_id": "a", "text": "x"}').id == "a"
    assert parsed('{"_id": "", "id": "b", "text": "x"}').id == "b"
    assert parsed('{"pmid": 4, "id": "b", "text": "x"}', id_fields=("pmid",)).id == "4"


def test_a_generated_id_depends_on_the_content_alone() -> None:
    first = parsed('{"text": "x", "title": "t"}')
    again = parsed('{"title": "t",  "text": "x"}')
    other = parsed('{"title": "t", "text": "y"}')
    assert first.generated
    assert first.id == again.id != other.id


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", r"not JSON: Expecting value at character 1: 'not json'; write one object"),
        ('{"text": "x"', "not JSON: Expecting ',' delimiter at character 13: "),
        ("[1]", "an array, not an object"),
        ("null", "null, not an object"),
        ('{"_id": "a", "body": "x"}', "no text field: no 'title' or 'text' .fields: '_id', 'body'"),
        ('{"_id": "a", "text": 5}', "field 'text' is a number: 5; write a string"),
        ('{"_id": "a", "text": ["x", {}]}', "field 'text' is an object"),
        ('{"_id": ["a"], "text": "x"}', "the id is an array"),
        ('{"_id": true, "text": "x"}', "the id is a boolean"),
        (b'{"text": "caf\xe9"}', "not UTF-8: byte 0xe9 at position 13"),
        (r'{"text": "x \ud83d"}', r"\\ud83d is half of a surrogate pair"),
        (r'{"text": "x", "\uDC00": 1}', r"\\udc00 is half of a surrogate pair"),
        (b'{"text": "x", "n": ["\xed\xa0\x80"]}', r"\\ud800 is half of a surrogate pair"),
        ("[" * 100_000, "not JSON"),
        ('{"text": "x", "text": "y"}', "key 'text' twice in one object; remove one or rename it"),
        ('{"text": "x", "source": [{"url": "a", "url": "b"}]}', "key 'url' twice"),
    ],
)
def test_a_bad_line_says_what_is_wrong(line: str | bytes, message: str) -> None:
    assert re.search(message, reason(line)), reason(line)


@given(st.binary(max_size=80).filter(lambda raw: b"\n" not in raw))
def test_any_bytes_survive_the_failures_file(raw: bytes) -> None:
    """A line fed back in unchanged is the line it was."""
    first = parse_line(Line(3, raw))
    if isinstance(first, BadLine):
        stored = first.to_json("corpus.jsonl")
        assert "\n" not in stored
        again = parse_line(Line(1, stored.encode()))
        assert isinstance(again, BadLine)
        assert (again.content, again.reason) == (raw, first.reason)


def test_a_rejected_document_fed_back_in_is_the_document_it_was() -> None:
    document = parsed('{"id": 1, "text": "x", "year": "soon"}')
    stored = BadLine(7, "rejected", document).to_json("c.jsonl")
    again = parsed(stored)
    assert (again.id, again.text, again.fields) == (document.id, document.text, document.fields)


@pytest.mark.parametrize(
    "own", ["why", {"reason": "why"}, {"file": 1, "line": 2, "reason": 3, "n": 4}]
)
def test_a_field_of_the_name_that_failures_have_is_kept(own: object) -> None:
    """By documents that are rejected and fed back in, too."""
    document = parsed(json.dumps({"_id": "a", "text": "x", "_failure": own}))
    assert document.fields["_failure"] == own
    stored = BadLine(7, "rejected", document).to_json("c.jsonl")
    assert json.loads(stored)["_failure"]["reason"] == "rejected"
    assert parsed(stored) == document


def test_both_halves_of_a_pair_are_a_character() -> None:
    assert parsed(r'{"text": "\ud83d\ude42"}').text == "\N{SLIGHTLY SMILING FACE}"


def test_lines_of_plain_gzipped_and_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"one\r\ntwo\n\nfour"
    plain, zipped = tmp_path / "a.jsonl", tmp_path / "a.jsonl.gz"
    plain.write_bytes(content)
    zipped.write_bytes(gzip.compress(content))
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    for path in (plain, zipped, "-"):
        with CorpusFile(path) as file:
            lines = list(file)
        assert [line.content for line in lines] == [b"one", b"two", b"", b"four"]
        assert [line.number for line in lines] == [1, 2, 3, 4]
    assert file.name == "standard input"


def test_the_position_reaches_the_size(tmp_path: Path) -> None:
    """So that a progress bar ends at 100 %."""
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b"".join(b"%d\n" % number for number in range(99_999))))
    with CorpusFile(path) as file:
        assert file.position == 0
        for _ in file:
            pass
        assert file.position == file.size == path.stat().st_size


def test_a_truncated_gz_gives_the_lines_before_the_break(tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(json.dumps({"n": n}).encode() + b"\n" for n in range(50_000)))
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(whole[: len(whole) // 2])
    lines: list[Line] = []
    with CorpusFile(path) as file, pytest.raises(InputError, match="broken after line") as error:
        lines.extend(file)
    assert len(lines) > 1000
    assert f"after line {len(lines)}:" in str(error.value)


def test_a_broken_gz_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(b"\x1f\x8b\x08\x00garbage")
    with CorpusFile(path) as file, pytest.raises(InputError, match=r"a.jsonl.gz: broken"):
        list(file)


COMPRESSED = {
    "plain": lambda content: content,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd.compress,
}


@pytest.mark.parametrize("name", ["docs.jsonl", "docs.jsonl.gz", "-"])
@pytest.mark.parametrize("kind", COMPRESSED)
def test_compression_is_known_by_the_first_bytes(
    kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = COMPRESSED[kind](b'{"text": "bees"}\n{"text": "ants"}\n')
    path: Path | str = name
    if name == "-":
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    else:
        path = tmp_path / name
        path.write_bytes(content)
    with Corpus(path) as file:
        assert [line.content for line in file] == [b'{"text": "bees"}', b'{"text": "ants"}']


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "bees"}'.encode("utf-16"), r"a.jsonl: UTF-16; convert it with 'iconv"),
        ('{"text": "bees"}'.encode("utf-16-le"), "UTF-16LE"),
        ('{"text": "bees"}'.encode("utf-16-be"), "UTF-16BE"),
        (b"PK\x03\x04...", "a ZIP archive; unpack it"),
        (b"PAR1...", "cannot be read as Parquet"),
        (b"FEA1...", "Feather, version 1"),
    ],
)
def test_files_of_other_kinds_are_named(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        Corpus(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{\n  "_id": "1",\n  "text": "bees"\n}\n', "JSON over several lines"),
        (
            '{"_index": "old", "_id": "1", "_score": 1, "_source": {"text": "bees"}}\n',
            r"hits of a search .elasticdump., whose documents are in _source.*jq",
        ),
    ],
)
def test_json_of_other_layouts_is_named(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=f"a.jsonl: {message}"):
        Corpus(path)


@pytest.mark.parametrize(
    "content",
    [
        '{"index": "a word", "text": "bees"}',
        '{"index": {"term": 1}}',
        '{"_source": "a book", "text": "bees"}',
        '{"_source": {"url": 1}, "text": "bees"}',
        "[1]\n",
        "{\n[1]",
        "not json",
        "",
        "\ufeff" + '{"text": "bees"}',
        '{"text": "' + "bees " * 5000 + '"}',
    ],
)
def test_lines_are_taken_for_lines(content: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content, encoding="utf-8")
    with Corpus(path) as file:
        assert b"\n".join(line.content for line in file) == content.encode().rstrip(b"\n")


def test_ids_of_extended_json_are_read() -> None:
    line = '{"_id": {"$oid": "5f43a0c2e4b0a1b2c3d4e5f6"}, "n": {"$numberLong": "12"}, "text": "x"}'
    assert parsed(line).id == "5f43a0c2e4b0a1b2c3d4e5f6"
    assert parsed(line, id_fields=("n",)).id == "12"
    assert parsed(line).fields["n"] == {"$numberLong": "12"}
    message = "the id is an object: .*; write a string or a whole number, or .* with --id-field"
    assert re.search(message, reason('{"_id": {"$date": "2020"}, "text": "x"}'))


def test_an_id_that_is_not_kept_is_noticed() -> None:
    line = '{"_id": "a", "slug": "bees", "text": "x"}'
    assert parsed(line, id_fields=("slug",)).lost_id
    assert parsed(line, id_fields=("slug", "_id")).lost_id
    assert not parsed(line).lost_id
    assert not parsed('{"_id": {"$oid": "5f"}, "text": "x"}').lost_id
    rejected = BadLine(7, "rejected", parsed(line, id_fields=("slug",))).to_json("c.jsonl")
    assert not parsed(rejected, id_fields=("slug",)).lost_id
    assert not parsed('{"slug": "bees", "text": "x"}', id_fields=("slug",)).lost_id


def test_a_missing_file_and_a_folder_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        CorpusFile(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="a folder; name a file"):
        CorpusFile(tmp_path)
