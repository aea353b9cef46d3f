"""Which leading lines of an examples file stand, and what is wrong with the first that does not."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from runners.store.checksums import checksum


@dataclass(frozen=True)
class Lines:
    """`rows` of the lines that stand; `ends[n]`: bytes of the first n of them. `trouble`: what is wrong with the next
    line; None where the file ends there, or in a line that was never written whole."""

    rows: list[BaseModel]
    ends: list[int]
    trouble: str | None


def read_lines(
    content: bytes,
    row_type: type[BaseModel],
    sums: Mapping[int, tuple[int, str]],
    *,
    ids: Sequence[str] | None = None,
    strict: bool = False,
) -> Lines:
    """Read the leading lines that validate, are as their checksums say, and carry the expected ids.

    sums: length and checksum of lines by their offset. ids: None: any, each once. strict: what has no checksum is
        not trusted.
    """
    rows: list[BaseModel] = []
    ends = [0]
    seen: set[str] = set()
    for line in io.BytesIO(content):  # which ends a line at a newline and nowhere else
        number, start = len(rows) + 1, ends[-1]
        told = sums.get(start)
        if not line.endswith(b"\n") and (told is None or len(line) < told[0]):
            break
        if told is None and strict:
            return Lines(rows, ends, f"no checksum tells whether line {number} is what was written")
        if told is not None and told != (len(line), checksum(line)):
            return Lines(rows, ends, f"line {number} is not what was written: its checksum differs")
        try:
            row = row_type.model_validate_json(line)
        except ValidationError as error:
            return Lines(rows, ends, f"line {number}: {first_finding(error)}")
        found = row.model_dump(include={"id"})["id"]
        if ids is not None and len(rows) == len(ids):
            return Lines(rows, ends, f"line {number} is one too many")
        if ids is not None and found != ids[len(rows)]:
            return Lines(rows, ends, f"line {number} is of example {found}, not of {ids[len(rows)]}")
        if found in seen:
            return Lines(rows, ends, f"line {number}: example {found} stands there already")
        seen.add(found)
        rows.append(row)
        ends.append(start + len(line))
    return Lines(rows, ends, None)


def first_finding(error: ValidationError) -> str:
    """Return field and message of the first thing that a schema refused, in one line."""
    found = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(map(str, found["loc"]))
    return f"field {field}: {found['msg']}" if field else found["msg"]
