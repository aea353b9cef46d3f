"""W&B offline, read back from its files; trackers that fail; and none."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mage.mage import Mage
from runners.cell import Cell
from runners.record import CellRecord
from runners.sweeping.outcome import Outcome
from runners.tracking.tracker import SweepRun, Tracker
from runners.tracking.tracker_file import TRACKER_NAME, is_shown, remember, run_id
from runners.tracking.wandb_artifact import FILES
from runners.tracking.wandb_link import WandbLink, outage
from runners.tracking.wandb_tracker import WandbTracker
from tests.runners.conftest import records
from tests.runners.processes import fork
from tests.runners.tracked_cells import failed, finished_cells, show, wait_for
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


def test_a_sweep_is_a_run_a_cell_and_one_with_a_table(run: Run, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("method=dense", "tracker=none") == 0  # as if its process had been killed before it told W&B
    monkeypatch.setattr(Mage, "plan_step", fail)
    assert run("-m", "method=mage,quest", "tracker=wandb") == 1
    found = {record.name: record for record in records(out).values()}
    assert [record.status for record in records(out).values()] == ["done", "error", "done"]
    runs = offline_runs(out.parent)
    assert runs.keys() == found.keys()
    assert len(attempts(out.parent)) == 4, "each cell is shown once"
    for name, record in found.items():
        _assert_shown(runs[name], record, out / name)
    _assert_summed_up(sweeps(out.parent), records(out))


def _assert_shown(tracked: OfflineRun, record: CellRecord, folder: Path) -> None:
    """A run has the config, the metrics and the record of its cell."""
    assert (tracked.group, tracked.project) == (folder.parent.name, "mage")
    assert tracked.exit_code == (0 if record.status == "done" else 1)
    assert tracked.config["identity"] == record.identity
    assert tracked.config["method"] == record.config["method"]
    assert tracked.config["labels"]["budget"] == record.labels.budget
    assert tracked.config["environment"] == record.environment.model_dump()
    assert tracked.summary["status"] == record.status and tracked.summary["error"] == (record.error or "")
    assert tracked.summary["finished"] == record.environment.finished
    assert {name: tracked.summary[name] for name in record.metrics} == pytest.approx(record.metrics)
    files = {name: (folder / name).stat().st_size for name in FILES if (folder / name).exists()}
    assert tracked.artifacts == {f"cell-{record.identity}": ("cell-record", files)}


def _assert_summed_up(found: list[OfflineRun], cells: dict[str, CellRecord]) -> None:
    """The run of the sweep has a table of all cells: one that was finished, one that failed, one that did not."""
    (tracked,) = found
    assert tracked.exit_code == 1
    counts = {"status": "failed", "cells": 3, "skipped": 1, "failed": 1, "cells_done": 2, "cells_error": 1}
    assert {name: tracked.summary[name] for name in counts} == counts
    assert tracked.history[0].items() >= {"done": 0, "skipped": 1, "failed": 0, "cells": 3}.items()
    rows = {row["method"]: row for row in tracked.table("cells")}
    assert rows["mage"]["status"] == "error" and "a slip" in rows["mage"]["error"]
    for method, done in (("dense", cells["dense-all"]), ("quest", cells["quest-16"])):
        assert (rows[method]["score"], rows[method]["cell"]) == (done.metrics["score"], done.name)


def test_a_failed_cell_that_is_tried_again_continues_its_run(tmp_path: Path) -> None:
    said: list[str] = []
    (done,) = finished_cells(tmp_path / "exp", 1)
    show(WandbTracker(dir=str(tmp_path)), [failed(done)], said.append)
    show(WandbTracker(dir=str(tmp_path)), [done], said.append)
    first, second = [tried for tried in attempts(tmp_path) if tried.job != "sweep"]
    assert first.id == second.id
    assert (first.exit_code, first.summary["status"], first.summary["error"]) == (1, "error", "a slip")
    assert (second.exit_code, second.summary["status"], second.summary["error"]) == (0, "done", "")
    assert [tracked.exit_code for tracked in sweeps(tmp_path)] == [1, 0] and said == []


def test_processes_on_one_sweep_show_each_cell_once(run: Run, out: Path) -> None:
    workers = [fork(lambda: run("-m", "method=mage,dense,quest", "tracker=wandb")) for _ in range(2)]
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    shown = [tracked for tracked in attempts(out.parent) if tracked.job != "sweep"]
    assert {tracked.name for tracked in shown} == {record.name for record in records(out).values()}
    assert len(shown) == 3, "one run a cell, whoever tells of it"


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


def test_a_reporter_that_dies_with_jobs_unread_is_an_outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = tmp_path / "reporter"
    reporter.write_text("#!/bin/sh\nread first_line\n")
    reporter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(reporter))
    said: list[str] = []
    how = {"mode": "online", "project": "mage", "entity": None, "dir": str(tmp_path), "timeout_s": 1}
    link = WandbLink(how, said.append)
    link.give("progress", counts={})
    with pytest.raises(ConnectionError, match="the process that reports to W&B is gone"):
        link.end()  # the one that took over offline died, too
    assert said == [outage("the process that reports to W&B is gone", str(tmp_path))]


def test_what_wandb_says_ends_in_one_full_stop() -> None:
    assert outage("API key has 5.", "here").startswith("W&B: API key has 5. Runs go on offline;")


def test_what_was_shown_survives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    (outcome,) = finished_cells(tmp_path / "exp", 1)
    folder, done, tried = outcome.cell.folder, _plain(outcome), _plain(failed(outcome))
    assert run_id(folder, done) == run_id(folder, done), "whoever shows a record at the same time"
    assert not is_shown(folder, tried)
    remember(folder, "of-the-failure", tried)
    assert synced == [str(folder / f"{TRACKER_NAME}.tmp"), str(folder)]
    assert is_shown(folder, tried) and not is_shown(folder, done)
    assert run_id(folder, done) == "of-the-failure"


def _plain(outcome: Outcome) -> dict[str, Any]:
    assert outcome.record is not None
    return outcome.record.model_dump(mode="json")


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
