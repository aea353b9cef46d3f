"""Key-value retrieval from a JSON object of random identifiers (Liu et al. 2023, Lost in the Middle, section 3)."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, ClassVar
from uuid import UUID

from tasks.drawn import Draw, Drawn, DrawnTask
from tasks.errors import TaskError, refused
from tasks.fields import require_sizes
from tasks.task import Evidence, Example, Label, Score, Tokenizer

MAX_PAIRS = 100_000

Pair = tuple[str, str]


@dataclass(frozen=True)
class Record:
    """One object and the pair that is asked for."""

    pairs: tuple[Pair, ...]
    asked: Pair


@dataclass(kw_only=True)
class JsonRetrieval(DrawnTask):
    """The context is a JSON object of `pairs` UUID keys and values; the question names one key.

    Prompt, layout and score are those of github.com/nelson-liu/lost-in-the-middle (src/lost_in_the_middle/prompting.py,
    scripts/evaluate_kv_responses.py), whose 75, 140 and 300 pairs are the paper's.

    pairs: one number or several. depths: the asked pair is moved to the nearest place, 0 is the first pair, 1 the last.
    data: `generated`, or a .jsonl or .jsonl.gz file in that repository's format; each record is asked at each depth, in
    an order shuffled by the seed, and has `pairs` pairs.

    The label `length` is the tokens of the context in a fixed draw of the cell; examples differ by about a hundredth.
    Value and exact: the value stands somewhere in the answer, in whatever case.
    """

    name: ClassVar[str] = "kv_json"
    metric = "value in the answer"
    elsewhere: ClassVar[frozenset[str]] = frozenset({"data"})

    max_new_tokens: int = 100
    pairs: int | Sequence[int] = (75,)
    data: str = "generated"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.pairs = self.sizes()
        if not isinstance(self.data, str) or not self.data:
            raise refused("data", self.data, "allowed are generated or a .jsonl or .jsonl.gz file")
        if self.data != "generated":
            self.source = "file"
            if len(self.pairs) > 1:
                raise refused("pairs", list(self.pairs), "allowed beside a file is one number, that of its pairs")

    def sizes(self) -> tuple[int, ...]:
        """See DrawnTask: the numbers of pairs."""
        return require_sizes("pairs", self.pairs, 2, MAX_PAIRS)

    def material(self) -> list[str]:
        """See DrawnTask: the records of a file."""
        return [] if self.data == "generated" else [hashlib.sha256(repr(self._records()).encode()).hexdigest()]

    def drawer(self, tokenizer: Tokenizer) -> Draw:
        """See DrawnTask."""
        lengths: dict[int, int] = {}

        def draw(rng: Random, pairs: int, depth: float | None) -> Drawn:
            record = generated(rng, pairs)
            if pairs not in lengths:
                lengths[pairs] = len(tokenizer.encode(_context(generated(Random(0), pairs).pairs)))
            return _drawn(record, depth, lengths[pairs])

        return draw

    def examples(self, tokenizer: Tokenizer, count: int | None, seed: int, block_size: int) -> list[Example]:
        """See Task."""
        if self.data == "generated":
            return super().examples(tokenizer, count, seed, block_size)
        records = self._records()
        length = len(tokenizer.encode(_context(records[0].pairs)))
        order = Random(seed).sample(range(len(records)), len(records))
        cells = [(index, depth) for index in order for _, depth in self.cells()]
        content = self.content_hash
        made = []
        for index, depth in cells[: self.counted(count, len(cells))]:
            at = "" if depth is None else f"-d{depth:g}"
            drawn = _drawn(records[index], depth, length)
            made.append(self.example(f"{self.name}-{content[:8]}-r{index:05d}{at}", drawn, depth))
        return made

    def score(self, example: Example, prediction: str) -> Score:
        """See Task."""
        found = example.references[0].lower() in prediction.lower()
        return Score(float(found), found)

    def _records(self) -> tuple[Record, ...]:
        records = read_records(self.data)
        wanted = self.sizes()[0]
        for line, record in enumerate(records, 1):
            if len(record.pairs) != wanted:
                raise refused("pairs", wanted, f"line {line} of {self.data} has {len(record.pairs)}")
        return records


def generated(rng: Random, pairs: int) -> Record:
    """Random UUIDs of version 4, and one of the pairs."""
    made: dict[str, str] = {}
    while len(made) < pairs:
        made[_uuid(rng)] = _uuid(rng)
    rows = tuple(made.items())
    return Record(rows, rng.choice(rows))


@lru_cache(maxsize=4)
def read_records(path: str) -> tuple[Record, ...]:
    """The records of a file whose lines hold `ordered_kv_records`, `key` and `value`.

    Raises TaskError with the file and the line for what cannot be read.
    """
    file = Path(path)
    if not file.is_file():
        raise refused("data", path, "there is no such file; allowed are generated or a .jsonl or .jsonl.gz file")
    try:
        raw = file.read_bytes()
        text = (gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw).decode()
    except (OSError, EOFError, ValueError) as error:
        raise refused("data", path, f"the file cannot be read ({error})") from error
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise refused("data", path, "the file holds no records")
    return tuple(_record(path, number, line) for number, line in lines)


def _record(path: str, number: int, line: str) -> Record:
    try:
        told: dict[str, Any] = json.loads(line)
        pairs = tuple((key, value) for key, value in told["ordered_kv_records"])
        asked = (told["key"], told["value"])
    except (ValueError, TypeError, KeyError) as error:
        raise TaskError(f"{path}, line {number}: no record of ordered_kv_records, key and value ({error!r})") from error
    if not all(isinstance(word, str) for pair in pairs for word in pair):
        raise TaskError(f"{path}, line {number}: a key or a value is not a text")
    if asked not in pairs or len({key for key, _ in pairs}) < len(pairs):
        raise TaskError(f"{path}, line {number}: the asked pair is not in the object, or keys occur twice")
    return Record(pairs, asked)


def _drawn(record: Record, depth: float | None, length: int) -> Drawn:
    pairs = list(record.pairs)
    if depth is not None:
        pairs.remove(record.asked)
        pairs.insert(round(depth * len(pairs)), record.asked)
    key, value = record.asked
    question = f'\n\nKey: "{key}"\nCorresponding value:'
    labels: dict[str, Label] = {"length": length, "pairs": len(pairs)}
    return Drawn(_context(pairs), question, (value,), labels, evidence=(Evidence(_row(key, value), value),))


def _context(pairs: Sequence[Pair]) -> str:
    rows = ",\n ".join(_row(key, value) for key, value in pairs)
    return f"Extract the value corresponding to the specified key in the JSON object below.\n\nJSON data:\n{{{rows}}}"


def _row(key: str, value: str) -> str:
    return f'"{key}": "{value}"'


def _uuid(rng: Random) -> str:
    return str(UUID(int=rng.getrandbits(128), version=4))
