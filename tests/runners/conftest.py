"""A random checkpoint that speaks the tiny language, and a way to give a command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from run import CONF, main
from runners.command import command_line
from runners.record import CellRecord
from tasks.tiny_words import VOCABULARY
from tests.conftest import write_checkpoint

ROOT = Path(__file__).resolve().parents[2]


def write_tiny_checkpoint(folder: Path, seed: int = 0) -> Path:
    """Write a random checkpoint of the tiny language and return its folder."""
    write_checkpoint(folder, seed, vocab_size=len(VOCABULARY), max_position_embeddings=8192)
    words = {word: index for index, word in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=VOCABULARY[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def records(folder: Path) -> dict[str, CellRecord]:
    """The records of an experiment by method and budget, such as `mage-16`."""
    found = {}
    for path in sorted(folder.glob("*/record.json")):
        record = CellRecord.model_validate_json(path.read_bytes())
        found[f"{record.labels.method}-{record.labels.budget or 'all'}"] = record
    return found


def outcome(folder: Path) -> dict[str, Any]:
    """Everything that an experiment says but for what a clock or a meter says."""
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*/record.json")):
        record = CellRecord.model_validate_json(path.read_bytes())
        told = record.model_dump(exclude={"environment", "metrics", "config", "examples"})
        measured = ("seconds", "memory", "second")
        told["metrics"] = {k: v for k, v in record.metrics.items() if not any(word in k for word in measured)}
        lines = (path.parent / "examples.jsonl").read_text().splitlines()
        told["examples"] = [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]
        found[path.parent.name] = told
    return found


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where the results of `run` go."""
    return tmp_path / "out" / "t"


@pytest.fixture
def small(tiny_checkpoint: Path, out: Path) -> list[str]:
    """Overrides of cells that take milliseconds and decode some tokens in sparse steps."""
    return [
        f"model.weights={tiny_checkpoint}",
        f"output_dir={out.parent}",
        f"name={out.name}",
        "task.lengths=[128]",
        "task.needles=4",
        "task.asked=2",
        "examples=4",
        "budget=16",
        "dense_layers=1",
        "decoding.tokens_per_step=4",
        "tracker=none",
    ]


@pytest.fixture
def run(small: list[str]) -> Callable[..., int]:
    """Give a command line with the overrides of `small`. Returns the exit status."""

    def give(*arguments: str) -> int:
        named = [argument.split("=")[0] for argument in arguments]
        return command_line([*(s for s in small if s.split("=")[0] not in named), *arguments], CONF, main)

    return give
