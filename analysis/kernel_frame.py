"""The records of kernels in folders of results as one frame. What does not validate is refused by file and field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.validation import validated
from analysis.variants import varying
from runners.kernel_record import PATTERN, KernelRecord, KernelTiming

SETTINGS = ("model", "dtype", "block_size", "budget", "page_size", "attention", "device", "threads")
NUMBERS = ("seconds", "spread", "gb_per_second", "tflops_per_second", "share", "relative_error", "over_best")
RIVALS = ("torch SDPA", "torch SDPA, causal", "flash-attn", "FlashInfer")
"""Implementations of others, as `mage.timing` names them; any other one is a choice of this project."""


def read_kernels(folders: Iterable[Path]) -> dict[Path, KernelRecord]:
    """The records of kernels that lie in `folders`, by their files. Raises UserError."""
    paths = (path for folder in folders for path in sorted(folder.glob(PATTERN)))
    return {path: validated(KernelRecord, path.read_bytes(), str(path)) for path in paths}


def kernel_points(records: Mapping[Path, KernelRecord]) -> pd.DataFrame:
    """One row a timing, in reading order: by record, kernel as they were run, context, batch, ours first.

    `setting` tells the rows of a record from those of others, and is empty where there is but one; `file` is its path.
    `ours`: whether the implementation is a choice of this project, be it torch's. `wrong`: whether the record says so.
    `over_best` and `best`, on rows of ours: the seconds of the fastest other implementation of the same kernel on the
    same shape over ours, and its name.
    """
    told = {path: _settings(record) for path, record in records.items()}
    if len({tuple(own.items()) for own in told.values()}) < len(told):  # the same asked twice: of different times
        told = {path: own | {"started": records[path].environment.started} for path, own in told.items()}
    shown = [name for name in (*SETTINGS, "started") if name in varying(told)]
    rows = [
        {
            **row,
            **told[path],
            "setting": ", ".join(_words(name, told[path][name]) for name in shown if name in told[path]),
            "file": str(path),
        }
        for path in sorted(told, key=lambda path: [_rank(told[path].get(name, "")) for name in shown])
        for row in _rows(records[path])
    ]
    return pd.DataFrame(rows).astype(dict.fromkeys(NUMBERS, float)) if rows else pd.DataFrame()


def failing(points: pd.DataFrame) -> pd.DataFrame:
    """The timings of ours that failed, or computed something else."""
    return points[points.ours & (points.wrong | (points.failure != ""))] if len(points) else points


def _rows(record: KernelRecord) -> list[dict[str, Any]]:
    kernels = list(dict.fromkeys(timing.kernel for timing in record.timings))
    others = [
        (t.seconds, t.implementation, t.shape) for t in record.timings if t.seconds and t.implementation in RIVALS
    ]
    fastest = {shape: (seconds, name) for seconds, name, shape in sorted(others, reverse=True)}  # the last one stays

    def place(timing: KernelTiming) -> tuple[int, int, int, bool]:
        return kernels.index(timing.kernel), timing.context, timing.batch, timing.implementation in RIVALS

    rows = []
    for timing in sorted(record.timings, key=place):
        own = timing.implementation not in RIVALS
        best = fastest.get(timing.shape) if own else None
        rows.append(
            {
                **timing.model_dump(),
                "failure": timing.failure or "",
                "ours": own,
                "wrong": timing.name in record.wrong,
                "over_best": best[0] / timing.seconds if best and timing.seconds else None,
                "best": best[1] if best else "",
                "roof_bytes_per_second": record.roofs.bytes_per_second,
                "roof_flops_per_second": record.roofs.flops_per_second,
            }
        )
    return rows


def _settings(record: KernelRecord) -> dict[str, str]:
    """What decides the timings of a record beside the shapes, as far as it tells."""
    values = (
        record.model,
        record.dtype,
        record.block_size,
        record.budget,
        record.page_size,
        record.environment.attention,
        record.environment.device,
        record.environment.threads,
    )
    return {name: str(value) for name, value in zip(SETTINGS, values, strict=True) if value is not None}


def _words(name: str, value: str) -> str:
    """A setting among others: names speak for themselves, numbers do not."""
    return value if name in ("model", "dtype", "attention", "device") else f"{name.replace('_', ' ')} {value}"


def _rank(value: str) -> tuple[int, str]:
    """Numbers by their size, words by their letters."""
    return (int(value), "") if value.isdigit() else (0, value)
