"""Which implementation of attention runs, and that both write the same tokens."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from baselines.dense import Dense
from baselines.flash_block import FlashBlock
from baselines.quest import Quest
from mage.attention import implementation
from mage.attention.block import BlockAttention
from mage.attention.choice import Choice
from mage.attention.implementation import resolve
from mage.budget import Budget
from mage.errors import UserError
from mage.generation.decoding import Static
from mage.generation.engine import Engine
from mage.generation.session import Generation
from mage.mage import Mage
from mage.method import Method
from mage.models.checkpoint import LanguageModel, load_model
from tests.conftest import prompt, spec, write_checkpoint
from tests.mage.recordings import Emulated


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """One KV head and two layers: the interpreter takes a second for what a GPU does in a microsecond."""
    shape = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    folder = write_checkpoint(tmp_path_factory.mktemp("small"), **shape)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return load_model(folder, spec(), device=device)


@pytest.mark.parametrize(
    "method",
    [Dense(), Mage(dense_layers=1), Quest(dense_layers=1, page_size=4), FlashBlock(dense_layers=1, commit="sparse")],
    ids=["dense", "mage", "quest", "flash_block"],
)
def test_triton_writes_the_tokens_that_torch_writes(small_model: LanguageModel, method: Method) -> None:
    def written(attention: str) -> list[Generation]:
        engine = Engine(small_model, method, Static(tokens_per_step=4), attention=attention)
        return engine.generate(engine.prefill([prompt(20, 1), prompt(3, 2)], [7, 5]), Budget(6))

    for ours, theirs in zip(written("triton"), written("torch"), strict=True):
        assert ours.tokens == theirs.tokens
        assert ours.trace.forwards == theirs.trace.forwards and ours.trace.density == theirs.trace.density


def test_recorded_work_of_triton_serves_later_blocks(small_model: LanguageModel) -> None:
    """Exact steps, choices, sparse steps and commits of blocks of other lengths than those it was recorded in."""

    def written(attention: str, recorded: bool) -> list[Generation]:
        engine = Engine(small_model, Mage(dense_layers=1), Static(tokens_per_step=4), attention=attention)
        engine.recording = Emulated if recorded else None
        return engine.generate(engine.prefill([prompt(16, 1), prompt(8, 2)], [32, 32]), Budget(6))

    Emulated.kinds = set()
    ours, theirs = written("triton", recorded=True), written("torch", recorded=False)
    assert [g.tokens for g in ours] == [g.tokens for g in theirs]
    assert [g.trace.density for g in ours] == [g.trace.density for g in theirs]
    assert Emulated.kinds == {BlockAttention, Choice} and len(ours[0].trace.blocks) == 4


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    def say(found: bool) -> None:
        monkeypatch.setattr(implementation, "find_spec", lambda name: object() if found else None)

    return say


def test_auto_is_triton_on_a_gpu_and_torch_elsewhere(
    installed: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    installed(True)
    assert [resolve("auto", device) for device in ("cuda", "cpu")] == ["triton", "torch"]
    installed(False)
    assert [resolve("auto", device) for device in ("cuda", "cpu")] == ["torch", "torch"]


def test_auto_is_torch_on_a_gpu_that_is_too_old(
    installed: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for capability, expected in (((7, 5), "torch"), ((8, 0), "triton"), ((9, 0), "triton")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        assert resolve("auto", "cuda") == expected
        assert resolve("triton", "cuda") == "triton" and resolve("torch", "cuda") == "torch"


def test_auto_asks_the_gpu_that_was_chosen(installed: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch) -> None:
    installed(True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    found = {"cuda": (9, 0), "cuda:0": (9, 0), "cuda:1": (7, 5)}
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: found[device])
    # The third is not there: that is refused elsewhere.
    assert [resolve("auto", f"cuda:{n}") for n in range(3)] == ["triton", "torch", "triton"]


def test_triton_on_a_cpu_needs_the_interpreter(
    installed: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(True)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert resolve("triton", "cpu") == "triton"
    monkeypatch.delenv("TRITON_INTERPRET")
    with pytest.raises(UserError, match=r"attention=triton on model\.device=cpu .*TRITON_INTERPRET=1"):
        resolve("triton", "cpu")


def test_triton_that_is_not_installed_is_refused(installed: Callable[[bool], None]) -> None:
    installed(False)
    with pytest.raises(UserError, match=r"attention=triton: Triton is not installed\. Allowed here: auto, torch"):
        resolve("triton", "cuda")


def test_an_unknown_choice_is_refused_before_anything_else(model: LanguageModel) -> None:
    with pytest.raises(UserError, match=r"attention=tritn is not known; did you mean triton\?"):
        Engine(model, Dense(), Static(), attention="tritn")


def test_the_library_loads_without_triton() -> None:
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "import mage.generation.engine, mage.attention.triton_operations, baselines.quest, runners.cell"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
