"""The frame of RULER's tasks: lengths, seeds, ids, the size of the haystack, and the scores."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar

from tasks.errors import TaskError, refused
from tasks.fields import as_tuple, require_sizes
from tasks.ruler.sizing import most_units
from tasks.task import Evidence, Example, Label, Score, Tokenizer
from tasks.text_task import TextTask

OFFICIAL_COUNT = 500
"""Examples of a task in the published results (scripts/config_tasks.sh): what `examples=null` asks for."""

LONGEST = 10_000_000
"""Tokens, far above what any model reads: a slip, not a wish, is longer."""

FULL = 0.9
"""A prompt whose haystack ran out before this share of its room is refused."""

_UNPRINTABLE = re.compile(r"[\x00-\x1f]")


@dataclass(frozen=True)
class Draft:
    """What one example says, before the size of its haystack is known.

    context: the text up to the end of the haystack, with a number of units of it. The same number gives the same text.
    question: what follows the haystack in the user's text.
    least, most: the fewest units that work, and how many there are (None: no end).
    """

    context: Callable[[int], str]
    question: str
    answer_prefix: str
    references: tuple[str, ...]
    least: int = 1
    most: int | None = None
    labels: dict[str, Label] = field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()


@dataclass(kw_only=True)
class RulerTask(TextTask):
    """A task whose prompts are filled up to a length.

    lengths: tokens of prompt and answer, one number or several; example i has length i modulo their number. Chat
    template and answer prefix count, and the answer counts in whole blocks, so that a model with as many positions
    reads all of the prompt.
    chat: whether the text is put into the chat template; the answer prefix stands behind it.

    Example i has a random generator of its own, seeded with the content hash, the seed and i. Tokenizer and block size
    change the size of its haystack and nothing else it says.
    """

    elsewhere: ClassVar[frozenset[str]] = frozenset({"data", "haystack"})

    version: ClassVar[int] = 1
    """Raised when the same fields give other examples than before."""

    template: ClassVar[str]
    """The user's text, with {context} for the haystack (constants.py)."""

    answer_prefix: ClassVar[str]
    """What opens the answer (constants.py)."""

    max_new_tokens: ClassVar[int]
    """`tokens_to_generate` of constants.py."""

    patience: ClassVar[int] = 1
    """How many subjects in a row may be too long before the length is refused."""

    metric = "references found"

    lengths: int | Sequence[int] = (4096,)
    chat: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.lengths = require_sizes("lengths", self.lengths, 1, LONGEST)
        self.check()

    @abstractmethod
    def check(self) -> None:
        """Refuse fields of the task itself that cannot work."""

    @abstractmethod
    def material(self) -> list[str]:
        """Digests of the texts and lists that examples are drawn from. Raises TaskError."""

    @abstractmethod
    def draft(self, rng: Random, subject: int, length: int, tokens: Callable[[str], int]) -> Draft:
        """Draw what one example says. `tokens` is how many a text takes."""

    def subjects(self, seed: int) -> Iterator[int]:
        """What the examples are about, one after the other: numbers of fixed questions; without such, a count."""
        return itertools.count()

    @property
    def content_hash(self) -> str:
        """Over version, fields (see TextTask.told), wording, and what the texts and lists hold."""
        content = {
            "task": self.name,
            "version": self.version,
            "fields": self.told(),
            "wording": [self.template, self.answer_prefix, self.max_new_tokens],
            "material": self.material(),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def context_lengths(self) -> tuple[int, ...]:
        """See Task: the lengths, answer included."""
        return as_tuple(self.lengths)

    def examples(self, tokenizer: Tokenizer, count: int | None, seed: int, block_size: int) -> list[Example]:
        """See Task. None: 500, as published. Raises TaskError for a length that a prompt does not fit into, or that
        the haystack does not fill.
        """
        wanted = OFFICIAL_COUNT if count is None else count
        if isinstance(wanted, bool) or wanted < 1:
            raise TaskError(f"examples={count!r}: allowed are whole numbers above 0, or null")
        content = self.content_hash
        lengths = as_tuple(self.lengths)
        made: list[Example] = []
        refusals: list[TaskError] = []
        for subject in self.subjects(seed):
            length = lengths[len(made) % len(lengths)]
            name = f"{self.name}-{content[:8]}-s{seed}-{len(made):05d}"
            key = hashlib.sha256(f"{content}/{seed}/{len(made)}".encode()).digest()
            rng = Random(int.from_bytes(key, "big"))
            draft = self.draft(rng, subject, length, lambda text: len(tokenizer.encode(text)))
            example = self._filled(name, draft, length, tokenizer, block_size)
            if example is not None:
                made.append(example)
                refusals.clear()
            else:
                refusals.append(self._too_short(draft, length, tokenizer, block_size))
            if len(made) == wanted or len(refusals) == self.patience:
                break
        if len(refusals) == self.patience or not made:
            raise refusals[0]
        return made

    def score(self, example: Example, prediction: str) -> Score:
        """The share of the references that are part of the prediction, whatever their case (`string_match_all`)."""
        found = self._found(example, prediction)
        return Score(sum(found) / len(found), all(found))

    def _found(self, example: Example, prediction: str) -> list[bool]:
        """For each reference, whether the prediction holds it, after `postprocess_pred` of evaluate.py."""
        text = _UNPRINTABLE.sub("\n", prediction.strip()).strip().lower()
        return [reference.lower() in text for reference in example.references]

    def _filled(self, name: str, draft: Draft, length: int, tokenizer: Tokenizer, block_size: int) -> Example | None:
        """The example with as much haystack as fits; None when not even the least does."""
        room = self._room(length, block_size)
        units = most_units(lambda number: self._cost(draft, number, tokenizer), room, draft.least, draft.most)
        if units is None:
            return None
        if units == draft.most and (used := self._cost(draft, units, tokenizer)) < FULL * room:
            raise refused("lengths", length, f"all there is to fill the prompt with takes {used} tokens")
        return Example(
            id=name,
            context=draft.context(units),
            question=draft.question,
            references=draft.references,
            max_new_tokens=self.max_new_tokens,
            labels={"length": length, **draft.labels},
            chat=self.chat,
            answer_prefix=draft.answer_prefix,
            evidence=draft.evidence,
        )

    def _cost(self, draft: Draft, units: int, tokenizer: Tokenizer) -> int:
        """Tokens of the prompt with a number of units."""
        text = draft.context(units) + draft.question
        return len(tokenizer.encode((tokenizer.chat(text) if self.chat else text) + draft.answer_prefix))

    def _room(self, length: int, block_size: int) -> int:
        """Tokens for the prompt beside the answer, both in whole blocks."""
        return length // block_size * block_size + -self.max_new_tokens // block_size * block_size

    def _too_short(self, draft: Draft, length: int, tokenizer: Tokenizer, block_size: int) -> TaskError:
        missing = self._cost(draft, draft.least, tokenizer) - self._room(length, block_size)
        return refused("lengths", length, f"the shortest prompt and its answer take {length + missing} tokens")


def opening_and_question(template: str, **words: object) -> tuple[str, str]:
    """What a template says before and after the haystack, with its other places filled."""
    opening, question = template.split("{context}")
    return opening.format(**words), question.format(**words)
