"""Compiles the kernels of attention in bfloat16 and checks what they take."""

from __future__ import annotations

from typing import Any

from mage.attention.kernels.tiles import Device, Tile
from tests.mage.kernels.compiling import SHARED_LIMIT, compiled

H200 = Device(processors=132, shared=SHARED_LIMIT[90])
TYPES = dict.fromkeys(("q", "k", "v", "keys", "values", "out"), "*bf16")
TYPES |= dict.fromkeys(("lengths", "counts"), "*i32")
TYPES |= dict.fromkeys(("outs", "lses", "lse_prefix", "lse_block", "prefix", "lse"), "*fp32") | {"scale": "fp32"}
# Bytes of registers a thread may spill. The tiles are cut for 90; elsewhere a few are spilled outside of the loops.
SPILLED = {80: 64, 90: 0, 100: 64}


def gpu(capability: int) -> Device:
    """A GPU of that compute capability."""
    return Device(processors=132, shared=SHARED_LIMIT[capability])


def check_compiles(kernel: Any, capability: int, tile: Tile, **constexprs: Any) -> None:
    """Assert that a kernel compiles for its tile and fits."""
    given = {name: TYPES.get(name, "i32") for name in kernel.arg_names if name not in constexprs}
    done = compiled(kernel, given, constexprs, capability, num_warps=tile.warps, num_stages=tile.stages)
    assert done.shared <= SHARED_LIMIT[capability]
    assert done.stack <= SPILLED[capability]
