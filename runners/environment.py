"""Where a cell is computed: code version, packages, machine."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

if TYPE_CHECKING:
    from runners.record import Environment

PACKAGES = ("torch", "triton", "numpy", "safetensors", "tokenizers", "hydra-core", "omegaconf", "pydantic", "wandb")
ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("mage", "baselines", "tasks", "runners", "analysis", "conf")  # a new file there can change a result


def now() -> str:
    """Return the time, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def describe(
    device: torch.device,
    started: str,
    attention: Literal["torch", "triton"],
    *,
    capture: bool,
    earlier_commits: Sequence[str] = (),
) -> Environment:
    """Describe the environment of a cell that started at `started`, ends now, and was computed by `attention`, on a GPU
    with CUDA graphs if `capture`, and in part at `earlier_commits`."""
    from runners.record import Environment

    return Environment(
        **facts(device, started),
        attention=attention,
        capture=capture and device.type == "cuda",
        earlier_commits=list(earlier_commits),
    )


def facts(device: torch.device, started: str) -> dict[str, Any]:
    """Return the fields of an `Environment`, for machines that lack what validates it."""
    commit, dirty = git_state()
    return {
        "git_commit": commit,
        "git_dirty": dirty,
        "python": platform.python_version(),
        "packages": _packages(),
        "platform": platform.platform(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "started": started,
        "finished": now(),
    }


@lru_cache
def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def device_name(device: torch.device) -> str:
    """Return what a record calls a device; one that is not here is called as it was asked for."""
    try:
        return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu {platform.machine()}"
    except (RuntimeError, AssertionError):  # the device may be what failed
        return str(device)


@lru_cache
def git_state() -> tuple[str | None, bool | None]:
    """Return the commit of the working tree and whether it was changed since; None outside of a repository.

    A new Python or YAML file in a source folder is a change: a method or a config may have been added.
    """
    try:
        commit = _run_git("rev-parse", "HEAD")
        changed = _run_git("status", "--porcelain", "--untracked-files=no")
        sources = [f"{folder}/*.{ending}" for folder in SOURCES for ending in ("py", "yaml")]
        added = _run_git("ls-files", "--others", "--exclude-standard", "--", *sources)
        return commit, bool(changed or added)
    except (OSError, subprocess.SubprocessError):
        return None, None


def _run_git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
