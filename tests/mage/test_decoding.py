"""Decoding policies on hand-made confidences."""

from __future__ import annotations

import pytest
import torch

from mage.errors import UserError
from mage.generation.decoding import Decoding, Sequential, Static, Threshold

CONFIDENCE = torch.tensor([[0.2, 0.95, 0.5, 0.99], [0.1, 0.2, 0.3, 0.05]])
CANDIDATES = torch.tensor([[True, True, True, False], [True, False, True, True]])


@pytest.mark.parametrize(
    ("decoding", "expected"),
    [
        (Threshold(threshold=0.9), [[1], [2]]),
        (Threshold(threshold=0.4), [[1, 2], [2]]),
        (Threshold(threshold=1.0), [[1], [2]]),
        (Static(tokens_per_step=1), [[1], [2]]),
        (Static(tokens_per_step=2), [[1, 2], [0, 2]]),
        (Static(tokens_per_step=9), [[0, 1, 2], [0, 2, 3]]),
        (Sequential(tokens_per_step=2), [[0, 1], [0, 2]]),
    ],
    ids=str,
)
def test_positions(decoding: Decoding, expected: list[list[int]]) -> None:
    chosen = decoding.positions(CONFIDENCE, CANDIDATES)
    assert [row.nonzero().flatten().tolist() for row in chosen] == expected


@pytest.mark.parametrize("decoding", [Threshold(), Static(tokens_per_step=3), Sequential()], ids=str)
def test_a_row_without_candidates_gets_nothing(decoding: Decoding) -> None:
    assert not decoding.positions(torch.ones(1, 4), torch.zeros(1, 4, dtype=torch.bool)).any()


def test_options_out_of_range() -> None:
    with pytest.raises(UserError, match=r"threshold=1\.5"):
        Threshold(threshold=1.5)
    with pytest.raises(UserError, match="tokens_per_step=0"):
        Static(tokens_per_step=0)
    with pytest.raises(UserError, match="tokens_per_step=-1"):
        Sequential(tokens_per_step=-1)
