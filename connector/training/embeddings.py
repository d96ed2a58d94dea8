"""Texts → token embeddings → shuffled batches; embeddings may be cached on disk.

The stream of blocks is the same for the same texts and seed, so a run resumes by starting the
stream at the block it had reached.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import KW_ONLY, asdict, dataclass, field, replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.files import disk_errors, write_atomically
from latent_ingest.connector.training.texts import TrainingTexts

# Texts embedded at once: enough to sort by length without much padding. And their most characters:
# some 250,000 tokens, 200 MB in bfloat16 at a width of 384.
TEXTS_PER_BLOCK = 512
CHARACTERS_PER_BLOCK = 1_000_000

# Consecutive tokens read from a cache at once, some six texts: a batch drawn from a buffer of many
# blocks still mixes many documents.
TOKENS_PER_BLOCK = 1024


@dataclass
class TextTokens:
    """Embeds texts when their tokens are needed."""

    backbone: Backbone
    texts: TrainingTexts
    held_out: frozenset[str] = frozenset()
    """Texts that are skipped in every round."""
    rounds: int = 0
    """Completed rounds over all texts."""

    def blocks(self, start: int, step: int = 1) -> Iterator[torch.Tensor]:
        """An endless stream of blocks `[n_tokens, d_in]`: from `start` on, every `step`-th.

        Raises:
            InputError: a whole round has no tokens.
        """
        tokens, first_round = 0, None
        for block in islice(self._text_blocks(), start, None, step):
            first_round = self.rounds if first_round is None else first_round
            if self.rounds > first_round + 1 and not tokens:
                raise InputError("the texts have no tokens to train on; name other texts")
            hidden = embedded(self.backbone, block)
            tokens += len(hidden)
            yield hidden

    def _text_blocks(self) -> Iterator[list[str]]:
        for number in count():
            self.rounds = number
            yield from blocks_of(one_round(self.texts, self.held_out, number))


class CachedTokens:
    """Reads a filled cache, its blocks in a different order in each round."""

    def __init__(self, cache: EmbeddingCache, n_tokens: int, seed: int) -> None:
        """Read the first `n_tokens` of the cache; another run may have added more."""
        self._tokens = cache.tokens()[:n_tokens]
        self._seed = seed
        self._every_text = cache.state.whole_round and n_tokens >= cache.state.tokens
        self.n_blocks = -(-len(self._tokens) // TOKENS_PER_BLOCK)
        self.rounds = 0
        """Completed rounds over all texts; 0 if the cache has a part of them."""

    def blocks(self, start: int, step: int = 1) -> Iterator[torch.Tensor]:
        """Like `TextTokens.blocks`."""
        number = start
        while True:
            completed = number // self.n_blocks
            self.rounds = completed if self._every_text else 0
            shuffling = np.random.default_rng([self._seed, completed])
            for block in shuffling.permutation(self.n_blocks)[number % self.n_blocks :: step]:
                first = int(block) * TOKENS_PER_BLOCK
                yield torch.from_numpy(self._tokens[first : first + TOKENS_PER_BLOCK].copy())
                number += step


def embedded(backbone: Backbone, texts: list[str]) -> torch.Tensor:
    """Token embeddings of all windows of the texts, `[n_tokens, d_in]`, ordered by length."""
    return backbone.within_memory(
        lambda: torch.cat([batch.hidden for batch in backbone.embed(texts, long="pool")])
    )


def blocks_of(texts: Iterable[str]) -> Iterator[list[str]]:
    """Group texts to embed together; a text longer than a block is divided."""
    block: list[str] = []
    size = 0
    for text in texts:
        for start in range(0, len(text), CHARACTERS_PER_BLOCK):
            part = text[start : start + CHARACTERS_PER_BLOCK]
            if len(block) == TEXTS_PER_BLOCK or (block and size + len(part) > CHARACTERS_PER_BLOCK):
                yield block
                block, size = [], 0
            block.append(part)
            size += len(part)
    if block:
        yield block


@dataclass(frozen=True, slots=True)
class CacheState:
    """Content of cache.json, which describes tokens.bin."""

    backbone: str
    """Fingerprint of the backbone's weights."""
    prompts: dict[str, str]
    texts: str
    """`TrainingTexts.fingerprint`."""
    held_out: int
    """Number of held-out texts, which the cache does not have."""
    d_in: int
    tokens: int = 0
    blocks: int = 0
    """Blocks of texts in the cache."""
    whole_round: bool = False
    """Whether the cache has every text."""
    skipped: int = 0
    """Lines so far that are invalid or have no text."""
    duplicates: int = 0
    """Duplicate texts so far."""


