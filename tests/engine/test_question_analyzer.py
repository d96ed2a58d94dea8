"""The analyzer of an index finds the same words in any text as Python, and the same latents."""

from __future__ import annotations

import random
import unicodedata
from collections import Counter
from typing import Any

from opensearchpy import OpenSearch

from latent_ingest.connector.index.index import Index
from latent_ingest.connector.questions.question_analyzer import (
    analysis_of,
    named_latents,
    read,
    rules_of,
    table_of,
)
from latent_ingest.connector.questions.words import entries_in, words_of
from latent_ingest.mappings import SEARCH_ANALYZER, MappingConfig, index_body

TEXTS = 2000

# As much as the analyzer gives of a question.
MOST_TERMS = 1000

# Words of the longest phrase in a random table.
MOST_WORDS = 8

# What is put between, around and into the words of a random text.
JOINTS = (
    " ", " ", " ", ", ", "-", "_", "'", "’", "¦", "×", "×3 ", "|", "\\", "=>", "#", "\n", "\t",
    "\u00a0", "\u200b", "\u200c", "\u200d", "\u00ad", "\ufeff", "\u2028", "\u0085", "\u0301",
    "\0", "𝔘", "🦴", "👩\u200d🔬", "骨", "の", "$1", "${x}", "\\u0301", "¦f12¦", "f12", " f16 ",
    "\r\n", "\u0308", "F16",
)  # fmt: skip

SENTENCES = (
    "Does vitamin D prevent falls?",
    "Don't the F-16's wings ice up at −40 °C?",
    "L'été à Zürich: 25 °C, où aller?",
    "Die Größe der STRASSE in ẞ und ß",
    "İstanbul'da ıspanak; ISPARTA ve ispat",
    "ΟΔΥΣΣΕΥΣ, Οδυσσεύς και ὀδυσσεύς· τί ἐστιν;",
    "Ёлка, её мой; ЙОД и́ли йод",
    "שָׁלוֹם עֲלֵיכֶם, מה־נשמע?",
    "می\u200cخواهم؛ هل فيتامين د مفيد؟ ١٢٣",
    "हिन्दी में विटामिन डी। १२३",
    "ภาษาไทยไม่มีช่องว่าง วิตามิน",
    "ビタミンDは骨折を予防しますか？ CT検査について。",
    "비타민 D는 낙상을 예방합니까?",
    "Việt Nam, đường; Łódź, ĳ, ﬁnd eﬃcient ﬂow",
    "the \ufeffbone\u00adloss ¦bone¦ × bone×3 |2 \\u0062one => x",
    "1/2 ½ m² x₂ Ⅷ 10⁶ 3.14 1,000 #bone $bone {bone} \\bone",
)  # fmt: skip


def random_table(rng: random.Random, words: list[str]) -> dict[str, str]:
    """Rules of words: up to 40 latents each, of which some have no room."""
    entries = []
    for word in words:
        latents = rng.sample(range(32768), rng.randint(1, 40))
        entries.append((word, {latent: rng.randint(1, 9) for latent in latents}))
    return rules_of(entries)


def random_words(rng: random.Random) -> list[str]:
    """Words of many scripts, each of one block of 128 characters."""
    words = []
    while len(words) < 400:
        start = rng.choice([rng.randrange(0, 0x3000, 128), rng.randrange(0, 0x11000, 128), 0, 0])
        block = [chr(start + i) for i in range(128) if not 0xD800 <= start + i < 0xE000]
        if block:
            words.append("".join(rng.choices(block, k=rng.randint(1, 8))))
    return words


def random_text(rng: random.Random, words: list[str]) -> str:
    if rng.random() < 0.1:
        terms = [f"f{rng.randrange(32768)}" for _ in range(rng.randint(1, 30))]
        counted = [f"{one}|{rng.randint(1, 99)}" if rng.random() < 0.2 else one for one in terms]
        text = rng.choice([" ", "\n", " \t "]).join(counted)
        return text + rng.choice(["", "", " ", " x", "x", "|0", "|100", " f1234567890"])
    parts = []
    for _ in range(rng.randint(0, 15)):
        word = rng.choice(words)
        word = rng.choice(
            [
                word,
                word,
                word.upper(),
                word.title(),
                unicodedata.normalize("NFD", word),
                word + rng.choice(words)[:3],
            ]
        )
        if rng.random() < 0.1:
            at = rng.randint(0, len(word))
            word = word[:at] + rng.choice(JOINTS) + word[at:]
        parts += [word, rng.choice(JOINTS)]
    return "".join(parts)


def by_python(rules: dict[str, str], text: str) -> Counter[int]:
    if (named := named_latents(text)) is not None:
        return Counter(named)
    found: Counter[int] = Counter()
    for entry, _ in entries_in(text, rules, MOST_WORDS):
        found.update(read(rules[entry]))
    return found


def by_engine(client: OpenSearch, index: str, text: str) -> Counter[int]:
    body = {"analyzer": SEARCH_ANALYZER, "text": text}
    tokens = client.indices.analyze(index=index, body=body)["tokens"]
    return Counter(int(token["token"].removeprefix("f")) for token in tokens)


def test_the_engine_and_python_agree_on_any_text(
    every: OpenSearch, new_index: Any, seed: int
) -> None:
    rng = random.Random(seed)
    words = [*random_words(rng), *(word for text in SENTENCES for word in words_of(text)), "f16"]
    rules = random_table(rng, words)
    assert len(rules) > 250
    index = new_index(every)
    every.indices.create(index=index, body=index_body(MappingConfig(), {}, analysis_of(rules)))
    found = table_of(Index(every, index).settings())
    assert found == rules
    assert list(found) == list(rules)
    texts = [*SENTENCES, *(random_text(rng, words) for _ in range(TEXTS - len(SENTENCES)))]
    matching = 0
    for text in texts:
        expected = by_python(rules, text)
        if expected.total() > MOST_TERMS:
            continue
        assert by_engine(every, index, text) == expected, repr(text)
        matching += bool(expected)
    assert matching > TEXTS / 2
