"""The backbone: a frozen dense retriever that turns texts into token embeddings."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

from latent_ingest.connector.encoding import windows
from latent_ingest.connector.encoding.autoencoder import boundaries
from latent_ingest.connector.encoding.hub import DEFAULT_BACKBONE, find_folder
from latent_ingest.connector.encoding.model_folder import read_prompts, read_settings
from latent_ingest.connector.encoding.projection import load_projection
from latent_ingest.connector.errors import ModelError

# Padded tokens per forward pass. CPU: measured on 2 cores in bfloat16, 4,096 was the fastest of
# 1,024, 4,096 and 16,384 (13,900, 14,600 and 10,600 tokens/s).
TOKEN_BUDGET = {"cpu": 4096, "mps": 16384, "cuda": 65536}

# Padded tokens per forward pass below which running out of memory is an error.
SMALLEST_BUDGET = 512

# Texts tokenized at once when a long list is streamed: enough to sort by length.
SORT_WINDOW = 4096

Result = TypeVar("Result")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TokenEmbeddings:
    """Token embeddings of some texts, packed one row after the other.

    A row is a text, or one window of a text that has several. Tokens are left out if they are
    special tokens, belong to the prompt, or are counted by the window they overlap with.
    """

    hidden: torch.Tensor
    """Token embeddings, `[n_tokens, d_in]`, in the backbone's dtype, on its device."""
    cu_seq_lens: torch.Tensor
    """Row boundaries in `hidden`, int64 `[n_rows + 1]`, on the CPU."""
    spans: torch.Tensor
    """Start and end of each token in its text, in characters, int64 `[n_tokens, 2]`, CPU."""
    truncated: torch.Tensor
    """Whether the text was longer than the backbone window and truncated, bool `[n_rows]`, CPU."""
    positions: list[int]
    """Position of each row's text among the given texts, `[n_rows]`."""
    characters: torch.Tensor
    """Start and end of the row's part of its text, in characters, int64 `[n_rows, 2]`, CPU."""


@dataclass(eq=False, repr=False)
class Backbone:
    """A frozen Hugging Face encoder with its tokenizer and, if it has some, token projections."""

    _model: Any
    _tokenizer: Any
    _projection: torch.nn.Sequential
    name: str
    token_budget: int
    """Padded tokens per forward pass."""
    max_tokens: int
    """The backbone window, in tokens, special tokens included."""
    prompts: dict[str, str]
    """Text put before a "query" or a "document"; attended to, not pooled."""
    fingerprint: str
    """SHA-256 of the weights as loaded in float32, 16 hexadecimal digits."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held by an encoder while it encodes: tokenizers are not thread-safe, and one forward pass
    keeps all cores busy."""

    @classmethod
    def load(
        cls, name: str = DEFAULT_BACKBONE, *, device: str = "auto", dtype: str = "auto"
    ) -> Backbone:
        """Load a backbone by folder or hub name.

        A name is searched, in this order, as a folder, in the Hugging Face cache, in an installed
        package that has its weights, and on the hub.

        Args:
            name: folder, or name on the hub. A folder is known by its absolute path from then on,
                so that a model finds it from elsewhere.
            device: "auto" (the first available of CUDA, MPS and CPU) or a torch device.
            dtype: "auto" (bfloat16 if the device computes in it), "float32" or "bfloat16".

        Raises:
            ModelError: the backbone is not found, not an encoder, or its files are broken.
        """
        from transformers import AutoConfig, AutoModel, AutoTokenizer
        from transformers.utils import logging as transformers_logging

        chosen_device = pick_device(device)
        chosen_dtype = pick_dtype(dtype, chosen_device)
        folder = find_folder(name)
        if Path(name).is_dir():
            name = str(folder.resolve())
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            if not reads_both_ways(config):
                raise ModelError(f"{name}: not an encoder but {config.model_type}; use an encoder")
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = AutoModel.from_pretrained(
                folder, config=config, local_files_only=True, dtype=torch.float32
            )
        except ModelError:
            raise
        except Exception as error:  # transformers raises many kinds of errors
            reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
            raise ModelError(f"{name}: cannot be loaded as a backbone: {reason}") from error
        if not tokenizer.is_fast:
            raise ModelError(
                f"{name}: has no fast tokenizer, which character offsets need; use another backbone"
            )
        projection = load_projection(folder)
        fingerprint = weights_fingerprint(model, projection)
        for part in (model, projection):
            part.requires_grad_(False).eval().to(device=chosen_device, dtype=chosen_dtype)
        return cls(
            model,
            tokenizer,
            projection,
            name=name,
            token_budget=TOKEN_BUDGET[chosen_device.type],
            max_tokens=window(folder, tokenizer, config),
            prompts=read_prompts(folder),
            fingerprint=fingerprint,
        )

    @property
    def vocabulary(self) -> list[str]:
        """The tokens of the tokenizer as it spells them, sorted."""
        return sorted(self._tokenizer.get_vocab())

    @property
    def d_in(self) -> int:
        """Width of a token embedding, after the projections if there are any."""
        layers = [layer for layer in self._projection if isinstance(layer, torch.nn.Linear)]
        return int(layers[-1].out_features if layers else self._model.config.hidden_size)

    @property
    def device(self) -> torch.device:
        """The torch device of the weights."""
        return torch.device(self._model.device)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype the backbone computes in."""
        dtype: torch.dtype = self._model.dtype
        return dtype

    def embed(
        self, texts: Sequence[str], *, kind: str = "document", long: str = "truncate"
    ) -> Iterator[TokenEmbeddings]:
        """Embed the tokens of `texts`, in batches of similar length; see `positions` of the result.

        Args:
            texts: any number of texts.
            kind: "query" or "document", which chooses the prompt.
            long: "truncate" leaves out what is beyond the backbone window; "pool" continues in
                further, overlapping windows, a row each, until every token is in one of them.

        Raises:
            ModelError: the prompt leaves no room for a text.
        """
        for batch, hidden, start in self._forward(texts, kind, long):
            yield TokenEmbeddings(
                hidden=hidden[batch.counted.to(hidden.device)],
                cu_seq_lens=boundaries(batch.counted.sum(dim=1)),
                spans=batch.spans[batch.counted],
                truncated=torch.tensor([window.truncated for window in batch.windows]),
                positions=[start + window.position for window in batch.windows],
                characters=torch.tensor([window.characters for window in batch.windows]),
            )

    def mean_pooled(self, texts: Sequence[str], *, kind: str = "document") -> torch.Tensor:
        """Dense vectors: the unit-length mean of all token embeddings of a text.

        The prompt and special tokens are included, and what is beyond the backbone window is left
        out. This is the vector the backbone was trained for.

        Returns:
            float32 `[n_texts, d_in]`, on the CPU.
        """
        out = torch.empty(len(texts), self.d_in)
        for batch, hidden, start in self._forward(texts, kind, "truncate"):
            mask = batch.attention.to(hidden.device).unsqueeze(-1)
            mean = (hidden.float() * mask).sum(dim=1) / mask.sum(dim=1)
            places = [start + window.position for window in batch.windows]
            out[places] = torch.nn.functional.normalize(mean, dim=-1).cpu()
        return out

    def within_memory(self, work: Callable[[], Result]) -> Result:
        """Return what `work` returns; if memory runs out, retry with batches of half the size.

        Later batches keep the smaller size.
        """
        while True:
            try:
                return work()
            except RuntimeError as error:
                if not out_of_memory(error) or self.token_budget <= SMALLEST_BUDGET:
                    raise
            # Outside the handler, because its traceback keeps the tensors alive.
            self.token_budget //= 2
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            log.warning("out of memory: continuing with %d tokens per batch", self.token_budget)

    def _forward(
        self, texts: Sequence[str], kind: str, long: str
    ) -> Iterator[tuple[windows.TokenBatch, torch.Tensor, int]]:
        """Batches, their embeddings `[n_windows, longest, d_in]`, and the first text's position."""
        for start in range(0, len(texts), SORT_WINDOW):
            found = windows.windows_of(
                self._tokenizer,
                texts[start : start + SORT_WINDOW],
                prompt=self.prompts.get(kind, ""),
                max_tokens=self.max_tokens,
                long=long,
            )
            for batch in windows.batches(
                found,
                max_tokens=self.max_tokens,
                budget=self.token_budget,
                padding=self._tokenizer.pad_token_id or 0,
            ):
                with torch.inference_mode():
                    states = self._model(
                        input_ids=batch.input_ids.to(self.device),
                        attention_mask=batch.attention.to(self.device),
                    ).last_hidden_state
                    hidden = self._projection(states)
                yield batch, hidden, start


