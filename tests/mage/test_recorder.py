"""When work is recorded, how long a recording lives, and what is done where there can be none."""

from __future__ import annotations

import gc
import weakref
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from baselines.dense import Dense
from mage.attention.block import BlockAttention
from mage.attention.choice import Choice
from mage.budget import Budget
from mage.generation import captured, graph_memory
from mage.generation.captured import Graph
from mage.generation.decoding import Static
from mage.generation.engine import Engine
from mage.models.checkpoint import LanguageModel
from tests.conftest import prompt
from tests.mage.fused import endless
from tests.mage.recordings import CHOOSING, METHODS, Emulated, StaticTorch, steady_methods, told, written


@steady_methods
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("budget", [9, 0.2])
def test_nothing_is_recorded_from_the_fourth_block_on(
    model: LanguageModel, name: str, overlap: bool, budget: int | float
) -> None:
    engine = Engine(endless(model), METHODS[name], Static(tokens_per_step=2), overlap=overlap)
    engine.operations, engine.recording = StaticTorch(), Emulated
    results = written(engine, [75, 64], new=56, budget=budget)
    for result in results:
        made = [block.captures for block in result.trace.blocks]
        assert len(made) > 5 and sum(made[:3]) >= 2 and not any(made[3:])


def test_a_block_tells_of_the_recordings_that_were_made_on_its_time(model: LanguageModel) -> None:
    engine = Engine(model, METHODS["quest"], Static(tokens_per_step=2))
    engine.recording = Emulated
    (result,) = written(engine, [75], new=40)
    assert all(block.captures for block in result.trace.blocks[3:-1]), "its steps depend on the lengths"
    (plain,) = written(Engine(model, METHODS["quest"], Static(tokens_per_step=2)), [75])
    assert not any(block.captures for block in plain.trace.blocks)


def test_what_was_recorded_is_gone_with_its_generation(model: LanguageModel) -> None:
    """A graph holds the prefix of its generation, and the room that the next one's graphs are to have."""
    made: list[weakref.ref[Any]] = []

    class Held:
        """As a graph: it keeps the attention and what the work left, not the work."""

        def __init__(self, function: Any, subject: Any, memory: Any) -> None:
            self._work, self._subject = [function], subject
            made.append(weakref.ref(self))

        def run(self) -> Any:
            if self._work:
                self._result, self._aftermath = self._work.pop()(), self._subject.aftermath
            else:  # not what the work would have given, but a result of it
                self._subject.replayed(self._aftermath)
            return self._result

    engine = Engine(model, METHODS["mage"], Static(tokens_per_step=2))
    engine.operations, engine.recording = StaticTorch(), Held
    prefix = engine.prefill([prompt(75, seed=1)], [40])
    gc.collect()
    gc.disable()
    try:
        engine.generate(prefix, Budget(9))
        held = [ref() for ref in made]
    finally:
        gc.enable()
    assert made and held == [None] * len(made)


@steady_methods
@pytest.mark.parametrize("of", [BlockAttention, Choice])
@pytest.mark.parametrize("static", [False, True], ids=["baked-lengths", "device-lengths"])
def test_work_that_cannot_be_recorded_is_done_as_it_is(model: LanguageModel, name: str, of: type, static: bool) -> None:
    if of is Choice and not (static and name in CHOOSING):
        pytest.skip("no choice is recorded")
    made: list[Any] = []

    class Failing(Emulated):
        """As a graph out of memory: the code ran, and with it what the host notes, but nothing was computed."""

        def __init__(self, function: Any, subject: Any, memory: Any) -> None:
            super().__init__(function, subject, memory)
            if isinstance(subject, of):
                made.append(subject)
                subject.silence()
                before = dict(subject._sets._compact)
                function()
                for layer, compact in subject._sets._compact.items():
                    if compact is not before.get(layer):
                        compact.keys.fill_(float("nan"))
                raise torch.cuda.OutOfMemoryError("out of memory")

    def engine() -> Engine:
        found = Engine(model, METHODS[name], Static(tokens_per_step=2))
        found.operations = StaticTorch() if static else found.operations
        return found

    plain, failing = written(engine(), [75, 64]), engine()
    failing.recording = Failing
    with pytest.warns(RuntimeWarning, match="goes on without recordings: OutOfMemoryError: out of memory"):
        recorded = written(failing, [75, 64])
    assert told(recorded) == told(plain)
    assert len(made) == 1 and failing.recording is None


