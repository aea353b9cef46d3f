"""Checks of what a method chose: always made on a CPU, never timed as selection, and no wait for a device else."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest
import torch

from baselines.oracle import Oracle
from baselines.quest import Quest
from baselines.sparse_d import SparseD
from baselines.tidal_decode import TidalDecode
from mage.attention.block import BlockAttention
from mage.attention.compact import CompactPrefix
from mage.attention.torch_operations import TorchOperations
from mage.mage import Mage
from mage.method import Method, Selection, SelectionError
from mage.models.checkpoint import LanguageModel
from mage.view import KEPT_QUERIES, Forward, Request, View
from tests.baselines.matrix import generate
from tests.baselines.views import make_view
from tests.mage.prefix_store import RandomPrefix


@pytest.mark.parametrize(
    ("sizes", "words"), [(None, "9 entries under"), ([8], r"\[9\] to \[9\] entries where it told of")]
)
def test_a_set_that_breaks_the_contract_late_is_caught(
    model: LanguageModel, sizes: list[int] | None, words: str
) -> None:
    class Drifting(Oracle):
        def select(self, view: View) -> Selection:
            size = 9 if (view.forward.block, view.forward.step) == (2, 3) else 8
            return Selection(torch.arange(size).expand(1, view.num_kv_heads, -1), sizes=sizes)

    with pytest.raises(SelectionError, match=f"Drifting selected {words}"):
        generate(model, Drifting(), 8, [72])


def test_checks_are_no_part_of_the_timed_selection(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, checks, original = count(), [], Selection.check

    def check(self: Selection, view: View, *, limited: bool) -> None:
        checks.append(next(clock))
        original(self, view, limited=limited)

    monkeypatch.setattr(Selection, "check", check)
    prefix = RandomPrefix([20, 20], 2, 8)
    request = Request(4, [20, 20], [20, 20], torch.zeros(1, 2, 4, KEPT_QUERIES, 8), ["0", "1"], 0)
    attention = BlockAttention(Oracle(), prefix, request, shadow=False, observer=None)
    for step in (1, 2):
        attention.begin(Forward(1, step), [6, 6], torch.zeros(2, 4, dtype=torch.bool), lambda: next(clock))
        attention(0, torch.randn(2, 4, 4, 8), *torch.randn(2, 2, 2, 4, 8))
        assert not any(began < checks[-1] < end for began, end in attention.selection_spans)
        assert [began < checks[-1] < end for began, end in attention.check_spans] == [True]


@pytest.mark.parametrize(
    "method",
    [
        Mage(),
        Mage(page_size=4),
        Oracle(),
        Quest(page_size=4),
        Quest(page_size=4, share="query_head"),
        SparseD(page_size=4),
        TidalDecode(),
    ],
    ids=str,
)
@pytest.mark.parametrize("lengths", [[40, 40], [40, 24], [40, 6]], ids=str)
def test_selecting_and_gathering_wait_for_no_device(method: Method, lengths: list[int]) -> None:
    """A tensor on the meta device has no values to wait for: reading one raises."""
    view = make_view((2, 2, 3, 4))
    view.lengths = lengths
    fields = ("queries", "keys", "block_keys", "prompt_rows")
    seen = replace(view, state={}, **{name: getattr(view, name).to("meta") for name in fields})
    compact = CompactPrefix.gather(TorchOperations(), seen.keys, seen.keys, method.select(seen))
    ours = CompactPrefix.gather(TorchOperations(), view.keys, view.keys, method.select(view))
    assert compact.reads == ours.reads and compact.fewest == ours.fewest
    assert (compact.counts is None) == bool((ours.indices >= 0).all())
    assert compact.reads == [float((ours.indices[row] >= 0).sum()) / view.num_kv_heads for row in range(2)]
