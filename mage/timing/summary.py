"""The metrics of a contest, by their stable names: medians over its rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mage.generation.trace import KINDS
from mage.timing.rounds import Conditions, Round, Timed
from mage.timing.side import Side
from mage.timing.spread import interquartile_range, median, median_interval


def metrics_of(conditions: Conditions, timed: Sequence[Timed]) -> dict[str, float]:
    """Return medians over rounds; a metric that a method has not is left out.

    `speedup`: dense over method, of a whole block, paired by round, with a 95 % interval of its median where there are
    enough rounds; `speedup_over_best`: the same over a dense engine with the fastest attention found, where its own was
    timed beside that. `bound_speedup`: what bytes and operations allow, least seconds over least seconds.
    `dense_roof_share`, `roof_share`: least seconds of a block over those it took, of each side by itself: a slow dense
    side makes neither better. `sparse_step_*`, `first_step_*`: of single steps; a forward that is a commit, too, is
    none of them: `fused_forward_seconds`. `selection_seconds_per_block`: where it has a time of its own, which it has
    not where captured steps select. `warm_up_seconds`: of the blocks of a generation that do not count. `captures`:
    recordings made in a block that counts. `prefill_rate_share`: of the matrix rate, told by the contest that made the
    prefix.
    """

    def middle(value: Callable[[Timed], float | None]) -> float | None:
        found = [x for x in map(value, timed) if x is not None]
        return median(found) if len(found) == len(timed) else None

    beside = ("selection",) if conditions.selects_each_step else ()
    speedups = [t.round.speedup for t in timed]
    interval = median_interval(speedups)
    found: dict[str, float | None] = {
        "context": conditions.context,
        "batch": conditions.batch,
        "rounds": len(timed),
        "speedup": median(speedups),
        "speedup_low": None if interval is None else interval[0],
        "speedup_high": None if interval is None else interval[1],
        "speedup_over_best": middle(lambda t: _ratio(_best_elapsed(conditions, t.round), t.round.method.elapsed)),
        "bound_speedup": middle(lambda t: t.dense.block / t.method.block),
        "dense_roof_share": middle(lambda t: t.dense.block / t.round.dense.elapsed),
        "roof_share": middle(lambda t: t.method.block / t.round.method.elapsed),
        "sparse_step_speedup": middle(lambda t: _ratio(t.round.dense_step, t.round.method.step("sparse", *beside))),
        "sparse_step_bound": middle(lambda t: _ratio(t.dense.exact, t.method.sparse)),
        "sparse_step_over_empty": middle(lambda t: _ratio(t.round.method.step("sparse", *beside), t.round.empty_step)),
        "first_step_over_dense": None
        if beside
        else middle(lambda t: _ratio(_first_step(t.round.method), t.round.dense_step)),
        "dense_step_seconds": middle(lambda t: t.round.dense_step),
        "empty_step_seconds": middle(lambda t: t.round.empty_step),
        "sparse_step_seconds": middle(lambda t: t.round.method.step("sparse", *beside)),
        "exact_step_seconds": middle(lambda t: t.round.method.step("exact")),
        "dense_fused_forward_seconds": middle(lambda t: t.round.dense.step("fused")),
        "fused_forward_seconds": middle(lambda t: t.round.method.step("fused")),
        "commit_seconds": middle(lambda t: t.round.method.step("commit")),
        "selection_seconds_per_block": None
        if beside and conditions.captured
        else middle(lambda t: t.round.method.seconds["selection"] or None),
        "density": middle(lambda t: _ratio(t.round.method.reads, t.round.method.dense_reads)),
        "prefill_seconds": conditions.prefill_seconds,
        "prefill_rate_share": _rate_share(conditions),
        "roof_bytes_per_second": conditions.roofs.bytes_per_second,
        "roof_flops_per_second": conditions.roofs.flops_per_second,
        "dense_attention_seconds": conditions.dense_attention.get(conditions.attention),
        "best_dense_attention_seconds": min(conditions.dense_attention.values(), default=None),
        "warm_blocks": conditions.warm_blocks,
        "empty_step_entries": conditions.empty_entries,
        "prefill_rows": conditions.prefill_rows,
        "prefill_peak_memory_bytes": conditions.prefill_peak_bytes,
    }
    for name, pick in (("dense_", lambda t: t.round.dense), ("", lambda t: t.round.method)):
        found |= _side(name, [pick(t) for t in timed], warmed=conditions.warm_blocks > 0)
    found["dense_block_bound_seconds"] = middle(lambda t: t.dense.block)
    found["block_bound_seconds"] = middle(lambda t: t.method.block)
    peaks = [side.peak_bytes for t in timed for side in (t.round.dense, t.round.method)]
    found["peak_memory_bytes"] = max(*peaks, conditions.prefill_peak_bytes or 0.0)
    return {name: float(value) for name, value in found.items() if value is not None}


def _side(name: str, sides: Sequence[Side], *, warmed: bool) -> dict[str, float | None]:
    elapsed = [side.elapsed for side in sides]
    counts = {kind: median([side.count(kind) for side in sides]) for kind in KINDS}
    return {
        f"{name}block_seconds": median(elapsed),
        f"{name}block_seconds_iqr": interquartile_range(elapsed),
        f"{name}tokens_per_second": median([side.tokens / side.elapsed for side in sides]),
        f"{name}forwards_per_block": median([side.total_forwards for side in sides]),
        **{f"{name}{kind}_forwards_per_block": count for kind, count in counts.items()},
        f"{name}block_peak_memory_bytes": max(side.peak_bytes for side in sides),
        f"{name}warm_up_seconds": median([side.warm_up for side in sides]) if warmed else None,
        f"{name}captures": max(side.captures for side in sides),
    }


def _best_elapsed(conditions: Conditions, one: Round) -> float | None:
    """Seconds of a dense block, had the engine the fastest attention that was found."""
    lost = conditions.lost_per_forward
    return None if lost is None else one.dense.elapsed - one.dense.total_forwards * lost


def _first_step(side: Side) -> float | None:
    """Seconds of an exact step and of the selection that follows from it; None where commits are part of some."""
    return None if side.count("fused") else side.step("exact", "selection")


def _rate_share(conditions: Conditions) -> float | None:
    """The share of the matrix rate that the prefill reached; None where that rate was not measured beside it."""
    if conditions.prefill_peak_bytes is None:
        return None
    return conditions.prefill_flops / conditions.prefill_seconds / conditions.roofs.flops_per_second


def _ratio(above: float | None, below: float | None) -> float | None:
    return None if above is None or not below else above / below
