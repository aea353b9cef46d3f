"""The table of a sweep's cells that Weights & Biases shows, and its counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runners.sweeping.outcome import Outcome

LABELS = ("model", "method", "budget", "task", "decoding", "question", "seed", "runner")


def table_of(outcomes: Sequence[Outcome]) -> tuple[list[str], list[list[Any]]]:
    """Return the columns and the rows: labels, status, why it is not done, and each metric that any cell has."""
    found = [outcome.record.metrics if outcome.record else {} for outcome in outcomes]
    metrics = list(dict.fromkeys(name for own in found for name in own))
    rows = []
    for outcome, own in zip(outcomes, found):
        labels = [getattr(outcome.cell.labels, name) for name in LABELS]
        error = "" if outcome.is_done else outcome.told
        rows.append([outcome.cell.name, *labels, outcome.kind, error, *map(own.get, metrics)])
    return ["cell", *LABELS, "status", "error", *metrics], rows


def summary_of(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Count how the cells ended, by status. `status`: `done`, `failed`, or `unfinished` where cells only wait."""
    kinds = Counter(outcome.kind for outcome in outcomes)
    failed = sum(not outcome.is_done and outcome.record is not None for outcome in outcomes)
    whole = "failed" if failed else "done" if kinds["done"] == len(outcomes) else "unfinished"
    skipped = sum(outcome.is_done and not outcome.computed for outcome in outcomes)
    counts = {f"cells_{kind}": kinds[kind] for kind in sorted(kinds) if kinds[kind]}
    return {"status": whole, "cells": len(outcomes), "skipped": skipped, "failed": failed, **counts}
