"""The operations of attention in torch: what every other implementation is measured by, and the CPU's path."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mage.attention.flash import fused_partial_attention
from mage.attention.operations import Attended, Lengths, Operations
from mage.attention.prefill import block_causal_attention
from mage.attention.reference import masked_scores, merge, partial_attention, visible_rows


class TorchOperations(Operations):
    """Built on `mage.attention.reference`, and where it serves on `mage.attention.flash`. Works on the entries of the
    longest row, not on the whole capacity."""

    name: ClassVar[Literal["torch", "triton"]] = "torch"
    static: ClassVar[bool] = False

    def __init__(self, *, plain: bool = False) -> None:
        """`plain`: by the reference alone, however slow: what other implementations are measured by."""
        self._attend = partial_attention if plain else fused_partial_attention

    def exact(
        self,
        q: Tensor,
        keys: Tensor,
        values: Tensor,
        lengths: Lengths,
        k: Tensor,
        v: Tensor,
        scale: float,
        causal: bool,
        ahead: int = 0,
    ) -> Attended:
        width = lengths.widest
        prefix, lse_prefix = self._attend(q, keys[:, :, :width], values[:, :, :width], scale, lengths.mask)
        in_block, lse_block = self._in_block(q, k, v, scale, causal, ahead)
        return Attended(merge(prefix, lse_prefix, in_block, lse_block).to(q.dtype), lse_prefix, lse_block)

    def sparse(
        self,
        q: Tensor,
        keys: Tensor,
        values: Tensor,
        counts: Tensor | None,
        k: Tensor,
        v: Tensor,
        scale: float,
        causal: bool,
    ) -> Tensor:
        batch, heads, entries = keys.shape[:3]
        mask = None
        if counts is not None:
            mask = (torch.arange(entries, device=counts.device) < counts[..., None])[:, :, None]
        rows = q.reshape(batch, heads, -1, q.shape[3])
        prefix, lse_prefix = self._attend(rows, keys, values, scale, mask)
        in_block, lse_block = self._in_block(q, k, v, scale, causal)
        return merge(prefix.reshape(in_block.shape), lse_prefix.reshape(lse_block.shape), in_block, lse_block).to(
            q.dtype
        )

    def prefix(
        self,
        q: Tensor,
        keys: Tensor,
        values: Tensor,
        lengths: Lengths,
        scale: float,
        out: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        width = lengths.widest
        found = self._attend(q, keys[:, :, :width], values[:, :, :width], scale, lengths.mask)
        if out is None:
            return found
        for kept, part in zip(out, found):
            kept.copy_(part)
        return out

    def in_block(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        prefix: tuple[Tensor, Tensor],
        scale: float,
        causal: bool,
        ahead: int = 0,
    ) -> Tensor:
        return merge(*prefix, *self._in_block(q, k, v, scale, causal, ahead)).to(q.dtype)

    def mass(
        self, q: Tensor, keys: Tensor, lengths: Lengths, lse: Tensor, scale: float, reduction: Literal["mean", "max"]
    ) -> Tensor:
        scores = masked_scores(q, keys[:, :, : lengths.widest], scale, lengths.mask)
        probabilities = scores.sub_(lse[..., None]).exp_()
        mass = probabilities.mean(2) if reduction == "mean" else probabilities.amax(2)
        return mass if lengths.mask is None else mass.masked_fill(~lengths.mask[:, :, 0], float("-inf"))

    def gather(
        self, keys: Tensor, values: Tensor, indices: Tensor, out: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        batch, kv_heads, _, head_dim = keys.shape
        # Heads that share a KV head are gathered from it together: their keys are never copied beforehand.
        rows = indices.reshape(batch, kv_heads, -1, 1)
        place, missing = rows.clamp(min=0).expand(-1, -1, -1, head_dim), rows < 0
        gathered = []
        for source, kept in zip((keys, values), out or (None, None)):
            into = None if kept is None else kept.view(*place.shape)
            gathered.append(torch.gather(source, 2, place, out=into).masked_fill_(missing, 0.0))
        return gathered[0].view(*indices.shape, head_dim), gathered[1].view(*indices.shape, head_dim)

    def page_bounds(
        self, keys: Tensor, lengths: Lengths, page_size: int, first_page: int, out: tuple[Tensor, Tensor]
    ) -> None:
        start, width = first_page * page_size, lengths.widest
        keys = keys[:, :, start:width]
        for bound in out:
            bound[:, :, first_page:] = 0.0
        if start >= width:
            return
        for kept, limit, reduce in zip(out, (float("inf"), float("-inf")), (torch.amin, torch.amax)):
            filled = keys if lengths.mask is None else keys.masked_fill(~lengths.mask[:, :, 0, start:, None], limit)
            padded = F.pad(filled, (0, 0, 0, -filled.shape[2] % page_size), value=limit)
            pages = padded.unflatten(2, (-1, page_size))
            # A page without any valid key is infinite: zero it.
            bounds = reduce(pages, 3).nan_to_num(posinf=0.0, neginf=0.0)
            kept[:, :, first_page : first_page + pages.shape[2]] = bounds

    def page_scores(self, q: Tensor, low: Tensor, high: Tensor, reduction: Literal["sum", "max"]) -> Tensor:
        positive, negative = q.float().clamp(min=0), q.float().clamp(max=0)
        if reduction == "sum":  # the bound is linear in each part, so rows can be summed first
            positive, negative = positive.sum(-2, keepdim=True), negative.sum(-2, keepdim=True)
        bound = positive @ high.float().transpose(-1, -2) + negative @ low.float().transpose(-1, -2)
        return bound.amax(-2)

    def prefill(self, q: Tensor, k: Tensor, v: Tensor, start: int, block_size: int) -> Tensor:
        return block_causal_attention(q, k, v, start, block_size)

    def _in_block(
        self, q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool, ahead: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Attend to the block's own keys: float32 output and log-sum-exp."""
        block = k.shape[2]
        mask = visible_rows(block, q.shape[2] // (ahead + block), q.device, causal=causal, ahead=ahead)
        return self._attend(q, k, v, scale, mask)
