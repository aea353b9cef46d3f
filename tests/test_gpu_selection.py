"""`pytest -m gpu` works where there is little more than torch and pytest."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.conftest import GPU_MARK, TESTS

LACKING = (
    *("hydra", "omegaconf", "pydantic", "wandb", "pandas", "rich", "matplotlib", "datasets", "transformers"),
    *("hypothesis", "scipy", "gguf", "jieba", "wonderwords", "huggingface_hub", "jinja2", "tabulate"),
)
PROGRAM = f"""
import sys
class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {LACKING!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Lacking())
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


def test_the_tests_for_a_gpu_are_collected_on_a_bare_machine() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "-p", "no:cacheprovider", "-m", "gpu", "--collect-only", "-q"],
        cwd=TESTS.parent,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("mage/kernels/test_mass.py", "mage/test_graphs.py", "runners/test_speed_gpu.py"):
        assert f"tests/{name}" in done.stdout


def test_the_mark_stands_where_the_selection_looks_for_it() -> None:
    marking = {path.relative_to(TESTS) for path in TESTS.rglob("*.py") if GPU_MARK in path.read_text()}
    others = {path for path in marking if not path.name.startswith("test_") and path.name != "conftest.py"}
    assert not others
    nested = {path for path in marking if path.name == "conftest.py" and path.parent.name}
    assert not any(folder.is_dir() for path in nested for folder in (TESTS / path.parent).glob("[!_]*"))
