"""Made contests of speed, whose seconds are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mage.timing.bound import Bound
from mage.timing.roofs import Roofs
from mage.timing.rounds import Conditions, Round, Timed
from mage.timing.side import Side
from mage.timing.summary import metrics_of
from runners.latency_result import LatencyResult
from tests.analysis.synthetic import write_cell

NOISE = (1.0, 1.02, 0.98, 1.04, 0.96, 1.01)


def side(seconds: float, forwards: dict[str, float], reads: float, captures: float = 0.0) -> Side:
    """A block of `seconds` whose forwards take equally long."""
    total = sum(forwards.values())
    parts = {kind: seconds * count / total for kind, count in forwards.items()} | {"selection": 0.0}
    return Side(
        elapsed=seconds,
        forwards=forwards,
        seconds=parts,
        reads=reads,
        dense_reads=100.0,
        tokens=32.0,
        peak_bytes=2e9,
        warm_up=2 * seconds,
        captures=captures,
    )


def write_contest(
    folder: Path,
    method: str,
    context: int,
    speedup: float,
    *,
    batch: int = 1,
    rounds: int = 6,
    seed: int = 0,
    options: dict[str, Any] | None = None,
    capture: bool = True,
    fuse_commit: bool = False,
) -> Path:
    """A cell in which dense takes a second a block and the method `speedup` times less, of a bound of twice that."""
    exact = {"exact": 32.0, "sparse": 0.0, "commit": 1.0}
    sparse = exact if method == "dense" else {"exact": 1.0, "sparse": 31.0, "commit": 1.0}
    if fuse_commit:
        exact = {"exact": 31.0, "fused": 1.0, "sparse": 0.0, "commit": 0.0}
        both = {"exact": 0.0, "fused": 1.0, "sparse": 31.0, "commit": 0.0}
        alone = {"exact": 0.0, "fused": 0.0, "sparse": 32.0, "commit": 1.0}
        sparse = {"dense": exact, "quest": alone}.get(method, both)
    conditions = Conditions(
        context=context,
        batch=batch,
        block_size=32,
        roofs=Roofs(1e12, 1e14),
        attention="triton",
        captured=True,
        dense_captured=method != "quest",
        dense_attention={"triton": 0.010, "torch SDPA": 0.009},
        prefill_seconds=2.0,
        prefill_flops=1e14,
        prefill_peak_bytes=3e9,
        selects_each_step=method == "quest",
        prefill_rows=1,
        warm_blocks=3,
        empty_entries=96,
        dense_absent={"FlashInfer": "ModuleNotFoundError: no"},
    )
    timed = [
        Timed(
            Round(side(n, exact, 100.0), side(1 / speedup, sparse, 20.0, captures=batch > 1), empty_step=0.005),
            Bound(exact=0.02, selection=None, sparse=None, commit=0.02, block=0.5),
            Bound(exact=0.02, selection=0.0, sparse=0.02 / speedup, commit=0.02, block=0.25 / speedup),
        )
        for n in NOISE[:rounds]
    ]
    rows = [
        LatencyResult(
            id=f"round-{i:03d}", round=t.round, dense_bound=t.dense, method_bound=t.method, conditions=conditions
        )
        for i, t in enumerate(timed)
    ]
    return write_cell(
        folder,
        method,
        None if method == "dense" else 512,
        rows,
        task=f"context {context} batch {batch}",
        runner="latency",
        seed=seed,
        metrics=metrics_of(conditions, timed),
        config={
            "capture": capture,
            "fuse_commit": fuse_commit,
            "runner": {"name": "latency", "context": context, "batch": batch, **(options or {})},
        },
        told={"question": "", "metric": ""},
    )
