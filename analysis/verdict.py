"""What became of each cell of a reference: fresh results paired with it by example."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from analysis.reference import Reference, ReferenceCell
from analysis.statistics import Interval, paired_difference
from analysis.variants import varying
from mage.errors import UserError

MINIMUM = 20
"""Examples that both sides of a comparison need at least."""

Outcome = Literal["fell", "failed", "absent", "new", "rose", "held"]
Point = tuple[tuple[str, ...], frozenset[tuple[str, str]]]
"""A cell's labels and settings."""


@dataclass(frozen=True)
class Change:
    """A measure of both sides on the same examples, from 0 to 1, and how many examples fell (`lost`) and rose."""

    measure: str
    before: float
    after: float
    difference: Interval
    lost: int
    gained: int

    def outcome(self, tolerance: float) -> Outcome:
        if self.difference.high < -tolerance:
            return "fell"
        return "rose" if self.difference.low > tolerance else "held"

    def __str__(self) -> str:
        d = self.difference
        interval = f"{100 * d.mean:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}] points"
        return f"{self.measure} {100 * self.before:.1f} -> {100 * self.after:.1f} %, {interval}"


@dataclass(frozen=True)
class Verdict:
    """What became of one cell. `changes` are those that made the outcome, over `n` examples; `note` says why else."""

    cell: ReferenceCell
    outcome: Outcome
    told_apart: str = ""
    n: int = 0
    changes: tuple[Change, ...] = ()
    note: str = ""

    @property
    def name(self) -> str:
        model, method, budget, task, decoding, question = self.cell.labels
        point = f"{method} budget {budget}" if budget else method
        return f"{task} {point} ({model}, {decoding}, question={question}{self.told_apart})"

    def __str__(self) -> str:
        changes = "; ".join(map(str, self.changes)) + f"; n={self.n}" if self.changes else ""
        return ": ".join(filter(None, [f"{self.outcome:6} {self.name}", changes, self.note]))


def compare(fresh: Reference, reference: Reference, confidence: float, tolerance: float) -> list[Verdict]:
    """One verdict for each cell of either side, in the order of the reference.

    Raises UserError when nothing can be compared, when cells of the same names differ in an option, when an id means
    another example, or when too few are in common.
    """
    ours, theirs = _by_point(fresh, "the results"), _by_point(reference, "the reference")
    _refuse_other_settings(ours, theirs)
    apart = _told_apart([*theirs.values(), *(cell for point, cell in ours.items() if point not in theirs)])
    verdicts: list[Verdict] = []
    for point, before in theirs.items():
        after, place = ours.get(point), apart[point]
        if after is None:
            verdicts.append(Verdict(before, "absent", place, note="not in the results"))
        elif before.status != "done":
            verdicts.append(Verdict(before, "new", place, note=f"the reference has no result ({before.status})"))
        elif after.status != "done":
            verdicts.append(Verdict(before, "failed", place, note=f"{after.status}, the reference has a result"))
        else:
            old, new = _measures(reference, before), _measures(fresh, after)
            verdicts.append(_judge(before, place, new, old, confidence, tolerance))
    new_cells = [(point, cell) for point, cell in ours.items() if point not in theirs]
    verdicts += [Verdict(cell, "new", apart[point], note="not in the reference") for point, cell in new_cells]
    if not {"fell", "rose", "held", "failed"} & {v.outcome for v in verdicts}:
        raise UserError("results and reference have no cell in common")
    return verdicts


def largest_held_fall(verdicts: Iterable[Verdict]) -> tuple[Verdict, Change] | None:
    """The held cell and the measure whose mean fell most. None when no held cell fell at all."""
    held = [(v, change) for v in verdicts if v.outcome == "held" for change in v.changes if change.difference.mean < 0]
    return min(held, key=lambda pair: pair[1].difference.mean, default=None)


def _point(cell: ReferenceCell) -> Point:
    return cell.labels, frozenset(cell.settings.items())


