"""`python -m analysis.regression RESULTS --against REFERENCE`: exit status 1 when accuracy fell anywhere.

Scores are paired by example. A cell fell when the bootstrap interval of its mean difference to the reference lies
below minus the tolerance, or when it failed and the reference has a result. The results may hold a part of the
reference's examples.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from analysis.frame import load
from analysis.reference import FILE, Reference, read_reference, reference_of
from analysis.statistics import Interval, paired_difference
from mage.errors import UserError

MINIMUM = 20
"""Examples that both sides of a comparison need at least."""

Outcome = Literal["fell", "failed", "absent", "new", "rose", "held"]


@dataclass
class Measured:
    """A point of one side: scores and digests by seed and example id, and the statuses of failed cells."""

    scores: dict[str, float] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Verdict:
    """What became of one point. `before`, `after`, `difference` are given where it was compared on `n` examples."""

    point: tuple[str, ...]
    outcome: Outcome
    n: int = 0
    before: float = 0.0
    after: float = 0.0
    difference: Interval | None = None
    note: str = ""

    def __str__(self) -> str:
        model, method, budget, task, decoding, question = self.point
        name = f"{method} budget {budget}" if budget else method
        place = f"{self.outcome:6} {task} {name} ({model}, {decoding}, question={question})"
        if self.difference is None:
            return place + (f": {self.note}" if self.note else "")
        low, high = 100 * self.difference.low, 100 * self.difference.high
        change = f"{100 * self.difference.mean:+.1f} [{low:+.1f}, {high:+.1f}] points, n={self.n}"
        return f"{place}: {100 * self.before:.1f} -> {100 * self.after:.1f} %, {change}"


def compare(fresh: Reference, reference: Reference, confidence: float, tolerance: float) -> list[Verdict]:
    """One verdict for each point of either side, in the order of the reference.

    Raises UserError when nothing can be compared, when an id means another example, or when too few are in common.
    """
    ours, theirs = _points(fresh), _points(reference)
    verdicts: list[Verdict] = []
    for point, before in theirs.items():
        after = ours.get(point)
        if after is None:
            verdicts.append(Verdict(point, "absent", note="not in the results"))
        elif before.failures:
            verdicts.append(Verdict(point, "new", note=f"the reference has no result ({before.failures[0]})"))
        elif after.failures:
            verdicts.append(Verdict(point, "failed", note=f"{after.failures[0]}, the reference has a result"))
        else:
            verdicts.append(_judge(point, after, before, confidence, tolerance))
    verdicts += [Verdict(point, "new", note="not in the reference") for point in ours if point not in theirs]
    if not {"fell", "rose", "held", "failed"} & {v.outcome for v in verdicts}:
        raise UserError("results and reference have no cell in common")
    return verdicts


def _points(reference: Reference) -> dict[tuple[str, ...], Measured]:
    points: dict[tuple[str, ...], Measured] = {}
    for cell in reference.cells:
        point = points.setdefault(cell.point, Measured())
        if cell.status != "done":
            point.failures.append(cell.status)
            continue
        examples = reference.sets[cell.examples]
        names = [f"{cell.seed}/{example}" for example in examples.ids]
        point.scores.update(zip(names, cell.scores, strict=True))
        point.digests.update(zip(names, examples.digests, strict=True))
    return points


def _judge(point: tuple[str, ...], after: Measured, before: Measured, confidence: float, tolerance: float) -> Verdict:
    common = sorted(after.scores.keys() & before.scores.keys())
    name = " ".join(filter(None, point))
    if len(common) < MINIMUM:
        raise UserError(f"{name}: {len(common)} examples in common with the reference, at least {MINIMUM} are needed")
    changed = [example for example in common if after.digests[example] != before.digests[example]]
    if changed:
        raise UserError(
            f"{name}: example {changed[0]} is not the one of the reference, its answer or labels differ: "
            "the task changed, so make a new reference with --write"
        )
    ours = {example: after.scores[example] for example in common}
    theirs = {example: before.scores[example] for example in common}
    difference = paired_difference(ours, theirs, confidence=confidence)
    outcome: Outcome = "fell" if difference.high < -tolerance else "rose" if difference.low > tolerance else "held"
    means = [sum(scores.values()) / len(common) for scores in (theirs, ours)]
    return Verdict(point, outcome, len(common), means[0], means[1], difference)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 nothing fell, 1 something did, 2 the comparison is not possible."""
    options = _parse(arguments)
    given = sys.argv[1:] if arguments is None else list(arguments)
    command = options.made_by or shlex.join(["python", "-m", "analysis.regression", *given])
    try:
        fresh = reference_of(load([options.results]), command)
        if options.write:
            return _write(fresh, options.against)
        verdicts = compare(fresh, read_reference(options.against), options.confidence, options.tolerance)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for verdict in verdicts:
        if verdict.outcome != "held":
            print(verdict)
    counts = Counter(verdict.outcome for verdict in verdicts)
    bad = counts["fell"] + counts["failed"] + (0 if options.allow_missing else counts["absent"])
    print(json.dumps({"regression": bad > 0, **{outcome: counts[outcome] for outcome in get_args(Outcome)}}))
    return 1 if bad else 0


def _write(fresh: Reference, target: Path) -> int:
    path = target / FILE if target.is_dir() or not target.suffix else target
    fresh.write(path)
    failed = sum(cell.status != "done" for cell in fresh.cells)
    print(json.dumps({"written": str(path), "cells": len(fresh.cells), "failed": failed}))
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m analysis.regression", description=__doc__)
    parser.add_argument("results", type=Path, help="outputs/<experiment>")
    parser.add_argument(
        "--against", type=Path, required=True, help="reference file, or folder with one or with records"
    )
    parser.add_argument("--write", action="store_true", help="make the results the new reference")
    parser.add_argument("--made-by", help="with --write: the command that made the results, kept in the reference")
    parser.add_argument("--allow-missing", action="store_true", help="cells of the reference may be absent")
    parser.add_argument("--confidence", type=_share, default=0.95, help="of the interval (default 0.95)")
    parser.add_argument("--tolerance", type=float, default=0.0, help="fall that is accepted, in score from 0 to 1")
    return parser.parse_args(arguments)


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
