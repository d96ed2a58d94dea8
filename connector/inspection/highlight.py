"""Highlighting: the passages of a document that match a question's latents, with words marked.

The **contribution** of a token is `sum over latents of w_q * idf * a_token`: `w_q` is the weight of
the latent in the question, `idf` its inverse document frequency in the model's training texts, and
`a_token` its activation for that token of the document. With sum pooling, the contributions of all
tokens add up to `sum over latents of w_q * idf * pooled`, where `pooled` are the pooled activations
whose square roots are indexed. BM25's further steps (root, saturation, length) concern the whole
document and are left out. With max pooling, the contribution is the same product for each token.
"""

from __future__ import annotations

import html
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import nlargest
from itertools import accumulate, compress, pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from latent_ingest.connector import terms
from latent_ingest.connector.document_text import texts_at
from latent_ingest.connector.encoding.words import is_mark, word_spans

if TYPE_CHECKING:
    from latent_ingest.connector.encoding.vectors import TokenVectors
    from latent_ingest.connector.engine.client import EngineInfo
    from latent_ingest.connector.querying.rewriter import QueryRewriter
    from latent_ingest.connector.querying.term_weights import WeightedTerm

# Most characters of a fragment, and most fragments of a field.
FRAGMENT_SIZE = 150
FRAGMENTS = 3

# A word is marked if it contributes at least `MARKED_SHARE` of what the best word of its field does
# and `FIELD_SHARE` of what the best word of the document does.
MARKED_SHARE = 0.5
FIELD_SHARE = 0.1

TAGS = ("<em>", "</em>")

# Characters of a field that OpenSearch searches for marks; other engines refuse longer fields.
MOST_CHARACTERS = 1_000_000

SENTENCE_END = re.compile(r"(?<=[.!?…؟۔।])[\"'”’)\]]*\s+|(?<=[。！？])|\n\s*\n")

Span = tuple[int, int]


class TokenEncoder(Protocol):
    """Gives the latents of tokens: a `LatentEncoder`, or `WordLatents`, without a model."""

    def encode_tokens(self, texts: Sequence[str]) -> Sequence[TokenVectors]:
        """The latents of the tokens of each text."""
        ...


class Highlighter:
    """Finds, for one question, the passages of documents that carry their latent score."""

    def __init__(
        self,
        rewriter: QueryRewriter,
        question: str,
        *,
        fragment_size: int = FRAGMENT_SIZE,
        number_of_fragments: int = FRAGMENTS,
        tags: tuple[str, str] = TAGS,
        escape: Callable[[str], str] = html.escape,
        words: TokenEncoder | None = None,
    ) -> None:
        """Encode the question.

        Args:
            rewriter: gives the model and the latent terms of the question.
            question: in plain words.
            fragment_size: most characters of a fragment, without tags and escapes.
            number_of_fragments: most fragments of a field.
            tags: put around marked words.
            escape: applied to all text of documents; `html.escape`, or `str` for none.
            words: encodes documents instead of the model, which then is not loaded.

        Raises:
            ValueError: a size or number below 1.
            ModelError: the backbone gives NaN.
        """
        if min(fragment_size, number_of_fragments) < 1:
            raise ValueError(
                f"fragments {number_of_fragments} x {fragment_size}: both must be above 0"
            )
        self._encoder: TokenEncoder = words or rewriter.encoder
        idf = rewriter.idf() if words else rewriter.encoder.idf()
        self._values = values_of(rewriter.terms(question), idf)
        self._fragment_size = fragment_size
        self._number = number_of_fragments
        self._tags = tags
        self._escape = escape

    def highlight(self, text: str) -> list[str]:
        """The best fragments of a text, best first; empty if nothing in it matches.

        Raises:
            ModelError: the backbone gives NaN.
        """
        return self.highlight_hits([{"_source": {"text": text}}], ["text"])[0].get("text", [])

    def highlight_hits(
        self, hits: Sequence[Mapping[str, Any]], fields: Sequence[str]
    ) -> list[dict[str, list[str]]]:
        """Fragments of hits, in the shape of the engine's own: field → fragments, best first.

        What the engine highlighted in these fields with `<em>` is marked, too.

        Args:
            hits: of a response, with their `_source`; they are encoded together.
            fields: text fields, in the order in which they were encoded.

        Raises:
            ModelError: the backbone gives NaN.
        """
        parts = [
            [(name, value) for name in fields for value in texts_at(hit["_source"], name)]
            for hit in hits
        ]
        texts = [" ".join(value for _, value in some) for some in parts]
        return [
            self._of_document(text, values, tokens, hit.get("highlight") or {})
            for text, values, tokens, hit in zip(
                texts, parts, self._encoder.encode_tokens(texts), hits, strict=True
            )
        ]

    def _of_document(
        self,
        text: str,
        values: Sequence[tuple[str, str]],
        tokens: TokenVectors,
        theirs: Mapping[str, Sequence[str]],
    ) -> dict[str, list[str]]:
        words, places = word_spans(text, tokens.spans)
        contributions = token_contributions(tokens, self._values)
        of_words: NDArray[np.float64] = np.zeros(len(words), dtype=np.float64)
        np.add.at(of_words, places, contributions)
        is_word = [any(map(str.isalnum, text[start:end])) for start, end in words]
        # Contributions of the words that may be marked; those of other words are zero.
        telling = np.where(np.array(is_word, dtype=np.bool_), np.maximum(of_words, 0.0), 0.0)
        starts = [start for start, _ in words]
        begins = accumulate((len(value) + 1 for _, value in values), initial=0)
        parts = [
            (name, value, begin, slice(*np.searchsorted(starts, [begin, begin + len(value)])))
            for (name, value), begin in zip(values, begins, strict=False)
        ]
        best: dict[str, float] = defaultdict(float)
        for name, _, _, inside in parts:
            best[name] = max(best[name], telling[inside].max(initial=0.0))
        ranked: dict[str, list[tuple[float, str]]] = defaultdict(list)
        for name, value, begin, inside in parts:
            own = [(start - begin, min(end - begin, len(value))) for start, end in words[inside]]
            by_engine = engine_marks(value, theirs.get(name) or ())
            least = max(MARKED_SHARE * best[name], FIELD_SHARE * telling.max(initial=0.0))
            marked = (telling[inside] > 0) & (telling[inside] >= least)
            marked |= np.array([touches(span, by_engine) for span in own], dtype=np.bool_)
            ranked[name] += self._fragments(value, own, of_words[inside] * marked, marked)
        return {
            name: [fragment for _, fragment in nlargest(self._number, some, key=itemgetter(0))]
            for name, some in ranked.items()
            if some
        }

    def _fragments(
        self,
        text: str,
        words: Sequence[Span],
        counted: NDArray[np.float64],
        marked: NDArray[np.bool_],
    ) -> Iterator[tuple[float, str]]:
        """Scores and fragments: the best sentences with a mark, each extended by those after it.

        Words that are marked count by their contributions, `[n_words]`.
        """
        spans = list(sentence_spans(text, self._fragment_size))
        starts = [start for start, _ in words]
        bounds = np.searchsorted(starts, [start for start, _ in spans] + [len(text)])
        scores = [float(counted[a:b].sum()) for a, b in pairwise(bounds.tolist())]
        used = np.zeros(len(spans), dtype=np.bool_)
        for first in sorted(range(len(spans)), key=lambda i: -scores[i]):
            if used[first] or not marked[bounds[first] : bounds[first + 1]].any():
                continue
            start, last = spans[first][0], first
            while (
                last + 1 < len(spans)
                and not used[last + 1]
                and spans[last + 1][1] - start <= self._fragment_size
            ):
                last += 1
            used[first : last + 1] = True
            at = slice(bounds[first], bounds[last + 1])
            fragment = self._written(text, (start, spans[last][1]), compress(words[at], marked[at]))
            yield sum(scores[first : last + 1]), fragment

    def _written(self, text: str, fragment: Span, marked: Iterable[Span]) -> str:
        pieces, at = [], fragment[0]
        for start, end in marked:
            start, end = max(start, at), min(end, fragment[1])
            word = self._escape(text[start:end])
            pieces += [self._escape(text[at:start]), self._tags[0], word, self._tags[1]]
            at = end
        return "".join([*pieces, self._escape(text[at : fragment[1]])])


