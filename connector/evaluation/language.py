"""Whether a collection is written in the language that words are analysed in."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice

# Words that English cannot do without, and of which hardly any is a word elsewhere.
ENGLISH = frozenset({"the", "of", "and", "to", "that", "for", "with", "are", "this", "by", "from"})

# SciFact has .18 of them, LIMIT, which is lists of what people like, .05.
LEAST_SHARE = 0.02

SAMPLE_DOCUMENTS = 200


def seems_english(texts: Iterable[str]) -> bool:
    """Whether the first few hundred texts seem to be English; true where they have no words."""
    words = [word for text in islice(texts, SAMPLE_DOCUMENTS) for word in re.findall(r"\w+", text)]
    return not words or sum(word.lower() in ENGLISH for word in words) / len(words) >= LEAST_SHARE
