"""The operations of attention as Triton kernels. Nothing of Triton is imported before an instance is made."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from mage.attention.operations import Attended, Lengths, Operations


class TritonOperations(Operations):
    """Thin calls of the kernels of `mage.attention.kernels`, which read lengths on the device alone."""

    name: ClassVar[Literal["torch", "triton"]] = "triton"
    static: ClassVar[bool] = True

    def __init__(self) -> None:
        """Raises ImportError where Triton is not installed."""
        from mage.attention.kernels.block_causal import prefill_attention
        from mage.attention.kernels.compact import sparse_attention
        from mage.attention.kernels.gather import gather_entries
        from mage.attention.kernels.in_block import in_block_attention
        from mage.attention.kernels.mass import attention_mass
        from mage.attention.kernels.pages import page_bounds, page_scores
        from mage.attention.kernels.split import exact_attention, prefix_attention

        self._exact, self._sparse, self._prefill = exact_attention, sparse_attention, prefill_attention
        self._prefix, self._in_block = prefix_attention, in_block_attention
        self._mass, self._gather = attention_mass, gather_entries
        self._page_bounds, self._page_scores = page_bounds, page_scores

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
        return Attended(*self._exact(q, keys, values, lengths.device, k, v, scale, causal, ahead))

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
        out: Tensor = self._sparse(q, keys, values, counts, k, v, scale, causal)
        return out

    def prefix(
        self,
        q: Tensor,
        keys: Tensor,
        values: Tensor,
        lengths: Lengths,
        scale: float,
        out: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        kept: tuple[Tensor, Tensor] = self._prefix(q, keys, values, lengths.device, scale, out)
        return kept

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
        out: Tensor = self._in_block(q, k, v, prefix, scale, causal, ahead)
        return out

    def mass(
        self, q: Tensor, keys: Tensor, lengths: Lengths, lse: Tensor, scale: float, reduction: Literal["mean", "max"]
    ) -> Tensor:
        mass: Tensor = self._mass(q, keys, lengths.device, lse, scale, reduction, keys.shape[2])
        return mass

    def gather(
        self, keys: Tensor, values: Tensor, indices: Tensor, out: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        if out is None:
            shape = (*indices.shape, keys.shape[-1])
            out = keys.new_empty(shape), values.new_empty(shape)
        self._gather(keys, values, indices, *out)
        return out

    def page_bounds(
        self, keys: Tensor, lengths: Lengths, page_size: int, first_page: int, out: tuple[Tensor, Tensor]
    ) -> None:
        self._page_bounds(keys, lengths.device, page_size, first_page, *out)

    def page_scores(self, q: Tensor, low: Tensor, high: Tensor, reduction: Literal["sum", "max"]) -> Tensor:
        scores: Tensor = self._page_scores(q, low, high, reduction)
        return scores

    def prefill(self, q: Tensor, k: Tensor, v: Tensor, start: int, block_size: int) -> Tensor:
        out: Tensor = self._prefill(q, k, v, start, block_size)
        return out
