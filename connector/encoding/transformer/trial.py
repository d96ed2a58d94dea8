"""A trial of a loaded transformer: what its forward pass gives, and how many tokens it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from latent_ingest.connector.encoding.model_folder import read_settings
from latent_ingest.connector.errors import ModelError

# Text of the trial: two tokens or more of any tokenizer.
TRIAL = "a trial"

# Least cosine between a token beside padding and beside other tokens that are not attended to:
# bfloat16 gives .99 or more.
LEAST_COSINE = 0.9


def width_of(model: Any, tokenizer: Any, name: str) -> int:
    """Width of the token embeddings that a forward pass gives.

    Raises:
        ModelError: it gives none, needs more than tokens, padding changes them, or they are not
            finite.
    """
    fast = tokenizer.backend_tokenizer
    fast.no_truncation()
    fast.no_padding()
    encoded = fast.encode(TRIAL)
    if all(encoded.special_tokens_mask):
        raise ModelError(f"{name}: its tokenizer makes no token of {TRIAL!r}; use another backbone")
    n_tokens = len(encoded.ids)
    # The same tokens twice, with padding and with other tokens in the place of padding.
    padding = [padding_of(model, tokenizer)] * n_tokens
    ids = torch.tensor([encoded.ids + padding, encoded.ids + encoded.ids])
    attention = (torch.arange(2 * n_tokens) < n_tokens).long().expand(2, -1)
    try:
        states = hidden_states(model, ids, attention)
    except (TypeError, ValueError, AttributeError, KeyError, NotImplementedError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{name}: {model.config.model_type} gives no token embeddings for tokens alone "
            f"({reason:.120}); use a text encoder"
        ) from error
    if states.shape[:-1] != ids.shape:
        raise ModelError(
            f"{name}: {model.config.model_type} gives {tuple(states.shape[:-1])} embeddings for "
            f"{tuple(ids.shape)} tokens; use an encoder with an embedding a token"
        )
    one, other = states[:, :n_tokens].float()
    if not bool(one.isfinite().all()):
        fix = "check its weights" if states.dtype == torch.float32 else "try --dtype float32"
        raise ModelError(f"{name}: gives NaN or infinity for {TRIAL!r}; {fix}")
    if float(torch.nn.functional.cosine_similarity(one, other, dim=-1).min()) < LEAST_COSINE:
        raise ModelError(
            f"{name}: {model.config.model_type} gives other embeddings beside padding, so texts "
            f"would depend on their neighbours; use an encoder with an attention mask"
        )
    return int(states.shape[-1])


def trial_states(model: Any, tokenizer: Any) -> torch.Tensor:
    """The embeddings of the trial's tokens alone, `[n_tokens, width]`."""
    ids = torch.tensor([tokenizer.backend_tokenizer.encode(TRIAL).ids])
    return hidden_states(model, ids, torch.ones_like(ids))[0]


def hidden_states(model: Any, ids: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
    """The last layer's states, `[n_rows, n_tokens, width]`, on the model's device."""
    with torch.inference_mode():
        states: torch.Tensor = model(
            input_ids=ids.to(model.device), attention_mask=attention.to(model.device)
        ).last_hidden_state
        return states


def padding_of(model: Any, tokenizer: Any) -> int:
    """Id of the token that fills up rows; it is never attended to."""
    for id_ in (tokenizer.pad_token_id, getattr(model.config, "pad_token_id", None)):
        if id_ is not None and 0 <= id_ < model.get_input_embeddings().num_embeddings:
            return int(id_)
    return 0


def window(folder: Path, tokenizer: Any, model: Any) -> int:
    """The backbone window in tokens, special tokens included: the smallest limit that is stated."""
    limits = [
        tokenizer.model_max_length,
        getattr(model.config, "max_position_embeddings", None),
        read_settings(folder / "sentence_bert_config.json").get("max_seq_length"),
        *positions(model),
    ]
    return min(int(limit) for limit in limits if limit)


def positions(model: torch.nn.Module) -> list[int]:
    """Usable rows of each table of absolute positions.

    RoBERTa, XLM-R and MPNet count from the row after that of padding, so two rows are not used.
    """
    return [
        part.num_embeddings - (0 if part.padding_idx is None else part.padding_idx + 1)
        for name, part in model.named_modules()
        if name.endswith("position_embeddings") and isinstance(part, torch.nn.Embedding)
    ]
