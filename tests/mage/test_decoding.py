"""Decoding policies on hand-made probabilities."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mage.errors import UserError
from mage.generation.canvas import Canvas, Stops
from mage.generation.decoding import Decoding, Entropy, Filling, Proposal, Sequential, Static, Threshold, leftmost
from mage.models.diffusion import DiffusionSpec

CONFIDENCE = torch.tensor([[0.2, 0.95, 0.5, 0.99], [0.1, 0.2, 0.3, 0.05]])
CANDIDATES = torch.tensor([[True, True, True, False], [True, False, True, True]])


def proposal(probabilities: Tensor) -> Proposal:
    confidence, tokens = probabilities.max(-1)
    return Proposal(tokens, confidence, probabilities)


def peaked(confidence: Tensor, vocab: int = 40) -> Proposal:
    """Each slot gives its confidence to token 0 and shares the rest among the others."""
    rest = ((1 - confidence) / (vocab - 1))[..., None].expand(*confidence.shape, vocab - 1)
    return proposal(torch.cat((confidence[..., None], rest), -1))


def chosen(slots: Tensor) -> list[list[int]]:
    return [row.nonzero().flatten().tolist() for row in slots]


@pytest.mark.parametrize(
    ("decoding", "step", "expected"),
    [
        (Threshold(threshold=0.9), 1, [[1], [2]]),
        (Threshold(threshold=0.4), 1, [[1, 2], [2]]),
        (Threshold(threshold=1.0), 1, [[1], [2]]),
        (Threshold(threshold=0.9, at_least=2), 1, [[1, 2], [0, 2]]),
        (Threshold(threshold=0.15, at_least=2), 1, [[0, 1, 2], [0, 2]]),
        (Static(tokens_per_step=1), 1, [[1], [2]]),
        (Static(tokens_per_step=2), 9, [[1, 2], [0, 2]]),
        (Static(tokens_per_step=9), 1, [[0, 1, 2], [0, 2, 3]]),
        (Static(steps=3), 1, [[1, 2], [0, 2]]),
        (Static(steps=3), 2, [[1], [2]]),
        (Static(steps=9), 9, [[1], [2]]),
        (Sequential(tokens_per_step=2), 1, [[0, 1], [0, 2]]),
        (Entropy(bound=0.0), 1, [[1], [2]]),
        (Entropy(bound=100.0), 1, [[0, 1, 2], [0, 2, 3]]),
    ],
    ids=str,
)
def test_positions(decoding: Filling, step: int, expected: list[list[int]]) -> None:
    assert chosen(decoding.positions(peaked(CONFIDENCE), CANDIDATES, step)) == expected


def test_entropies_before_the_last_one_stay_within_the_bound() -> None:
    two = torch.tensor([0.5, 0.5, 0.0, 0.0])  # log 2 = 0.693 nats
    four = torch.full((4,), 0.25)  # log 4 = 1.386 nats
    sure = torch.tensor([1.0, 0.0, 0.0, 0.0])
    rows = proposal(torch.stack((four, two, sure, two))[None])
    everything = torch.ones(1, 4, dtype=torch.bool)
    for bound, count in ((0.0, 2), (0.69, 2), (0.7, 3), (1.38, 3), (1.4, 4)):
        assert int(Entropy(bound=bound).positions(rows, everything, 1).sum()) == count
    # Entropy is of the whole distribution: a low best probability with a thin rest comes before an even split.
    uneven = torch.tensor([0.9, 0.1, 0.0, 0.0])
    spread = torch.tensor([0.91, 0.03, 0.03, 0.03])
    first = Entropy(bound=0.0).positions(proposal(torch.stack((spread, uneven))[None]), everything[:, :2], 1)
    assert chosen(first) == [[1]]


@pytest.mark.parametrize("decoding", [Threshold(), Static(tokens_per_step=3), Sequential(), Entropy()], ids=str)
def test_a_row_without_candidates_gets_nothing(decoding: Filling) -> None:
    assert not decoding.positions(peaked(torch.full((1, 4), 0.99)), torch.zeros(1, 4, dtype=torch.bool), 1).any()


@pytest.mark.parametrize(
    ("size", "expected"), [(None, [[2, 3, 6], [0]]), (2, [[2, 3], [0]]), (3, [[2], [0]]), (8, [[2, 3, 6], [0]])]
)
def test_only_the_leftmost_sub_block_with_candidates_is_worked_on(size: int | None, expected: list[list[int]]) -> None:
    candidates = torch.zeros(2, 7, dtype=torch.bool)
    candidates[0, [2, 3, 6]] = True
    candidates[1, 0] = True
    assert chosen(leftmost(candidates, size)) == expected


@pytest.mark.parametrize(
    "decoding",
    [
        Static(steps=2),
        Static(tokens_per_step=4),
        Static(tokens_per_step=4, sub_block=8),
        Threshold(at_least=4),
        Sequential(tokens_per_step=4),
        Entropy(bound=50.0),
    ],
    ids=str,
)
def test_more_tokens_a_step_than_masks_never_overwrite_what_stands(decoding: Decoding) -> None:
    """SDAR's generate.py overwrites prompt tokens here when it has fewer steps than slots."""
    spec, stops = DiffusionSpec(8, 1, (2,)), Stops((2,), [[], []], torch.device("cpu"))
    tails = [[5, 6, 7, 8, 9, 5], [1]]  # the second prompt ends with a literal [MASK]
    canvas = Canvas.open(spec, stops, tails, [8, 8], torch.zeros(2, 12))
    writing, generator = decoding.open(canvas), torch.Generator().manual_seed(0)
    while bool(writing.active().any()):
        before = canvas.tokens.clone()
        decided = writing.step(torch.randn(2, 8, 12, generator=generator))
        kept = (before != 1) | canvas.prompt
        assert not (decided & kept).any() and torch.equal(canvas.tokens[kept], before[kept])
    assert canvas.tokens[0, :6].tolist() == tails[0] and canvas.tokens[1, 0] == 1


def test_control_tokens_are_not_proposed() -> None:
    spec = DiffusionSpec(2, 1, (2,), delete_id=7, split_id=8)
    logits = torch.zeros(1, 2, 10)
    logits[..., [1, 7, 8]] = 50.0
    read = Proposal.of(logits, spec)
    assert read.probabilities[..., [1, 7, 8]].sum() == 0 and not {1, 7, 8} & set(read.tokens.flatten().tolist())


def test_options_out_of_range() -> None:
    with pytest.raises(UserError, match=r"threshold=1\.5"):
        Threshold(threshold=1.5)
    with pytest.raises(UserError, match="at_least=0"):
        Threshold(at_least=0)
    with pytest.raises(UserError, match="tokens_per_step=0"):
        Static(tokens_per_step=0)
    with pytest.raises(UserError, match="steps=4 and tokens_per_step=2: set one"):
        Static(tokens_per_step=2, steps=4)
    with pytest.raises(UserError, match="tokens_per_step=-1"):
        Sequential(tokens_per_step=-1)
    with pytest.raises(UserError, match=r"bound=-0\.1"):
        Entropy(bound=-0.1)
    with pytest.raises(UserError, match=r"sub_block=0 .* integer >= 1, or null"):
        Static(sub_block=0)
