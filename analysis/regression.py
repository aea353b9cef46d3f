"""`python -m analysis.regression RESULTS --against REFERENCE`: exit status 1 when accuracy fell anywhere.

Exact match and score are both judged, paired by example. A cell fell when the bootstrap interval of the mean difference
of either to the reference lies below minus the tolerance, or when it failed and the reference has a result. The
results may hold a part of the reference's examples. Cells are compared when all their options are the same,
but for those of the engine, which change no answer: attention, capture and fuse_commit.

With n paired examples, whatever n, about 4 lost against 0 gained is the smallest fall the 95 % interval can see. The
largest fall among the cells that held is printed too, as `largest_held_fall` in the last line.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from analysis.checkout import current_commit, staleness
from analysis.frame import load
from analysis.reference import FILE, Reference, read_reference, reference_of
from analysis.verdict import Change, Outcome, Verdict, compare, largest_held_fall
from mage.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 nothing fell, 1 something did, 2 the comparison is not possible."""
    options = _parse(arguments)
    given = sys.argv[1:] if arguments is None else list(arguments)
    command = options.made_by or shlex.join(["python", "-m", "analysis.regression", *given])
    try:
        results = load([options.results])
        fresh = reference_of(results, command)
        notes = list(results.notes)
        if options.write:
            return _write(fresh, options.against, notes)
        verdicts = compare(fresh, read_reference(options.against), options.confidence, options.tolerance)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    stale = staleness((record.environment for record in results.cells.record), current_commit())
    _print_notes(notes + ([stale] if stale else []))
    for verdict in verdicts:
        if verdict.outcome != "held":
            print(verdict)
    counts = Counter(verdict.outcome for verdict in verdicts)
    bad = counts["fell"] + counts["failed"] + (0 if options.allow_missing else counts["absent"])
    largest = largest_held_fall(verdicts)
    if largest:
        print(
            f"largest fall among the held cells: {largest[0].name}: {largest[1]}; "
            f"{largest[1].lost} lost, {largest[1].gained} gained; n={largest[0].n}"
        )
    outcomes = {outcome: counts[outcome] for outcome in get_args(Outcome)}
    print(json.dumps({"regression": bad > 0, **outcomes, "largest_held_fall": largest and _fields(*largest)}))
    return 1 if bad else 0


def _fields(verdict: Verdict, change: Change) -> dict[str, str | int | float]:
    return {
        "cell": verdict.name,
        "measure": change.measure,
        "points": round(100 * change.difference.mean, 2),
        "lost": change.lost,
        "gained": change.gained,
        "n": verdict.n,
    }


def _print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def _write(fresh: Reference, target: Path, notes: Sequence[str]) -> int:
    _print_notes(notes)
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
    parser.add_argument("--tolerance", type=float, default=0.0, help="fall that is accepted, from 0 to 1")
    return parser.parse_args(arguments)


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
