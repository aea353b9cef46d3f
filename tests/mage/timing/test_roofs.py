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


@pytest.mark.parametrize(("copied", "read", "rate"), [(1.0, 1.0, 2.0), (4.0, 1.0, 1.0)])
def test_the_larger_bandwidth_of_a_copy_and_a_reduction_counts(
    copied: float, read: float, rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = iter([copied, read, 1.0])
    monkeypatch.setattr(roofs, "_seconds", lambda *_: next(told))
    monkeypatch.setitem(roofs.COPY_BYTES, "cpu", 2**12)
    monkeypatch.setitem(roofs.PRODUCT_SIZE, "cpu", 10)
    assert measure_roofs(torch.device("cpu"), torch.float32) == Roofs(rate * 2**12, 2000.0)


def test_the_nearer_roof_decides() -> None:
    known = Roofs(bytes_per_second=10.0, flops_per_second=100.0)
    assert known.seconds(20, 100) == 2.0
    assert known.seconds(20, 500) == 5.0
    assert (known.nearer(20, 100), known.nearer(20, 500)) == ("bandwidth", "matrix")


def test_the_better_of_two_measurements_has_the_higher_rates() -> None:
    assert Roofs(10.0, 100.0).better(Roofs(20.0, 50.0)) == Roofs(20.0, 100.0)
