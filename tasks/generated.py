"""The frame of the tasks that make their own examples: grid, seeds, ids, hash, validation."""

from __future__ import annotations

import hashlib
import json
import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import product
from random import Random
from typing import ClassVar

from tasks.errors import TaskError, refused, unknown_name
from tasks.fields import as_tuple, is_int, require_share
from tasks.haystack import Haystack, Insert
from tasks.languages.language import Language
from tasks.languages.registry import language_named
from tasks.prompt import PLACEMENTS, assemble
from tasks.task import Evidence, Example, Label, Prompt, Task, Tokenizer

USUAL = 40
"""Examples of a cell that asks for no number."""

SAMPLE = 8
"""Drafts that stand for what a task says: each holds all of its sentence forms."""


@dataclass(frozen=True)
class Draft:
    """What one example says, before it is laid out in a context."""

    inserts: list[Insert]
    question: str
    references: tuple[str, ...]
    labels: dict[str, Label]
    evidence: tuple[Evidence, ...] = ()


@dataclass(kw_only=True)
class GeneratedTask(Task):
    """A task whose examples are drawn from a seed.

    lengths: tokens of the context, each a multiple of the block size; one number or several.
    language: `tiny` (the embedded model's) or `english`.
    question: `block` or `prefix`, see tasks.prompt. It does not change ids or texts.
    mentions: share of filler sentences that name a key without telling anything about it, from 0 to 1.

    Example i lies in cell i modulo the number of cells of the grid lengths x depths, and has a random
    generator of its own, seeded with the content hash, the seed and i.
    """

    version: ClassVar[int] = 1
    """Raised when the same fields give other examples than before."""

    lengths: int | Sequence[int] = (1024,)
    language: str = "tiny"
    question: str = "block"
    mentions: float = 0.1

    def __post_init__(self) -> None:
        self.lengths = lengths = as_tuple(self.lengths)
        for length in lengths:
            if not is_int(length) or length < 1:
                raise refused("lengths", length, "allowed are whole numbers of tokens above 0")
        if not lengths:
            raise refused("lengths", [], "at least one length is needed")
        self.speaker()
        if self.question not in PLACEMENTS:
            raise unknown_name("question", self.question, PLACEMENTS)
        require_share("mentions", self.mentions)
        self.mentions = float(self.mentions)
        self.check()
        # One word is at least one token; for the tiny language this is exact.
        for length, depth in self._grid():
            draft = self.draft(Random(0), length, depth)
            words = sum(len(insert.text.split(" ")) for insert in draft.inserts)
            if words > length:
                raise refused("lengths", length, f"what the context must hold takes {words} tokens or more")

    @abstractmethod
    def check(self) -> None:
        """Refuse fields of the task itself that cannot work."""

    @abstractmethod
    def draft(self, rng: Random, length: int, depth: float | None) -> Draft:
        """Draw what one example of a cell says."""

    def depth_grid(self) -> Sequence[float | None]:
        """Depths of the grid. (None,) where a task has no depth."""
        return (None,)

    def speaker(self) -> Language:
        """The task's language."""
        return language_named(self.language)

    @property
    def content_hash(self) -> str:
        """Over the generator's version, the fields but `question`, and what this task says in its language.

        What other tasks say is no part of it: a sentence form of one task leaves the ids of the others alone.
        """
        told = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "question"}
        content = {"task": self.name, "version": self.version, "fields": told, "said": self._said()}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _said(self) -> list[str]:
        """A fixed sample of drafts, the word lists that they draw from, and the digest of the filler."""
        language = self.speaker()
        length, depth = next(self._grid())
        drafts = [self.draft(Random(seed), length, depth) for seed in range(SAMPLE)]
        said = [text for d in drafts for text in (*(insert.text for insert in d.inserts), d.question, *d.references)]
        used = set(re.findall(r"\w+", " ".join(said)))
        drawn = [word for words in (language.keys, language.values) if used.intersection(words) for word in words]
        return [*said, *drawn, language.filler_digest, str(language.answer_slack)]

    def check_block_size(self, block_size: int) -> None:
        """See Task: every length is a multiple of `block_size`."""
        for length in as_tuple(self.lengths):
            if length % block_size:
                raise refused("lengths", length, f"allowed are multiples of the block size, {block_size}")

    def context_lengths(self) -> tuple[int, ...]:
        """See Task."""
        return as_tuple(self.lengths)

    def prompt(self, example: Example, tokenizer: Tokenizer, block_size: int, max_positions: int) -> Prompt:
        """See Task: context and question as tasks.prompt lays them out."""
        return assemble(example, tokenizer, block_size, self.question, max_positions)

    def examples(self, tokenizer: Tokenizer, count: int | None, seed: int, block_size: int) -> list[Example]:
        """See Task. Raises TaskError for a length that is no multiple of `block_size` or too small."""
        if count is None:
            count = USUAL
        if not is_int(count) or count < 1:
            raise TaskError(f"examples={count!r}: allowed are whole numbers above 0")
        self.check_block_size(block_size)
        content = self.content_hash
        grid = list(self._grid())
        haystack = Haystack(tokenizer, self.speaker(), self.mentions)
        made = []
        for index in range(count):
            key = hashlib.sha256(f"{content}/{seed}/{index}".encode()).digest()
            rng = Random(int.from_bytes(key, "big"))
            length, depth = grid[index % len(grid)]
            draft = self.draft(rng, length, depth)
            context = haystack.build(draft.inserts, length, rng)
            place: dict[str, Label] = {"length": length} if depth is None else {"length": length, "depth": depth}
            longest = max(len(tokenizer.encode(reference)) for reference in draft.references)
            made.append(
                Example(
                    id=f"{self.name}-{content[:8]}-s{seed}-{index:05d}",
                    context=context,
                    question=draft.question,
                    references=draft.references,
                    max_new_tokens=longest + 1 + self.speaker().answer_slack,
                    labels={**place, **draft.labels},
                    context_tokens=length,
                    padding=haystack.padding(block_size, rng),
                    evidence=draft.evidence,
                )
            )
        return made

    def _grid(self) -> Iterator[tuple[int, float | None]]:
        return product(as_tuple(self.lengths), self.depth_grid())


@dataclass(kw_only=True)
class DeepTask(GeneratedTask):
    """A generated task that puts what is asked for at a depth of the context.

    depths: 0 is the front, 1 the end; one number or several. None or an empty list: a random place.
    """

    depths: float | Sequence[float] | None = (0.0, 0.25, 0.5, 0.75, 1.0)

    def __post_init__(self) -> None:
        if self.depths is not None:
            depths = as_tuple(self.depths)
            for depth in depths:
                require_share("depths", depth)
            self.depths = tuple(float(depth) for depth in depths)
        super().__post_init__()

    def depth_grid(self) -> Sequence[float | None]:
        return (None,) if self.depths is None else as_tuple(self.depths) or (None,)
