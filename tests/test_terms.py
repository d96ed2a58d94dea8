"""Latent terms, counts and the two spellings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latent_ingest.connector import terms
from latent_ingest.connector.errors import InputError

counted = st.dictionaries(st.integers(0, 65535), st.integers(0, 200), max_size=60)


@given(counted=counted, spelling=st.sampled_from(terms.SPELLINGS))
def test_written_counts_are_read_back_in_either_spelling(
    counted: dict[int, int], spelling: str
) -> None:
    """Only zeros are lost, and the order is kept."""
    indices = np.array(list(counted), dtype=np.int32)
    tf = np.array(list(counted.values()), dtype=np.int64)
    parsed = terms.parse(terms.write(indices, tf, spelling), spelling)
    assert list(parsed.items()) == [(i, f) for i, f in counted.items() if f]


@given(counted=counted)
def test_repeat_has_as_many_tokens_as_the_counts_sum_to(counted: dict[int, int]) -> None:
    """This is the field length that BM25 sees."""
    text = terms.write(np.array(list(counted), np.int32), np.array(list(counted.values())))
    assert len(text.split()) == sum(counted.values())


def test_spellings_look_as_documented() -> None:
    indices, tf = np.array([12, 55, 7], np.int32), np.array([3, 1, 0])
    assert terms.write(indices, tf) == "f12 f12 f12 f55"
    assert terms.write(indices, tf, "delimited") == "f12|3 f55|1"


@given(st.floats(0, 1e4, width=32), st.sampled_from([0.5, 1.0, 4.0]))
def test_counts_are_the_rounded_square_root(value: float, scale: float) -> None:
    (tf,) = terms.counts(np.array([value], np.float32), scale)
    assert abs(tf - scale * value**0.5) <= 0.5 + 1e-3


@pytest.mark.parametrize("name", ["", "f", "g12", "f-1", "f1.5", "12", "f²"])
def test_what_is_no_term_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="not a latent term"):
        terms.latent_of(name)


@pytest.mark.parametrize(
    ("text", "spelling", "message"),
    [
        ("f1|2", "repeat", "the repeat spelling has no counts"),
        ("f1|0", "delimited", "whole number above zero"),
        ("f1|-2", "delimited", "whole number above zero"),
        ("f1|x", "delimited", "whole number above zero"),
        ("f1|", "delimited", "whole number above zero"),
        ("f1", "other", "use repeat or delimited"),
    ],
)
def test_strings_that_no_engine_takes_are_refused(text: str, spelling: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        terms.parse(text, spelling)


def test_an_unknown_spelling_is_not_written() -> None:
    with pytest.raises(InputError, match="use repeat or delimited"):
        terms.write(np.array([1], np.int32), np.array([1]), "other")
