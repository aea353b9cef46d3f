"""Records of kernels with made timings, whose seconds are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.analysis.synthetic import ENVIRONMENT

BANDWIDTH, RATE = 2e12, 4e14  # bytes and operations a second
NAME = "kernels_sdar_triton_bfloat16_0123abcd.json"


def timing(
    kernel: str, implementation: str, context: int, batch: int, seconds: float | None, **others: Any
) -> dict[str, Any]:
    """A kernel that moves a megabyte an entry and row, and does 100 operations for each of these bytes; a prefill
    does 1000."""
    moved = 1e6 * context * batch
    flops = moved * (1000 if kernel == "prefill" else 100)
    least = max(moved / BANDWIDTH, flops / RATE)
    timed = None if seconds is None else 1.0
    return {
        "kernel": kernel,
        "implementation": implementation,
        "context": context,
        "batch": batch,
        "bytes": moved,
        "flops": flops,
        "roof": "matrix" if kernel == "prefill" else "bandwidth",
        "runs": 0 if seconds is None else 20,
        "seconds": seconds,
        "spread": timed and 0.05 * (seconds or 0),
        "gb_per_second": timed and moved / (seconds or 1) / 1e9,
        "tflops_per_second": timed and flops / (seconds or 1) / 1e12,
        "share": timed and least / (seconds or 1),
        "relative_error": timed and 0.002,
        "failure": None if timed else "RuntimeError: no\x1b[31m <b>",
        **others,
    }


TIMINGS = [
    timing("dense", "triton", 2048, 1, 2e-3),  # 1024 us at the roof
    timing("dense", "torch SDPA", 2048, 1, 1.5e-3),
    timing("dense", "FlashInfer", 2048, 1, 4e-3),
    timing("dense", "flash-attn", 2048, 1, None, failure="ModuleNotFoundError: No module named 'flash_attn'"),
    timing("gather", "triton", 2048, 1, None),
    timing("prefill", "triton", 2048, 1, 10.24e-3, relative_error=0.5),  # 5120 us at the roof
    timing("prefill", "torch SDPA, causal", 2048, 1, 6.4e-3, relative_error=None),
    timing("dense", "triton", 1024, 8, 8.192e-3, relative_error=None),  # 4096 us at the roof
]


def write_kernels(
    folder: Path, name: str = NAME, timings: list[dict[str, Any]] | None = None, **others: Any
) -> dict[str, Any]:
    """A record as runner=kernels writes it."""
    content = {
        "runner": "kernels",
        "model": "sdar",
        "dtype": "bfloat16",
        "block_size": 32,
        "budget": 512,
        "page_size": 16,
        "config": {"attention": "auto"},
        "environment": ENVIRONMENT.model_dump() | {"attention": "triton", "device": "H100", "threads": 16},
        "roofs": {"bytes_per_second": BANDWIDTH, "flops_per_second": RATE},
        "timings": TIMINGS if timings is None else timings,
        "wrong": ["gather/triton/2048x1", "prefill/triton/2048x1"],
        "too_large": ["131072x8"],
        **others,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))
    return content


def suite(model: str, attention: str = "triton", dtype: str = "bfloat16") -> dict[str, Any]:
    """What the record of the speed suite tells otherwise: no config, and the context of all timings."""
    environment = ENVIRONMENT.model_dump() | {"attention": attention, "capture": True}
    return {"config": {}, "model": model, "dtype": dtype, "context": 2048, "environment": environment}
