"""A sweep over questions that share contexts: each context is prefilled once, for every method and block size."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mage.generation.engine import Engine
from mage.generation.prefill import Prefix
from mage.models.checkpoint import LanguageModel, load_model
from mage.models.source import Source
from runners.material import Question, _common_tokens, _sharing
from runners.record import CellRecord
from tasks.task import Example, Prompt
from tests.conftest import spec, write_checkpoint
from tests.mage.adapters import random_adapter
from tests.runners.conftest import outcome

TASK = [
    *("task=needle_kv", "task.lengths=[900]", "task.buffer=500", "task.needles=4", "task.asked=1", "task.questions=2"),
    *("task.max_new_tokens=6", "model.tokenizer=bytes", "examples=5", "dense_layers=1", "budget=32"),
    *("model.prefix_attention=causal", "model.anchored=true", "decoding.tokens_per_step=4"),
]


@pytest.fixture
def causal(tmp_path: Path) -> str:
    """A causal model that reads bytes."""
    folder = write_checkpoint(tmp_path / "bytes", vocab_size=300, max_position_embeddings=2048)
    return f"model.weights={folder}"


@pytest.fixture
def prefilled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of the common parts that were prefilled."""
    found: list[int] = []
    original = Engine.prefill_common

    def count(self: Engine, tokens: list[int]) -> Prefix:
        found.append(len(tokens))
        return original(self, tokens)

    monkeypatch.setattr(Engine, "prefill_common", count)
    return found


def rows(folder: Path) -> list[list[dict[str, Any]]]:
    return [[json.loads(line) for line in path.read_text().splitlines()] for path in folder.glob("*/examples.jsonl")]


def test_each_context_is_prefilled_once_for_all_cells(
    run: Callable[..., int], out: Path, causal: str, prefilled: list[int]
) -> None:
    assert run("-m", *TASK, causal, "method=mage,quest", "model.block_size=4,8") == 0
    assert len(prefilled) == 3, "five questions about three contexts, dense and two methods, two block sizes"
    cells = rows(out)
    assert len(cells) == 6
    for cell in cells:
        assert [row["labels"]["context"][-1] for row in cell] == ["0", "0", "1", "1", "2"]
        assert [row["shared_tokens"] for row in cell] == [prefilled[i] for i in (0, 0, 1, 1, 2)]
        assert all(row["prefix_tokens"] == row["prompt_tokens"] > row["shared_tokens"] for row in cell)

    prefilled.clear()
    for method, size in itertools.product(("dense", "mage", "quest"), (4, 8)):
        alone = (f"method={method}", f"model.block_size={size}", "dense_reference=false", "name=anew")
        assert run(*TASK, causal, *alone) == 0
    assert len(prefilled) == 6 * 3
    assert outcome(out.parent / "anew") == {
        name: {**told, "experiment": "anew"} for name, told in outcome(out).items()
    }, "answers are the same to the last bit, whoever asked before"


def test_the_seconds_of_a_context_are_split_evenly(
    run: Callable[..., int], out: Path, causal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, own = Engine.prefill_common, Engine.prefill

    def slow(self: Engine, tokens: list[int]) -> Prefix:
        prefix = original(self, tokens)
        prefix.seconds = 8.0
        return prefix

    def quick(self: Engine, *arguments: Any, **named: Any) -> Prefix:
        prefix = own(self, *arguments, **named)
        prefix.seconds = 1.0
        return prefix

    monkeypatch.setattr(Engine, "prefill_common", slow)
    monkeypatch.setattr(Engine, "prefill", quick)
    assert run(*TASK, causal, "method=dense") == 0
    assert [row["seconds"]["prefill"] for row in rows(out)[0]] == [5, 5, 5, 5, 9]
    (path,) = out.glob("*/record.json")
    assert CellRecord.model_validate_json(path.read_bytes()).metrics["seconds_prefill"] == pytest.approx(29 / 5)


def test_questions_that_stand_alone_share_between_block_sizes(
    run: Callable[..., int], causal: str, prefilled: list[int]
) -> None:
    assert run("-m", *TASK, causal, "task.questions=1", "method=mage", "model.block_size=4,8", "examples=2") == 0
    assert len(prefilled) == 2


def test_an_adapter_changes_no_prefix_and_loads_no_weights_again(
    run: Callable[..., int], out: Path, causal: str, prefilled: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = causal.removeprefix("model.weights=")
    random_adapter(load_model(place, spec()).body).write(out.parent / "adapter", torch.float32, "base")
    loads: list[object] = []

    def count(source: Source, *arguments: Any, **named: Any) -> LanguageModel:
        loads.append(source)
        return load_model(source, *arguments, **named)

    monkeypatch.setattr("runners.sweeping.workbench.load_model", count)
    adapted = [*TASK, causal, "method=dense", "model.block_size=1,8", f"model.adapter=null,{out.parent / 'adapter'}"]
    assert run("-m", *adapted) == 0
    assert (len(loads), len(prefilled)) == (1, 3)
    shared = outcome(out)
    for place in out.glob("*"):
        config = CellRecord.model_validate_json((place / "record.json").read_bytes()).config["model"]
        one = [f"model.block_size={config['block_size']}", f"model.adapter={config['adapter'] or 'null'}"]
        assert run(*TASK, causal, "method=dense", *one, f"name={place.name}") == 0
        (alone,) = outcome(out.parent / place.name).values()
        assert alone | {"experiment": "t"} == shared[place.name]
    assert len({str(told["examples"]) for told in shared.values()}) == 3, "blocks of one token need no adapter"


def test_a_model_with_block_causal_prefixes_shares_nothing(
    run: Callable[..., int], out: Path, causal: str, prefilled: list[int]
) -> None:
    assert run(*TASK, causal, "model.prefix_attention=block_causal", "model.anchored=false", "method=dense") == 0
    assert not prefilled and {row["shared_tokens"] for row in rows(out)[0]} == {0}


def test_a_batch_is_prefilled_together(run: Callable[..., int], out: Path, causal: str, prefilled: list[int]) -> None:
    assert run(*TASK, causal, "method=dense", "runner.batch_size=2") == 0
    assert len(prefilled) == 1, "the last question is a batch of its own"
    assert [row["shared_tokens"] > 0 for row in rows(out)[0]] == [False] * 4 + [True]


def prompt(tokens: list[int], start: int) -> Prompt:
    return Prompt(tokens, 0, 0, start)


def test_the_common_part_ends_before_the_question_and_where_prompts_part() -> None:
    assert _common_tokens([prompt([1, 2, 3, 4, 5], 3)]) == 3
    assert _common_tokens([prompt([1, 2, 3, 4, 5], 3), prompt([1, 2, 3, 4, 6], 3)]) == 3
    assert _common_tokens([prompt([1, 2, 3, 4], 3), prompt([1, 9, 3, 4], 3), prompt([1, 2, 3, 5], 3)]) == 1


def test_only_labelled_questions_share() -> None:
    def question(tokens: list[int], **labels: str) -> Question:
        return Question(Example("x", "", "", ("y",), 4, dict(labels)), prompt(tokens, 2))

    mixed = [question([1, 2, 3], context="a"), question([4, 5, 6], context="b"), question([1, 2, 4], context="a")]
    assert [(q.shared_tokens, q.sharers) for q in _sharing(mixed)] == [(2, 2), (2, 1), (2, 2)]
    plain = [question([1, 2, 3])]
    assert _sharing(plain) == plain
