"""Windows: texts → the windows of tokens that the backbone encodes, in batches of similar length.

A text longer than the backbone window is truncated ("truncate") or continues in further windows
("pool"). Windows overlap, so that no token lacks context, and each token counts in one of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from latent_ingest.connector.errors import ModelError

# How to treat a text longer than the backbone window.
LONG = ("pool", "truncate")

# Tokens that a window shares with the next, at most half a window: each counted token has 16 or
# more tokens of context, mostly 32.
OVERLAP = 64

# Characters tokenized at once; a tokenizer needs some 150 bytes for each.
SECTION = 262_144


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one text."""

    before: NDArray[np.int32]
    """Ids of the special tokens and the prompt before each window."""
    after: NDArray[np.int32]
    """Ids of the special tokens after each window."""
    ids: NDArray[np.int32]
    """Ids of the text's own tokens, `[n_tokens]`."""
    spans: NDArray[np.int32]
    """Start and end of each token in the text, in characters, `[n_tokens, 2]`."""


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens of a text that the backbone sees together."""

    position: int
    """Position of the text among the given texts."""
    tokens: Tokens
    start: int
    """First token of the text in the window."""
    end: int
    """One after the last token in the window."""
    first: int
    """First token that counts in this window; earlier tokens are context."""
    last: int
    """One after the last token that counts."""
    characters: tuple[int, int]
    """Part of the text that the counted tokens cover, in characters; neighbours' parts touch."""
    truncated: bool = False
    """Whether the text continues and is truncated here."""

    @property
    def length(self) -> int:
        """Tokens, with prompt and special tokens."""
        return len(self.tokens.before) + self.end - self.start + len(self.tokens.after)


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Windows padded to one length, `[n_windows, longest]` each, on the CPU."""

    windows: Sequence[Window]
    input_ids: torch.Tensor
    attention: torch.Tensor
    counted: torch.Tensor
    """Whether the token belongs to the text and counts in this window."""
    spans: torch.Tensor
    """Start and end of counted tokens in their text, `[n_windows, longest, 2]`; others zero."""


def windows_of(
    tokenizer: Any, texts: Sequence[str], *, prompt: str, max_tokens: int, long: str
) -> list[Window]:
    """The windows of texts, in order; raises ModelError if the prompt leaves no room.

    A window begins with `prompt` and has at most `max_tokens` tokens, prompt and special tokens
    included. `tokenizer` is a fast one of transformers.
    """
    if long not in LONG:
        raise ValueError(f"long {long!r}: use {' or '.join(LONG)}")
    found: list[Window] = []
    for position, tokens in enumerate(tokenize(tokenizer, texts, prompt)):
        room = max_tokens - len(tokens.before) - len(tokens.after)
        n_tokens, end = len(tokens.ids), len(texts[position])
        if n_tokens <= room:
            found.append(Window(position, tokens, 0, n_tokens, 0, n_tokens, (0, end)))
        elif room < 1:
            raise ModelError(f"the prompt {prompt!r:.60} fills the window of {max_tokens} tokens")
        elif long == "truncate":
            cut = int(tokens.spans[room - 1, 1])
            found.append(Window(position, tokens, 0, room, 0, room, (0, cut), truncated=True))
        else:
            found += overlapping(position, texts[position], tokens, room)
    return found


def overlapping(position: int, text: str, tokens: Tokens, room: int) -> Iterator[Window]:
    """Windows of `room` tokens, the last one shorter, for a text longer than one window."""
    n_tokens = len(tokens.ids)
    overlap = min(OVERLAP, room // 2)
    start = first = character = 0
    while start + room < n_tokens:
        end = start + room
        last = border(text, tokens.spans, end - overlap, end)
        until = int(tokens.spans[last, 0])
        yield Window(position, tokens, start, end, first, last, (character, until))
        start, first, character = end - overlap, last, until
    yield Window(position, tokens, start, n_tokens, first, n_tokens, (character, len(text)))


def border(text: str, spans: NDArray[np.int32], start: int, end: int) -> int:
    """The first token that counts in the next window: near the middle, at the start of a word.

    In a text without spaces, at the start of a character: one may be several tokens of bytes.
    """
    middle = (start + end) // 2
    near = [
        token
        for distance in range((end - start) // 4)
        for token in (middle - distance, middle + distance)
    ]
    for token in near:
        at = int(spans[token, 0])
        if text[at - 1 : at].isspace() or text[at : at + 1].isspace():
            return token
    return next((token for token in near if spans[token, 0] >= spans[token - 1, 1]), middle)


def tokenize(tokenizer: Any, texts: Sequence[str], prompt: str) -> Iterator[Tokens]:
    """The tokens of each text, of any length.

    Memory: 12 bytes per token, and `SECTION` characters in the tokenizer.
    """
    fast = tokenizer.backend_tokenizer
    fast.no_truncation()
    fast.no_padding()
    # Number of special tokens before and after a text.
    special = fast.encode("x").special_tokens_mask
    around = special.index(0), special[::-1].index(0)
    parts: list[Tokens] = []
    for group in groups(texts):
        encodings = fast.encode_batch(
            [prompt + section if start == 0 else section for start, section, _ in group]
        )
        for (start, _, is_last), encoding in zip(group, encodings, strict=True):
            parts.append(tokens_of(encoding, around, start, len(prompt) if start == 0 else 0))
            if is_last:
                yield joined(parts)
                parts = []


def tokens_of(encoding: Any, around: tuple[int, int], start: int, prompt: int) -> Tokens:
    """Tokens of the section that begins at `start`, after a prompt of `prompt` characters."""
    ids = np.array(encoding.ids, dtype=np.int32)
    spans = np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2)
    first, last = around[0], len(ids) - around[1]
    if prompt:  # compare ends: a text's first token may begin with the prompt's last space
        first += int(np.count_nonzero(spans[first:last, 1] <= prompt))
    own = np.maximum(spans[first:last] - prompt, 0)
    return Tokens(ids[:first], ids[last:], ids[first:last], own + start)


def joined(parts: Sequence[Tokens]) -> Tokens:
    """Join the sections of one text."""
    if len(parts) == 1:
        return parts[0]
    return Tokens(
        parts[0].before,
        parts[0].after,
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.spans for part in parts]),
    )


def groups(texts: Sequence[str]) -> Iterator[list[tuple[int, str, bool]]]:
    """Sections of texts to tokenize at once: start character, section, and whether it is the last.

    A text longer than `SECTION` is divided before white space, where no token is.
    """
    group: list[tuple[int, str, bool]] = []
    characters = 0
    for text in texts:
        # Tokenizers refuse lone surrogates, which JSON can contain.
        valid = text.encode("utf-8", "replace").decode()
        start = 0
        while True:
            end = section_end(valid, start)
            group.append((start, valid[start:end], end == len(valid)))
            characters += end - start
            if characters >= SECTION:
                yield group
                group, characters = [], 0
            if end == len(valid):
                break
            start = end
    if group:
        yield group


def section_end(text: str, start: int) -> int:
    """End of a section: before its last possible space or, without one, at its full length."""
    end = start + SECTION
    if end >= len(text):
        return len(text)
    space = text.rfind(" ", start + 1, end)
    return space if space > start else end


def batches(
    windows: Sequence[Window], *, max_tokens: int, budget: int, padding: int
) -> Iterator[TokenBatch]:
    """Windows sorted by length, in batches of at most `budget` padded tokens."""
    lengths = [padded_length(window.length, max_tokens) for window in windows]
    by_length = sorted(range(len(windows)), key=lambda i: windows[i].length)
    for rows in within_budget(by_length, lengths, budget):
        shape = (len(rows), lengths[rows[-1]])
        batch = TokenBatch(
            windows=[windows[row] for row in rows],
            input_ids=torch.full(shape, padding),
            attention=torch.zeros(shape, dtype=torch.int64),
            counted=torch.zeros(shape, dtype=torch.bool),
            spans=torch.zeros((*shape, 2), dtype=torch.int64),
        )
        for row, window in enumerate(batch.windows):
            tokens = window.tokens
            ids = [tokens.before, tokens.ids[window.start : window.end], tokens.after]
            batch.input_ids[row, : window.length] = torch.from_numpy(np.concatenate(ids))
            batch.attention[row, : window.length] = 1
            shift = len(tokens.before) - window.start
            counted = slice(window.first + shift, window.last + shift)
            batch.counted[row, counted] = True
            spans = tokens.spans[window.first : window.last]
            batch.spans[row, counted] = torch.from_numpy(spans).long()
        yield batch


def within_budget(
    order: Sequence[int], lengths: Sequence[int], budget: int
) -> Iterator[Sequence[int]]:
    """Divide `order`, ascending in length, so that rows x longest is at most `budget` tokens.

    A text longer than the budget gets a batch of its own.
    """
    first = 0
    for place, row in enumerate(order):
        if place > first and lengths[row] * (place - first + 1) > budget:
            yield order[first:place]
            first = place
    if first < len(order):
        yield order[first:]


def padded_length(tokens: int, most: int) -> int:
    """The next multiple of 16, at most `most`: kernels are cached for each shape."""
    return min(-(-tokens // 16) * 16, most)