def out_of_memory(error: RuntimeError) -> bool:
    """Whether the error says that a device or the CPU's allocator ran out of memory."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def pick_device(device: str) -> torch.device:
    """The torch device for a name; "auto" is the first available of CUDA, MPS and CPU."""
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device == "auto":
        return torch.device(next(name for name in available if available[name]))
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"device {device!r}: unknown; use auto, cuda, mps or cpu") from error
    if chosen.type not in available:
        raise ModelError(f"device {device!r}: not supported; use auto, cuda, mps or cpu")
    if not available[chosen.type]:
        kind = chosen.type.upper()
        raise ModelError(f"device {device!r}: this machine has no {kind} device; use auto or cpu")
    return chosen


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The torch dtype for a name; "auto" is bfloat16 if the device computes in it, else float32."""
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if dtype == "auto":
        fast = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
        if device.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    if dtype not in known:
        raise ModelError(f"dtype {dtype!r}: unknown; use auto, float32 or bfloat16")
    return known[dtype]


def reads_both_ways(config: Any) -> bool:
    """Whether each token's embedding depends on all other tokens, as in an encoder."""
    from transformers.models.auto import modeling_auto

    if getattr(config, "use_bidirectional_attention", False):
        return True
    generates = config.model_type in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    fills_gaps = config.model_type in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    is_decoder = getattr(config, "is_decoder", False) or (generates and not fills_gaps)
    return not (config.is_encoder_decoder or is_decoder)


def window(folder: Path, tokenizer: Any, config: Any) -> int:
    """The backbone window in tokens, special tokens included: the smallest limit in any file."""
    limits = [
        tokenizer.model_max_length,
        getattr(config, "max_position_embeddings", None),
        read_settings(folder / "sentence_bert_config.json").get("max_seq_length"),
    ]
    return min(int(limit) for limit in limits if limit)


def weights_fingerprint(model: torch.nn.Module, projection: torch.nn.Module) -> str:
    """SHA-256 over names and values of all parameters except the pooler's, 16 hexadecimal digits.

    Tensors are hashed, not files, so that the same weights in another file format agree. The pooler
    is left out because no token embedding depends on it.
    """
    digest = hashlib.sha256()
    projected = {f"projection.{name}": t for name, t in projection.state_dict().items()}
    for name, tensor in [*sorted(model.state_dict().items()), *sorted(projected.items())]:
        if not name.startswith("pooler.") and tensor.is_floating_point():
            digest.update(name.encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:16]
