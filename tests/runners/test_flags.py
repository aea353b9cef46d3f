"""Hydra's own flags and configs, and what a line that is refused does not load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from run import CONF, main
from runners.command import command_line
from tests.runners.conftest import ROOT, records


def test_a_slip_costs_no_import_of_torch() -> None:
    slips = (
        "method=mgae",
        "budgett=3",
        "budget=0",
        "model.weights=nowhere",
        "model.weights=no.gguf",
        "model.device=gpu0",
        "task.lengths=[120]",
    )
    code = (
        "import sys; from pathlib import Path; from runners.command import command_line\n"
        "from run import main\n"
        f"for slip in {slips}:\n"
        "    assert command_line([slip], Path('conf'), main) == 2\n"
        "assert 'torch' not in sys.modules and 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("flags", [["--help"], ["--cfg", "job", "+experiment=demo", "method=quest"]])
def test_hydra_answers_its_own_flags(flags: list[str]) -> None:
    done = subprocess.run([sys.executable, "run.py", *flags], cwd=ROOT, check=True, capture_output=True, text=True)
    assert "budget" in done.stdout


@pytest.mark.parametrize(
    "flags", [["--config-name", "foo"], ["--config-name=foo"], ["-cn", "foo"], ["--cfg", "job", "--config-name", "foo"]]
)
def test_another_config_is_refused(flags: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert command_line(flags, CONF, main) == 2
    printed = capfd.readouterr()
    assert (
        printed.err == "--config-name=foo: there is one config. Allowed: config, with +experiment=name for a recipe.\n"
    )
    assert printed.out == ""


def test_the_one_config_may_be_named() -> None:
    command = [sys.executable, "run.py", "--config-name", "config", "--cfg", "job"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert "budget: 64" in done.stdout


def test_a_job_of_hydra_s_own_launcher_is_a_sweep_of_one_cell(
    small: list[str], out: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--run", *small, "method=mage"]
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
    assert command_line(arguments, CONF, main) == 0
    assert len(records(out)) == 2  # with its reference

    refused = ["budget=0" if argument.startswith("budget=") else argument for argument in arguments]
    monkeypatch.setattr(sys, "argv", ["run.py", *refused])
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        command_line(refused, CONF, main)
    assert ended.value.code == 2
    assert len(capfd.readouterr().err.splitlines()) == 1
