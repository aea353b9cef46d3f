"""SIGKILLs at random moments over a sweep: what stood before a kill stands after it, and the end is that of an
undisturbed run.

`python -m tests.runners.kills --count 200` runs it on its own: 25 cells, some minutes.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.__main__ import main as analyse
from run import CONF, main
from runners.command import command_line
from tests.runners.conftest import outcome, write_tiny_checkpoint
from tests.runners.processes import fork

MEASURED = ("second", "memory")


@dataclass
class Kills:
    """What was counted: kills, lines of examples that stood at one and were gone or changed at the next, records at
    all kills that do not validate."""

    kills: int = 0
    lost: int = 0
    invalid: int = 0


def kill_repeatedly(sweep: Callable[[], int], out: Path, count: int, longest_s: float, seed: int = 0) -> Kills:
    """Run `sweep` in a child until it ends, killing it `count` times after up to `longest_s` seconds."""
    rng, counted = random.Random(seed), Kills()
    standing: dict[Path, list[bytes]] = {}
    while True:
        child = fork(sweep)
        if counted.kills < count:
            child.join(rng.uniform(0.0, longest_s))
            child.kill()
        child.join()
        if child.exitcode == 0:
            return counted
        assert child.exitcode == -signal.SIGKILL, child.exitcode
        counted.kills += 1
        now = {path: _whole_lines(path) for path in out.glob("*/examples.jsonl")}
        for path, lines in standing.items():
            counted.lost += sum(a != b for a, b in zip(lines, now.get(path, []), strict=False))
            counted.lost += max(0, len(lines) - len(now.get(path, [])))
        standing = now
        counted.invalid += sum(not _is_valid(path) for path in out.glob("*/record.json"))


def _whole_lines(path: Path) -> list[bytes]:
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def _is_valid(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
        return bool(outcome(path.parent.parent))
    except ValueError:
        return False


def tables(folder: Path) -> dict[str, Any]:
    """Return the tables that `analysis` makes of a folder, but for what a clock or a meter says."""
    assert analyse([str(folder)]) == 0
    found = {}
    for path in sorted((folder / "analysis").rglob("*.csv")):
        lines = path.read_text().splitlines()
        heads = lines[0].split(",")
        kept = [place for place, head in enumerate(heads) if not any(word in head for word in MEASURED)]
        found[path.name] = [
            [line.split(",")[place] for place in kept if place < len(line.split(","))] for line in lines
        ]
    return found


def run_kills(count: int, examples: int, longest_s: float, seed: int) -> int:
    """Compare a sweep that was killed `count` times with an undisturbed one. Returns 0 when nothing differs."""
    folder = Path(tempfile.mkdtemp())
    weights = write_tiny_checkpoint(folder / "weights")
    given = [
        *("-m", f"model.weights={weights}", f"output_dir={folder}", "task.lengths=[128]", "task.needles=4"),
        *("task.asked=2", "method=mage,quest,snapkv,random", "budget=16,24,32", "decoding.tokens_per_step=2,4"),
        *("dense_layers=1", f"examples={examples}", "tracker=none"),
    ]
    assert command_line([*given, "name=whole"], CONF, main) == 0
    counted = kill_repeatedly(
        lambda: command_line([*given, "name=killed"], CONF, main), folder / "killed", count, longest_s, seed
    )
    killed, whole = (
        {name: {**told, "experiment": ""} for name, told in outcome(folder / name_).items()}
        for name_ in ("killed", "whole")
    )
    same = killed == whole and tables(folder / "killed") == tables(folder / "whole")
    print(json.dumps({**vars(counted), "cells": len(whole), "examples_each": examples, "equal": same}), file=sys.stderr)
    return int(counted.kills < count or counted.lost > 0 or counted.invalid > 0 or not same)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--longest", type=float, default=1.0, help="seconds to the next kill, at most")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sys.exit(run_kills(options.count, options.examples, options.longest, options.seed))
