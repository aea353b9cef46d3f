"""fuse_commit=true is refused before anything is loaded where the model or the decoding has nothing to fuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from mage.errors import UserError
from run import CONF
from runners.composition import compose_sweep
from runners.sweeping.plan import SweepPlan, plan_sweep


def planned(checkpoint: Path, *overrides: str) -> SweepPlan:
    given = [f"model.weights={checkpoint}", "fuse_commit=true", *overrides]
    return plan_sweep(compose_sweep(given, CONF, multirun=True))


@pytest.mark.parametrize("runner", ["evaluate", "recall", "latency"])
@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("model.alignment=shifted", r"with model\.alignment=shifted the commit"),
        ("model.prefix_attention=causal", r"with model\.prefix_attention=causal a commit"),
        ("decoding=edit", "under a decoding that edits"),
    ],
)
def test_what_has_nothing_to_fuse_is_refused(runner: str, override: str, told: str, tiny_checkpoint: Path) -> None:
    planned(tiny_checkpoint, "method=mage", f"runner={runner}")
    with pytest.raises(UserError, match=rf"^fuse_commit=true: [^\n]*{told}[^\n]*Allowed: false[^\n]*$"):
        planned(tiny_checkpoint, "method=mage", f"runner={runner}", override)


def test_a_method_that_has_nothing_to_fuse_is_no_reason(tiny_checkpoint: Path) -> None:
    assert len(planned(tiny_checkpoint, "method=mage,quest,snapkv").cells) == 4
