"""Mixture of experts: a router that sends each token to a few experts, and the experts, stacked."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mage.errors import UserError
from mage.models.config import Experts

GROUPED_SLOTS = 2**15
"""Tokens times experts a token up to which all experts run at once; the copies of rows that this takes stay small."""


class Router(nn.Module):
    """Which experts a token takes, and with what weights; in float32 whatever the dtype of the body.

    Scores are the softmax or the sigmoid of the logits. The choice is made on scores plus `bias`; weights are the plain
    scores of the chosen. Without blocks the choice may be limited to the best groups (DeepSeek-V3, arXiv 2412.19437,
    section 2.1.2). With them (LLaDA2.2 report, block routing) it is limited to the experts that the token's block
    admits, and groups play no part.
    """

    def __init__(self, config: Experts, hidden_size: int) -> None:
        super().__init__()
        self.config = config
        self.weight = _uniform(config.count, hidden_size)
        if config.bias:  # the choice has no gradient; training recipes move the bias by rules of their own
            self.bias = nn.Parameter(torch.zeros(config.count, dtype=torch.float32), requires_grad=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return float32 weights and expert ids, both `[batch, rows, per_token]`, of hidden states `x`.

        Raises `UserError` when the rows are not whole blocks and the router routes by block.
        """
        config = self.config
        logits = F.linear(x.float(), self.weight.float())  # [batch, rows, experts]
        scores = logits.softmax(dim=-1) if config.scoring == "softmax" else logits.sigmoid()
        preference = scores + self.bias.float() if config.bias else scores
        if config.block_size is not None:
            preference = preference.masked_fill(~self._admitted(preference, config.block_size), -torch.inf)
        elif config.groups > 1:
            preference = preference.masked_fill(~self._in_best_groups(preference), -torch.inf)
        chosen = preference.topk(config.per_token, dim=-1).indices
        weights = scores.gather(-1, chosen)
        if config.normalised:
            weights = weights / (weights.sum(dim=-1, keepdim=True) + 1e-20)
        return weights * config.scale, chosen

    def _in_best_groups(self, preference: Tensor) -> Tensor:
        """Bool like `preference`: experts of the groups whose two best experts sum highest."""
        grouped = preference.unflatten(-1, (self.config.groups, -1))
        best = grouped.topk(2, dim=-1).values.sum(dim=-1).topk(self.config.groups_kept, dim=-1).indices
        kept = torch.zeros(grouped.shape[:-1], dtype=torch.bool, device=preference.device).scatter(-1, best, True)
        return kept.unsqueeze(-1).expand_as(grouped).flatten(-2)

    def _admitted(self, preference: Tensor, block_size: int) -> Tensor:
        """Bool like `preference`: the `capacity` experts with the highest maximum over the block, lower ids first."""
        rows = preference.shape[1]
        if rows % block_size:
            raise UserError(
                f"block routing (config.json: block_size={block_size}) needs whole blocks, "
                f"got {rows} positions in one forward pass."
            )
        best = preference.unflatten(1, (-1, block_size)).amax(dim=2)  # [batch, blocks, experts]
        pool = best.argsort(dim=-1, descending=True, stable=True)[..., : self.config.capacity]
        admitted = torch.zeros_like(best, dtype=torch.bool).scatter(-1, pool, True)
        return admitted.repeat_interleave(block_size, dim=1)


class ExpertBank(nn.Module):
    """SwiGLU experts, one parameter for each of the three matrices of all of them."""

    def __init__(self, config: Experts, hidden_size: int) -> None:
        super().__init__()
        self.gate_proj = _uniform(config.count, config.intermediate_size, hidden_size)
        self.up_proj = _uniform(config.count, config.intermediate_size, hidden_size)
        self.down_proj = _uniform(config.count, hidden_size, config.intermediate_size)

    def forward(self, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
        """Return the weighted sum of the chosen experts' outputs, `[tokens, hidden]`.

        x: `[tokens, hidden]`. weights, chosen: `[tokens, per_token]`, the ids of a token all different. The same
        result on every call: no sum depends on the order in which a device finishes its work.
        """
        return (self.grouped if self._groups_pay(x, chosen) else self.looped)(x, weights, chosen)

    def looped(self, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
        """One expert after the other takes its tokens: little memory, whole matrices; one wait for the device."""
        slots, edges = self._by_expert(chosen)
        owners, shares = slots // chosen.shape[1], weights.flatten()[slots].unsqueeze(-1)
        out = torch.zeros(x.shape, dtype=torch.float32, device=x.device)
        for expert, (start, stop) in enumerate(pairwise(edges.tolist())):
            if start == stop:
                continue
            rows = x[owners[start:stop]]
            inner = F.silu(F.linear(rows, self.gate_proj[expert])) * F.linear(rows, self.up_proj[expert])
            out.index_add_(0, owners[start:stop], F.linear(inner, self.down_proj[expert]) * shares[start:stop])
        return out.to(x.dtype)

    def grouped(self, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
        """All experts in three grouped products: a few kernels, nothing read back from the device."""
        slots, edges = self._by_expert(chosen)
        ends = edges[1:].to(torch.int32)
        rows = x[slots // chosen.shape[1]]
        gate = F.grouped_mm(rows, self.gate_proj.mT, offs=ends)
        inner = F.silu(gate) * F.grouped_mm(rows, self.up_proj.mT, offs=ends)
        outputs = F.grouped_mm(inner, self.down_proj.mT, offs=ends)[slots.argsort()].view(*chosen.shape, -1)
        return (outputs * weights.unsqueeze(-1)).sum(dim=1).to(x.dtype)

    def _by_expert(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Places in `[tokens * per_token]` ordered by expert, and where each expert's begin, `[experts + 1]`."""
        ids, slots = chosen.flatten().sort(stable=True)
        return slots, torch.searchsorted(ids, torch.arange(self.gate_proj.shape[0] + 1, device=ids.device))

    def _groups_pay(self, x: Tensor, chosen: Tensor) -> bool:
        """Few tokens on a GPU in bfloat16, rows that fill 16 bytes: the kernel's terms (torch >= 2.10)."""
        aligned = all(size % 8 == 0 for size in self.gate_proj.shape[1:])
        small = chosen.numel() <= GROUPED_SLOTS
        return x.is_cuda and x.dtype == torch.bfloat16 and aligned and small and hasattr(F, "grouped_mm")


def _uniform(*shape: int) -> nn.Parameter:
    """Random weights as nn.Linear starts with: uniform, bounded by one over the root of the inputs."""
    bound = shape[-1] ** -0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
