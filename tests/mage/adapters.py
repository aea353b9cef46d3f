"""Random adapters for random bodies, and what they mean: explicit low-rank branches on the rows of the block."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from mage.models.adapter import Adapter
from mage.models.transformer import Transformer


def random_adapter(body: Transformer, seed: int = 0, rank: int = 3, alpha: float = 6.0, mask: bool = True) -> Adapter:
    """An adapter of all linear maps of the layers, large enough to change what is decoded."""
    draw = torch.Generator().manual_seed(seed)
    factors = {}
    for name, module in body.named_modules():
        if isinstance(module, nn.Linear) and name != "lm_head":
            a = torch.randn(rank, module.in_features, generator=draw) / module.in_features**0.5
            factors[name] = (a, torch.randn(module.out_features, rank, generator=draw) * 0.2)
    embedding = torch.randn(body.config.hidden_size, generator=draw) if mask else None
    return Adapter(rank, alpha, factors, embedding)


class Branched:
    """A body that computes the branches beside its own maps, on the rows from `finished` on.

    The body that it was made of stays as it is.
    """

    def __init__(self, body: Transformer, adapter: Adapter, mask_id: int) -> None:
        self.body, self.finished = copy.deepcopy(body), 0
        self._adapter, self._mask_id = adapter, mask_id
        for name in adapter.factors:
            self.body.get_submodule(name).register_forward_hook(self._branch(name))
        self.body.model.embed_tokens.register_forward_hook(self._embed)

    def _branch(self, name: str):  # type: ignore[no-untyped-def]
        a, b = self._adapter.factors[name]

        def add(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
            low = inputs[0] @ a.T @ b.T * (self._adapter.alpha / self._adapter.rank)
            low[:, : self.finished] = 0.0
            return output + low

        return add

    def _embed(self, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        masked = inputs[0] == self._mask_id
        masked[:, : self.finished] = False
        assert self._adapter.mask_embedding is not None
        return torch.where(masked[..., None], self._adapter.mask_embedding, output)
