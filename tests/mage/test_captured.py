"""Recorded forwards write what forwards that run as they are write, and leave the same trace."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from baselines.dense import Dense
from baselines.flash_block import FlashBlock
from baselines.quest import Quest
from baselines.snapkv import SnapKV
from baselines.streaming_llm import StreamingLLM
from baselines.tidal_decode import TidalDecode
from mage.attention.block import BlockAttention
from mage.attention.choice import Choice
from mage.budget import Budget
from mage.generation.captured import Call, Graph
from mage.generation.decoding import Static, Threshold
from mage.generation.editing import Edit
from mage.generation.engine import Engine
from mage.generation.session import Generation
from mage.mage import Mage
from mage.method import Method
from mage.models.checkpoint import LanguageModel, load_model
from tests.conftest import prompt, spec
from tests.mage.recordings import Counted, Emulated, OnItsOwn, StaticTorch

METHODS: dict[str, Method] = {
    "dense": Dense(),
    "mage": Mage(dense_layers=1),
    "mage-refresh": Mage(dense_layers=1, refresh_every=3, commit="dense"),
    "mage-sparse-commit": Mage(dense_layers=0, commit="sparse"),
    "quest": Quest(dense_layers=1, page_size=4),
    "tidal_decode": TidalDecode(dense_layers=0),
    "snapkv": SnapKV(window=8),
    "streaming_llm": StreamingLLM(),
    "flash_block": FlashBlock(dense_layers=1, refresh_every=3),
    "flash_block-sparse-commit": FlashBlock(commit="sparse"),
}
methods = pytest.mark.parametrize("name", METHODS)
DECODINGS = {"static": Static(tokens_per_step=2), "threshold": Threshold(threshold=0.3)}


def written(engine: Engine, lengths: list[int], new: int = 30, budget: int = 9) -> list[Generation]:
    prefix = engine.prefill([prompt(n, seed=n) for n in lengths], [new] * len(lengths))
    return engine.generate(prefix, Budget(budget))


def told(generations: list[Generation]) -> list[object]:
    """Tokens and traces, all but the times."""
    blocks = [[(b.forwards, b.tokens_decided, b.reads, b.dense_reads) for b in g.trace.blocks] for g in generations]
    return [(g.tokens, g.stop_token, found) for g, found in zip(generations, blocks)]


@methods
@pytest.mark.parametrize("decoding", DECODINGS)
@pytest.mark.parametrize("lengths", [[75], [75, 64, 3, 50]], ids=["one", "uneven"])
@pytest.mark.parametrize("static", [False, True], ids=["baked-lengths", "device-lengths"])
def test_recorded_forwards_change_nothing(
    model: LanguageModel, name: str, decoding: str, lengths: list[int], static: bool
) -> None:
    def engine() -> Engine:
        made = Engine(model, METHODS[name], DECODINGS[decoding])
        made.operations = StaticTorch() if static else made.operations
        return made

    plain, recorded, Counted.runs, Emulated.kinds = written(engine(), lengths), engine(), 0, set()
    recorded.recording = Emulated
    assert told(written(recorded, lengths)) == told(plain)
    assert len(plain[0].trace.blocks) > 2
    assert Counted.runs > 0
    if static and name in ("mage", "mage-refresh") and lengths == [75]:
        assert Emulated.kinds == {BlockAttention, Choice}, "sets are chosen in a recording of their own"


@pytest.mark.parametrize("name", ["dense", "mage", "flash_block"])
def test_a_recording_serves_all_blocks_where_the_device_knows_the_lengths(model: LanguageModel, name: str) -> None:
    made: list[Call] = []

    class Kept(Call):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            if isinstance(self._subject, BlockAttention):
                made.append(self)

    engine = Engine(model, METHODS[name], Static(tokens_per_step=2))
    engine.operations, engine.recording = StaticTorch(), Kept
    (result,) = written(engine, [75], new=40)
    assert len(result.trace.blocks) > 4
    # a commit, and exact steps with and without a selection after, or steps that keep and that reuse
    assert len(made) == {"dense": 2, "mage": 3, "flash_block": 3}[name]


@pytest.mark.parametrize("more", [{}, {"refresh_every": 2}, {"commit": "sparse"}, {"reduction": "max"}], ids=str)
@pytest.mark.parametrize("lengths", [[72], [72, 64, 40]], ids=["one", "uneven"])
@pytest.mark.parametrize("static", [False, True], ids=["baked-lengths", "device-lengths"])
def test_choosing_beside_the_exact_step_changes_nothing(
    model: LanguageModel, more: dict[str, Any], lengths: list[int], static: bool
) -> None:
    method = Mage(dense_layers=1, **more)
    results = []
    for overlap, recording in ((False, None), (True, None), (True, Emulated)):
        engine = Engine(model, method, Static(tokens_per_step=2), overlap=overlap)
        engine.operations, engine.recording = StaticTorch() if static else engine.operations, recording
        results.append(told(written(engine, lengths, new=32)))
    # Blocks that end with their exact step pay for a set too: here none does.
    assert results[0] == results[1] == results[2]


def test_a_forward_that_chooses_is_recorded_once_for_all_blocks(model: LanguageModel) -> None:
    made: list[bool] = []

    class Kept(Call):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(self._then.at_once)

    engine = Engine(model, METHODS["mage"], Static(tokens_per_step=2), overlap=True)
    engine.operations, engine.recording = StaticTorch(), Kept
    written(engine, [75, 64], new=40)
    assert sorted(made) == [False, False, True]


def test_a_block_done_in_its_exact_step_has_paid_for_a_set_chosen_beside_it(model: LanguageModel) -> None:
    plain, beside = (
        written(Engine(model, METHODS["mage"], Static(tokens_per_step=8), overlap=overlap), [72], new=16)[0].trace
        for overlap in (False, True)
    )
    assert plain.density == 1.0
    sparse_layers, exact_steps = 2, (72, 80)
    paid = [block.reads - block.dense_reads for block in beside.blocks]
    assert paid == [sparse_layers * length / 2 for length in exact_steps]


def test_what_the_host_takes_part_in_is_not_recorded(model: LanguageModel) -> None:
    Counted.runs = 0
    for more in ({"shadow": True}, {"observer": lambda view, indices: None}):
        engine = Engine(model, METHODS["mage"], Static(tokens_per_step=2), **more)  # type: ignore[arg-type]
        engine.recording = Counted
        written(engine, [40])
    editing = Engine(model, Dense(), Edit(threshold=0.2))
    editing.recording = Counted
    written(editing, [40])
    assert Counted.runs == 0


@methods
@pytest.mark.parametrize("lengths", [[72], [72, 64, 3, 48]], ids=["one", "uneven"])
@pytest.mark.parametrize("static", [False, True], ids=["baked-lengths", "device-lengths"])
def test_what_is_recorded_asks_nothing_of_the_host(
    model: LanguageModel, name: str, lengths: list[int], static: bool
) -> None:
    engine, Counted.runs = Engine(model, METHODS[name], Static(tokens_per_step=2)), 0
    engine.operations, engine.recording = StaticTorch() if static else engine.operations, OnItsOwn
    written(engine, lengths)
    assert Counted.runs > 0


@methods
@pytest.mark.parametrize("decoding", DECODINGS)
@pytest.mark.parametrize("every", [5])
def test_steps_behind_the_end_of_a_block_change_nothing_and_are_counted(
    model: LanguageModel, name: str, decoding: str, every: int
) -> None:
    lengths = [75, 64, 3]
    plain = written(Engine(model, METHODS[name], DECODINGS[decoding]), lengths)
    rarely = written(Engine(model, METHODS[name], DECODINGS[decoding], check_every=every), lengths)
    for ours, theirs in zip(rarely, plain):
        assert ours.tokens == theirs.tokens and ours.trace.tokens_decided == theirs.trace.tokens_decided
        for more, exact in zip(ours.trace.blocks, theirs.trace.blocks):
            steps = [sum(b.forwards[kind] for kind in ("exact", "sparse")) for b in (more, exact)]
            assert steps[0] == -(-steps[1] // every) * every
            assert more.forwards["commit"] == exact.forwards["commit"]


def test_the_seconds_of_a_block_are_part_of_its_elapsed_time(model: LanguageModel) -> None:
    (result,) = written(Engine(model, METHODS["mage"], Static(tokens_per_step=2)), [75])
    for told_of in result.trace.blocks:
        assert 0.0 < sum(told_of.seconds.values()) <= told_of.elapsed


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@methods
@pytest.mark.parametrize("attention", ["torch", "triton"])
@pytest.mark.parametrize("lengths", [[75], [75, 64, 3, 50]], ids=["one", "uneven"])
def test_graphs_change_nothing(checkpoint: Any, name: str, attention: str, lengths: list[int]) -> None:
    model = load_model(checkpoint, spec(), device="cuda")
    for decoding in DECODINGS.values():
        plain, graphs = (
            Engine(model, METHODS[name], decoding, attention=attention, capture=capture) for capture in (False, True)
        )
        assert graphs.recording is Graph and plain.recording is None
        assert told(written(graphs, lengths)) == told(written(plain, lengths))
