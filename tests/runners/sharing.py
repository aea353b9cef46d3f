"""What a shared prefill saves: the cells of a sweep together and each apart, in alternation, in one process.

`python -m tests.runners.sharing` takes the embedded model at 4,096 tokens and 12 cells, and ends with one line of JSON:
seconds of the sweep together and of its cells apart, each with the seconds of one prefill and all decodes an example,
which the sweep cannot go below. Seconds are those of the process, or with --wall those of the clock.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

import runners.sweeping.worker
from run import CONF
from runners.cell import Cell
from runners.composition import compose_sweep
from runners.sweeping.audience import Audience
from runners.sweeping.grouping import groups_of
from runners.sweeping.plan import plan_sweep
from runners.sweeping.progress import SweepProgress
from runners.tracking.tracker import NoTracker


def cells_of(folder: Path, examples: int, length: int) -> list[Cell]:
    """Return dense, MAGE and Quest at several budgets, 12 cells with one set of prompts."""
    given = [
        *("model=tiny", "task=niah", f"task.lengths=[{length}]", f"examples={examples}", "tracker=none"),
        *("method=mage,quest,snapkv,streaming_llm", "budget=32,64,128", "model.threads=1", f"output_dir={folder}"),
        "dense_reference=false",
    ]
    return plan_sweep(compose_sweep(given, CONF, multirun=True)).cells


def seconds_of(cells: list[Cell], clock: Callable[[], float], most: int) -> tuple[float, float, float]:
    """Compute the cells, at most `most` together; return the seconds that took, of prefills and of decoding."""
    together = runners.sweeping.worker.groups_of
    runners.sweeping.worker.groups_of = lambda waiting: groups_of(waiting, most)  # type: ignore[assignment]
    try:
        with SweepProgress(Console(quiet=True), cells, cells) as progress:
            records = []
            began = clock()
            audience = Audience(NoTracker(), progress, lambda ended: records.append(ended.record))
            runners.sweeping.worker.Worker(cells, audience).run()
            took = clock() - began
    finally:
        runners.sweeping.worker.groups_of = together
    metrics = [record.metrics for record in records if record is not None and record.status == "done"]
    assert len(metrics) == len(cells)
    prefill = statistics.mean(found["seconds_prefill"] * found["examples"] for found in metrics)
    return took, prefill, sum(found["decode_seconds"] * found["examples"] for found in metrics)


def main() -> None:
    """Alternate, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--examples", type=int, default=4)
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--wall", action="store_true", help="count seconds of the clock, on a quiet machine")
    options = parser.parse_args()
    clock = time.perf_counter if options.wall else time.process_time
    told: dict[str, list[float]] = {"together_s": [], "least_s": [], "apart_s": [], "prefill_s": []}
    for number in range(options.rounds + 1):
        found = {}
        for most in (128, 1):
            with tempfile.TemporaryDirectory() as folder:
                found[most] = seconds_of(cells_of(Path(folder), options.examples, options.length), clock, most)
        if number == 0:  # a warm-up
            continue
        together, prefill, decode = found[128]
        told["together_s"].append(together)
        told["least_s"].append(prefill + decode)
        told["apart_s"].append(found[1][0])
        told["prefill_s"].append(prefill)
    middle = {name: statistics.median(values) for name, values in told.items()}
    over = statistics.median(a / b for a, b in zip(told["together_s"], told["least_s"], strict=True))
    ratio = statistics.median(a / b for a, b in zip(told["together_s"], told["apart_s"], strict=True))
    print(
        json.dumps({"cells": 12, **vars(options), **middle, "together_over_least": over, "together_over_apart": ratio})
    )


if __name__ == "__main__":
    main()
