"""Text of a document: which of its values are encoded, whatever shape they have."""

from __future__ import annotations

import json
from typing import Any

import pytest

from latent_ingest.connector.corpus_file import Line
from latent_ingest.connector.document import BadLine, Document, parse_line
from latent_ingest.connector.document_text import has_field, missing, text_in
from latent_ingest.connector.indexing.chunks import chunk_fields

# Document, text field, text; None if the document has no such field.
READINGS: dict[str, tuple[dict[str, Any], str, str | None]] = {
    "in an object": ({"title": {"en": "Bees", "de": "Bienen"}}, "title.en", "Bees"),
    "in a key with a dot": ({"title.en": "Bees"}, "title.en", "Bees"),
    "in both": ({"title.en": "Bees", "title": {"en": "Wasps"}}, "title.en", "Bees Wasps"),
    "two steps in one key": ({"a.b": {"c": "Bees"}}, "a.b.c", "Bees"),
    "an array": ({"text": ["Bees", "Wasps"]}, "text", "Bees Wasps"),
    "objects": ({"body": [{"text": "Bees"}, {"text": "Wasps"}]}, "body.text", "Bees Wasps"),
    "arrays in arrays": ({"body": [[{"text": ["Bees"]}], {"text": "Wasps"}]}, "body.text",
                         "Bees Wasps"),
    "some objects without": ({"body": [{"text": "Bees"}, {"n": 1}, None]}, "body.text", "Bees"),
    "a longer name": ({"titles": "Bees", "title": {"english": "Wasps"}}, "title.en", None),
    "a field beside": ({"title": {"de": "Bienen"}}, "title.en", None),
    "a string on the way": ({"title": "Bees"}, "title.en", None),
    "null": ({"title": {"en": None}}, "title.en", ""),
    "null on the way": ({"title": None}, "title.en", ""),
    "no objects": ({"body": []}, "body.text", ""),
    "empty strings": ({"text": ["", "Bees", ""]}, "text", "Bees"),
    "a field of the engine's by name": ({"_all_text": "Bees"}, "_all_text", "Bees"),
}  # fmt: skip


def parsed(fields: dict[str, Any], *text_fields: str, **options: Any) -> Document | BadLine:
    line = Line(1, json.dumps({"_id": "a", **fields}).encode())
    return parse_line(line, text_fields=text_fields, **options)


@pytest.mark.parametrize("case", READINGS)
def test_a_line_and_a_stored_document_are_read_alike(case: str) -> None:
    fields, path, text = READINGS[case]
    assert text_in(fields, [path]) == (text or "")
    assert has_field(fields, path) == (text is not None)
    document = parsed(fields, path)
    if text is None:
        assert isinstance(document, BadLine)
        assert f"no text field: no {path!r}" in document.reason
    else:
        assert isinstance(document, Document)
        assert document.text == text


def test_fields_are_read_in_the_order_of_their_names_here() -> None:
    document = parsed({"text": "b", "title": {"en": "a"}}, "title.en", "text")
    assert isinstance(document, Document)
    assert document.text == "a b"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"title": {"en": 5}}, "field 'title.en' is a number: 5; write a string"),
        ({"title": {"en": ["a", True]}}, "field 'title.en' is a boolean: True; write a string"),
        (
            {"title": {"en": {"long": "a"}}},
            "write a string, or name a field in it with --text-fields title.en.FIELD",
        ),
        ({"titel": {"en": "a"}}, r"(fields: '_id', 'titel.en'; did you mean 'titel.en'?)"),
    ],
)
def test_what_is_wrong_with_a_text_field(fields: dict[str, Any], reason: str) -> None:
    bad = parsed(fields, "title.en")
    assert isinstance(bad, BadLine)
    assert reason in bad.reason


def test_a_document_of_an_index_may_have_numbers_and_no_text() -> None:
    """As engines convert the one and accept the other."""
    for fields, text in ({"title": 1984}, "1984"), ({"year": 1984}, ""), ({"title": {}}, ""):
        document = parsed(fields, "title", strict=False)
        assert isinstance(document, Document)
        assert document.text == text


def test_missing_fields_are_named_with_the_nearest() -> None:
    documents = [{"headline": "a", "content": "b"}, {"headline": "c", "more": {"contend": "d"}}]
    assert missing(documents, ["headline", "contents"], chosen=True) == [
        "none of the first 2 documents has a field 'contents'; did you mean 'content'?"
    ]
    assert missing(documents, ["more.contend", "zzz"], chosen=True) == [
        "none of the first 2 documents has a field 'zzz'"
    ]
    assert missing(documents, ["title", "text"], chosen=False) == []
    (near,) = missing([{"Title": "a", "text": "b"}], ["title", "text"], chosen=False)
    assert near.endswith("has a field 'title'; did you mean 'Title'?")


@pytest.mark.parametrize(
    ("fields", "path", "chunks"),
    [
        (
            {"title": {"en": "abcdef", "de": "x"}},
            "title.en",
            [{"title": {"en": "abcd", "de": "x"}}, {"title": {"en": "ef", "de": "x"}}],
        ),
        (
            {"body": [{"text": "ab", "n": 1}, {"text": None}, {"text": "cdef", "n": 2}]},
            "body.text",
            [
                {"body": [{"text": "ab", "n": 1}, {"text": None}, {"text": "c", "n": 2}]},
                {"body": [{"text": "", "n": 1}, {"text": None}, {"text": "def", "n": 2}]},
            ],
        ),
        ({"text": ["ab", "cdef"]}, "text", [{"text": "ab c"}, {"text": "def"}]),
    ],
)
def test_chunks_divide_the_text_where_it_is(
    fields: dict[str, Any], path: str, chunks: list[dict[str, Any]]
) -> None:
    document = parsed(fields, path)
    assert isinstance(document, Document)
    spans = [(0, 4), (4, len(document.text))]
    for number, chunk in enumerate(chunks):
        made = chunk_fields(document, [path], spans, number)
        assert {name: made[name] for name in chunk} == chunk
    assert document.fields == fields
