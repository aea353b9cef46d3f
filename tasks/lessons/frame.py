"""The chat template around a context and its questions, cut so that tokens do not reach over the cut."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tasks.errors import TaskError
from tasks.lessons.lesson import Branch
from tasks.task import Tokenizer

_TEXT = "The text ends here.\n\nWhat does it say?"


@dataclass(frozen=True)
class Frame:
    """`opening` and `closing` stand around the user's text. `gap_leads`: the gap between context and question belongs
    to the question; otherwise to the context, for tokenizers that join a full stop with what ends the line."""

    tokenizer: Tokenizer
    stop_id: int
    opening: str
    closing: str
    gap_leads: bool

    def context(self, text: str, gap: str = "\n\n") -> list[int]:
        """The tokens of a user's turn up to the question, which `gap` will stand before."""
        return self.tokenizer.encode(self.opening + text + ("" if self.gap_leads else gap))

    def empty(self) -> list[int]:
        """The tokens before a user's text that is a question alone."""
        return self.tokenizer.encode(self.opening)

    def prompt(self, question: str, gap: str = "\n\n", answer_opening: str = "") -> list[int]:
        """The tokens from the question to where the answer begins, or to the end of what is given of the answer."""
        return self.tokenizer.encode((gap if self.gap_leads else "") + question + self.closing + answer_opening)

    def branch(self, kind: str, question: str, answer: str, gap: str = "\n\n", given: str = "") -> Branch:
        """A question with its whole answer; `given` opens the answer and is part of the prompt.

        An opening whose tokens are others with the answer behind it is not given.
        """
        prompt = self.prompt(question, gap)
        tokens = self.tokenizer.encode(answer)
        opening = self.tokenizer.encode(given)
        if tokens[: len(opening)] != opening or len(opening) >= len(tokens):
            opening = []
        return Branch(prompt + opening, [*tokens[len(opening) :], self.stop_id], kind, True)


def frame(tokenizer: Tokenizer, stop_id: int, system: bool = False) -> Frame:
    """The frame of a tokenizer's chat template.

    system: keep what the template puts before the user's turn of its own accord, such as a default system prompt.
    Raises TaskError for a template that changes the text or whose tokens reach over every cut.
    """
    opening, found, closing = tokenizer.chat(_TEXT).partition(_TEXT)
    if not found:
        raise TaskError("the chat template changes the user's text, so that lessons cannot be cut out of it")
    turn = re.match(r"<[^<>\s]+>", opening)
    if turn and not system:
        opening = opening[opening.rindex(turn.group()) :]
    whole = tokenizer.encode(opening + _TEXT + closing)
    text, question = _TEXT.split("\n\n")
    for gap_leads in (True, False):
        made = Frame(tokenizer, stop_id, opening, closing, gap_leads)
        if made.context(text) + made.prompt(question) == whole:
            return made
    raise TaskError("the tokenizer joins a context with the question behind it, wherever the two are cut")
