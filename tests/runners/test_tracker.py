"""W&B offline, read back from its files; online without an account; and none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import wandb

from mage.generation.engine import Engine
from runners.cell import Cell
from runners.record import CellRecord
from runners.tracker import TrackedRun, Tracker
from tests.runners.conftest import records
from tests.runners.wandb_file import OfflineRun, read

Run = Callable[..., int]


@pytest.fixture(autouse=True)
def sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No account, no settings and no cache of whoever runs the tests."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb_home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def offline_runs(folder: Path) -> dict[str, OfflineRun]:
    runs = [read(path) for path in folder.glob("wandb/offline-run-*/*.wandb")]
    return {run.name: run for run in runs}


def test_one_offline_run_a_cell_with_config_and_metrics(run: Run, out: Path) -> None:
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
        assert tracked.summary["status"] == "done"
        assert {name: tracked.summary[name] for name in record.metrics} == pytest.approx(record.metrics)


def test_the_run_of_a_failed_cell_is_finished_and_says_so(run: Run, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("a slip")

    monkeypatch.setattr(Engine, "generate", fail)
    assert run("method=dense", "tracker=wandb") == 1
    (tracked,) = offline_runs(out.parent).values()
    assert tracked.exit_code == 1
    assert tracked.summary["status"] == "error" and "a slip" in tracked.summary["error"]


def test_online_without_credentials_goes_on_offline_and_says_so_once(
    run: Run, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("-m", "method=mage,dense", "tracker=wandb", "tracker.mode=online") == 0
    assert capsys.readouterr().out.count("Runs go on offline") == 1
    assert len(offline_runs(out.parent)) == 2


def test_online_trouble_of_any_kind_goes_on_offline(run: Run, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("the service is gone")

    monkeypatch.setattr(wandb, "login", fail)
    assert run("method=dense", "tracker=wandb", "tracker.mode=online") == 0
    assert len(offline_runs(out.parent)) == 1


class BrokenRun(TrackedRun):
    def finish(self, record: CellRecord | None) -> None:
        raise RuntimeError("the service is gone")


@dataclass
class BrokenTracker(Tracker):
    """Its server went away before a run, or during it."""

    fails_at: str = "start"

    def start(self, cell: Cell, say: Callable[[str], None]) -> TrackedRun:
        if self.fails_at == "start":
            raise ConnectionError("the service is gone")
        return BrokenRun()


@pytest.mark.parametrize("fails_at", ["start", "finish"])
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
