"""How cells are shared out among jobs, and what a launcher refuses before it starts one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import runners.launchers.processes
import runners.launchers.slurm
from mage.errors import UserError
from run import CONF
from runners.cell import Cell
from runners.composition import compose_sweep
from runners.launchers.launcher import Launcher
from runners.launchers.processes import Processes
from runners.launchers.slurm import Part
from runners.sweeping.audience import Audience
from runners.sweeping.grouping import groups_of
from runners.sweeping.job import bytes_done, write_part
from runners.sweeping.parts import cost, parts_of
from runners.sweeping.plan import plan_sweep
from runners.tracking.tracker import NoTracker, SweepRun

Run = Callable[..., int]


@pytest.fixture(scope="module")
def cells(tiny_checkpoint: Path) -> list[Cell]:
    """Two groups that share a prefill: 7 cells of contexts of 512 tokens, 7 of 128."""
    overrides = [f"model.weights={tiny_checkpoint}", "method=mage,quest", "budget=16,32,64", "task.lengths=[128],[512]"]
    configs = compose_sweep([*overrides, "task.needles=4", "task.asked=2", "dense_layers=1"], CONF, multirun=True)
    return plan_sweep(configs).cells


@pytest.mark.parametrize("jobs", range(1, 20))
def test_parts_hold_each_cell_once_and_share_the_work(cells: list[Cell], jobs: int) -> None:
    parts = parts_of(cells, jobs)
    assert len(parts) == min(jobs, len(cells))
    assert sorted(cell.name for part in parts for cell in part) == sorted(cell.name for cell in cells)
    for part in parts:
        assert [cells.index(cell) for cell in part] == sorted(cells.index(cell) for cell in part)
    work = [sum(map(cost, part)) for part in parts]
    assert max(work) <= max(2 * sum(work) / jobs, max(map(cost, cells)))


def test_groups_that_share_a_prefill_stay_whole_where_they_can(cells: list[Cell]) -> None:
    short, long = groups_of(cells)
    assert parts_of(cells, 1) == [cells]
    assert parts_of([*short, *long[:2]], 2) == [short, long[:2]]
    assert [part for part in parts_of(cells, 2) if all(cell in part for cell in short)], "only the large one is split"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("launcher=joblib",), r"launcher=joblib.*processes"),
        (("launcher=processes", "launcher.jobs=0"), r"launcher\.jobs=0 is out of range"),
        (("launcher=processes", "launcher.jobs=many"), r"launcher\.jobs=many"),
        (("launcher=processes", "launcher.devices=[3]"), r"launcher\.devices=\[3\]: 3 is not visible"),
        (
            ("launcher=processes", "launcher.devices=[a,1]"),
            r"^launcher\.devices=\[a, 1\]: a is not visible\. Allowed: \[\], as no CUDA device is visible here\.$",
        ),
        (("launcher=processes", "launcher.gpus=1"), r"launcher\.gpus is not a field.*devices, jobs"),
        (("launcher=slurm", "launcher.timeout_min=0"), r"launcher\.timeout_min=0 is out of range"),
        (("launcher=ray", "launcher.num_gpus=-1"), r"launcher\.num_gpus=-1"),
        (("launcher._target_=runners.tracking.tracker.NoTracker", "~launcher.name"), r"not a Launcher"),
        (("runner=train", "+experiment=train/tiny", "launcher=processes"), r"launcher=processes.*no cells"),
    ],
)
def test_launchers_are_refused_in_one_line(
    arguments: tuple[str, ...], message: str, run: Run, capsys: pytest.CaptureFixture[str], out: Path
) -> None:
    assert run(*arguments) == 2
    told = capsys.readouterr().err
    assert re.search(message, told) and told.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(("launcher", "library"), [("slurm", "submitit"), ("ray", "ray")])
def test_a_library_that_is_missing_is_named_with_its_extra(
    launcher: str,
    library: str,
    run: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    out: Path,
) -> None:
    monkeypatch.setattr(f"runners.launchers.{launcher}.find_spec", lambda name: None)
    assert run(f"launcher={launcher}") == 2
    told = capsys.readouterr().err
    assert f"pip install 'mage-bench[{launcher}]'" in told and told.count("\n") == 1
    assert not out.exists()


def test_a_machine_without_slurm_is_told(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runners.launchers.slurm, "find_spec", lambda name: object())
    monkeypatch.setattr(runners.launchers.slurm.shutil, "which", lambda name: None)
    assert run("launcher=slurm") == 2
    assert "there is no sbatch on this machine" in capsys.readouterr().err


def test_a_device_beside_those_that_are_visible_is_refused_with_these(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runners.launchers.processes, "_visible", lambda: ["0", "GPU-7"])
    assert run("launcher=processes", "launcher.devices=[0,a]") == 2
    assert capsys.readouterr().err == (
        "launcher.devices=[0, a]: a is not visible. Allowed: some of [0, GPU-7], or [].\n"
    )


class Telling(NoTracker):
    """Says that a sweep was opened."""

    def sweep(self, name: str, cells: Sequence[Cell], say: Callable[[str], None]) -> SweepRun:
        say(f"tracker: {name} is shown")
        return SweepRun()


TOLD = f"tracker._target_={__name__}.Telling"
IN_JOBS = ("-m", "method=mage,quest", "budget=16,16", "seed=0,1", "launcher=processes", "launcher.jobs=2", TOLD)


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The part files that launcher=processes then is given, and refuses."""
    given: list[Path] = []

    def refuse(self: object, parts: Sequence[Path]) -> None:
        given.extend(part for part in parts if part.exists())
        raise UserError("launcher=processes: no")

    monkeypatch.setattr(runners.launchers.processes.ProcessCrew, "start", refuse)
    return given