@dataclass(eq=False)
class EmbeddingCache:
    """Token embeddings in float16 on disk: `tokens.bin`, `[tokens, d_in]`, and `cache.json`.

    Filling the cache can be interrupted at any time; it resumes where it stopped.
    """

    folder: Path
    backbone: Backbone
    texts: TrainingTexts
    held_out: frozenset[str]

    def __post_init__(self) -> None:
        """Open or start the cache; raises InputError if the folder has anything else."""
        fresh = CacheState(
            backbone=self.backbone.fingerprint,
            prompts=self.backbone.prompts,
            texts=self.texts.fingerprint,
            held_out=len(self.held_out),
            d_in=self.backbone.d_in,
        )
        self.state = self._stored() or fresh
        for name in ("backbone", "prompts", "texts", "held_out", "d_in"):
            stored, ours = getattr(self.state, name), getattr(fresh, name)
            if stored != ours:
                raise InputError(
                    f"{self.folder}: the cache was made with {name} {stored}, but this run has "
                    f"{ours}; name another --cache, or delete this one"
                )

    def fill(self, tokens: int, on_progress: Callable[[int], None] = lambda tokens: None) -> None:
        """Embed texts until the cache has `tokens` tokens, or all texts.

        `on_progress` is called with the number of tokens in the cache.

        Raises:
            InputError: the disk has too little room, or is full.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        bytes_per_token = 2 * self.state.d_in
        free = shutil.disk_usage(self.folder).free
        needed = 0 if self.state.whole_round else (tokens - self.state.tokens) * bytes_per_token
        if needed > free:
            raise InputError(
                f"{self.folder}: the cache of {tokens:,} tokens needs {needed / 1e9:,.1f} GB "
                f"more, but {free / 1e9:,.1f} GB are free; use fewer --tokens, or no --cache"
            )
        with (
            disk_errors(self.folder, if_full="make room; the cache so far is kept"),
            (self.folder / "tokens.bin").open("ab") as file,
        ):
            file.truncate(self.state.tokens * bytes_per_token)
            self._append(file, tokens, on_progress)

    def tokens(self) -> np.memmap[Any, np.dtype[np.float16]]:
        """The embeddings, memory-mapped, float16 `[tokens, d_in]`."""
        shape = (self.state.tokens, self.state.d_in)
        return np.memmap(self.folder / "tokens.bin", dtype=np.float16, mode="r", shape=shape)

    def _append(self, file: Any, tokens: int, on_progress: Callable[[int], None]) -> None:
        every = blocks_of(one_round(self.texts, self.held_out))
        blocks = islice(every, self.state.blocks, None)
        while self.state.tokens < tokens and not self.state.whole_round:
            block = next(blocks, None)
            new = embedded(self.backbone, block).cpu() if block else torch.empty(0, 0)
            file.write(new.to(torch.float16).numpy().tobytes())
            file.flush()
            self.state = replace(
                self.state,
                tokens=self.state.tokens + len(new),
                blocks=self.state.blocks + (block is not None),
                whole_round=block is None,
                skipped=self.texts.skipped,
                duplicates=self.texts.duplicates,
            )
            write_atomically(self.folder / "cache.json", json.dumps(asdict(self.state)) + "\n")
            on_progress(self.state.tokens)

    def _stored(self) -> CacheState | None:
        path = self.folder / "cache.json"
        try:
            return CacheState(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            if self.folder.is_dir() and any(self.folder.iterdir()):
                raise InputError(
                    f"{self.folder}: has other files but no cache.json; name another --cache"
                ) from None
            return None
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}: does not describe a cache: {error}; delete it") from error


def one_round(texts: TrainingTexts, held_out: frozenset[str], number: int = 0) -> Iterator[str]:
    """Every text once, except those held out."""
    return (text for text in texts.round(number) if text not in held_out)


@dataclass(eq=False)
class TokenBatches:
    """Endless batches `[batch_tokens, d_in]`, each mixing many texts.

    A buffer of `buffer_tokens` tokens is filled and shuffled, half of it is given out, and it is
    filled again.
    """

    source: TextTokens | CachedTokens
    _: KW_ONLY
    batch_tokens: int
    buffer_tokens: int
    """At least two batches are held, even if this is less."""
    generator: torch.Generator
    device: torch.device
    next: int = 0
    """Number of the next block to read."""
    step: int = 1
    """Every so many blocks are read; the others are those of other processes."""
    _buffer: torch.Tensor | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.buffer_tokens = max(self.buffer_tokens, 2 * self.batch_tokens)
        self._blocks = self.source.blocks(self.next, self.step)

    def __iter__(self) -> TokenBatches:
        return self

    def __next__(self) -> torch.Tensor:
        buffer = self._buffer
        if buffer is None or len(buffer) - self.batch_tokens < self.buffer_tokens // 2:
            buffer = self._filled()
        self._buffer = buffer[self.batch_tokens :]
        return buffer[: self.batch_tokens]

    def first(self) -> torch.Tensor:
        """The tokens that the first batches are taken from, `[buffer_tokens or more, d_in]`."""
        if self._buffer is None:
            self._buffer = self._filled()
        return self._buffer

    def _filled(self) -> torch.Tensor:
        """The buffer with further blocks, shuffled."""
        parts = [] if self._buffer is None else [self._buffer]
        while sum(map(len, parts)) < self.buffer_tokens:
            parts.append(next(self._blocks).to(self.device))
            self.next += self.step
        buffer = torch.cat(parts)
        order = torch.randperm(len(buffer), generator=self.generator)
        return buffer[order.to(self.device)]

    def state(self) -> dict[str, Any]:
        """State with which `restore` continues at the very next batch."""
        return {
            "next": self.next,
            "buffer": None if self._buffer is None else self._buffer.clone(),
            "generator": self.generator.get_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.next = state["next"]
        self._blocks = self.source.blocks(self.next, self.step)
        buffer = state["buffer"]
        self._buffer = None if buffer is None else buffer.to(self.device)
        self.generator.set_state(state["generator"])
