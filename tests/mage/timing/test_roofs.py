"""The roofs of the device at hand."""

from __future__ import annotations

import pytest
import torch

from mage.timing import roofs
from mage.timing.roofs import Roofs, measure_roofs


def test_roofs_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofs, "SECONDS", 0.01)
    found = measure_roofs(torch.device("cpu"), torch.float32)
    assert 1e8 < found.bytes_per_second < 1e13
    assert 1e8 < found.flops_per_second < 1e15


def test_the_nearer_roof_decides() -> None:
    known = Roofs(bytes_per_second=10.0, flops_per_second=100.0)
    assert known.seconds(20, 100) == 2.0
    assert known.seconds(20, 500) == 5.0
