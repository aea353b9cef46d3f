"""The task files of conf/ build what they say."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from tasks.generated import GeneratedTask
from tasks.task import Tokenizer

FILES = sorted((Path(__file__).parents[2] / "conf" / "task").glob("*.yaml"))
GENERATED = [
    file for file in FILES if file.stem in {"niah", "multi_value", "pointer_chase", "aggregation", "kv_retrieval"}
]


@pytest.mark.parametrize("file", GENERATED, ids=lambda file: file.stem)
def test_config_builds_the_defaults(file: Path, word_tokenizer: Tokenizer) -> None:
    assert file.read_text().startswith("# ")
    config = OmegaConf.load(file)
    task = instantiate(config)
    assert isinstance(task, GeneratedTask)
    assert task.name == file.stem
    assert {field.name for field in fields(task)} == set(config) - {"_target_"}
    # The defaults of the code and of the file are one set of examples.
    assert task.content_hash == type(task)().content_hash
    assert len(task.examples(word_tokenizer, 5, 0, 32)) == 5


def test_every_generated_task_has_a_file() -> None:
    assert len(GENERATED) == 5
