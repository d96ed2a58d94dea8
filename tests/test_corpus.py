"""Corpus files: what a line holds, and what is said of one that holds nothing."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latent_ingest.connector.corpus import BadLine, CorpusFile, Document, Line, parse_line
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
    ],
)
def test_a_bad_line_says_what_is_wrong(line: str | bytes, message: str) -> None:
    import re

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


@pytest.mark.parametrize("content", [b"not gzip at all\n", b"\x1f\x8b\x08\x00garbage"])
def test_what_is_no_gzip_is_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(content)
    with CorpusFile(path) as file, pytest.raises(InputError, match=r"a.jsonl.gz: broken"):
        list(file)


def test_a_missing_file_and_a_folder_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        CorpusFile(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="a folder; name a JSONL file"):
        CorpusFile(tmp_path)
