"""LongBench v2 (Bai et al. 2024, arXiv:2412.15204): questions with four choices about contexts of 8k to 2M words."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any, ClassVar

from tasks.errors import TaskError
from tasks.longbench.rows import parsed, text_of
from tasks.sources import HubFile, Location, digest, kind_of, locate, read
from tasks.task import Example, Score, Tokenizer
from tasks.text_task import TextTask

FILE = "data.json"
HUB = HubFile(("THUDM/LongBench-v2", "zai-org/LongBench-v2"), FILE)
NEW_TOKENS = 128

BEFORE = "Please read the following text and answer the question below.\n\n<text>\n"
AFTER = """
</text>

What is the correct answer to this question: $Q$
Choices:
(A) $C_A$
(B) $C_B$
(C) $C_C$
(D) $C_D$

Format your response as follows: "The correct answer is (insert answer here)"."""

MARKS = {"$Q$": "question", "$C_A$": "choice_A", "$C_B$": "choice_B", "$C_C$": "choice_C", "$C_D$": "choice_D"}
ANSWERS = (re.compile(r"The correct answer is \(([A-D])\)"), re.compile(r"The correct answer is ([A-D])"))


@dataclass(kw_only=True)
class LongBenchV2(TextTask):
    """The 503 questions, asked without reasoning.

    data: `hub` (data.json of THUDM/LongBench-v2), or a folder that holds data.json, the list of all rows.

    Prompt (prompts/0shot.txt), limit of new tokens and extraction of the answer follow pred.py of THUDM/LongBench
    (MIT licence). Three things differ: pred.py samples at temperature 0.1; it decodes the two ends of a prompt that
    is too long in one piece, where this task decodes each for itself, like LongBench v1; and it drops a question whose
    answer is empty, which scores 0 here.
    """

    name: ClassVar[str] = "longbench_v2"
    version: ClassVar[int] = 1
    """Raised when prompts or scores change."""
    metric = "accuracy"

    data: str = "hub"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.source = kind_of(self.data)

    @property
    def content_hash(self) -> str:
        """Over the file's bytes and all that decides examples and scores. See Task."""
        asked = [BEFORE, AFTER, NEW_TOKENS]
        _read_examples(self._location())  # what is wrong with the file is told before a model is loaded
        content = [self.name, self.version, asked, digest(self._location())]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def examples(self, tokenizer: Tokenizer, count: int | None, seed: int, block_size: int) -> list[Example]:
        """See Task. Raises TaskError for a file that is not as published."""
        made = list(_read_examples(self._location()))
        Random(seed).shuffle(made)
        return made[:count]

    def score(self, example: Example, prediction: str) -> Score:
        """See Task: 1 when the letter that the prediction names is the gold's."""
        right = chosen(prediction) == example.references[0]
        return Score(float(right), right)

    def _location(self) -> Location:
        return locate(self.data, FILE, HUB)


def chosen(prediction: str) -> str | None:
    """The letter that a prediction names in the wanted form, with or without brackets; asterisks do not count."""
    text = prediction.strip().replace("*", "")
    for pattern in ANSWERS:
        if match := pattern.search(text):
            return match.group(1)
    return None


@lru_cache(maxsize=1)
def _read_examples(location: Location) -> tuple[Example, ...]:
    rows = parsed(read(location), location.label)
    if not isinstance(rows, list) or not rows:
        raise TaskError(f"{location.label}: not a list of rows")
    return tuple(_example(row, f"{location.label}: row {number}") for number, row in enumerate(rows, start=1))


def _example(row: Any, where: str) -> Example:
    texts = {mark: text_of(row, field, where).strip() for mark, field in MARKS.items()}
    answer = text_of(row, "answer", where)
    if answer not in ("A", "B", "C", "D"):
        raise TaskError(f"{where}: the field answer is {answer!r}; allowed are A, B, C, D")
    return Example(
        id=text_of(row, "_id", where),
        context=_filled(BEFORE + text_of(row, "context", where).strip(), texts),
        question=_filled(AFTER, texts),
        references=(answer,),
        max_new_tokens=NEW_TOKENS,
        labels={field: text_of(row, field, where) for field in ("difficulty", "length", "domain")},
        chat=True,
    )


def _filled(text: str, texts: dict[str, str]) -> str:
    """Replace one mark after the other in all of the text, and so in what replaced an earlier one, as pred.py does."""
    for mark, value in texts.items():
        text = text.replace(mark, value)
    return text
