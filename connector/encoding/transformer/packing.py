"""Linear layers on a CPU, with weights in the order in which oneDNN computes.

PyTorch keeps weights row by row, and each product puts them in order first, or is left to a library
that is slow on some processors. `torch.compile` packs weights once, but needs a compiler and its
time. These are the operators that it uses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Product = Callable[[torch.Tensor], torch.Tensor]
"""`x @ weight.T + bias`: `[..., n_in]` → `[..., n_out]`."""

# Largest difference to the plain product, as a share of its largest value.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.02}

# Rows of the trial, with seeded values.
TRIAL_ROWS = 4

# Least cosine of a token with packed layers and with plain ones; rounding alone gives .999 or more.
LEAST_COSINE = 0.99


def pack(weight: torch.Tensor, bias: torch.Tensor | None) -> Product | None:
    """The product of a frozen layer, with its own copy of the weights.

    Args:
        weight: `[n_out, n_in]`, in the dtype of the values it is multiplied by.
        bias: `[n_out]`, of the same dtype.

    Returns:
        None if this PyTorch has no such operators, for the device or the dtype; or if they do not
        give what the plain product gives.
    """
    if weight.device.type != "cpu" or weight.dtype not in TOLERANCE:
        return None
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None
    operators: Any = torch.ops.mkldnn
    generator = torch.Generator().manual_seed(0)
    trial = torch.randn(TRIAL_ROWS, weight.shape[1], generator=generator).to(weight.dtype)
    try:
        multiply, packed = operators._linear_pointwise, operators._reorder_linear_weight(weight)
        found = multiply(trial, packed, bias, "none", [], "")
    except (AttributeError, RuntimeError):
        return None
    plain = nn.functional.linear(trial, weight, bias).float()
    if not bool((found - plain).abs().amax() <= TOLERANCE[weight.dtype] * plain.abs().amax()):
        return None

    def product(x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = multiply(x, packed, bias, "none", [], "")
        return result

    return product


class PackedLinear(nn.Linear):
    """A frozen linear layer that has its weights only in packed form; `weight` is empty."""

    def __init__(self, layer: nn.Linear, product: Product) -> None:
        """Take the place of `layer`."""
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight = nn.Parameter(layer.weight.new_empty(0), requires_grad=False)
        self.bias = layer.bias
        self._product = product

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """The product, `[..., in_features]` → `[..., out_features]`."""
        return self._product(input)


@torch.no_grad()
def pack_layers(model: nn.Module, embed: Callable[[], torch.Tensor]) -> None:
    """Pack the linear layers of a frozen model, in place.

    `embed` does a trial with the model: `[n_tokens, width]`. If it gives other embeddings with
    packed layers, or fails, as in a model that reads the weights of a layer, the plain ones stay.
    """
    plain, replaced = embed(), []
    for part in list(model.modules()):
        for name, layer in list(part.named_children()):
            # Subclasses may compute something else.
            if type(layer) is nn.Linear and (product := pack(layer.weight, layer.bias)):
                replaced.append((part, name, layer))
                setattr(part, name, PackedLinear(layer, product))
    if replaced and not agree(embed, plain):
        for part, name, layer in replaced:
            setattr(part, name, layer)


def agree(embed: Callable[[], torch.Tensor], plain: torch.Tensor) -> bool:
    """Whether a trial gives the embeddings that plain layers give, but for rounding."""
    try:
        found = embed()
    except Exception:  # of the model's own code
        return False
    cosines = nn.functional.cosine_similarity(found.float(), plain.float(), dim=-1)
    return bool(cosines.min() >= LEAST_COSINE)
