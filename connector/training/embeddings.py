"""Texts → token embeddings → shuffled batches; embeddings may be kept on disk.

The stream of blocks is the same for the same texts and seed, so a run is continued by starting it
at the block where it was.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.training.files import disk_errors, write_atomically
from latent_ingest.connector.training.texts import TrainingTexts

# Texts embedded at once: enough to sort by length without padding much. Characters of them at
# most: some 250,000 tokens, 200 MB in bf16 at a width of 384.
TEXTS_A_BLOCK = 512
CHARACTERS_A_BLOCK = 1_000_000

# Consecutive tokens of a cache that are read at once, some six texts: a batch drawn from a buffer
# of many blocks still mixes many documents.
TOKENS_A_BLOCK = 1024


class TokenSource(Protocol):
    """An endless stream of blocks of token embeddings `[n_tokens, d_in]`."""

    rounds: int
    """Times that all of it was given."""

    def blocks(self, start: int, step: int = 1) -> Iterator[torch.Tensor]:
        """Every `step`-th block from number `start`, counted from 0."""
        ...


class TextTokens:
    """Embeds texts as they are wanted."""

    def __init__(
        self, backbone: Backbone, texts: TrainingTexts, held_out: frozenset[str] = frozenset()
    ) -> None:
        """`held_out` texts are passed over in every round."""
        self._backbone = backbone
        self._texts = texts
        self._held_out = held_out
        self.rounds = 0

    def blocks(self, start: int, step: int = 1) -> Iterator[torch.Tensor]:
        """As `TokenSource`; raises InputError where a whole round has not one token."""
        tokens, begun = 0, None
        for block in islice(self._text_blocks(), start, None, step):
            begun = self.rounds if begun is None else begun
            if self.rounds > begun + 1 and not tokens:
                raise InputError("the texts have no tokens to train on; give others")
            hidden = embedded(self._backbone, block)
            tokens += len(hidden)
            yield hidden

    def _text_blocks(self) -> Iterator[list[str]]:
        for number in count():
            self.rounds = number
            yield from blocks_of(one_round(self._texts, self._held_out, number))


class CachedTokens:
    """Reads a filled cache, in another order of its blocks in each round."""

    def __init__(self, cache: ActivationCache, n_tokens: int, seed: int) -> None:
        """Of the cache's first `n_tokens`: another run may have added to it."""
        self._tokens = cache.tokens()[:n_tokens]
        self._seed = seed
        self.n_blocks = -(-len(self._tokens) // TOKENS_A_BLOCK)
        self.rounds = 0

    def blocks(self, start: int, step: int = 1) -> Iterator[torch.Tensor]:
        number = start
        while True:
            self.rounds = number // self.n_blocks
            shuffling = np.random.default_rng([self._seed, number // self.n_blocks])
            for block in shuffling.permutation(self.n_blocks)[number % self.n_blocks :: step]:
                first = int(block) * TOKENS_A_BLOCK
                yield torch.from_numpy(self._tokens[first : first + TOKENS_A_BLOCK].copy())
                number += step


def embedded(backbone: Backbone, texts: list[str]) -> torch.Tensor:
    """Token embeddings of some texts, all their windows, `[n_tokens, d_in]`, ordered by length."""
    return backbone.within_memory(
        lambda: torch.cat([batch.hidden for batch in backbone.embed(texts, long="pool")])
    )


def blocks_of(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts that are embedded together; one of more than `CHARACTERS_A_BLOCK` in several parts."""
    block: list[str] = []
    size = 0
    for text in texts:
        for start in range(0, len(text), CHARACTERS_A_BLOCK):
            part = text[start : start + CHARACTERS_A_BLOCK]
            if len(block) == TEXTS_A_BLOCK or (block and size + len(part) > CHARACTERS_A_BLOCK):
                yield block
                block, size = [], 0
            block.append(part)
            size += len(part)
    if block:
        yield block


@dataclass(frozen=True, slots=True)
class CacheState:
    """What cache.json says of tokens.bin."""

    backbone: str
    """Fingerprint of the weights."""
    prompts: dict[str, str]
    texts: str
    """`TrainingTexts.fingerprint`"""
    held_out: int
    """Texts passed over."""
    d_in: int
    tokens: int = 0
    blocks: int = 0
    """Blocks of texts that are in it."""
    whole_round: bool = False
    """Whether it holds every text."""
    skipped: int = 0
    """Lines that were no text, so far."""
    duplicates: int = 0
    """Texts that were there before, so far."""


class ActivationCache:
    """Token embeddings in fp16 on disk: `tokens.bin`, `[tokens, d_in]`, and `cache.json`.

    Filling it can be interrupted at any time and goes on where it was.
    """

    def __init__(
        self, folder: Path, backbone: Backbone, texts: TrainingTexts, held_out: frozenset[str]
    ) -> None:
        """Open or begin a cache.

        Raises:
            InputError: what is in the folder belongs to another backbone or other texts.
        """
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
            if getattr(self.state, name) != getattr(fresh, name):
                raise InputError(
                    f"{folder}: was made with {name} {getattr(self.state, name)}, this run has "
                    f"{getattr(fresh, name)}; name another --cache, or delete it"
                )

    def fill(self, tokens: int, on_progress: Callable[[int], None] = lambda tokens: None) -> None:
        """Embed texts until there are `tokens`, or all texts are in it.

        Args:
            tokens: wanted.
            on_progress: called with the tokens that are there.

        Raises:
            InputError: the disk is too small, or full.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        bytes_a_token = 2 * self.state.d_in
        free = shutil.disk_usage(self._folder).free
        needed = 0 if self.state.whole_round else (tokens - self.state.tokens) * bytes_a_token
        if needed > free:
            raise InputError(
                f"{self._folder}: the cache of {tokens:,} tokens takes {needed / 1e9:,.1f} GB "
                f"more, {free / 1e9:,.1f} GB are free; use fewer --tokens, or no --cache"
            )
        with (
            disk_errors(self._folder, "make room, the cache so far is kept"),
            (self._folder / "tokens.bin").open("ab") as file,
        ):
            file.truncate(self.state.tokens * bytes_a_token)
            self._append(file, tokens, on_progress)

    def tokens(self) -> np.memmap[Any, np.dtype[np.float16]]:
        """Memory-mapped fp16 `[tokens, d_in]`."""
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
            self.state = CacheState(
                **{
                    **asdict(self.state),
                    "tokens": self.state.tokens + len(new),
                    "blocks": self.state.blocks + (block is not None),
                    "whole_round": block is None,
                    "skipped": self._texts.skipped,
                    "duplicates": self._texts.duplicates,
                }
            )
            write_atomically(
                self._folder / "cache.json", (json.dumps(asdict(self.state)) + "\n").encode()
            )
            on_progress(self.state.tokens)

    def _stored(self) -> CacheState | None:
        path = self._folder / "cache.json"
        try:
            return CacheState(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            if self._folder.is_dir() and any(self._folder.iterdir()):
                raise InputError(
                    f"{self._folder}: holds other files and no cache.json; name another --cache"
                ) from None
            return None
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}: not of a cache: {error}; delete it") from error


def one_round(texts: TrainingTexts, held_out: frozenset[str], number: int = 0) -> Iterator[str]:
    """Every text once but those held out."""
    return (text for text in texts.round(number) if text not in held_out)


class TokenBatches:
    """Endless batches `[batch_tokens, d_in]`, each mixing many texts.

    A buffer of `buffer_tokens` tokens is filled and shuffled, one half is given out, and it is
    filled again.
    """

    def __init__(
        self,
        source: TokenSource,
        *,
        batch_tokens: int,
        buffer_tokens: int,
        generator: torch.Generator,
        device: torch.device | None = None,
        first: int = 0,
        step: int = 1,
    ) -> None:
        """Draw from every `step`-th block of `source`, from number `first`."""
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
        if self._buffer is None or len(self._buffer) - self._batch_tokens < self._keep:
            self._fill()
        assert self._buffer is not None
        batch = self._buffer[: self._batch_tokens]
        self._buffer = self._buffer[self._batch_tokens :]
        return batch

    @property
    def _keep(self) -> int:
        return self._buffer_tokens // 2

    def _fill(self) -> None:
        parts = [] if self._buffer is None else [self._buffer]
        held = sum(map(len, parts))
        while held < self._buffer_tokens:
            parts.append(next(self._blocks).to(self._device))
            self._next += self._step
            held += len(parts[-1])
        buffer = torch.cat(parts)
        order = torch.randperm(len(buffer), generator=self._generator)
        self._buffer = buffer[order.to(self._device)]

    @property
    def rounds(self) -> int:
        """Times that all tokens were drawn."""
        return self._source.rounds

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on with the very next batch."""
        return {
            "next": self._next,
            "buffer": None if self._buffer is None else self._buffer.clone(),
            "generator": self._generator.get_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self._next = state["next"]
        self._blocks = self._source.blocks(self._next, self._step)
        buffer = state["buffer"]
        self._buffer = None if buffer is None else buffer.to(self._device)
        self._generator.set_state(state["generator"])
