"""Ctrl-C before a run has begun: while modules are imported, while configs are composed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runners.conftest import ROOT

TOLD = "Interrupted. The same command continues where this run ended.\n"
PRESSED = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"


def interrupted(*arguments: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Run a command line with the modules of `path` before the installed ones."""
    given = {**os.environ, "PYTHONPATH": str(path)}
    command = [sys.executable, "run.py", f"output_dir={path / 'out'}", *arguments]
    return subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("module", ["hydra", "omegaconf", "antlr4", "yaml", "pydantic", "torch"])
def test_while_a_module_is_imported(module: str, tmp_path: Path) -> None:
    (tmp_path / f"{module}.py").write_text(PRESSED)
    done = interrupted(path=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", TOLD)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flags", [[], ["-m"], ["--cfg", "job"]], ids=" ".join)
def test_while_configs_are_composed(flags: list[str], tmp_path: Path) -> None:
    lines = "from hydra._internal.config_loader_impl import ConfigLoaderImpl as loader\nimport os, signal\n"
    lines += f"loader.load_configuration = lambda *a, **k: os.kill(os.getpid(), {int(signal.SIGINT)})\n"
    (tmp_path / "early.py").write_text(lines)
    script = "import runpy, sys, early; sys.argv[0] = 'run.py'; sys.path.insert(0, '.')\n"
    script += "runpy.run_path('run.py', run_name='__main__')"
    command = [sys.executable, "-c", script, *flags, f"output_dir={tmp_path / 'out'}"]
    given = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", TOLD)
