"""Low-rank changes of linear maps (E. Hu et al., "LoRA", 2021): what is trained where the weights stay as they are."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mage.models.transformer import Transformer

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear maps of a layer, by the last part of their names."""


class LoraLinear(nn.Module):
    """`base(x) + alpha / rank * b(a(x))`; `a` `[rank, in]` and `b` `[out, rank]` are float32, the base is frozen.

    The product runs in the dtype of the base.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        self.weight, self.bias = base.weight, base.bias
        self.scale = alpha / rank
        device = base.weight.device
        drawn = torch.randn(rank, base.in_features, generator=generator) / math.sqrt(base.in_features)
        self.a = nn.Parameter(drawn.to(device))
        self.b = nn.Parameter(torch.zeros(base.out_features, rank, device=device))

    def forward(self, x: Tensor) -> Tensor:
        low = F.linear(x, self.a.to(x.dtype))
        return torch.add(F.linear(x, self.weight, self.bias), F.linear(low, self.b.to(x.dtype)), alpha=self.scale)

    @torch.no_grad()
    def merged(self) -> Tensor:
        """Return the weight with the change added, in the dtype of the base, added in float32."""
        return (self.weight.float() + self.scale * (self.b @ self.a)).to(self.weight.dtype)


class MaskEmbedding(nn.Module):
    """An embedding of which one row is trained and the others are frozen."""

    def __init__(self, base: nn.Embedding, mask_id: int) -> None:
        super().__init__()
        self.weight, self.mask_id = base.weight, mask_id
        # Between all tokens: a [MASK] that starts as any one of them would first have to unlearn it.
        self.mask = nn.Parameter(base.weight.detach().float().mean(0))

    def forward(self, tokens: Tensor) -> Tensor:
        known = F.embedding(tokens, self.weight)
        return torch.where((tokens == self.mask_id)[..., None], self.mask.to(known.dtype), known)


def adapt(
    body: Transformer, rank: int, alpha: float, seed: int, targets: tuple[str, ...] = TARGETS
) -> tuple[Transformer, dict[str, LoraLinear]]:
    """Return a body with low-rank changes that are still zero, and these by the names of the maps they change.

    The weights are those of `body` itself, which is left as it is; only the changes need a gradient. Raises ValueError
    when a rank is not positive or no map has such a name.
    """
    if rank < 1:
        raise ValueError(f"rank={rank} is out of range. Allowed: an integer >= 1.")
    adapted = shared_copy(body)
    generator = torch.Generator().manual_seed(seed)
    changes = {}
    for name, module in list(adapted.model.layers.named_modules()):
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in targets:
            parent, _, last = name.rpartition(".")
            change = LoraLinear(module, rank, alpha, generator)
            setattr(adapted.model.layers.get_submodule(parent), last, change)
            changes[f"model.layers.{name}"] = change
    if not changes:
        raise ValueError(f"targets={targets}: the body has no such linear map.")
    return adapted, changes


def shared_copy(body: Transformer) -> Transformer:
    """Return a body of modules of its own whose parameters are those of `body`, without a gradient."""
    body.requires_grad_(False)
    memo: dict[int, Any] = {id(weight): weight for weight in body.parameters()}
    return copy.deepcopy(body, memo)
