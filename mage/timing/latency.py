"""How fast a method is: a contest with dense attention, its bounds, and the conditions it ran under."""

from __future__ import annotations

from mage.budget import Budget
from mage.generation.engine import Engine
from mage.generation.prefill import Prefix
from mage.timing.bound import Reading, bound_of
from mage.timing.contest import Contest
from mage.timing.counts import Shape, prefill_parts
from mage.timing.dense import dense_seconds
from mage.timing.roofs import Roofs
from mage.timing.rounds import Conditions, Timed
from mage.timing.workload import Workload, empty, is_captured


def measure(
    dense: Engine,
    method: Engine,
    budget: Budget | None,
    prefix: Prefix,
    work: Workload,
    roofs: Roofs,
    *,
    rounds: int,
    chunk: int | None = None,
    prefill_peak_bytes: float | None = None,
) -> tuple[Conditions, list[Timed]]:
    """Time `rounds` rounds of both engines on `prefix`, which `prefilled` made of `work` in passes of `chunk` tokens.

    Both engines have the same model, its stop tokens switched off, and the same decoding, and are to fuse commits, or
    not to, as `work` says. Raises what generating may.
    """
    body, spec = dense.model.body.config, dense.model.spec
    shape = Shape(body, prefix.cache.keys.element_size(), work.batch, spec.block_size)
    made = Shape(body, shape.itemsize, 1 if work.copies else work.batch, spec.block_size)
    tokens = None if budget is None else budget.resolve(work.context)
    readings = [Reading.of(engine.method, tokens, body.num_layers, spec.block_size) for engine in (dense, method)]
    nothing = empty(dense, work.batch, work.skipped)
    # Where blocks of its own go before those that count, each generation is warm by then.
    contest = Contest(dense, method, budget, prefix, nothing, work.skipped, work.seed, warm_up=not work.warm_blocks)
    entries, timed = work.mean_prefix(spec.block_size), []
    for one in contest.rounds(rounds):
        sides = zip(readings, (one.dense, one.method))
        timed.append(Timed(one, *(bound_of(shape, roofs, reading, side, entries) for reading, side in sides)))
    parts = prefill_parts(made, work.context, unit=spec.prefill_unit, chunk=chunk)
    attention = dense_seconds(prefix, body.num_heads, spec.block_size, [dense.operations])
    conditions = Conditions(
        context=work.context,
        batch=work.batch,
        block_size=spec.block_size,
        roofs=roofs,
        attention=dense.operations.name,
        captured=is_captured(method),
        dense_captured=is_captured(dense),
        dense_attention=attention.seconds,
        dense_absent=attention.absent,
        prefill_seconds=prefix.seconds,
        prefill_flops=sum(part.flops for part in parts),
        prefill_peak_bytes=prefill_peak_bytes,
        prefill_rows=made.batch,
        selects_each_step=readings[1].selects_each_step,
        warm_blocks=work.warm_blocks,
        empty_entries=nothing.lengths[0] + work.skipped * spec.block_size,
    )
    return conditions, timed
