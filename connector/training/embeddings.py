"""Texts → token embeddings → shuffled batches; embeddings may be cached on disk.

The stream of blocks is the same for the same texts and seed, so a run resumes by starting the
stream at the block it had reached.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
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
        self.n_blocks = -(-len(self._tokens) // TOKENS_PER_BLOCK)
        self.rounds = 0

    def blocks(self, start: int, step: int = 1) -> Iterator[torch.Tensor]:
        """Like `TextTokens.blocks`."""
        number = start
        while True:
            self.rounds = number // self.n_blocks
            shuffling = np.random.default_rng([self._seed, self.rounds])
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


class EmbeddingCache:
    """Token embeddings in float16 on disk: `tokens.bin`, `[tokens, d_in]`, and `cache.json`.

    Filling the cache can be interrupted at any time; it resumes where it stopped.
    """

    def __init__(
        self, folder: Path, backbone: Backbone, texts: TrainingTexts, held_out: frozenset[str]
    ) -> None:
        """Open or start a cache; raises InputError if the folder has anything else."""
        self._folder = folder
        self._backbone = backbone
        self._texts = texts
        self._held_out = held_out
        fresh = CacheState(
            backbone=backbone.fingerprint,
            prompts=backbone.prompts,
            texts=texts.fingerprint,
            held_out=len(held_out),
            d_in=backbone.d_in,
        )
        self.state = self._stored() or fresh
        for name in ("backbone", "prompts", "texts", "held_out", "d_in"):
            stored, ours = getattr(self.state, name), getattr(fresh, name)
            if stored != ours:
                raise InputError(
                    f"{folder}: the cache was made with {name} {stored}, but this run has {ours}; "
                    f"name another --cache, or delete this one"
                )

    def fill(self, tokens: int, on_progress: Callable[[int], None] = lambda tokens: None) -> None:
        """Embed texts until the cache has `tokens` tokens, or all texts.

        `on_progress` is called with the number of tokens in the cache.

        Raises:
            InputError: the disk has too little room, or is full.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        bytes_per_token = 2 * self.state.d_in
        free = shutil.disk_usage(self._folder).free
        needed = 0 if self.state.whole_round else (tokens - self.state.tokens) * bytes_per_token
        if needed > free:
            raise InputError(
                f"{self._folder}: the cache of {tokens:,} tokens needs {needed / 1e9:,.1f} GB "
                f"more, but {free / 1e9:,.1f} GB are free; use fewer --tokens, or no --cache"
            )
        with (
            disk_errors(self._folder, if_full="make room; the cache so far is kept"),
            (self._folder / "tokens.bin").open("ab") as file,
        ):
            file.truncate(self.state.tokens * bytes_per_token)
            self._append(file, tokens, on_progress)

    def tokens(self) -> np.memmap[Any, np.dtype[np.float16]]:
        """The embeddings, memory-mapped, float16 `[tokens, d_in]`."""
        shape = (self.state.tokens, self.state.d_in)
        return np.memmap(self._folder / "tokens.bin", dtype=np.float16, mode="r", shape=shape)

    def _append(self, file: Any, tokens: int, on_progress: Callable[[int], None]) -> None:
        every = blocks_of(one_round(self._texts, self._held_out))
        blocks = islice(every, self.state.blocks, None)
        while self.state.tokens < tokens and not self.state.whole_round:
            block = next(blocks, None)
            new = embedded(self._backbone, block).cpu() if block else torch.empty(0, 0)
            file.write(new.to(torch.float16).numpy().tobytes())
            file.flush()
            self.state = replace(
                self.state,
                tokens=self.state.tokens + len(new),
                blocks=self.state.blocks + (block is not None),
                whole_round=block is None,
                skipped=self._texts.skipped,
                duplicates=self._texts.duplicates,
            )
            write_atomically(self._folder / "cache.json", json.dumps(asdict(self.state)) + "\n")
            on_progress(self.state.tokens)

    def _stored(self) -> CacheState | None:
        path = self._folder / "cache.json"
        try:
            return CacheState(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            if self._folder.is_dir() and any(self._folder.iterdir()):
                raise InputError(
                    f"{self._folder}: has other files but no cache.json; name another --cache"
                ) from None
            return None
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}: does not describe a cache: {error}; delete it") from error


def one_round(texts: TrainingTexts, held_out: frozenset[str], number: int = 0) -> Iterator[str]:
    """Every text once, except those held out."""
    return (text for text in texts.round(number) if text not in held_out)


class TokenBatches:
    """Endless batches `[batch_tokens, d_in]`, each mixing many texts.

    A buffer of `buffer_tokens` tokens is filled and shuffled, half of it is given out, and it is
    filled again.
    """

    def __init__(
        self,
        source: TextTokens | CachedTokens,
        *,
        batch_tokens: int,
        buffer_tokens: int,
        generator: torch.Generator,
        device: torch.device | None = None,
        first: int = 0,
        step: int = 1,
    ) -> None:
        """Draw from every `step`-th block of `source`, starting at number `first`."""
        self._source = source
        self._blocks = source.blocks(first, step)
        self._next = first
        self._step = step
        self._batch_tokens = batch_tokens
        self._buffer_tokens = max(buffer_tokens, 2 * batch_tokens)
        self._generator = generator
        self._device = device or torch.device("cpu")
        self._buffer: torch.Tensor | None = None

    def __iter__(self) -> TokenBatches:
        return self

    def __next__(self) -> torch.Tensor:
        buffer = self._buffer
        if buffer is None or len(buffer) - self._batch_tokens < self._buffer_tokens // 2:
            buffer = self._filled()
        self._buffer = buffer[self._batch_tokens :]
        return buffer[: self._batch_tokens]

    def _filled(self) -> torch.Tensor:
        """The buffer with further blocks, shuffled."""
        parts = [] if self._buffer is None else [self._buffer]
        while sum(map(len, parts)) < self._buffer_tokens:
            parts.append(next(self._blocks).to(self._device))
            self._next += self._step
        buffer = torch.cat(parts)
        order = torch.randperm(len(buffer), generator=self._generator)
        return buffer[order.to(self._device)]

    def state(self) -> dict[str, Any]:
        """What `restore` needs to continue with the very next batch."""
        return {
            "next": self._next,
            "buffer": None if self._buffer is None else self._buffer.clone(),
            "generator": self._generator.get_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self._next = state["next"]
        self._blocks = self._source.blocks(self._next, self._step)
        buffer = state["buffer"]
        self._buffer = None if buffer is None else buffer.to(self._device)
        self._generator.set_state(state["generator"])
