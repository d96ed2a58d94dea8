"""Fields of a mapping: which can be encoded, where their text is, and where it is searched."""

from __future__ import annotations

from typing import Any

import pytest

from latent_ingest.connector.errors import InputError
from latent_ingest.connector.index.fields import choose_fields, origins_of
from latent_ingest.connector.querying.indices.fields import IndexFields, fed_fields

SUB_FIELDS = {"en": {"type": "text"}, "raw": {"type": "keyword"}, "wild": {"type": "wildcard"}}
PROPERTIES: dict[str, Any] = {
    "title": {"type": "text", "copy_to": "_all_text", "fields": SUB_FIELDS},
    "body": {"type": "match_only_text", "copy_to": ["_all_text", "all_2"]},
    "_all_text": {"type": "text", "fields": {"en": {"type": "text"}}},
    "all_2": {"type": "text"},
    "more": {"properties": {"year": {"type": "integer", "copy_to": "all_2"},
                            "title": {"type": "alias", "path": "title"}}},
    "year": {"type": "alias", "path": "more.year"},
    "typing": {"type": "search_as_you_type"},
    "marked": {"type": "annotated_text"},
    "name": {"type": "keyword", "fields": {"words": {"type": "text"}}},
    "code": {"type": "integer", "fields": {"raw": {"type": "keyword"},
                                           "words": {"type": "text"}}},
    "meant": {"type": "semantic_text"},
    "hidden": {"type": "text", "index": False},
    "flat": {"type": "flat_object"},
    "notes": {"type": "nested", "properties": {"text": {"type": "text", "copy_to": "noted"}}},
    "noted": {"type": "text"},
}  # fmt: skip
MAPPING = {"properties": PROPERTIES}


@pytest.mark.parametrize(
    ("names", "text_fields", "words"),
    [
        (["title", "body"], ["title", "body"], None),
        (["typing"], ["typing"], None),
        (["marked"], ["marked"], None),
        (["more.title"], ["title"], None),
        (["title.en"], ["title"], ["title.en"]),
        (["name.words"], ["name"], ["name.words"]),
        (["code.words"], ["code"], ["code.words"]),
        (["_all_text"], ["title", "body", "_all_text"], ["_all_text"]),
        (["_all_text.en"], ["title", "body", "_all_text"], ["_all_text.en"]),
        (["all_2"], ["body", "more.year", "all_2"], ["all_2"]),
        (["body", "_all_text"], ["body", "title", "_all_text"], ["body", "_all_text"]),
        (["noted"], ["notes.text", "noted"], ["noted"]),
        (["title", "hidden"], ["title", "hidden"], ["title"]),
    ],
)
def test_the_fields_that_a_name_stands_for(
    names: list[str], text_fields: list[str], words: list[str] | None
) -> None:
    assert choose_fields("i", MAPPING, names) == (text_fields, words)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bodi", r"^no field 'bodi' in index i; did you mean 'body'\?; name others .*it has title"),
        ("year", "^field 'year' of index i is an alias of 'more.year', which is of type integer"),
        ("title.raw", "^field 'title.raw' of index i is derived from 'title'; name that"),
        ("title.wild", "is derived from 'title'; name that"),
        ("code.raw", "is of type keyword, not text; name others"),
        ("meant", "is of type semantic_text, which the engine searches with a model of its own"),
        ("flat", "is of type flat_object, not text"),
        ("flat.a.b", "is inside 'flat' of type flat_object"),
        ("notes.text", "is inside nested objects"),
        ("hidden", "is not indexed, so no words are found in it"),
        ("more", "is of type object, not text"),
    ],
)
def test_a_field_that_cannot_be_encoded_is_what_the_message_says(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        choose_fields("i", MAPPING, [name])
    offered = str(raised.value).partition("it has ")[2].rstrip(")").split(", ")
    assert name not in offered


def test_fields_offered_instead_can_be_encoded() -> None:
    with pytest.raises(InputError) as raised:
        choose_fields("i", {"properties": {**PROPERTIES, "hidden": {"type": "date"}}}, ["meant"])
    offered = str(raised.value).partition("it has ")[2].rstrip(")").split(", ")
    assert choose_fields("i", MAPPING, [name for name in offered if name != "..."])


# As `_field_caps` reports the fields of the mapping.
KNOWN = IndexFields(
    {
        "title": True, "title.en": True, "title.raw": False, "title.wild": False, "body": True,
        "_all_text": True, "_all_text.en": True, "all_2": True, "more.year": False, "year": False,
        "more.title": True, "typing": True, "typing._2gram": True, "typing._index_prefix": True,
        "name": False, "name.words": True,
    },
    origins=origins_of(MAPPING),
)  # fmt: skip


@pytest.mark.parametrize(
    ("fed", "others"),
    [
        (["title"], {"title.en", "more.title"}),
        (["body"], {"all_2"}),  # numbers that are copied there are no text
        (["title", "body"], {"title.en", "more.title", "_all_text", "_all_text.en", "all_2"}),
        (["typing"], {"typing._2gram", "typing._index_prefix"}),
        (["name"], {"name.words"}),
    ],
)
def test_the_fields_in_which_the_same_text_is_searched(fed: list[str], others: set[str]) -> None:
    assert set(fed_fields("latent", fed, KNOWN)) == {*fed, *others}


def test_a_wanted_field_is_refused_for_what_it_is() -> None:
    assert fed_fields("latent", ["title"], KNOWN, ["all_2"]) == {"all_2": None}
    assert fed_fields("latent", ["name"], KNOWN, ["name"]) == {"name": None}
    for name, what in {
        "more.year": "field more.year: it is of another type than text; the text of these",
        "tittle": "field tittle: the index has no such field; did you mean 'title'",
    }.items():
        with pytest.raises(InputError, match=what):
            fed_fields("latent", ["title"], KNOWN, [name])
