"""Blocks with positions ahead of them, as where a commit is one forward with the next block's first step."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from mage.attention.kernels.tiles import Tile
from tests.mage.kernels.block_problem import BlockProblem

SMALL = Tile(rows=16, keys=16, warps=4, stages=2)


@dataclass(frozen=True)
class AheadCase:
    """`lengths`: of the prefix, by batch row. `splits`, `tile`: of the kernel; None: what it chooses."""

    kv_heads: int
    group: int
    block: int
    ahead: int
    dim: int
    lengths: tuple[int, ...]
    splits: int | None
    tile: Tile | None

    def problem(self, dtype: torch.dtype, device: str) -> BlockProblem:
        return BlockProblem.random(
            dtype,
            device,
            kv_heads=self.kv_heads,
            group=self.group,
            block=self.block,
            dim=self.dim,
            lengths=[[length] * self.kv_heads for length in self.lengths],
            capacity=max(self.lengths) + 9,
            ahead=self.ahead,
        )


AHEAD_CASES = [
    pytest.param(AheadCase(2, 1, 4, 4, 16, (70, 4), 3, SMALL), id="as-long-as-the-block"),
    pytest.param(AheadCase(1, 3, 5, 5, 32, (33, 64), 1, SMALL), id="group-3-odd-block"),
    pytest.param(AheadCase(1, 2, 8, 3, 80, (50,), 2, SMALL), id="shorter-than-the-block"),
    pytest.param(AheadCase(1, 2, 3, 20, 16, (20, 41), 2, SMALL), id="tiles-of-nothing-but"),
    pytest.param(AheadCase(1, 7, 32, 32, 128, (70,), 2, Tile(128, 32, 8, 2)), id="group-7-block-32"),
    pytest.param(AheadCase(1, 4, 1, 1, 16, (1,), 9, SMALL), id="blocks-of-one"),
    pytest.param(AheadCase(1, 2, 16, 16, 64, (40, 16), None, None), id="chosen-tile"),
]
