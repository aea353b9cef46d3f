"""W&B online, against a server of our own: one that works, and those that refuse, say nothing, die or stall."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import wandb

from runners.tracking.tracker import Guarded
from runners.tracking.wandb_runs import knock, log_in
from runners.tracking.wandb_tracker import WandbTracker
from tests.runners.test_tracker import offline_runs, sweeps
from tests.runners.tracked_cells import failed, finished_cells, show, wait_for
from tests.runners.wandb_file import seal
from tests.runners.wandb_server import KEY, serving, summary

OUTAGE = "Runs go on offline"


@pytest.fixture(autouse=True)
def sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seal(tmp_path, monkeypatch)
    wandb.teardown()  # what an earlier test has told it


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Give W&B a key and the address of a server."""

    def give(url: str) -> None:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", url)

    return give


def online(folder: Path, timeout_s: float = 30) -> WandbTracker:
    return WandbTracker(mode="online", dir=str(folder), timeout_s=timeout_s)


def test_cells_and_sweep_arrive_and_a_cell_tried_again_continues_its_run(
    tmp_path: Path, address: Callable[[str], None]
) -> None:
    said: list[str] = []
    outcomes = finished_cells(tmp_path / "exp", 2)
    with serving() as server:
        address(server.address)
        show(online(tmp_path), outcomes, said.append)
        cells = {run["displayName"]: run for run in server.runs.values() if run["jobType"] == "evaluate"}
        assert cells.keys() == {outcome.cell.name for outcome in outcomes}
        (sweep,) = (run for run in server.runs.values() if run["jobType"] == "sweep")
        assert {run["groupName"] for run in server.runs.values()} == {"exp"}
        assert [summary(run)["status"] for run in [*cells.values(), sweep]] == ["done"] * 3
        kept = [artifact for artifact in server.artifacts if artifact["type"] == "cell-record"]
        assert [artifact["state"] for artifact in kept] == ["COMMITTED"] * 2
        again, record = outcomes[0].cell, failed(outcomes[0]).record
        assert record is not None
        tracker = Guarded(online(tmp_path))
        tracker.report(again, record, said.append)
        tracker.flush()
        assert len(server.runs) == 3
        assert cells[again.name]["exits"] == [0, 1]
        assert summary(cells[again.name])["error"] == "a slip"
    assert said == [] and not list(tmp_path.glob("wandb/offline-run-*"))


def test_a_server_that_refuses_or_says_nothing(address: Callable[[str], None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ConnectionError, match=f"{url} does not answer: timed out"):
            knock(url, 0.05)
    address(url)
    with pytest.raises(ConnectionError, match=rf"{url} does not answer: .*refused"):
        log_in(30)


def test_without_credentials() -> None:
    with pytest.raises(wandb.errors.UsageError, match="no credentials; `wandb login` stores them"):
        log_in(30)


def test_a_server_that_dies_between_two_cells(tmp_path: Path, address: Callable[[str], None]) -> None:
    said: list[str] = []
    outcomes = finished_cells(tmp_path / "exp", 3)
    with serving() as server:
        address(server.address)

        def die(number: int) -> None:
            if number == 0:
                first = outcomes[0].cell.folder / "tracker.json"
                wait_for(lambda: first.exists() and "shown" in first.read_text())
                server.die()

        show(online(tmp_path), outcomes, said.append, die)
        assert [run["jobType"] for run in server.runs.values()] == ["sweep", "evaluate"]
    _all_offline_and_said_once(tmp_path, 2, said, "refused")


def test_a_server_that_takes_no_uploads(tmp_path: Path, address: Callable[[str], None]) -> None:
    said: list[str] = []
    outcomes = finished_cells(tmp_path / "exp", 2)
    with serving() as server:
        server.stalls = "file_stream"
        address(server.address)
        show(online(tmp_path, timeout_s=3), outcomes, said.append)
    _all_offline_and_said_once(tmp_path, len(outcomes), said, "Timed out finishing run")


def test_a_training_goes_on_offline(tmp_path: Path, address: Callable[[str], None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address(f"http://127.0.0.1:{free.getsockname()[1]}")
    said: list[str] = []
    curves = Guarded(online(tmp_path)).follow({"name": "exp", "runner": {"name": "train"}}, "tiny", said.append)
    curves.log(1, {"loss": 2.0})
    curves.finish("done")
    wandb.teardown()  # as at the end of a process: the last of its files is written
    assert len(said) == 1 and OUTAGE in said[0]
    assert offline_runs(tmp_path)["tiny"].history[0]["loss"] == 2.0


def _all_offline_and_said_once(folder: Path, cells: int, said: list[str], why: str) -> None:
    assert len(said) == 1 and OUTAGE in said[0] and why in said[0]
    runs = offline_runs(folder)
    assert len(runs) == cells
    assert {(run.exit_code, run.summary["status"]) for run in runs.values()} == {(0, "done")}
    (sweep,) = sweeps(folder)
    assert {row["status"] for row in sweep.table("cells")} == {"done"} and sweep.exit_code == 0
