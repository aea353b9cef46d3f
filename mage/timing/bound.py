"""What bytes and operations allow: the least seconds of the forwards that a round ran, and so the most a method can
win."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mage.timing.counts import Shape, forward_parts, least_seconds, selection_part
from mage.timing.roofs import Roofs
from mage.timing.side import Side

if TYPE_CHECKING:
    from mage.method import Method, Scorers


@dataclass(frozen=True)
class Bound:
    """Least seconds at the roofs: of one `exact`, `fused`, `sparse` or `commit` forward, of the `selection` of a block
    where it is no part of every sparse step, and of a whole `block`. None: no such forward ran."""

    exact: float | None
    selection: float | None
    sparse: float | None
    commit: float | None
    block: float
    fused: float | None = None


@dataclass(frozen=True)
class Reading:
    """How a method reads the prefix. `dense_layers`: attend to all of it. `budget`: entries that the other layers
    attend to (None: the method has none). `selects_each_step`: choosing is part of every sparse step. `scorers`: what
    choosing multiplies with what it reads. `own_sets`: every query head has a set of its own. `exact_commit`: commits
    attend to the whole prefix. `reuses_prefix`: the other layers of a sparse step read what an exact one gave, and
    attend to no entry."""

    dense_layers: int
    budget: int | None
    selects_each_step: bool
    scorers: Scorers
    own_sets: bool
    exact_commit: bool
    reuses_prefix: bool

    @classmethod
    def of(cls, method: Method, budget: int | None, layers: int, block_size: int) -> Reading:
        """Ask a method for its plans in a body of `layers` layers: of the steps of a block, and of a commit."""
        from mage.view import Forward  # brings torch, which a reader of records need not wait for

        method = method.for_model(layers, block_size)
        plans = [method.plan(Forward(1, step)) for step in range(1, max(block_size, 2) + 1)]
        return cls(
            dense_layers=method.dense_layers,
            budget=budget if method.uses_budget else None,
            selects_each_step=all(plan.select for plan in plans[-2:]),
            # after an exact step a set is chosen from the scores of all keys
            scorers="positions" if any(plan.select == "after" for plan in plans) else method.scorers,
            own_sets=not method.one_set_per_kv_head,
            exact_commit=method.plan(Forward(1, block_size, commit=True)).exact,
            reuses_prefix=any(plan.prefix == "reuse" for plan in plans),
        )


def bound_of(shape: Shape, roofs: Roofs, reading: Reading, side: Side, prefix: float) -> Bound:
    """Return the bound of what `side` ran over `prefix` entries, the mean of its blocks.

    Entries read are those that the forwards counted; how many of them a sparse step attends to, the budget says.
    """
    layers = shape.body.num_layers
    sparse_commits = 0.0 if reading.exact_commit else side.count("commit")
    steps = side.count("sparse") + sparse_commits
    exact = least_seconds(forward_parts(shape, layers * prefix), roofs)
    sparse = selection = None
    if steps:
        read = max(0.0, side.reads - layers * prefix * (side.total_forwards - steps))
        kept = prefix if reading.budget is None else min(reading.budget, prefix)
        kept = 0.0 if reading.reuses_prefix else kept
        dense, kept = reading.dense_layers * prefix, (layers - reading.dense_layers) * kept
        sets = shape.body.num_heads // shape.body.num_kv_heads if reading.own_sets else 1
        attended, gathered = (min(read / steps, dense + count * kept) for count in (1, sets))
        if reading.reuses_prefix:
            sparse = least_seconds(forward_parts(shape, attended, read / steps), roofs)
        elif reading.selects_each_step:
            chosen = selection_part(shape, read / steps - gathered, reading.scorers)
            sparse = least_seconds([*forward_parts(shape, attended, gathered), chosen], roofs)
        else:
            chosen = selection_part(shape, read - steps * gathered, reading.scorers)
            sparse = least_seconds(forward_parts(shape, attended, gathered), roofs)
            selection = least_seconds([chosen], roofs)
    commit = exact if sparse is None or reading.exact_commit else sparse
    fused = least_seconds(forward_parts(shape, layers * prefix, ahead=shape.rows), roofs)
    each = {"exact": exact, "fused": fused, "sparse": sparse or 0.0, "commit": commit}
    block = (selection or 0.0) + sum(side.count(kind) * seconds for kind, seconds in each.items())
    ran: dict[str, Any] = {kind: each[kind] if side.count(kind) else None for kind in each}
    return Bound(**ran, selection=selection, block=block)
