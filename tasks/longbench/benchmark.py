"""LongBench v1 (Bai et al. 2023, arXiv:2308.14508) and LongBench-E: one task a data set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from tasks.errors import unknown_name
from tasks.longbench.datasets import DATASETS, EXTENDED, new_tokens_of, prompt_of
from tasks.longbench.rows import Row, checked_digest, read_rows
from tasks.sources import HubFile, Location, kind_of, locate
from tasks.task import Example, Label, Score, Tokenizer
from tasks.text_task import TextTask

HUB = HubFile(("THUDM/LongBench", "zai-org/LongBench"), "data.zip")
FULL = 1 - 1e-6
"""What ROUGE-L gives a text that equals the gold is less than 1 by 5e-9."""


@dataclass(kw_only=True)
class LongBench(TextTask):
    """One of the 21 data sets, with the published prompt, limit of new tokens, truncation, metric and cut.

    dataset: its name, such as hotpotqa.
    data: `hub` (data.zip of THUDM/LongBench), `sample` (a few examples of four data sets, shipped), or a folder that
        holds <dataset>.jsonl or data.zip.
    max_prompt_tokens: what pred.py calls max_length; null: as long as the model's positions allow.

    Scores are from 0 to 1: their mean x 100, rounded to two decimals, is the number of the published eval.py. The order
    of examples is shuffled by the seed. A classification's class names are those of the file's last row, as in eval.py.
    """

    name: ClassVar[str] = "longbench"
    version: ClassVar[int] = 1
    """Raised when prompts or scores change."""
    suffix: ClassVar[str] = ""
    """Of the file's name."""

    dataset: str
    data: str = "hub"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dataset not in self.datasets():
            raise unknown_name("dataset", self.dataset, self.datasets())
        self.metric = DATASETS[self.dataset].label
        self.source = kind_of(self.data)

    @classmethod
    def datasets(cls) -> Iterable[str]:
        """The names that `dataset` may have."""
        return DATASETS

    @property
    def content_hash(self) -> str:
        """Over the file's bytes and all that decides examples and scores. See Task."""
        asked = [prompt_of(self.dataset), new_tokens_of(self.dataset)]
        content = [self.name, self.version, self.dataset, asked, checked_digest(self._location(), self.dataset)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def examples(self, tokenizer: Tokenizer, count: int | None, seed: int, block_size: int) -> list[Example]:
        """See Task. Raises TaskError for a file that is not as published."""
        rows = list(self._rows())
        Random(seed).shuffle(rows)
        return [self._example(row) for row in rows[:count]]

    def score(self, example: Example, prediction: str) -> Score:
        """See Task: the best score over the golds. `exact`: the metric's full score."""
        dataset = DATASETS[self.dataset]
        if dataset.first_line:
            prediction = prediction.lstrip("\n").split("\n")[0]
        classes = self._rows()[-1].classes if dataset.classifies else ()
        value = max(dataset.metric(prediction, gold, classes) for gold in example.references)
        return Score(value, value >= FULL)

    def labels(self, row: Row) -> dict[str, Label]:
        """What tables may group examples by. `words`: characters where the text is Chinese."""
        return {"words": row.length}

    def _example(self, row: Row) -> Example:
        # Joined they are `prompt.format(**row)`: in every prompt the context comes first.
        before, _, after = prompt_of(self.dataset).partition("{context}")
        dataset = DATASETS[self.dataset]
        return Example(
            id=row.id,
            context=before + row.context,
            question=after.format(input=row.input),
            references=row.answers,
            max_new_tokens=new_tokens_of(self.dataset),
            labels=self.labels(row),
            stop_texts=dataset.stop_texts,
            chat=not dataset.few_shot,
        )

    def _rows(self) -> tuple[Row, ...]:
        return read_rows(self._location(), self.dataset)

    def _location(self) -> Location:
        return locate(self.data, f"{self.dataset}{self.suffix}.jsonl", HUB)


@dataclass(kw_only=True)
class LongBenchE(LongBench):
    """One of the 13 data sets of LongBench-E: files <dataset>_e.jsonl, lengths sampled evenly.

    The label `bucket` is eval.py's: 0-4k, 4-8k or 8k+ words.
    """

    name: ClassVar[str] = "longbench_e"
    suffix: ClassVar[str] = "_e"

    @classmethod
    def datasets(cls) -> Iterable[str]:
        return EXTENDED

    def labels(self, row: Row) -> dict[str, Label]:
        bucket = "0-4k" if row.length < 4000 else "4-8k" if row.length < 8000 else "8k+"
        return {**super().labels(row), "bucket": bucket}
