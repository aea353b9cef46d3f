"""The state of a training run: a file that was damaged is named in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mage.errors import UserError
from mage.training.state import NAME, load_state, save_state


def test_a_state_comes_back(tmp_path: Path) -> None:
    weight = torch.ones(3)
    save_state(tmp_path, {"w": weight}, (), {"step": 7})
    restored = torch.zeros(3)
    assert load_state(tmp_path, {"w": restored}, ()) == {"step": 7}
    assert torch.equal(restored, weight)


@pytest.mark.parametrize("kept", [0, 4, 20, -1])
def test_a_truncated_state_is_named(tmp_path: Path, kept: int) -> None:
    save_state(tmp_path, {"w": torch.ones(3)}, (), {"step": 7})
    file = tmp_path / NAME
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(UserError) as caught:
        load_state(tmp_path, {"w": torch.zeros(3)}, ())
    told = str(caught.value)
    assert told.startswith(f"{file}: the state is damaged (") and told.endswith("Delete the file to begin anew.")
    assert "\n" not in told


@pytest.mark.parametrize("metadata", [None, {"progress": "{"}])
def test_a_state_without_its_progress_is_named(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    save_file({"weights.w": torch.ones(3)}, tmp_path / NAME, metadata)
    with pytest.raises(UserError, match=r"the state is damaged"):
        load_state(tmp_path, {"w": torch.zeros(3)}, ())
