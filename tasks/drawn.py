"""The frame of the text tasks that draw their examples from a seed: grid, seeds, ids, hash, validation."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from random import Random
from typing import ClassVar, NamedTuple

from tasks.errors import TaskError
from tasks.fields import as_tuple, require_int, require_share
from tasks.task import CONTEXT, Evidence, Example, Label, Tokenizer
from tasks.text_task import TextTask

MAX_NEW_TOKENS = 4096


class Asked(NamedTuple):
    """A question, its accepted answers, and what of the context they repeat."""

    question: str
    references: tuple[str, ...]
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True)
class Drawn:
    """What one example says. `labels` holds its length, and what else it tells beside its depth.

    `more`: further questions about the same context, each an example of its own.
    """

    context: str
    question: str
    references: tuple[str, ...]
    labels: dict[str, Label]
    more: tuple[Asked, ...] = ()
    evidence: tuple[Evidence, ...] = ()


Draw = Callable[[Random, int, float | None], Drawn]
"""Draws an example of a cell: generator, size, depth (None: a random one)."""


@dataclass(kw_only=True)
class DrawnTask(TextTask):
    """A text task whose examples are drawn from a seed over a grid of sizes and depths.

    depths: where what is asked for stands, 0 is the front, 1 the end; one number or several. None or an empty list: a
    random place. max_new_tokens: the longest answer. chat: the text is the user's turn of the chat template.

    Example i lies in cell i modulo the number of cells, and has a random generator of its own, seeded with the content
    hash, the seed and i. Without a count there is one example a cell.

    Where `questions_per_context` is above 1, all this holds of context i: its questions are consecutive examples with
    the same `context` label, by which statistics know that they are not independent. The depth is that of what the
    first of them asks for; the others have no depth label.
    """

    version: ClassVar[int] = 1
    """Raised when the same fields give other examples than before."""

    depths: float | Sequence[float] | None = (0.0, 0.25, 0.5, 0.75, 1.0)
    max_new_tokens: int = 128
    chat: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        depths = as_tuple(self.depths if self.depths is not None else ())
        for depth in depths:
            require_share("depths", depth)
        self.depths = tuple(float(depth) for depth in depths)
        require_int("max_new_tokens", self.max_new_tokens, 1, MAX_NEW_TOKENS)

    @abstractmethod
    def sizes(self) -> tuple[int, ...]:
        """The sizes of the grid."""

    @abstractmethod
    def material(self) -> list[str]:
        """Everything beside the fields that determines the examples: templates, word lists, digests of texts."""

    @abstractmethod
    def drawer(self, tokenizer: Tokenizer) -> Draw:
        """What draws the examples for one tokenizer."""

    @property
    def questions_per_context(self) -> int:
        """How many examples share a context: what the drawer draws has as many questions."""
        return 1

    @property
    def content_hash(self) -> str:
        """See Task: over name, version, fields (see TextTask.told) and material."""
        content = {"task": self.name, "version": self.version, "fields": self.told(), "material": self.material()}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def cells(self) -> list[tuple[int, float | None]]:
        """The cells of the grid, in order."""
        return list(product(self.sizes(), as_tuple(self.depths) or (None,)))

    def examples(self, tokenizer: Tokenizer, count: int | None, seed: int, block_size: int) -> list[Example]:
        """See Task. Raises TaskError for a size that is too small for this tokenizer."""
        cells, shared = self.cells(), self.questions_per_context
        draw = self.drawer(tokenizer)
        content = self.content_hash
        made: list[Example] = []
        wanted = self.counted(count, len(cells) * shared)
        for context in range(-(-wanted // shared)):
            key = hashlib.sha256(f"{content}/{seed}/{context}".encode()).digest()
            size, depth = cells[context % len(cells)]
            drawn = draw(Random(int.from_bytes(key, "big")), size, depth)
            for said, at in [(drawn, depth)] if shared == 1 else _each_question(drawn, f"s{seed}-{context:05d}", depth):
                made.append(self.example(f"{self.name}-{content[:8]}-s{seed}-{len(made):05d}", said, at))
        return made[:wanted]

    def example(self, name: str, drawn: Drawn, depth: float | None) -> Example:
        """The example of id `name` that says `drawn` at a depth."""
        at: dict[str, Label] = {} if depth is None else {"depth": depth}
        return Example(
            id=name,
            context=drawn.context,
            question=drawn.question,
            references=drawn.references,
            max_new_tokens=self.max_new_tokens,
            labels={**drawn.labels, **at},
            chat=self.chat,
            evidence=drawn.evidence,
        )

    def counted(self, count: int | None, all_of_them: int) -> int:
        """How many examples `count` asks for."""
        if count is None:
            return all_of_them
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise TaskError(f"examples={count!r}: allowed are whole numbers above 0, or null for one example a cell")
        return count


def _each_question(drawn: Drawn, context: str, depth: float | None) -> list[tuple[Drawn, float | None]]:
    """What each question about a context says, labelled with the context, and the depth of what it asks for."""
    first = replace(drawn, labels={**drawn.labels, CONTEXT: context}, more=())
    others = [replace(first, **asked._asdict()) for asked in drawn.more]
    return [(first, depth), *((other, None) for other in others)]
