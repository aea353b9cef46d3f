"""The table of kernels: what each took on each shape, how near that is to the roof, and how right it was."""

from __future__ import annotations

import pandas as pd

from analysis.caption import span
from analysis.escaping import visible
from analysis.table import HOLE, MARK, Table

SETTINGS = ("model", "dtype", "block_size", "budget", "page_size")
LONGEST = 120  # characters of a reason
ABOVE = f"{MARK} Above 100 % of a roof: the roof was measured too low, or the time is wrong; something disturbed them."


def kernel_table(points: pd.DataFrame) -> Table:
    """One row an implementation of a kernel on a shape; none for those of others that could not be timed anywhere."""
    absent = _absent(points)
    shown = points[~points.implementation.isin(absent)]
    listed = "; ".join(f"{name}: {reason}" for name, reason in sorted(absent.items()))
    caption = (
        "Single kernels, each run from cold caches: the median of the runs and the distance of their quartiles. Rates "
        "and share: of the bytes and operations that a kernel cannot do without (every operand read once, every result "
        "written once), against the nearer of the two roofs, which is named. "
        f"Error: relative norm of the difference to the float32 reference. {_others(shown)}"
        f"{f'Not timed: {listed}. ' if listed else ''}{_conditions(points)}"
    )
    cells = pd.DataFrame([_row(point) for _, point in shown.iterrows()])
    unused = [name for name in ("setting", "over best") if cells[name].isin(["", HOLE]).all()]
    note = ABOVE if (shown.share > 1).any() else ""
    return Table("kernels", caption, cells.drop(columns=unused), points, note)


def _conditions(points: pd.DataFrame) -> str:
    """Sentences on what was asked for, the device, and the roofs that were measured."""
    settings = ", ".join(text for text in (_setting(points, name) for name in SETTINGS) if text)
    devices, threads = sorted(set(points.device)), span(points.threads.astype(int))
    threads += " thread" if threads == "1" else " threads"
    bandwidth, rate = span(points.roof_bytes_per_second / 1e9), span(points.roof_flops_per_second / 1e12)
    alike = len(devices) == 1 and "to" not in threads
    return (
        f"{settings[:1].upper()}{settings[1:]}. Device: {', '.join(devices)}, {threads}. Roofs measured in the same "
        f"run{'s' if points.file.nunique() > 1 else ''}: {bandwidth} GB/s, {rate} TFLOP/s."
        f"{'' if alike else ' Rows of different devices or threads are not to be compared.'}"
    )


def _setting(points: pd.DataFrame, name: str) -> str:
    values = list(dict.fromkeys(points[name].dropna())) if name in points else []
    return f"{name.replace('_', ' ')} {' or '.join(values)}" if values else ""


def _others(points: pd.DataFrame) -> str:
    if points.over_best.isna().all():
        return ""
    return "Over best: the time of the fastest other implementation, which is named, over that of ours. "


def _absent(points: pd.DataFrame) -> dict[str, str]:
    """Implementations of others that have no time anywhere, each with its first reason."""
    others = points[~points.ours]
    never = others.groupby("implementation").filter(lambda rows: rows.seconds.isna().all())
    reasons = never.drop_duplicates("implementation")
    return {name: visible(reason, LONGEST) for name, reason in zip(reasons.implementation, reasons.failure)}


def _row(point: pd.Series) -> dict[str, str]:
    timed = not pd.isna(point.seconds)
    return {
        "setting": point.setting,
        "kernel": point.kernel,
        "context": f"{point.context}",
        "batch": f"{point.batch}",
        "implementation": point.implementation,
        "ms": f"{1e3 * point.seconds:.4g}" if timed else "failed",
        "spread": f"{1e3 * point.spread:.2g}" if timed else HOLE,
        "GB/s": f"{point.gb_per_second:.4g}" if timed else HOLE,
        "TFLOP/s": f"{point.tflops_per_second:.3g}" if timed and point.flops > 0 else HOLE,
        "of roof": f"{100 * point.share:.3g} %{MARK if point.share > 1 else ''}" if timed else HOLE,
        "roof": point.roof,
        "error": HOLE if pd.isna(point.relative_error) else f"{point.relative_error:.1e}" + " wrong" * point.wrong,
        "over best": HOLE if pd.isna(point.over_best) else f"{point.over_best:.2f} ({point.best})",
    }