def word_highlight(rewriter: QueryRewriter, question: str, engine: EngineInfo) -> dict[str, Any]:
    """`highlight` of a request body: the engine marks the question's words in whole text fields."""
    bound = {"max_analyzer_offset": MOST_CHARACTERS} if engine.distribution == "opensearch" else {}
    return {
        **bound,
        "fields": {name: {"number_of_fragments": 0} for name in rewriter.text_fields},
        "highlight_query": rewriter.words_only(question)["query"],
        "require_field_match": False,
        "encoder": "html",
    }


def values_of(weighted: Sequence[WeightedTerm], idf: NDArray[np.float32]) -> NDArray[np.float64]:
    """`w_q * idf` of every latent, `[n_latents]`, zero for latents the question does not have."""
    values = np.zeros(len(idf), dtype=np.float64)
    for item in weighted:
        latent = terms.latent_of(item.term)
        values[latent] = item.weight * idf[latent]
    return values


def token_contributions(tokens: TokenVectors, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The contribution of each token, `[n_tokens]`, by `w_q * idf` of every latent."""
    found: NDArray[np.float64] = (values[tokens.latents] * tokens.activations).sum(axis=1)
    return found


def sentence_spans(text: str, size: int) -> Iterator[Span]:
    """Sentences in order, without surrounding white space; longer ones than `size` in parts.

    They are disjoint and have all characters that are not white space.
    """
    start = 0
    for end in [*(found.end() for found in SENTENCE_END.finditer(text)), len(text)]:
        while start < end:
            start += len(text[start:end]) - len(text[start:end].lstrip())
            whole = text[start:end].rstrip()
            if len(whole) <= size:
                if whole:
                    yield start, start + len(whole)
                break
            space = max(whole.rfind(letter, 1, size + 1) for letter in " \n\t")
            cut = space if space > 0 else before_marks(whole, size)
            yield start, start + len(whole[:cut].rstrip())
            start += cut
        start = end


def before_marks(text: str, at: int) -> int:
    """The last place up to `at` that divides no letter from its marks; `at` if there is none."""
    return next((place for place in range(at, 0, -1) if not is_mark(text[place])), at)


def engine_marks(text: str, fragments: Sequence[str]) -> list[Span]:
    """Spans that the engine's fragments of a text mark; fragments may be escaped or not."""
    found: list[Span] = []
    for written in fragments:
        for fragment in dict.fromkeys((written, html.unescape(written))):
            at = text.find(fragment.replace(TAGS[0], "").replace(TAGS[1], ""))
            if at < 0:
                continue
            # Every second piece is a mark.
            pieces = re.split(f"{TAGS[0]}(.*?){TAGS[1]}", fragment, flags=re.DOTALL)
            for place, piece in enumerate(pieces):
                if place % 2:
                    found.append((at, at + len(piece)))
                at += len(piece)
            break
    return found


def touches(span: Span, others: Sequence[Span]) -> bool:
    """Whether a span shares a character with one of the others."""
    return any(span[0] < end and start < span[1] for start, end in others)
