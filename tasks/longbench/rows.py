"""The rows of LongBench's jsonl files: read line by line, every field checked."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tasks.errors import TaskError
from tasks.longbench.datasets import DATASETS
from tasks.sources import Location, digest, read


@dataclass(frozen=True)
class Row:
    """One row. `length` counts words (English, code) or characters (Chinese), as published. `classes`: may be empty."""

    id: str
    context: str
    input: str
    answers: tuple[str, ...]
    length: int
    classes: tuple[str, ...]


@lru_cache(maxsize=256)
def checked_digest(location: Location, dataset: str) -> str:
    """The digest of a file all of whose rows are as published: what is wrong is told before a model is loaded."""
    read_rows(location, dataset)
    return digest(location)


@lru_cache(maxsize=2)
def read_rows(location: Location, dataset: str) -> tuple[Row, ...]:
    """All rows of a file, in its order. Raises TaskError, with the line, for the first that is not as published."""
    rows = []
    seen: Counter[str] = Counter()
    # The lines of the bytes: the text's own splitlines ends lines at U+2028, which JSON strings may hold.
    for number, line in enumerate(read(location).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{location.label}:{number}"
        row = _row(parsed(line, where), dataset, where)
        seen[row.id] += 1
        rows.append(row if seen[row.id] == 1 else _renamed(row, seen[row.id]))
    if not rows:
        raise TaskError(f"{location.label}: the file has no rows")
    return tuple(rows)


def parsed(text: bytes, where: str) -> Any:
    """The value of a JSON text. Raises TaskError, with the place, for what is not JSON in UTF-8."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TaskError(f"{where}: not JSON: {error}") from error


def text_of(row: Any, field: str, where: str) -> str:
    """The text in a field of a row. Raises TaskError where there is none, or none that can be encoded."""
    value = row.get(field) if isinstance(row, Mapping) else None
    if not isinstance(value, str):
        raise TaskError(f"{where}: the field {field} is missing or no text")
    return _encodable(value, field, where)


def _row(row: Any, dataset: str, where: str) -> Row:
    context, asked = text_of(row, "context", where), text_of(row, "input", where)
    answers = _texts(row, "answers", where)
    if not answers:
        raise TaskError(f"{where}: the field answers is empty")
    pattern = DATASETS[dataset].gold
    if pattern is not None and not all(pattern.search(answer) for answer in answers):
        raise TaskError(f"{where}: the field answers has {list(answers)}; every answer must hold {pattern.pattern!r}")
    length = row.get("length")
    if isinstance(length, bool) or not isinstance(length, int):
        raise TaskError(f"{where}: the field length is missing or no whole number")
    classes = () if row.get("all_classes") is None else _texts(row, "all_classes", where)
    if DATASETS[dataset].classifies and not classes:
        raise TaskError(f"{where}: the field all_classes is missing or empty")
    own = row.get("_id")
    content = json.dumps([dataset, asked, context, answers])
    stable = f"{dataset}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    return Row(own if isinstance(own, str) and own else stable, context, asked, answers, length, classes)


def _texts(row: Mapping[str, Any], field: str, where: str) -> tuple[str, ...]:
    values = row.get(field)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TaskError(f"{where}: the field {field} is missing or no list of texts")
    return tuple(_encodable(value, field, where) for value in values)


def _encodable(text: str, field: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TaskError(f"{where}: the field {field} has half of a surrogate pair, which no tokenizer reads") from error
    return text


def _renamed(row: Row, occurrence: int) -> Row:
    """A row whose id another row has: ids must tell examples apart."""
    return Row(f"{row.id}-{occurrence}", row.context, row.input, row.answers, row.length, row.classes)
