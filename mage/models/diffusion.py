"""How a model writes by block diffusion: what a checkpoint's config.json mostly does not say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mage.errors import UserError, unknown_choice

Alignment = Literal["same", "shifted"]
PrefixAttention = Literal["block_causal", "causal"]


@dataclass(frozen=True)
class DiffusionSpec:
    """The declaration of one model.

    `block_size`: positions denoised together. `mask_id`: the id of [MASK], never emitted. `stop_ids`: ids that end an
    answer.

    `alignment`: what the logits of a denoising forward mean. `same`: those of position i predict token i (SDAR,
    LLaDA2). `shifted`: they predict token i + 1, in every forward (Fast-dLLM v2).

    `prefix_attention`: how finished tokens see each other. `block_causal`: blocks stand at absolute multiples of the
    block size, and the prompt's tail shares the first one. `causal`: the whole prompt is prefilled, blocks start at its
    end, and a commit is causal inside the block, while its denoising steps are bidirectional (Nemotron-Labs-Diffusion,
    arXiv 2607.05722). The logits of causal forwards, prefill and commit, are those of an autoregressive model: they
    predict token i + 1 whatever `alignment` says.

    `anchored`: the first token of a block is the greedy choice of the last finished position and is never masked, as it
    always is with shifted logits. Needs logits that predict the next token: shifted, or causal.

    `delete_id`, `split_id`: the control tokens of LLaDA2.2, which delete the token of their position or insert a [MASK]
    before it; emitted no more than [MASK] is.
    """

    block_size: int
    mask_id: int
    stop_ids: tuple[int, ...]
    alignment: Alignment = "same"
    prefix_attention: PrefixAttention = "block_causal"
    anchored: bool = False
    delete_id: int | None = None
    split_id: int | None = None

    def __post_init__(self) -> None:
        if self.block_size < 1:
            raise UserError(f"model.block_size={self.block_size} is out of range. Allowed: an integer >= 1.")
        if self.alignment not in ("same", "shifted"):
            raise unknown_choice("model.alignment", self.alignment, ("same", "shifted"))
        if self.prefix_attention not in ("block_causal", "causal"):
            raise unknown_choice("model.prefix_attention", self.prefix_attention, ("block_causal", "causal"))
        if self.anchored and self.alignment == "same" and not self.causal:
            raise UserError(
                "model.anchored=true needs logits that predict the next token. "
                "Allowed with it: model.alignment=shifted, model.prefix_attention=causal."
            )
        if self.mask_id in self.stop_ids:
            raise UserError(f"model.mask_id={self.mask_id} is also a stop id.")
        if len(set(self.control_ids)) < len(self.control_ids):
            raise UserError(f"model.mask_id, delete_id and split_id must differ, not {self.control_ids}.")

    def check_adapted(self) -> None:
        """Raise `UserError` unless denoising forwards may have a body of their own: none may stand for a commit."""
        if not self.causal:
            raise UserError(
                "model.adapter: an adapter belongs to a model with a causal prefix; "
                f"model.prefix_attention={self.prefix_attention} with model.adapter is not supported. Allowed: causal."
            )

    @property
    def causal(self) -> bool:
        """Whether finished tokens see only what stands before them."""
        return self.prefix_attention == "causal"

    @property
    def seeded(self) -> bool:
        """Whether the forward before a block decides its first token."""
        return self.anchored or self.alignment == "shifted"

    @property
    def prefill_unit(self) -> int:
        """The prompt is prefilled in multiples of this many tokens: of a block, or of one."""
        return 1 if self.causal else self.block_size

    @property
    def control_ids(self) -> tuple[int, ...]:
        """Ids that never stand in an answer: [MASK], and DELETE and SPLIT where the model has them."""
        return (self.mask_id, *(i for i in (self.delete_id, self.split_id) if i is not None))
