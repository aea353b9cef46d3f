"""A random checkpoint that speaks the tiny language, and a way to give a command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from tasks.tiny_words import VOCABULARY
from tests.conftest import write_checkpoint

# What needs Hydra and pydantic is imported where it is used: the speed suite's tests run on machines without.
if TYPE_CHECKING:
    from runners.record import CellRecord

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
    from runners.record import CellRecord

    found = {}
    for path in sorted(folder.glob("*/record.json")):
        record = CellRecord.model_validate_json(path.read_bytes())
        found[f"{record.labels.method}-{record.labels.budget or 'all'}"] = record
    return found


def outcome(folder: Path) -> dict[str, Any]:
    """Everything that an experiment says but for what a clock or a meter says."""
    from runners.record import CellRecord

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


def last_of_each(overrides: Iterable[str]) -> list[str]:
    """Drop the overrides of fields that are given again later, which a command line may not hold."""
    found: dict[str, str] = {}
    for override in overrides:
        field = override.partition("=")[0].lstrip("+~")
        found.pop(field, None)  # it takes the place of the later one
        found[field] = override
    return list(found.values())


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
    """Give a command line with the overrides of `small`; of a field given again the last one counts. Returns the exit
    status."""
    from run import CONF, main
    from runners.command import command_line

    def give(*arguments: str) -> int:
        return command_line(last_of_each([*small, *arguments]), CONF, main)

    return give
