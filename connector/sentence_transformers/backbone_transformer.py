"""Model folders → models of sentence-transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.util import load_dir_path
from torch import nn

from latent_ingest.connector.encoding.autoencoder import TokenAutoencoder, read_config
from latent_ingest.connector.encoding.backbone import find_folder, read_json, read_prompts
from latent_ingest.connector.encoding.encoder import SHIPPED_MODEL
from latent_ingest.connector.encoding.modules_json import find_pooling
from latent_ingest.connector.encoding.projection import load_projection
from latent_ingest.connector.errors import ModelError
from latent_ingest.connector.sentence_transformers.token_encoder import (
    SparseAutoEncoderTokenEncoder,
)
from latent_ingest.connector.sentence_transformers.token_pooling import SparseTokenPooling


def load_sparse_encoder(folder: str | Path | None = None, **kwargs: Any) -> SparseEncoder:
    """A model folder as a SparseEncoder, by default the model that ships.

    The folder may be of `latent-ingest train`, of `SparseEncoder.save_pretrained`, or of the pull
    request's modules.

    Args:
        folder: of the model.
        kwargs: for SparseEncoder, for example `device` or `max_active_dims`.

    Raises:
        ModelError: the folder is of another kind of model, or broken; or its backbone is not found.
    """
    path = Path(folder) if folder else SHIPPED_MODEL
    if not path.is_dir():
        raise ModelError(f"{path}: no such model folder; see 'latent-ingest train --help'")
    autoencoder = TokenAutoencoder.load(path)
    config = autoencoder.config
    plain = {"embedding_dimension": config.n_latents, "pooling_strategy": config.pooling}
    modules: list[nn.Module] = [
        load_transformer(config.backbone),
        SparseAutoEncoderTokenEncoder.of(autoencoder),
        SparseTokenPooling(**(find_pooling(path) or plain)),
    ]
    stored = read_json(path / "config_sentence_transformers.json")
    settings = {
        "prompts": stored.get("prompts") or read_prompts(find_folder(config.backbone)),
        "max_active_dims": stored.get("max_active_dims"),
    }
    return SparseEncoder(modules=modules, **{**settings, **kwargs})


class BackboneTransformer:
    """The first module of a folder that names its backbone and does not hold it.

    Loading gives the backbone's own Transformer, so that what is saved then holds all.
    """

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        **kwargs: Any,
    ) -> Transformer:
        """The Transformer of the backbone that config.json names.

        Raises:
            ModelError: the backbone is not found, or is one with projections.
        """
        folder = load_dir_path(
            model_name_or_path, subfolder, token, cache_folder, revision, local_files_only
        )
        return load_transformer(read_config(Path(folder or model_name_or_path)).backbone)


def load_transformer(backbone: str) -> Transformer:
    """The Transformer of a backbone, by folder or hub name.

    Raises:
        ModelError: it is not found, or has projections, for which there is no module here.
    """
    folder = find_folder(backbone)
    if len(load_projection(folder)):
        raise ModelError(
            f"{backbone}: has projections after its transformer; build the SparseEncoder from "
            f"Transformer, Dense(module_input_name='token_embeddings') and the modules here"
        )
    transformer: Transformer = Transformer.load(str(folder), local_files_only=True)
    return transformer
