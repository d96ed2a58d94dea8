"""Texts → token embeddings → shuffled batches; embeddings may be kept on disk.

The stream of blocks is the same for the same texts and seed, so a run is continued by starting it
at the block where it was.
"""

from __future__ import annotations

import json
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.errors import InputError
from latent_ingest.connector.training.files import disk_errors, write_atomically
from latent_ingest.connector.training.texts import TrainingTexts

# Texts embedded at once: enough to sort by length without padding much.
TEXTS_A_BLOCK = 512

# Consecutive tokens of a cache that are read at once, some six texts: a batch drawn from a buffer
# of many blocks still mixes many documents.
TOKENS_A_BLOCK = 1024


class TokenSource(Protocol):
    """An endless stream of blocks of token embeddings `[n_tokens, d_in]`."""

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

    def blocks(self, start: int, step: int = 1) -> Iterator[torch.Tensor]:
        kept = (text for text in self._texts if text not in self._held_out)
        texts = islice(kept, start * TEXTS_A_BLOCK, None)
        while True:
            yield embedded(self._backbone, list(islice(texts, TEXTS_A_BLOCK)))
            deque(islice(texts, (step - 1) * TEXTS_A_BLOCK), maxlen=0)


class CachedTokens:
    """Reads a filled cache, in another order of its blocks in each round."""

    def __init__(self, cache: ActivationCache, seed: int) -> None:
        self._tokens = cache.tokens()
        self._seed = seed
        self.n_blocks = -(-len(self._tokens) // TOKENS_A_BLOCK)

    def blocks(self, start: int, step: int = 1) -> Iterator[torch.Tensor]:
        number = start
        while True:
            shuffling = np.random.default_rng([self._seed, number // self.n_blocks])
            for block in shuffling.permutation(self.n_blocks)[number % self.n_blocks :: step]:
                first = int(block) * TOKENS_A_BLOCK
                yield torch.from_numpy(self._tokens[first : first + TOKENS_A_BLOCK].copy())
                number += step


def embedded(backbone: Backbone, texts: list[str]) -> torch.Tensor:
    """Token embeddings of some texts, `[n_tokens, d_in]`, ordered by the texts' lengths."""
    return torch.cat([batch.hidden for batch in backbone.embed(texts)])


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
        texts = first_round(self._texts, self._held_out)
        texts = islice(texts, self.state.blocks * TEXTS_A_BLOCK, None)
        while self.state.tokens < tokens and not self.state.whole_round:
            block = list(islice(texts, TEXTS_A_BLOCK))
            new = embedded(self._backbone, block).cpu() if block else torch.empty(0, 0)
            file.write(new.to(torch.float16).numpy().tobytes())
            file.flush()
            self.state = CacheState(
                **{
                    **asdict(self.state),
                    "tokens": self.state.tokens + len(new),
                    "blocks": self.state.blocks + bool(block),
                    "whole_round": len(block) < TEXTS_A_BLOCK,
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


def first_round(texts: TrainingTexts, held_out: frozenset[str]) -> Iterator[str]:
    """Every text once."""
    for text in texts:
        if texts.rounds:
            return
        if text not in held_out:
            yield text


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
