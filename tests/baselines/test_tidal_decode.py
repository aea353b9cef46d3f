"""TidalDecode: which layer chooses for which, and what every layer attends to."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from baselines.tidal_decode import TidalDecode
from mage.attention.block import BlockAttention
from mage.errors import UserError
from mage.view import KEPT_QUERIES, Forward, Request
from tests.baselines.views import HEAD_DIM, SHAPES, best
from tests.mage.prefix_store import RandomPrefix, attend_to

LAYERS, PREFIX, BUDGET = 6, 40, 7
SOURCES = {2: 2, 3: 2, 4: 4, 5: 4}  # dense 0 and 1; 4 is half-way between 2 and 6


@dataclass
class Layer:
    """One layer in one forward: what went in and what came out."""

    q: Tensor
    k: Tensor
    v: Tensor
    out: Tensor


class Body:
    """Six layers of attention over random tensors."""

    def __init__(self, shape: tuple[int, int, int, int], method: TidalDecode) -> None:
        self.batch, self.kv_heads, self.group, self.rows = shape
        self.prefix = RandomPrefix([PREFIX] * self.batch, self.kv_heads, HEAD_DIM, LAYERS)
        windows = torch.zeros(LAYERS, self.batch, self.kv_heads * self.group, KEPT_QUERIES, HEAD_DIM)
        lengths, ids = [PREFIX] * self.batch, [str(row) for row in range(self.batch)]
        request = Request(self.rows, lengths, lengths, windows, ids, 0)
        self.attention = BlockAttention(method, self.prefix, request, shadow=False, observer=None)

    def forward(self, block: int, step: int) -> list[Layer]:
        torch.manual_seed(100 * block + step)
        prompt_rows = torch.zeros(self.batch, self.rows, dtype=torch.bool)
        self.attention.begin(Forward(block, step), [BUDGET] * self.batch, prompt_rows, lambda: 0.0)
        layers = []
        for layer in range(LAYERS):
            q = torch.randn(self.batch, self.kv_heads * self.group, self.rows, HEAD_DIM) * 2
            k, v = torch.randn(2, self.batch, self.kv_heads, self.rows, HEAD_DIM)
            layers.append(Layer(q, k, v, self.attention(layer, q, k, v)))
        self.attention.end()
        return layers

    def top(self, layer: int, of: Layer, b: int, h: int) -> list[int]:
        """The top-k by the mass of the rows that share KV head `h`, one row at a time."""
        keys = torch.cat((self.prefix.keys[layer, b, h], of.k[b, h]))
        heads = range(h * self.group, (h + 1) * self.group)
        rows = [torch.softmax(keys @ of.q[b, g, r] * HEAD_DIM**-0.5, 0) for g in heads for r in range(self.rows)]
        return sorted(best(torch.stack(rows).mean(0)[:PREFIX], BUDGET))

    def check(self, layer: int, of: Layer, source: Layer | None) -> None:
        """`of` must attend to the top-k of `source`, or to everything, and to its block."""
        keys, values = self.prefix.entries(layer)
        for b in range(self.batch):
            for h in range(self.kv_heads):
                chosen = list(range(PREFIX)) if source is None else self.top(SOURCES[layer], source, b, h)
                for g in range(h * self.group, (h + 1) * self.group):
                    for r in range(self.rows):
                        expected = attend_to(
                            of.q[b, g, r], [keys[b, h, chosen], of.k[b, h]], [values[b, h, chosen], of.v[b, h]]
                        )
                        torch.testing.assert_close(of.out[b, g, r], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_layers_reuse_the_set_of_the_selecting_layer_below_at_every_step(shape: tuple[int, int, int, int]) -> None:
    body = Body(shape, TidalDecode())
    for block, step in ((1, 1), (1, 2), (2, 1)):
        layers = body.forward(block, step)
        for layer in range(LAYERS):
            body.check(layer, layers[layer], layers[SOURCES[layer]] if layer in (3, 5) else None)
        # Four whole layers, two selections of half a pass each, two layers that reuse.
        assert body.attention.reads == [4 * PREFIX + 2 * PREFIX / 2 + 2 * BUDGET] * body.batch


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_once_per_block_the_first_step_chooses_for_all(shape: tuple[int, int, int, int]) -> None:
    body = Body(shape, TidalDecode(when="block"))
    for block in (1, 2):
        first, second, third = (body.forward(block, step) for step in (1, 2, 3))
        for layer in range(LAYERS):
            body.check(layer, first[layer], first[SOURCES[layer]] if layer in (3, 5) else None)
            for later in (second, third):
                body.check(layer, later[layer], first[SOURCES[layer]] if layer in SOURCES else None)
        assert body.attention.reads == [2 * PREFIX + 4 * BUDGET] * body.batch


@pytest.mark.parametrize(
    ("dense", "layers", "correction"),
    [(2, 32, 9), (2, 28, 9), (2, 6, 4), (2, 12, 7), (0, 3, 1), (1, 3, 1), (12, 32, 12)],
)
def test_the_correction_layer_fits_the_depth(dense: int, layers: int, correction: int) -> None:
    method = TidalDecode(dense_layers=dense).for_model(layers, 32)
    assert method.correction_layer == correction
    assert {method.source_layer(layer) for layer in range(dense, layers)} == {dense, correction}


def test_a_correction_layer_that_the_body_lacks_is_refused() -> None:
    assert TidalDecode(correction_layer=13).for_model(32, 32) == TidalDecode(correction_layer=13)
    for wrong in (replace(TidalDecode(), correction_layer=layer) for layer in (1, 6, -1)):
        with pytest.raises(UserError, match=rf"correction_layer={wrong.correction_layer}: .*Allowed: null, or 2 to 5"):
            wrong.for_model(6, 32)
    for useless in (TidalDecode(correction_layer=3), TidalDecode(dense_layers=3)):
        with pytest.raises(UserError, match="of 4 layers none would reuse a set"):
            useless.for_model(4, 32)
        assert replace(useless, when="block").for_model(4, 32).correction_layer == 3
    with pytest.raises(UserError, match=r"when=prompt .*Allowed: step, block"):
        TidalDecode(when="prompt")  # type: ignore[arg-type]
