"""A task in the embedded model's own language is for models that have its words."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from run import CONF, main
from runners.command import command_line
from tasks.tiny_words import VOCABULARY
from tests.conftest import write_checkpoint
from tests.runners.override_sets import SMALL_BODY

CLOSED = ("niah", "aggregation", "kv_retrieval", "multi_value", "pointer_chase", "niah_grid")


@pytest.fixture
def reader(tmp_path: Path) -> str:
    """A checkpoint that reads letter by letter."""
    folder = write_checkpoint(tmp_path / "reader", vocab_size=300, max_position_embeddings=8192)
    letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(letters, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.save(str(folder / "tokenizer.json"))
    return f"model.weights={folder}"


@pytest.mark.parametrize("task", CLOSED)
def test_another_model_is_refused(task: str, reader: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    given = [f"task={task}", reader, "model.name=reader", "tracker=none", f"output_dir={tmp_path / 'out'}"]
    assert command_line(given, CONF, main) == 2
    printed = capfd.readouterr()
    words = VOCABULARY[4:]  # but for the marks
    split = [word for word in words if len(word) > 1]
    assert printed.out == "" and printed.err.count("\n") == 1
    told = f"task.language=tiny: the tokenizer of model=reader splits {len(split)} of the {len(words)} words of the"
    assert printed.err.startswith(told)
    assert printed.err.endswith("Allowed: model=tiny, or task.language=english, or a task in another language.\n")
    assert not (tmp_path / "out").exists()


def test_random_weights_may_stand_for_a_model(tmp_path: Path) -> None:
    body = [f"++model.{field}={value}" for field, value in SMALL_BODY.items()]
    small = ["task.lengths=[512]", "examples=1", "dense_layers=1", "method=dense", "tracker=none"]
    assert command_line([*body, *small, f"output_dir={tmp_path}", "task.needles=2", "task.asked=1"], CONF, main) == 0
