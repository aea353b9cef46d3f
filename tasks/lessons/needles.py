"""Lessons of needles: sentences hidden in a passage, and questions about them in any order."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from tasks.lessons import answers, wordings
from tasks.lessons.facts import Fact, draw_fact
from tasks.lessons.frame import Frame
from tasks.lessons.lesson import Branch
from tasks.lessons.passages import Sentence
from tasks.lessons.secrets import Secret, draw_keys, draw_kind, draw_things, draw_values
from tasks.lessons.vocabulary import NAMES

MOST = 8


@dataclass(frozen=True)
class Question:
    """A question and its answer in text, with what of the answer is given."""

    text: str
    answer: str
    given: str = ""


class Needles:
    """The needles of one lesson. `told` are their sentences in the order of the text.

    settled: a question about one needle alone decides how its answer is put: in full, unless it asks for less; lists
    have one punctuation. Without it answers vary where the question leaves that open, and a model that learnt them is
    rightly unsure of a block's first words.
    """

    def __init__(self, rng: Random, settled: bool = False) -> None:
        self._settled = settled
        self.told: list[str] = []
        self._secrets: list[Secret] = []
        self._facts: list[Fact] = []
        self._repeated: list[Secret] = []
        count = rng.choice(range(1, MOST + 1))
        shape = rng.random()
        if shape < 0.55:
            self._secrets = _of_one_thing(rng, count)
        elif shape < 0.7 and count > 1:
            self._secrets = _of_one_thing(rng, max(1, count - 3))
            self._repeated = _of_one_key(rng, min(4, count), self._secrets)
        elif shape < 0.85:
            self._secrets = _mixed(rng, count)
        else:
            self._facts = [draw_fact(rng, name) for name in rng.sample(NAMES, count)]
            self._secrets = _mixed(rng, rng.randrange(0, 3)) if count < MOST else []
        secrets = self._secrets + self._repeated
        if secrets and rng.random() < 0.3:
            secrets = [*secrets, *_distractors(rng, self._secrets)]
        told = [(secret.statement(rng), secret) for secret in secrets]
        sentences: list[tuple[str, Secret | None]] = [*told, *((fact.statement, None) for fact in self._facts)]
        rng.shuffle(sentences)
        self.told = [text for text, _ in sentences]
        order = {secret: place for place, (_, secret) in enumerate(sentences) if secret is not None}
        self._repeated.sort(key=order.__getitem__)  # listed as a reader meets them

    def hidden_in(self, rng: Random, passage: list[Sentence]) -> list[Sentence]:
        """The passage with the needles at random places."""
        at = sorted(rng.randrange(len(passage) + 1) for _ in self.told)
        gap = rng.choice((" ", " ", "\n", "\n\n"))
        text, last = [], 0
        for place, told in zip(at, self.told, strict=True):
            text += passage[last:place]
            text.append(Sentence(gap if gap != " " or place else "\n\n", told))
            last = place
        return text + passage[last:]

    def question(self, rng: Random) -> Question:
        """A question about one needle or several."""
        sort = rng.random()
        if self._repeated and sort < 0.35:
            return _about_all(rng, self._repeated, self._settled)
        same = [secret for secret in self._secrets if secret.thing == self._secrets[0].thing]
        if len(same) > 1 and sort < 0.75:
            return _about_several(rng, rng.sample(same, min(len(same), rng.choice((2, 2, 3, 4)))), self._settled)
        everything: list[Secret | Fact] = [*self._secrets, *self._facts]
        asked = rng.choice(everything)
        if isinstance(asked, Fact):
            return _about_fact(rng, asked, self._settled)
        return _about_secret(rng, asked, self._settled)

    def branch(self, rng: Random, frame: Frame, gap: str) -> Branch:
        """A question with its answer as a branch."""
        asked = self.question(rng)
        return frame.branch("needle", rng.choice(wordings.LEADS) + asked.text, asked.answer, gap, asked.given)


def _of_one_thing(rng: Random, count: int) -> list[Secret]:
    kind = draw_kind(rng)
    thing = draw_things(rng, kind, 1)[0]
    pairs = zip(draw_keys(rng, count), draw_values(rng, kind, count), strict=True)
    return [Secret(thing, key, value, kind) for key, value in pairs]


def _mixed(rng: Random, count: int) -> list[Secret]:
    secrets = []
    for key in draw_keys(rng, count):
        kind = draw_kind(rng)
        secrets.append(Secret(draw_things(rng, kind, 1)[0], key, draw_values(rng, kind, 1)[0], kind))
    return secrets


def _of_one_key(rng: Random, count: int, others: list[Secret]) -> list[Secret]:
    kind = draw_kind(rng)
    taken = {secret.key for secret in others}
    key = next(key for key in draw_keys(rng, MOST + 1) if key not in taken)
    thing = draw_things(rng, kind, 1)[0]
    return [Secret(thing, key, value, kind) for value in draw_values(rng, kind, count)]


def _distractors(rng: Random, secrets: list[Secret]) -> list[Secret]:
    """Other things of the same keys; they are never asked for."""
    made = []
    for secret in rng.sample(secrets, min(len(secrets), rng.choice((1, 2)))):
        kind = draw_kind(rng)
        thing = next(thing for thing in draw_things(rng, kind, 2) if thing != secret.thing)
        value = next(value for value in draw_values(rng, kind, 2) if value != secret.value)
        made.append(Secret(thing, secret.key, value, kind))
    return made


def _about_secret(rng: Random, secret: Secret, settled: bool) -> Question:
    style = _style(rng, settled)
    asked = rng.choice(wordings.QUESTIONS).format(thing=secret.thing, key=secret.key)
    sentence = _sentence(secret)
    asked += _request(rng, style, _noun(secret), settled)
    given = sentence[: sentence.rindex(f" {secret.value}")] if style == "sentence" and rng.random() < 0.3 else ""
    return Question(asked, answers.single(rng, style, secret.value, sentence), given)


def _about_fact(rng: Random, fact: Fact, settled: bool) -> Question:
    style = _style(rng, settled)
    asked = rng.choice(fact.questions) + _request(rng, style, "answer", settled)
    return Question(asked, answers.single(rng, style, fact.value, fact.sentence))


def _about_several(rng: Random, secrets: list[Secret], settled: bool) -> Question:
    style = rng.choices(answers.SEVERAL, answers.SEVERAL_WEIGHTS)[0]
    keys = [secret.key for secret in secrets]
    asked = rng.choice(wordings.QUESTIONS_ABOUT_SEVERAL).format(
        things=secrets[0].thing + "s", keys=answers.listed(keys)
    )
    if settled or rng.random() < 0.7:
        asked += " " + rng.choice(wordings.ASKING_FOR_LIST[style])
    values = [secret.value for secret in secrets]
    answer = answers.several(rng, style, values, keys, [_sentence(secret) for secret in secrets], settled)
    if style == "comma" and rng.random() < 0.35:
        given = f"The {secrets[0].thing}s of {answers.listed(keys)} are"
        return Question(asked, f"{given} {answer}", given if rng.random() < 0.6 else "")
    return Question(asked, answer)


def _about_all(rng: Random, secrets: list[Secret], settled: bool) -> Question:
    style = rng.choices(("comma", "and", "lines", "numbered"), (0.5, 0.15, 0.15, 0.2))[0]
    thing, key = secrets[0].thing + "s", secrets[0].key
    asked = rng.choice(wordings.QUESTIONS_FOR_ALL).format(thing=secrets[0].thing, things=thing, key=key)
    if settled or rng.random() < 0.5:
        asked += " " + rng.choice(wordings.ASKING_FOR_LIST[style]).replace("Use this order.", "Keep their order.")
    answer = answers.several(rng, style, [secret.value for secret in secrets], [], [], settled)
    if style in ("comma", "and") and rng.random() < 0.4:
        given = f"The {thing} of {key} are"
        return Question(asked, f"{given} {answer}", given if rng.random() < 0.6 else "")
    return Question(asked, answer)


def _sentence(secret: Secret) -> str:
    return f"The {secret.thing} of {secret.key} is {secret.value}."


def _noun(secret: Secret) -> str:
    return {"number": "number", "name": "name", "word": "word"}.get(secret.kind, secret.thing)


def _style(rng: Random, settled: bool) -> str:
    if settled:
        return rng.choices(answers.SETTLED, answers.SETTLED_WEIGHTS)[0]
    return rng.choices(answers.SINGLE, answers.SINGLE_WEIGHTS)[0]


def _request(rng: Random, style: str, noun: str, settled: bool) -> str:
    if style in ("value", "stopped") and (settled or rng.random() < 0.6):
        text = rng.choice(wordings.ASKING_FOR_VALUE).format(kind=noun)
    elif style == "sentence" and rng.random() < 0.25:
        text = rng.choice(wordings.ASKING_FOR_SENTENCE)
    else:
        return ""
    return text if text.startswith("\n") else " " + text
