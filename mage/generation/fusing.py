"""When the commit of a block and the first step of the next one can be one forward."""

from __future__ import annotations

from mage.errors import UserError
from mage.generation.decoding import Decoding
from mage.models.diffusion import DiffusionSpec


def check_fusing(spec: DiffusionSpec, decoding: Decoding) -> None:
    """Raise `UserError` where a block needs the commit of the one before it to be done before it opens, or where that
    commit is another kind of forward, or mostly none at all."""
    if spec.causal:
        raise UserError(
            "fuse_commit=true: with model.prefix_attention=causal a commit sees its block causally, a denoising step "
            "sees it whole: they cannot be one forward. Allowed: false."
        )
    if spec.seeded:
        told = "model.anchored=true" if spec.anchored else f"model.alignment={spec.alignment}"
        raise UserError(
            f"fuse_commit=true: with {told} the commit of a block decides the first token of the next one, so that it "
            "cannot wait for that one's first step. Allowed: false."
        )
    if decoding.settles:
        raise UserError(
            "fuse_commit=true: the last step of a block under a decoding that edits mostly stands for its commit, and "
            "nothing is left to be fused. Allowed: false, or a decoding that only fills."
        )
