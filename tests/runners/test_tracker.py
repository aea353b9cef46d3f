"""W&B offline, read back from its files; trackers that fail; and none."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from mage.generation.engine import Engine
from runners.cell import Cell
from runners.record import CellRecord
from runners.sweeping.outcome import Outcome
from runners.tracking.tracker import SweepRun, Tracker
from runners.tracking.wandb_tracker import WandbTracker
from tests.runners.conftest import records
from tests.runners.processes import fork
from tests.runners.tracked_cells import finished_cells, wait_for
from tests.runners.wandb_file import OfflineRun, read, seal

Run = Callable[..., int]


@pytest.fixture(autouse=True)
def sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seal(tmp_path, monkeypatch)


def attempts(folder: Path) -> list[OfflineRun]:
    """All offline runs below `folder`, as they were begun."""
    return [read(path) for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"))]


def offline_runs(folder: Path) -> dict[str, OfflineRun]:
    """The last offline run of each name, but for those of sweeps."""
    return {run.name: run for run in attempts(folder) if run.job != "sweep"}


def sweeps(folder: Path) -> list[OfflineRun]:
    """The runs that sum up a sweep."""
    return [run for run in attempts(folder) if run.job == "sweep"]


def fail(*arguments: object, **options: object) -> None:
    raise ZeroDivisionError("a slip")


def test_one_offline_run_a_cell_with_config_metrics_and_record(run: Run, out: Path) -> None:
    assert run("-m", "method=mage,dense", "tracker=wandb") == 0
    runs = offline_runs(out.parent)
    found = {record.name: record for record in records(out).values()}
    assert runs.keys() == found.keys()
    for name, record in found.items():
        tracked = runs[name]
        assert (tracked.group, tracked.project, tracked.exit_code) == (out.name, "mage", 0)
        assert tracked.config["identity"] == record.identity
        assert tracked.config["method"] == record.config["method"]
        assert tracked.config["labels"]["budget"] == record.labels.budget
        assert tracked.config["environment"] == record.environment.model_dump()
        assert tracked.summary["status"] == "done"
        assert tracked.summary["finished"] == record.environment.finished
        assert {name: tracked.summary[name] for name in record.metrics} == pytest.approx(record.metrics)
        files = {path.name: path.stat().st_size for path in (out / name).glob("*.json*") if path.name != "tracker.json"}
        assert tracked.artifacts == {f"cell-{record.identity}": ("cell-record", files)}
    assert len(attempts(out.parent)) == 3, "a run a cell, and one for the sweep"


def test_the_run_of_a_sweep_holds_a_table_of_all_cells(run: Run, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("method=dense", "tracker=none") == 0
    monkeypatch.setattr(Engine, "generate", fail)
    assert run("-m", "method=mage,dense", "tracker=wandb") == 1
    (tracked,) = sweeps(out.parent)
    assert (tracked.group, tracked.exit_code) == (out.name, 1)
    counts = {"status": "failed", "cells": 2, "skipped": 1, "failed": 1, "cells_done": 1, "cells_error": 1}
    assert {name: tracked.summary[name] for name in counts} == counts
    assert tracked.history[0].items() >= {"done": 0, "skipped": 1, "failed": 0, "cells": 2}.items()
    rows = {row["method"]: row for row in tracked.table("cells")}
    assert rows["mage"]["status"] == "error" and "a slip" in rows["mage"]["error"]
    done = records(out)["dense-all"]
    assert rows["dense"]["score"] == done.metrics["score"] and rows["dense"]["cell"] == done.name


def test_a_failed_cell_that_is_tried_again_continues_its_run(
    run: Run, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Engine, "generate", fail)
        assert run("method=dense", "tracker=wandb") == 1
    (tracked,) = offline_runs(out.parent).values()
    assert tracked.exit_code == 1
    assert tracked.summary["status"] == "error" and "a slip" in tracked.summary["error"]
    assert run("method=dense", "tracker=wandb") == 0
    first, second = [tried for tried in attempts(out.parent) if tried.job != "sweep"]
    assert first.id == second.id
    assert (second.exit_code, second.summary["status"], second.summary["error"]) == (0, "done", "")


def test_cells_that_nobody_showed_are_shown_by_the_next_sweep(run: Run, out: Path) -> None:
    assert run("method=dense", "tracker=none") == 0  # as if its process had been killed before it told W&B
    assert run("-m", "method=dense,quest", "tracker=wandb") == 0
    assert offline_runs(out.parent).keys() == {record.name for record in records(out).values()}
    assert len(attempts(out.parent)) == 3, "what was shown is not shown again"


def test_processes_on_one_sweep_show_each_cell_once(run: Run, out: Path) -> None:
    workers = [fork(lambda: run("-m", "method=mage,dense,quest", "tracker=wandb")) for _ in range(2)]
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    shown = [tracked for tracked in attempts(out.parent) if tracked.job != "sweep"]
    assert {tracked.name for tracked in shown} == {record.name for record in records(out).values()}
    assert len({tracked.id for tracked in shown}) == 3, "one run a cell, whoever tells of it"


def test_what_a_killed_process_has_computed_is_shown(tmp_path: Path) -> None:
    outcomes = finished_cells(tmp_path / "exp", 2)

    def be_killed() -> int:
        tracker = WandbTracker(dir=str(tmp_path))
        tracker.sweep("exp", [outcome.cell for outcome in outcomes], print)
        for outcome in outcomes:
            assert outcome.record is not None
            tracker.report(outcome.cell, outcome.record, print)
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    fork(be_killed).join()
    wait_for(lambda: [tracked.exit_code for tracked in sweeps(tmp_path)] == [130])
    assert offline_runs(tmp_path).keys() == {outcome.cell.name for outcome in outcomes}


class BrokenSweep(SweepRun):
    def progress(self, counts: Mapping[str, int]) -> None:
        raise RuntimeError("the service is gone")

    def finish(self, outcomes: Sequence[Outcome]) -> None:
        raise RuntimeError("the service is gone")


@dataclass
class BrokenTracker(Tracker):
    """Its server went away before a sweep, or during it."""

    fails_at: str = "sweep"

    def report(self, cell: Cell, record: CellRecord, say: Callable[[str], None]) -> None:
        if self.fails_at != "flush":
            raise ConnectionError("the service is gone")

    def flush(self) -> None:
        raise ConnectionError("the service is gone")

    def sweep(self, name: str, cells: Sequence[Cell], say: Callable[[str], None]) -> SweepRun:
        if self.fails_at == "sweep":
            raise ConnectionError("the service is gone")
        return BrokenSweep() if self.fails_at == "progress" else SweepRun()


@pytest.mark.parametrize("fails_at", ["sweep", "progress", "report", "flush"])
def test_a_tracker_s_trouble_is_said_once_and_costs_nothing(
    fails_at: str, run: Run, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = [f"tracker._target_={__name__}.BrokenTracker", f"+tracker.fails_at={fails_at}"]
    assert run("-m", "method=mage,quest", "name=t", *broken) == 0
    assert {record.status for record in records(out).values()} == {"done"}
    assert len(records(out)) == 3
    assert capsys.readouterr().out.count("the service is gone") == 1


def test_none_leaves_no_trace(run: Run, out: Path) -> None:
    assert run("method=dense", "tracker=none") == 0
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    assert not list(out.glob("*/tracker.json"))
