"""`wandb:entity/project/group` reads what a sweep has uploaded; without it there is one clear line."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import wandb

from analysis.__main__ import main
from analysis.frame import load
from analysis.wandb_group import fetch
from mage.errors import UserError
from runners.tracking.tracker import Guarded
from runners.tracking.wandb_tracker import WandbTracker
from tests.runners.tracked_cells import failed, finished_cells, show
from tests.runners.wandb_file import seal
from tests.runners.wandb_server import ENTITY, KEY, PROJECT, serving

GROUP = f"wandb:{ENTITY}/{PROJECT}/exp"


@pytest.fixture(autouse=True)
def sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seal(tmp_path, monkeypatch)
    wandb.teardown()  # what an earlier test has told it
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)


def test_a_group_is_read_as_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = tmp_path / "exp"
    outcomes = finished_cells(experiment, 2)
    again, done, tried = outcomes[0].cell, outcomes[0].record, failed(outcomes[0]).record
    assert done is not None and tried is not None
    said: list[str] = []
    with serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.address)
        (again.folder / "record.json").write_text(tried.model_dump_json())
        tracker = Guarded(WandbTracker(mode="online", dir=str(tmp_path)))
        tracker.report(again, tried, said.append)
        tracker.flush()
        (again.folder / "record.json").write_text(done.model_dump_json())
        show(WandbTracker(mode="online", dir=str(tmp_path)), outcomes, said.append)
        place = tmp_path / "outputs/from-wandb" / ENTITY / PROJECT / "exp"
        stale = place / "gone"
        stale.mkdir(parents=True)
        (stale / "record.json").write_text("{}")
        assert fetch(GROUP).resolve() == place
        with pytest.raises(UserError, match="no run of this group"):
            fetch(f"{GROUP}2")
    assert said == []
    assert {path.name for path in place.iterdir()} == {outcome.cell.name for outcome in outcomes}
    read, written = load([place]), load([experiment])
    assert list(read.cells.status) == ["done", "done"]
    assert list(read.cells.record) == list(written.cells.record)
    assert read.examples.equals(written.examples)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("wandb:us/mage", "expected wandb:entity/project/group"),
        ("wandb:us/mage/../x", "expected wandb:entity/project/group"),
        (GROUP, "refused"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    address: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
    assert main([address]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {address}: ") and told in said and said.count("\n") == 1


def test_without_a_key(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    assert main([GROUP]) == 2
    assert capsys.readouterr().err == f"error: {GROUP}: no credentials; `wandb login` stores them\n"
