"""W&B offline, read back from its files; online without an account; and none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mage.generation.engine import Engine
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


def test_none_leaves_no_trace(run: Run, out: Path) -> None:
    assert run("method=dense", "tracker=none") == 0
    assert [path.name for path in out.parent.iterdir()] == [out.name]
