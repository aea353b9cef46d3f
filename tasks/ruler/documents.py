"""RULER's qa_1 and qa_2: a question about one of many documents (scripts/data/synthetic/qa.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from tasks.errors import refused, unknown_name
from tasks.ruler.frame import Draft, RulerTask, opening_and_question
from tasks.ruler.questions import FILES, HUB, questions
from tasks.task import Example, Score

DOCUMENT = "Document {i}:\n{document}"


@dataclass(kw_only=True)
class RulerDocuments(RulerTask):
    """A question's own documents among others: first of the same article, then of all the set; repeated when all are
    in.

    dataset: `squad` or `hotpotqa`. data: `hub`, or a folder with the official JSON file, see tasks.ruler.questions.

    Questions come in the order that the seed shuffles them into. Those whose own documents are too long are passed
    over.
    """

    name: ClassVar[str] = "ruler_qa"
    max_new_tokens = 32
    patience = 100
    metric = "an answer found"
    template = (
        "Answer the question based on the given documents. Only give me the answer and do not output any other words."
        "\n\nThe following are given documents.\n\n{context}\n\n"
        "Answer the question based on the given documents. Only give me the answer and do not output any other words."
        "\n\nQuestion: {query}"
    )
    answer_prefix = " Answer:"

    dataset: str = "squad"
    data: str = HUB

    def check(self) -> None:
        """See RulerTask."""
        if self.dataset not in FILES:
            raise unknown_name("dataset", self.dataset, FILES)
        if not self.data:
            raise refused("data", self.data, f"allowed are {HUB}, or a folder with {' or '.join(FILES[self.dataset])}")
        self.source = HUB if self.data == HUB else "folder"

    def material(self) -> list[str]:
        """See RulerTask."""
        return [DOCUMENT, questions(self.dataset, self.data).digest]

    def subjects(self, seed: int) -> Iterator[int]:
        """See RulerTask: all questions, shuffled."""
        order = list(range(len(questions(self.dataset, self.data).questions)))
        Random(seed).shuffle(order)
        return iter(order)

    def draft(self, rng: Random, subject: int, length: int, tokens: Callable[[str], int]) -> Draft:
        """See RulerTask."""
        known = questions(self.dataset, self.data)
        question = known.questions[subject]
        near = rng.sample(question.near, len(question.near))
        # A document is a token or more: so many are enough, unless all are too few.
        others = rng.sample(range(len(known.documents)), min(length, len(known.documents)))
        pool = list(dict.fromkeys([*question.own, *near, *others]))
        seed = rng.getrandbits(64)
        opening, asked = opening_and_question(self.template, query=question.text)

        def context(units: int) -> str:
            chosen = [pool[place % len(pool)] for place in range(units)]
            Random(seed).shuffle(chosen)
            listed = enumerate(chosen, start=1)
            return opening + "\n\n".join(DOCUMENT.format(i=i, document=known.documents[number]) for i, number in listed)

        return Draft(
            context=context,
            question=asked,
            answer_prefix=self.answer_prefix,
            references=question.answers,
            least=len(question.own),
        )

    def score(self, example: Example, prediction: str) -> Score:
        """1 when any answer is part of the prediction, whatever its case (`string_match_part`)."""
        found = any(self._found(example, prediction))
        return Score(float(found), found)
