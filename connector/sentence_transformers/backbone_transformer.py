"""Loading model folders and backbones as models of sentence-transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Dense, Router, Transformer
from sentence_transformers.util import load_dir_path

from latent_ingest.connector.encoding.autoencoder import AutoencoderConfig, read_config
from latent_ingest.connector.encoding.backbone import Backbone
from latent_ingest.connector.encoding.fingerprint import check_fit
from latent_ingest.connector.encoding.hub import find_folder
from latent_ingest.connector.encoding.model_folder import (
    MODEL_SETTINGS,
    TOKEN_ENCODER,
    find_pooling,
    kind_of,
    latents_per_token,
    model_path,
    read_marks,
    read_modules,
    read_settings,
)
from latent_ingest.connector.encoding.projection import dense, projection_paths
from latent_ingest.connector.encoding.transformer.loading import keep_whole
from latent_ingest.connector.errors import ModelError
from latent_ingest.connector.sentence_transformers.token_encoder import (
    SparseAutoEncoderTokenEncoder,
)
from latent_ingest.connector.sentence_transformers.token_pooling import SparseTokenPooling

# Options of `load` that concern the hub.
HUB_OPTIONS = ("token", "cache_folder", "revision", "local_files_only")


def load_sparse_encoder(folder: str | Path | None = None, **kwargs: Any) -> SparseEncoder:
    """Load a model folder, by default minilm-32k, as a SparseEncoder.

    The folder may be written by `latent-ingest train`, by `SparseEncoder.save_pretrained`, or with
    the pull request's modules, in whose place this package's modules are loaded. The modules may be
    those of a Router.

    Args:
        folder: of the model.
        kwargs: for SparseEncoder, for example `device`, `model_kwargs` or `max_active_dims`.

    Raises:
        ModelError: the folder is broken or another kind of model, or its backbone is not found or
            not the one it was trained on.
    """
    path = model_path(folder)
    if not path.is_dir():
        raise ModelError(f"{path}: no such model folder; see 'latent-ingest models'")
    routed = read_settings(path / Router.config_file_name).get("types", {}).values()
    if not any(kind_of(name) == TOKEN_ENCODER for name in routed):
        read_config(path)
        find_pooling(path)
    if read_settings(path / MODEL_SETTINGS).get("model_type") != "SparseEncoder":
        raise ModelError(
            f"{path}: no model_type SparseEncoder in {MODEL_SETTINGS}; write the folder with "
            f"'latent-ingest train' or SparseEncoder.save_pretrained"
        )
    ours = {kind.__name__: kind for kind in OURS}
    names = [*(module.type for module in read_modules(path)), *routed]
    types = {name: ours[kind_of(name)] for name in names if kind_of(name) in ours}
    model: SparseEncoder = SparseEncoder._load_with_module_classes(str(path), types, **kwargs)
    if k := latents_per_token(path):
        model.max_active_dims = kwargs.get("max_active_dims")
        for module in model:
            if isinstance(module, SparseAutoEncoderTokenEncoder):
                module.k = k
    return model


class BackboneTransformer:
    """First module of a model folder that names its backbone instead of containing it.

    Loading returns the backbone's own Transformer, so that saving the model writes all of it.
    """

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **kwargs: Any) -> Transformer:
        """Load the Transformer of the backbone that config.json names; `kwargs` are its options.

        Raises:
            ModelError: the backbone is not found, or not the one the model was trained on.
        """
        config = config_of(model_name_or_path, kwargs)
        others = {name: value for name, value in kwargs.items() if name not in HUB_OPTIONS}
        if config.backbone_fingerprint:
            # Compare the stored weights, since the Transformer may have them in another dtype.
            stored = Backbone.load(config.backbone, device="cpu", dtype="float32")
            check_fit(config, stored, Path(model_name_or_path).name)
        return transformer_in(find_folder(config.backbone), **others)


class BackboneDense:
    """A token projection that is in the backbone's folder; see `BackboneTransformer`."""

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **kwargs: Any) -> Dense:
        """Load the Dense module from a subfolder of the backbone.

        Raises:
            ModelError: the backbone or the module is not found, or cannot be read.
        """
        config = config_of(model_name_or_path, kwargs)
        linear, activation = dense(find_folder(config.backbone) / subfolder)
        return Dense(
            linear.in_features,
            linear.out_features,
            bias=linear.bias is not None,
            activation_function=activation,
            init_weight=linear.weight.data,
            init_bias=None if linear.bias is None else linear.bias.data,
            module_input_name="token_embeddings",
        )


OURS: tuple[Any, ...] = (
    BackboneTransformer,
    BackboneDense,
    SparseAutoEncoderTokenEncoder,
    SparseTokenPooling,
)


def config_of(model: str, options: dict[str, Any]) -> AutoencoderConfig:
    """config.json of a model in a folder or on the hub."""
    hub = {name: options[name] for name in HUB_OPTIONS if name in options}
    return read_config(Path(load_dir_path(model, "", **hub) or model))


def load_transformer(backbone: str, **kwargs: Any) -> Transformer:
    """Load the Transformer of a backbone, by folder or hub name.

    Args:
        backbone: folder or hub name.
        kwargs: as for `Transformer.load`, for example `model_kwargs`.

    Raises:
        ModelError: the backbone is not found, or has projections, which are modules of their own.
    """
    folder = find_folder(backbone)
    if projection_paths(folder):
        raise ModelError(
            f"{backbone}: has projections after its transformer; build the SparseEncoder from "
            f"Transformer, Dense(module_input_name='token_embeddings') and the modules here"
        )
    return transformer_in(folder, **kwargs)


def transformer_in(folder: Path, **kwargs: Any) -> Transformer:
    """Load the Transformer in a folder, without the network."""
    transformer: Transformer = Transformer.load(str(folder), **{**kwargs, "local_files_only": True})
    keep_whole(transformer.tokenizer, read_marks(folder))
    return transformer