def test_an_error_of_the_work_itself_is_raised(model: LanguageModel) -> None:
    class Broken(Emulated):
        def __init__(self, function: Any, subject: Any, memory: Any) -> None:
            tried.append(True)
            raise RuntimeError("no graph")

    tried: list[bool] = []
    engine = Engine(model, Dense(), Static(tokens_per_step=2))
    engine.recording = Broken
    attend = engine.operations.exact

    def exact(*given: Any) -> Any:
        if tried:
            raise ArithmeticError("the work's own")
        return attend(*given)

    engine.operations.exact = exact  # type: ignore[method-assign]
    with pytest.warns(RuntimeWarning, match="RuntimeError: no graph"), pytest.raises(ArithmeticError):
        written(engine, [75])


class FakeGraph:
    """What torch offers, on a machine without a GPU."""

    told: ClassVar[list[object]] = []
    ends: ClassVar[bool] = True

    def capture_begin(self, **options: object) -> None:
        FakeGraph.told.append(("begin", options["pool"]))

    def capture_end(self) -> None:
        FakeGraph.told.append("end")
        if not self.ends:
            raise RuntimeError("operation failed due to a previous error during capture")

    def pool(self) -> object:
        return id(self)

    def replay(self) -> None:
        FakeGraph.told.append("replay")


@pytest.fixture
def fake_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, value in {
        "CUDAGraph": FakeGraph,
        "current_stream": lambda: stream,
        "current_device": lambda: 0,
        "stream": lambda chosen: nullcontext(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(captured, "capture_stream", lambda device: stream)
    monkeypatch.setattr(graph_memory, "_smallest", lambda pool=None: FakeGraph())

    def closed(device: int, pool: object) -> None:
        FakeGraph.told.append(("closed", pool))

    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", closed, raising=False)
    monkeypatch.setattr(FakeGraph, "told", [])


@pytest.mark.usefixtures("fake_graphs")
def test_graphs_of_a_kind_share_memory_over_generations(model: LanguageModel) -> None:
    prompts = [prompt(75, seed=1)]
    for _ in range(2):
        engine = Engine(model, Dense(), Static(tokens_per_step=8))
        engine.operations, engine.recording = StaticTorch(), Graph
        (result,) = engine.generate(engine.prefill(prompts, [40]))
        assert sum(block.captures for block in result.trace.blocks) == 2
    begun = [one[1] for one in FakeGraph.told if isinstance(one, tuple)]
    assert len(begun) == 4 and begun[:2] == begun[2:] and begun[0] != begun[1], "steps and commits, twice"


@pytest.mark.usefixtures("fake_graphs")
@pytest.mark.parametrize("ends", [True, False])
def test_a_capture_that_fails_is_closed(model: LanguageModel, ends: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ValueError("asks the host")

    monkeypatch.setattr(FakeGraph, "ends", ends)
    memory = graph_memory.GraphMemory()
    subject: Any = SimpleNamespace(silence=lambda: None)
    with pytest.raises(ValueError if ends else RuntimeError):
        Graph(fail, subject, memory)
    assert FakeGraph.told == [("begin", memory.pool), "end", ("closed", memory.pool)]


def test_memory_of_graphs_lives_as_long_as_the_body() -> None:
    body = torch.nn.Linear(1, 1)
    memories = graph_memory.graph_memories(body)
    assert graph_memory.graph_memories(body) is memories
    held = weakref.ref(memories["a kind"])
    del body, memories
    gc.collect()
    assert held() is None
