"""`python -m analysis.checkpoints BEFORE AFTER`: what a change of the weights did to every method at every budget.

Two experiments that answered the same examples with two checkpoints are paired example by example, as a method is with
dense: accuracy (runner=evaluate), and the recall of selections (runner=recall), each example with its mean over blocks,
steps and layers.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from analysis.comparison import Comparison, compare
from analysis.contexts import contexts_of
from analysis.figures.recall import recall_rows
from analysis.frame import Results, load
from analysis.measure import Measure, measure_of
from analysis.pooling import by_example
from analysis.statistics import Interval, mcnemar_exact, paired_difference
from analysis.table import HOLE, MARK, Table, interval_text, ordered, signed
from mage.errors import UserError

PLACE = ["task", "decoding", "question", "method", "budget_label"]
Place = tuple[str, ...]
"""The values of PLACE: a point whatever its model."""


def checkpoint_tables(before: Results, after: Results, chosen: Measure | None = None) -> list[Table]:
    """Return the tables of accuracy and of recall, whichever both sides have.

    A side with several models is refused, as are sides that answered different examples. Raises `UserError`.
    """
    tables = []
    if all((side.cells.runner == "evaluate").any() for side in (before, after)):
        tables.append(_accuracy(compare(before), compare(after), chosen))
    if not before.recall.empty and not after.recall.empty:
        tables.append(_recall(before, after))
    if not tables:
        raise UserError("the two sides have no runner in common: nothing can be paired")
    return tables


def _accuracy(before: Comparison, after: Comparison, chosen: Measure | None) -> Table:
    sides = [comparison.points[comparison.points.status == "done"] for comparison in (before, after)]
    rows = []
    for place, first, second in _common(*sides):
        measure = measure_of(pd.DataFrame([first]), chosen)
        values = [
            by_example(side.values[(str(point["model"]), *place)][measure])
            for side, point in ((before, first), (after, second))
        ]
        contexts = contexts_of(before.labels[(str(first["model"]), *place[:3])])
        rows.append(_row(place, values[0], values[1], contexts, tested=measure == "exact"))
    caption = (
        "Accuracy before and after, in %, by method and KV budget; difference in points with its 95 % bootstrap "
        f"interval, paired by example; {MARK} p < 0.05 in McNemar's exact test."
    )
    return _table("checkpoints", caption, rows)


def _recall(before: Results, after: Results) -> Table:
    sides = [recall_rows(side) for side in (before, after)]
    means = [side.groupby([*PLACE, "id"]).recall.mean() for side in sides]
    named = sides[0].dropna(subset="context").drop_duplicates([*PLACE, "id"])
    contexts: dict[Place, dict[str, str]] = {}
    for place, example, context in zip(map(tuple, named[PLACE].to_numpy()), named.id, named.context, strict=True):
        contexts.setdefault(place, {})[str(example)] = str(context)
    rows = []
    for place, _, _ in _common(*(side.drop_duplicates([*PLACE, "model"]) for side in sides)):
        first, second = ({str(i): float(v) for i, v in mean.loc[place].items()} for mean in means)
        rows.append(_row(place, first, second, contexts.get(place, {}), tested=False))
    caption = (
        "Recall of the selection against each step's exact top-k before and after, in %, along each checkpoint's own "
        "dense trajectory, mean over blocks, steps and sparse layers; difference in points with its 95 % bootstrap "
        "interval, paired by example."
    )
    return _table("checkpoints-recall", caption, rows)


def _common(before: pd.DataFrame, after: pd.DataFrame) -> list[tuple[Place, Mapping[str, Any], Mapping[str, Any]]]:
    """The points that both sides have, in reading order. Raises `UserError` where there is none."""
    first, second = _by_place(before), _by_place(after)
    found = [(place, point, second[place]) for place, point in first.items() if place in second]
    if not found:
        raise UserError("the two sides have no task, method and budget in common: nothing can be paired")
    return found


def _by_place(points: pd.DataFrame) -> dict[Place, Mapping[str, Any]]:
    found: dict[Place, Mapping[str, Any]] = {}
    for point in ordered(points).to_dict("records"):
        place = tuple(str(point[key]) for key in PLACE)
        if place in found:
            raise UserError(f"one side has two models at {' '.join(filter(None, place))}: pass folders of one model")
        found[place] = {str(key): value for key, value in point.items()}
    return found


def _row(
    place: Place,
    before: Mapping[str, float],
    after: Mapping[str, float],
    contexts: Mapping[str, str],
    *,
    tested: bool,
) -> dict[str, Any]:
    if before.keys() != after.keys():
        odd = min(before.keys() ^ after.keys())
        raise UserError(f"{' '.join(filter(None, place))}: example {odd!r} stands on one side only")
    return {
        **dict(zip(("task", "decoding", "question", "method", "budget"), place, strict=True)),
        "n": len(before),
        "before": sum(before.values()) / len(before),
        "after": sum(after.values()) / len(after),
        "difference": paired_difference(after, before, contexts),
        "p": mcnemar_exact(after, before, contexts) if tested else None,
    }


def _table(name: str, caption: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    cells, numbers = [], []
    for row in rows:
        difference: Interval = row["difference"]
        mark = MARK if row["p"] is not None and row["p"] < 0.05 else ""
        cells.append(
            {
                "task": row["task"],
                "method": row["method"],
                "budget": row["budget"] or HOLE,
                "n": str(row["n"]),
                "before": f"{100 * row['before']:.1f}",
                "after": f"{100 * row['after']:.1f}",
                "difference": f"{signed(difference.mean)} {interval_text(difference.low, difference.high)}{mark}",
            }
        )
        numbers.append({**row, "difference": difference.mean, "low": difference.low, "high": difference.high})
    return Table(name, caption, pd.DataFrame(cells), pd.DataFrame(numbers))


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status: 0, or 2 when the results cannot be read or paired."""
    parser = argparse.ArgumentParser(prog="python -m analysis.checkpoints", description=__doc__)
    parser.add_argument("before", type=Path, help="outputs/<experiment> of the first checkpoint")
    parser.add_argument("after", type=Path, help="outputs/<experiment> of the second one")
    parser.add_argument("--out", type=Path, help="where to write; default: analysis/ in the second folder")
    parser.add_argument("--score", choices=get_args(Measure), help="default: what each task is judged by")
    options = parser.parse_args(arguments)
    folder: Path = options.out or options.after / "analysis"
    try:
        tables = checkpoint_tables(load([options.before]), load([options.after]), options.score)
        for table in tables:
            table.write(folder)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for table in tables:
        print(f"{table.caption}\n\n{table.markdown()}\n")
    print(json.dumps({"tables": str(folder), "before": str(options.before), "after": str(options.after)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
