"""CUDA graphs write what forwards that run as they are write, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from mage.generation.captured import Graph
from mage.generation.decoding import Static
from mage.generation.engine import Engine
from mage.mage import Mage
from mage.method import Selection
from mage.models.checkpoint import LanguageModel, load_model
from mage.view import View
from tests.conftest import spec, write_checkpoint
from tests.mage.fused import endless
from tests.mage.recordings import DECODINGS, METHODS, methods, steady_methods, told, written

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@methods
@pytest.mark.parametrize("attention", ["torch", "triton"])
@pytest.mark.parametrize("lengths", [[75], [75, 64, 3, 50]], ids=["one", "uneven"])
@pytest.mark.parametrize("fused", [False, True], ids=["", "fused-commits"])
@pytest.mark.parametrize("budget", [9, 0.2])
def test_graphs_change_nothing(
    checkpoint: Any, name: str, attention: str, lengths: list[int], fused: bool, budget: int | float
) -> None:
    lengths = [max(n, 24) for n in lengths] if isinstance(budget, float) else lengths  # a share holds a page
    model = load_model(checkpoint, spec(), device="cuda")
    for decoding in DECODINGS.values():
        plain, graphs = (
            Engine(
                model, METHODS[name], decoding, attention=attention, capture=capture, overlap=True, fuse_commit=fused
            )
            for capture in (False, True)
        )
        assert graphs.recording is Graph and plain.recording is None
        for new in (30, 64):  # two generations of one engine, of as many blocks and of more
            results = [written(engine, lengths, new=new, budget=budget) for engine in (graphs, plain)]
            assert told(results[0]) == told(results[1])
        assert graphs.recording is Graph, "a capture failed"


@pytest.fixture(scope="module")
def wide_model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """Heads of 64 in bfloat16, as the kernels are made for."""
    folder = write_checkpoint(tmp_path_factory.mktemp("wide"), head_dim=64)
    return load_model(folder, spec(), device="cuda", dtype="bfloat16")


@methods
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("fused", [False, True], ids=["", "fused-commits"])
def test_generations_of_a_gpu_repeat_themselves_in_the_same_memory(
    wide_model: LanguageModel, name: str, overlap: bool, fused: bool
) -> None:
    lengths, decoding, more = [136, 72], Static(tokens_per_step=2), {"overlap": overlap, "fuse_commit": fused}
    results, reserved = [], []
    for capture in (False, True):
        engine = Engine(wide_model, METHODS[name], decoding, attention="triton", capture=capture, **more)
        for _ in range(5):
            results.append(told(written(engine, lengths, new=64)))
            reserved.append(torch.cuda.memory_reserved())
    assert all(result == results[0] for result in results[1:])
    assert len(results[0][0][2]) >= 6, "blocks"  # type: ignore[index]
    assert reserved[-1] == reserved[-2] == reserved[-3]


@steady_methods
@pytest.mark.parametrize("budget", [9, 0.2])
@pytest.mark.parametrize("overlap", [False, True])
def test_nothing_is_captured_from_the_fourth_block_on(
    wide_model: LanguageModel, name: str, budget: int | float, overlap: bool
) -> None:
    engine = Engine(endless(wide_model), METHODS[name], Static(tokens_per_step=2), attention="triton", overlap=overlap)
    for result in written(engine, [136, 72], new=64, budget=budget):
        captures = [block.captures for block in result.trace.blocks]
        assert len(captures) > 6 and sum(captures[:3]) >= 2 and not any(captures[3:])


def test_a_capture_that_asks_the_host_leaves_the_process_as_it_was(wide_model: LanguageModel) -> None:
    class Asking(Mage):
        def select(self, view: View) -> Selection:
            assert float(view.queries.sum()) == float(view.queries.sum())
            return super().select(view)

        def select_layers(self, views: Sequence[View]) -> list[Selection]:
            return [self.select(view) for view in views]

    method, stream = Asking(dense_layers=1), torch.cuda.current_stream()
    plain = Engine(wide_model, method, Static(tokens_per_step=2), overlap=True, capture=False)
    asking = Engine(wide_model, method, Static(tokens_per_step=2), overlap=True)
    with pytest.warns(RuntimeWarning, match="goes on without recordings"):
        found = told(written(asking, [136], new=64))
    assert found == told(written(plain, [136], new=64))
    assert torch.cuda.current_stream() == stream and not torch.cuda.is_current_stream_capturing()
    torch.randn(8, device="cuda")
    graphs = Engine(wide_model, METHODS["mage"], Static(tokens_per_step=2), overlap=True)
    written(graphs, [136], new=64)
    assert graphs.recording is Graph
