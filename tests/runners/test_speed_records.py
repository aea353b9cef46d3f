"""What the speed suite leaves on a machine that lacks much, read where all is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from analysis.frame import load
from analysis.kernel_frame import kernel_points, read_kernels
from run import CONF
from runners.choices import read_choice
from runners.composition import compose_sweep
from tests.runners.override_sets import choices
from tests.runners.speed_shapes import command

RUNNER = ("check_every", "prefill_chunk", "warm_blocks")
ROOT = Path(__file__).resolve().parents[2]
LACKING = ("hydra", "omegaconf", "pydantic", "wandb", "pandas", "rich", "matplotlib", "datasets", "transformers")
PROGRAM = f"""
import sys
class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {LACKING!r}:
            raise ImportError(f"{{name}} is not on this machine")
sys.meta_path.insert(0, Lacking())
from runners.speed_suite import main
sys.exit(main(sys.argv[1:]))
"""


def test_it_needs_little_more_than_torch_and_its_records_are_read(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *command(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["status"] == {"done": 6} and not told["skipped"] and not told["wrong"]
    results = load([tmp_path / "out"])
    found = results.cells.sort_values(["context", "batch", "method"])
    assert list(zip(found.context, found.batch, found.method)) == [
        *((64, 1, "mage"), (64, 1, "quest"), (64, 2, "mage")),
        *((128, 1, "mage"), (128, 1, "quest"), (128, 2, "mage")),
    ]
    assert (found.speedup > 0).all() and (found.bound_speedup > 1).all() and (found.forwards_per_block == 8).all()
    assert (found.prefill_rows == 1).all() and not found.method.str.contains("=").any()
    told_of = {tuple(record.config["runner"][key] for key in RUNNER) for record in found.record}
    assert told_of == {(7, None, 0)}
    assert set(results.latency.attention) == {"torch"}
    (kernels,) = (tmp_path / "out").glob("kernels_*.json")
    assert json.loads(kernels.read_text())["wrong"] == []
    shown = kernel_points(read_kernels([tmp_path / "out"]))
    assert sorted(shown.batch.value_counts().items()) == [(1, 12), (2, 10)] and (shown.share > 0).all()
    asked = shown[["model", "dtype", "block_size", "budget", "page_size"]].drop_duplicates().values.tolist()
    assert asked == [["small", "float32", "8", "32", "16"]]


def test_choices_are_read_as_hydra_puts_them_together() -> None:
    names = choices("model")
    configs = compose_sweep([f"model={','.join(names)}"], CONF, multirun=True)
    assert [read_choice(CONF / "model", name) for name in names] == [config["model"] for config in configs]
