"""Damaged weights are told from a bad answer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mage.errors import UserError
from mage.generation.prefill import prefill
from mage.models.checkpoint import load_model
from tests.conftest import prompt, spec, write_checkpoint


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    model = load_model(write_checkpoint(tmp_path), spec())
    assert prefill(model, [prompt(64)], [8])
    with torch.no_grad():
        model.body.model.norm.weight.fill_(float("nan"))
    with pytest.raises(UserError, match=r"logits are not finite in float32: damaged weights"):
        prefill(model, [prompt(64)], [8])