def _by_point(side: Reference, name: str) -> dict[Point, ReferenceCell]:
    cells: dict[Point, ReferenceCell] = {}
    for cell in side.cells:
        if cells.setdefault(_point(cell), cell) is not cell:
            raise UserError(f"{' '.join(filter(None, cell.labels))} stands twice in {name} with the same options")
    return cells


def _refuse_other_settings(ours: Mapping[Point, ReferenceCell], theirs: Mapping[Point, ReferenceCell]) -> None:
    """A cell that is new beside one that is absent, with the same names: it was measured in another way."""
    absent = {cell.labels: cell for point, cell in theirs.items() if point not in ours}
    for point, cell in ours.items():
        other = absent.get(cell.labels)
        if point in theirs or other is None:
            continue
        before, after = other.settings, cell.settings
        fields = [
            f"{field} is {before.get(field, 'not set')} in the reference and {after.get(field, 'not set')} here"
            for field in varying({"before": before, "after": after})
        ]
        raise UserError(
            f"{' '.join(filter(None, cell.labels))} cannot be compared: {'; '.join(fields)}. Run it as the reference "
            "was, or make a new reference with --write"
        )


def _told_apart(cells: list[ReferenceCell]) -> dict[Point, str]:
    """For cells of the same names, the options in which they differ."""
    groups: dict[tuple[str, ...], list[ReferenceCell]] = defaultdict(list)
    for cell in cells:
        groups[cell.labels].append(cell)
    texts: dict[Point, str] = {}
    for group in groups.values():
        fields = varying({index: cell.settings for index, cell in enumerate(group)})
        for cell in group:
            texts[_point(cell)] = "".join(f", {f}={cell.settings[f]}" for f in fields if f in cell.settings)
    return texts


@dataclass(frozen=True)
class _Measured:
    """By example id: both measures, the digest of the example, and its context where it shares that."""

    values: dict[str, dict[str, float]]
    digests: dict[str, str]
    contexts: dict[str, str]


def _measures(side: Reference, cell: ReferenceCell) -> _Measured:
    examples = side.sets[cell.examples]
    values = {
        "exact match": {i: float(e) for i, e in zip(examples.ids, cell.exact, strict=True)},
        "score": dict(zip(examples.ids, cell.scores, strict=True)),
    }
    contexts = dict(zip(examples.ids, examples.contexts, strict=True)) if examples.contexts else {}
    return _Measured(values, dict(zip(examples.ids, examples.digests, strict=True)), contexts)


def _judge(
    cell: ReferenceCell, place: str, after: _Measured, before: _Measured, confidence: float, tolerance: float
) -> Verdict:
    common = sorted(after.digests.keys() & before.digests.keys())
    name = " ".join(filter(None, cell.labels)) + place
    if len(common) < MINIMUM:
        raise UserError(f"{name}: {len(common)} examples in common with the reference, at least {MINIMUM} are needed")
    changed = [example for example in common if after.digests[example] != before.digests[example]]
    if changed:
        raise UserError(
            f"{name}: example {changed[0]} is not the one of the reference, its answer or labels differ: "
            "the task changed, so make a new reference with --write"
        )
    changes = []
    for measure, values in after.values.items():
        ours, theirs = ({i: side[i] for i in common} for side in (values, before.values[measure]))
        difference = paired_difference(ours, theirs, after.contexts, confidence=confidence)
        means = [sum(side.values()) / len(common) for side in (theirs, ours)]
        lost, gained = (sum(sign * ours[i] > sign * theirs[i] for i in common) for sign in (-1, 1))
        changes.append(Change(measure, means[0], means[1], difference, lost, gained))
    found = {change.outcome(tolerance) for change in changes}
    outcome: Outcome = "fell" if "fell" in found else "rose" if "rose" in found else "held"
    telling = tuple(change for change in changes if change.outcome(tolerance) == outcome)
    return Verdict(cell, outcome, place, len(common), telling)
