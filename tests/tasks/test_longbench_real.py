"""LongBench on real examples: MAGE_BENCH_MINILONGBENCH names a folder of the official jsonl files, whole or in part.

Rows may have a field `prompt_equals_official`; it is about where they came from, and all rows get the official prompt.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from tasks.longbench.benchmark import LongBench
from tasks.longbench.datasets import DATASETS, new_tokens_of, prompt_of

FOLDER = os.environ.get("MAGE_BENCH_MINILONGBENCH")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="MAGE_BENCH_MINILONGBENCH names no folder of LongBench's files")
BLOCK = 32


class Pairs:
    """Byte-pair encoding trained on the sample, with ChatML."""

    def __init__(self) -> None:
        self._inner = tokenizers.Tokenizer(models.BPE())
        self._inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        self._inner.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=4000, show_progress=False, initial_alphabet=alphabet)
        examples = LongBench(dataset="qmsum", data="sample").examples(self, None, 0, BLOCK)
        self._inner.train_from_iterator([made.context for made in examples], trainer)

    def encode(self, text: str) -> list[int]:
        return list(self._inner.encode(text).ids)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._inner.decode(list(ids)))

    def chat(self, text: str) -> str:
        return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


@cache
def tokenizer() -> Pairs:
    return Pairs()


def rows(dataset: str) -> list[dict[str, Any]]:
    lines = (Path(str(FOLDER)) / f"{dataset}.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line]


@pytest.mark.parametrize("dataset", DATASETS)
def test_real_examples(dataset: str) -> None:
    task = LongBench(dataset=dataset, data=str(FOLDER))
    examples = task.examples(tokenizer(), None, 0, BLOCK)
    expected = sorted(prompt_of(dataset).format(**row) for row in rows(dataset))
    assert sorted(made.context + made.question for made in examples) == expected
    assert len({made.id for made in examples}) == len(examples)
    for made in examples:
        assert all(task.score(made, gold).exact for gold in made.references)
        assert task.score(made, "").value == 0
    answer = -(-new_tokens_of(dataset) // BLOCK) * BLOCK
    for made in sorted(examples, key=lambda made: len(made.context))[-2:]:
        text = made.context + made.question
        ids = tokenizer().encode(text)
        for positions in (2048, 8192):
            prompt = task.prompt(made, tokenizer(), BLOCK, positions)
            shown = tokenizer().decode(prompt.tokens)
            assert len(prompt.tokens) <= positions - answer
            assert (prompt.truncated_tokens > 0) == (text not in shown)
            assert len(prompt.tokens) >= min(len(ids), positions - answer - 30)
            assert text[:200] in shown
            assert text[-100:].strip() in shown
