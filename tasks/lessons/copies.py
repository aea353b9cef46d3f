"""Copying: the answer stands word for word in the context or in the question."""

from __future__ import annotations

from random import Random

from tasks.lessons.frame import Frame
from tasks.lessons.lesson import Branch
from tasks.lessons.passages import Passages, Sentence, joined

FEWEST, MOST = 20, 90
"""Tokens of what is copied. A longer one is cut off."""

_BEGINNING = (
    'Repeat the sentence that begins with "{start}".',
    'Which sentence in the text starts with "{start}"? Quote it word for word.',
    'Copy the sentence beginning with "{start}" exactly.',
    'Find the words "{start}" in the text and write down the whole sentence.',
    'Quote the sentence from the text that starts with the words "{start}".',
    'Please repeat, word for word, the part of the text that begins with "{start}" and ends with "{end}".',
    'Copy the passage from "{start}" to "{end}".',
    'Write out the passage that starts with "{start}" and ends with "{end}", without any change.',
)

_FOLLOWING = (
    'How does the text go on after "{start}"? Continue it word for word.',
    'Continue the quotation from the text: "{start}"',
    'Complete this sentence as it stands in the text: "{start}"',
)

_ECHO = (
    "Repeat the following passage:\n\n{text}",
    "Repeat after me: {text}",
    "Copy this text exactly as it is.\n\n{text}",
    'Write the following sentence again: "{text}"',
    "Say this word for word: {text}",
)

_WORDS = 5


def copy_branch(rng: Random, frame: Frame, passages: Passages, text: list[Sentence], gap: str) -> Branch:
    """A branch that copies from `text`, which stands in the context, or repeats what the question holds."""
    source = text if rng.random() < 0.85 else passages.draw(rng, MOST)
    passage = _passage(rng, passages, source)
    words = passage.split(" ")
    start, end = " ".join(words[:_WORDS]), " ".join(words[-3:])
    if source is not text or len(words) < 2 * _WORDS or joined(text).count(start) != 1 or "\n" in start + end:
        return _cut(frame.branch("copy", rng.choice(_ECHO).format(text=passage), passage, gap))
    if rng.random() < 0.25:
        # The model goes on in mid-sentence, so the answer starts with the next word.
        answer = " ".join(words[_WORDS:])
        return _cut(frame.branch("copy", rng.choice(_FOLLOWING).format(start=start), answer, gap))
    whole_sentence = any(passage == sentence.text for sentence in text)
    asked = rng.choice(_BEGINNING[:5] if whole_sentence else _BEGINNING[5:])
    return _cut(frame.branch("copy", asked.format(start=start, end=end), passage, gap))


def _passage(rng: Random, passages: Passages, text: list[Sentence]) -> str:
    """Sentences in a row, of FEWEST tokens or more where the text allows."""
    at = rng.randrange(len(text))
    end, wanted = at + 1, rng.randrange(FEWEST, MOST)
    size = passages.size(text[at].text)
    while end < len(text) and (size < FEWEST or size + passages.size(text[end].text) <= wanted):
        size += passages.size(text[end].text)
        end += 1
    while at and size < FEWEST:  # the text ended too early
        at -= 1
        size += passages.size(text[at].text)
    return joined(text[at:end])


def _cut(branch: Branch) -> Branch:
    if len(branch.answer) <= MOST + 1:
        return branch
    return Branch(branch.prompt, branch.answer[:MOST], branch.kind, False)
