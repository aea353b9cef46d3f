"""A block that attends to a prefix, as the kernels are given it, and what the torch reference makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from mage.attention.reference import merge, partial_attention


@dataclass
class BlockProblem:
    """Operands of block attention: `heads` prefixes for each batch row, NaN beyond the `lengths` `[batch, heads]`."""

    q: Tensor
    keys: Tensor
    values: Tensor
    lengths: Tensor
    k: Tensor
    v: Tensor
    scale: float
    ahead: int = 0

    @classmethod
    def random(
        cls,
        dtype: torch.dtype,
        device: str,
        *,
        kv_heads: int,
        group: int,
        block: int,
        dim: int,
        lengths: list[list[int]],
        capacity: int,
        ahead: int = 0,
    ) -> BlockProblem:
        """Draw one; `lengths[row]` has an entry for each KV head or for each query head. `ahead`: positions of each
        query head before the block."""
        torch.manual_seed(0)
        batch, heads = len(lengths), len(lengths[0])

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, dtype=dtype, device=device)

        # Views as a cache and a fused projection give them: longer rows, and positions before heads.
        keys = draw(batch, heads, capacity + 5, dim)[:, :, :capacity]
        values = draw(batch, capacity, heads, dim).transpose(1, 2)
        projected = draw(batch, block, kv_heads, 2 * dim).transpose(1, 2)
        q = draw(batch, kv_heads, group * (ahead + block), dim + 16)[..., :dim]
        for row, counts in enumerate(lengths):
            for head, count in enumerate(counts):
                keys[row, head, count:] = values[row, head, count:] = float("nan")
        held = torch.tensor(lengths, dtype=torch.int32, device=device)
        return cls(2 * q, keys, values, held, projected[..., :dim], projected[..., dim:], dim**-0.5, ahead)

    def expected(self, causal: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Return the output and both log-sum-exp in float32."""
        keys, values = self.keys.float().nan_to_num(), self.values.float().nan_to_num()
        mask = torch.arange(keys.shape[2], device=keys.device) < self.lengths[..., None]
        batch, kv_heads, rows, dim = self.q.shape
        q, (block, heads) = self.q.float(), (self.k.shape[2], keys.shape[1])
        by_buffer = q.reshape(batch, heads, rows * kv_heads // heads, dim)
        prefix, lse_prefix = partial_attention(by_buffer, keys, values, self.scale, mask[:, :, None])
        prefix, lse_prefix = prefix.view(q.shape), lse_prefix.view(q.shape[:3])
        visible = torch.ones(block, block, dtype=torch.bool, device=q.device)
        visible = torch.cat((visible.new_zeros(self.ahead, block), visible.tril() if causal else visible))
        visible = visible.repeat(rows // len(visible), 1)
        in_block, lse_block = partial_attention(q, self.k.float(), self.v.float(), self.scale, visible)
        return merge(prefix, lse_prefix, in_block, lse_block), lse_prefix, lse_block


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """Let memory that nobody has written yet hold NaN."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        assert torch.empty(3).isnan().all()
        yield
    finally:
        torch.use_deterministic_algorithms(before)
