"""Loading a backbone's transformer and tokenizer; what cannot give token embeddings is refused.

Every refusal is one line that names the backbone, the reason and what to use. Code that comes with
a backbone is never run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from latent_ingest.connector.encoding.model_folder import read_modules, read_settings
from latent_ingest.connector.errors import ModelError

# Keys of a Pooling module's config.json in older folders → the value of `pooling_mode` in newer.
POOLING_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}

# Poolings by which a causal model is an embedding model.
CAUSAL_POOLINGS = ("lasttoken", "weightedmean")

# Weights that no token embedding depends on.
UNUSED_WEIGHTS = "pooler."


def load_transformer(folder: Path, name: str) -> tuple[Any, Any]:
    """The transformer in float32 on the CPU, and its fast tokenizer.

    `name` is that of the backbone in messages.

    Raises:
        ModelError: the files are missing or broken, need code of their own, or are of a model
            without token embeddings, or the tokenizer has no character offsets.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(folder, **options)
        check_kind(config, folder, name)
        config.use_cache = False  # of keys and values, for models that can generate
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        with quiet():
            model, told = AutoModel.from_pretrained(
                folder, config=config, dtype=torch.float32, output_loading_info=True, **options
            )
    except ModelError:
        raise
    except Exception as error:  # transformers raises many kinds of errors
        reason = first_line(error)
        if "trust_remote_code" in str(error):
            reason = (
                "it needs code of its own, which is never run; use a backbone of an architecture "
                "that transformers has"
            )
        elif "ignore_mismatched_sizes" in str(error):
            reason = "the shapes of its weights do not fit its config.json; use a whole folder"
        raise ModelError(f"{name}: cannot be loaded as a backbone: {reason}") from error
    missing = sorted(key for key in told["missing_keys"] if not key.startswith(UNUSED_WEIGHTS))
    if missing:
        raise ModelError(
            f"{name}: {len(missing)} weights of {config.model_type} are not in its files, such as "
            f"{missing[0]}; use a folder whose weights are complete"
        )
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"{name}: has no fast tokenizer, which character offsets need; use another backbone"
        )
    return model, tokenizer


def first_line(error: Exception) -> str:
    """The first line of what transformers says, or the kind of the error."""
    return str(error).strip().splitlines()[0] if str(error) else type(error).__name__


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back the progress bar and the table of weights that transformers prints."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    before = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(before)


def check_kind(config: Any, folder: Path, name: str) -> None:
    """Raise ModelError if the model is no encoder, and no causal embedding model either."""
    if reads_both_ways(config):
        return
    kind = config.model_type
    if config.is_encoder_decoder or pooling_of(folder) not in CAUSAL_POOLINGS:
        raise ModelError(
            f"{name}: not an encoder but {kind}; use an encoder, or an embedding model whose "
            f"modules.json has last-token pooling"
        )
    if "AutoModel" in (getattr(config, "auto_map", None) or {}):
        raise ModelError(
            f"{name}: its {kind} needs code of its own, which is never run, and may differ from "
            f"that of transformers; use an embedding model without it"
        )


def reads_both_ways(config: Any) -> bool:
    """Whether each token's embedding depends on all other tokens, as in an encoder."""
    from transformers.models.auto import modeling_auto

    if getattr(config, "use_bidirectional_attention", False):
        return True
    if getattr(config, "is_causal", True) is False and not config.is_encoder_decoder:
        return True
    generates = config.model_type in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    fills_gaps = config.model_type in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    is_decoder = getattr(config, "is_decoder", False) or (generates and not fills_gaps)
    return not (config.is_encoder_decoder or is_decoder)


def pooling_of(folder: Path) -> str | None:
    """How a sentence-transformers model makes a text's vector, such as "mean" or "lasttoken".

    None if modules.json has no Pooling module; several poolings are joined by "+".
    """
    for module in read_modules(folder):
        if module.kind == "Pooling":
            settings = read_settings(module.folder / "config.json")
            if "pooling_mode" in settings:
                mode = settings["pooling_mode"]
                return "+".join(mode) if isinstance(mode, list) else str(mode)
            return "+".join(mode for key, mode in POOLING_MODES.items() if settings.get(key))
    return None


def keep_whole(tokenizer: Any, marks: Mapping[str, str]) -> None:
    """Make the tokenizer read each mark of a late-interaction model as the one token it has for it.

    Such models were trained with the token's id put in, while the text "[unused0]" of the same
    token would be taken apart. Marks without a token stay text.
    """
    from tokenizers import AddedToken

    known = tokenizer.get_vocab()
    for mark in marks.values():
        whole = next((name for name in (mark, mark.strip()) if name in known), None)
        if whole and tokenizer.tokenize(whole) != [whole]:
            token = AddedToken(whole, normalized=False, special=True)
            tokenizer.add_special_tokens({"additional_special_tokens": [token]})
