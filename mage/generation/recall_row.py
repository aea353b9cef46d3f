"""What is told of a selection at one denoising step. Without torch, so that records can be read without it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RecallRow:
    """One layer at one denoising step, mean over KV heads. `block` and `step` count from 1, `layer` from 0.

    `recall`: share of the oracle's top-k (by this step's exact attention mass) that the attended set holds.
    `oracle_mass`: prefix and block together have mass 1; how much of it the oracle's set holds. `mass_captured`: mass
    on the attended set over `oracle_mass`.

    Where entries are named as evidence, such as those of an asked needle: `evidence_mass` on them, and how much of it
    lies in the attended set (`evidence_held`) and in the oracle's (`evidence_oracle`).
    """

    block: int
    step: int
    layer: int
    recall: float
    mass_captured: float
    oracle_mass: float
    evidence_mass: float | None = None
    evidence_held: float | None = None
    evidence_oracle: float | None = None
