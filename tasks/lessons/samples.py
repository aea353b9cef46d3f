"""Answers that the base model wrote itself, read from a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random

from tasks.errors import TaskError
from tasks.lessons.lesson import Branch, Lesson


class Samples:
    """The lessons of a file of JSON lines `{context, prompt, answer, finished}`, ids each; grouped by context.

    Raises TaskError, naming file and line, for a file that cannot be read or holds nothing.
    """

    def __init__(self, path: str | Path) -> None:
        groups: dict[tuple[int, ...], list[Branch]] = {}
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise TaskError(f"lessons.sampled={path}: it cannot be read ({error})") from error
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                branch = Branch(list(row["prompt"]), list(row["answer"]), "sampled", bool(row["finished"]))
                context = tuple(row["context"])
            except (ValueError, KeyError, TypeError) as error:
                raise TaskError(f"lessons.sampled={path}: line {number} is no sample ({error!r})") from error
            groups.setdefault(context, []).append(branch)
        if not groups:
            raise TaskError(f"lessons.sampled={path}: it holds no sample")
        self._groups: Sequence[tuple[tuple[int, ...], list[Branch]]] = list(groups.items())
        self._weights = [len(group) for _, group in self._groups]

    def draw(self, rng: Random, branches: int) -> Lesson:
        """A context with at most so many of its answers; contexts come as often as they have answers."""
        context, group = rng.choices(self._groups, self._weights)[0]
        return Lesson(list(context), rng.sample(group, min(branches, len(group))))
