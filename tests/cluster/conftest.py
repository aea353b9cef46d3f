"""A Slurm of one node and a local Ray for the tests of this folder; where they cannot be had, a skip says why."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.runners.conftest import out, run, small, tiny_checkpoint  # noqa: F401 - fixtures

SCRIPT = Path(__file__).with_name("slurm_one_node.sh")
CONFIG = Path("/etc/slurm/slurm.conf")
NAME = "one-node-test"
GPUS = 2
USERS = Path(tempfile.gettempdir()) / f"{NAME}.users"


@pytest.fixture(scope="session")
def slurm() -> Iterator[None]:
    """A running cluster of our script. The first process of the tests starts it, the last one stops it."""
    if find_spec("submitit") is None:
        pytest.skip("submitit is not installed: `make test-cluster` installs it")
    if shutil.which("slurmctld") is None:
        pytest.skip("no Slurm is installed: `make test-cluster` installs it on Debian and Ubuntu")
    if os.geteuid() != 0:
        pytest.skip("to start a Slurm takes root")
    if CONFIG.exists() and f"ClusterName={NAME}\n" not in CONFIG.read_text():
        pytest.skip(f"{CONFIG} is of another cluster")
    with USERS.open("w") as users:
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # another process of the tests uses the cluster, or starts it
            fcntl.flock(users, fcntl.LOCK_SH)
        else:
            subprocess.run([SCRIPT, "start", str(GPUS)], check=True)
            fcntl.flock(users, fcntl.LOCK_SH)
        yield
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        subprocess.run([SCRIPT, "stop"], check=True)


@pytest.fixture(autouse=True)
def no_sweep_is_left() -> Iterator[None]:
    """A test that fails must not wait for its sweep."""
    yield
    for child in multiprocessing.active_children():
        child.terminate()
        child.join()


@pytest.fixture(scope="session")
def ray_here() -> None:
    """Ray, which each sweep starts for itself."""
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed: `make test-cluster` installs it")