def test_jobs_that_cannot_be_started_are_refused_and_nothing_else_is_said_or_stays(
    run: Run, refusing: list[Path], capsys: pytest.CaptureFixture[str], out: Path
) -> None:
    assert run(*IN_JOBS) == 2
    printed = capsys.readouterr()
    assert printed.err == "launcher=processes: no\n" and printed.out == ""
    assert len(refusing) == 2 and not out.parent.exists()


def test_what_a_refusal_finds_stays(
    run: Run, refusing: list[Path], capsys: pytest.CaptureFixture[str], out: Path
) -> None:
    assert run("method=mage") == 0  # cells that are finished, which would be said too
    before = sorted(out.rglob("*"))
    capsys.readouterr()
    assert run(*IN_JOBS) == 2
    assert capsys.readouterr().out == "" and sorted(out.rglob("*")) == before
    earlier = out / ".jobs" / "20260101000000-1" / "1.log"
    earlier.parent.mkdir(parents=True)
    earlier.touch()
    assert run(*IN_JOBS) == 2
    assert len(refusing) == 4 and list(out.glob(".jobs/*/*")) == [earlier]


@dataclass
class Interrupted(Launcher):
    """Is interrupted between its start and the first cell."""

    def launch(self, cells: Sequence[Cell], audience: Audience) -> None:
        audience.on_start()
        raise KeyboardInterrupt


def test_what_a_tracker_says_as_it_opens_is_told_after_the_notes(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    notes = "No dense reference is named for niah: it is computed too (dense_reference=true).\ntracker: t is shown\n"
    assert run("method=mage", f"launcher._target_={__name__}.Interrupted", "~launcher.name", TOLD) == 130
    assert capsys.readouterr().out == notes
    assert run("method=mage", TOLD) == 0
    assert capsys.readouterr().out.startswith(notes + "[1-2/2] ")


def test_a_device_by_its_number_is_refused_where_a_job_sees_one(cells: list[Cell]) -> None:
    model = cells[0].settings.model.model_copy(update={"device": "cuda:1"})
    cell = replace(cells[0], settings=cells[0].settings.model_copy(update={"model": model}))
    with pytest.raises(UserError, match=r"model\.device=cuda:1: .*launcher\.devices"):
        Processes().check([cell])


def test_a_job_that_finishes_no_example_in_its_time_is_not_requeued(
    cells: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "1.json"
    write_part(path, cells[:2])
    part = Part(path, limit_s=0.0)
    assert part.checkpoint() is None
    assert "Not one example was finished within the time limit." in capsys.readouterr().out
    cells[1].folder.mkdir(parents=True)
    (cells[1].folder / "examples.jsonl").write_text("{}\n")
    assert bytes_done(path) == 3
