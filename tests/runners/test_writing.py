"""A folder that cannot be written is refused before anything is loaded, and a trial leaves nothing."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import runners.sweeping.sweep
from mage.errors import UserError
from runners.writing import check_writable
from tests.runners.mounts import fill, make_read_only, mount, with_mounts

Run = Callable[..., int]


@pytest.fixture
def no_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a sweep gets as far as its cells."""
    monkeypatch.setattr(runners.sweeping.sweep, "Sweep", None)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc")
@pytest.mark.parametrize("runner", ["evaluate", "kernels"])
@pytest.mark.parametrize("place", ["/proc/x", "/proc", "/proc/x/y"])
@pytest.mark.usefixtures("no_cells")
def test_where_no_folder_can_be_made(place: str, runner: str, run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(f"output_dir={place}", f"runner={runner}") == 2
    printed = capfd.readouterr()
    assert printed.err.startswith(f"output_dir={place}: nothing can be written into /proc (")
    assert printed.err.endswith("). Allowed: a folder that can be made.\n") and printed.err.count("\n") == 1
    assert printed.out == ""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc")
def test_a_plan_needs_no_writing(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("output_dir=/proc/x", "plan=true") == 0
    assert "mage" in capfd.readouterr().out


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.usefixtures("no_cells")
def test_a_folder_without_permission(run: Run, out: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out.mkdir(parents=True)
    out.chmod(0o555)
    assert run("method=dense") == 2
    assert f"nothing can be written into {out} (Permission denied)" in capfd.readouterr().err


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS])
@pytest.mark.usefixtures("no_cells")
def test_an_experiment_s_own_folder_that_refuses(
    code: int, run: Run, out: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out.mkdir(parents=True)
    opened = os.open

    def refuse(path: str, *others: int, **named: int) -> int:
        if str(path).startswith(f"{out}"):
            raise OSError(code, os.strerror(code), path)
        return opened(path, *others, **named)

    monkeypatch.setattr(os, "open", refuse)
    assert run("method=dense") == 2
    told = capfd.readouterr().err
    assert f"nothing can be written into {out} ({os.strerror(code)})" in told and told.count("\n") == 1
    assert out.parent.is_dir() and not list(out.iterdir())


def test_a_trial_leaves_nothing(tmp_path: Path) -> None:
    check_writable(str(tmp_path / "a" / "b"), "t")
    assert not list(tmp_path.iterdir())
    (tmp_path / "t").mkdir()
    check_writable(str(tmp_path), "t")
    assert [path.name for path in tmp_path.rglob("*")] == ["t"]


def test_a_full_or_read_only_file_system(tmp_path: Path) -> None:
    def work() -> None:
        mount(tmp_path / "m", megabytes=1)
        fill(tmp_path / "m")
        check_writable(str(tmp_path / "m"), "t")
        assert [path.name for path in (tmp_path / "m").iterdir()] == ["ballast"]
        make_read_only(tmp_path / "m")
        with pytest.raises(UserError, match=r"nothing can be written into .*m \(Read-only file system\)"):
            check_writable(str(tmp_path / "m"), "t")

    with_mounts(work)
    shutil.rmtree(tmp_path / "m", ignore_errors=True)
