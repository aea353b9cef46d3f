"""Lessons of gathering: chains of assignments, the commonest words of a list, counting."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from random import Random

from tasks.lessons import answers
from tasks.lessons.frame import Frame
from tasks.lessons.lesson import Branch
from tasks.lessons.needles import Question
from tasks.lessons.passages import Sentence
from tasks.lessons.secrets import number
from tasks.lessons.vocabulary import ANIMALS, COLORS, FOODS, NAMES, OBJECTS, ROOMS, WORDS

_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon phi chi "
    "psi omega"
).split()
_FIRST = (
    "Set {new} to {value}.",
    "Let {new} equal {value}.",
    "{new} starts out as {value}.",
    "Put {value} into {new}.",
)
_NEXT = (
    "Let {new} equal {old}.",
    "Make {new} the same as {old}.",
    "Copy {old} into {new}.",
    "Give {new} whatever {old} has.",
    "{new} takes its value from {old}.",
)
_WHO_HAS = (
    "Which names end up holding {value}?",
    "List everything that has the value {value}.",
    "What has the value {value} in the end?",
    "Find all names whose value is {value}.",
    "Follow the assignments. Which of them equal {value}?",
)
_COMMONEST = (
    "Which {count} words occur most often in the list?",
    "Name the {count} most repeated words of the list above.",
    "Some words come again and again. Which {count} are the most frequent?",
    "Give the top {count} words by number of occurrences.",
)
_HOW_OFTEN = (
    'How many times does the word "{word}" occur in the list?',
    'How often is "{word}" in the list?',
    'Count the word "{word}" in the list above.',
)
_LIST_TITLES = (
    "Word list:",
    "Here is a list of words.",
    "Look at these words.",
    "The list:",
    "Read this list of words:",
)
_IN_ROOM = (
    "What is in the {room}?",
    "List the things that are in the {room}.",
    "Which things were put into the {room}?",
)
_COUNT_IN_ROOM = ("How many things are in the {room}?", "Count what is in the {room}.")


class Aggregates:
    """The material of one lesson: sentences to hide in a passage, or a list; and questions about it.

    `title` opens the text. `told` are the sentences. `alone`: there is no passage around them.
    """

    def __init__(self, rng: Random) -> None:
        self.title = ""
        self.alone = False
        self._questions: list[Question] = []
        sort = rng.random()
        if sort < 0.4:
            self.told = self._chains(rng)
        elif sort < 0.75:
            self.told = self._words(rng)
        else:
            self.told = self._rooms(rng)

    def hidden_in(self, rng: Random, passage: list[Sentence]) -> list[Sentence]:
        """The sentences, in their order, at random places of the passage."""
        if self.alone:
            return [Sentence("\n\n", self.title), *(Sentence("\n", line) for line in self.told)]
        at = sorted(rng.randrange(len(passage) + 1) for _ in self.told)
        text, last = [], 0
        for place, told in zip(at, self.told, strict=True):
            text += [*passage[last:place], Sentence(" ", told)]
            last = place
        return text + passage[last:]

    def branch(self, rng: Random, frame: Frame, gap: str) -> Branch:
        """A question with its answer as a branch."""
        asked = rng.choice(self._questions)
        return frame.branch("aggregate", asked.text, asked.answer, gap)

    def _chains(self, rng: Random) -> list[str]:
        names = rng.sample(_GREEK if rng.random() < 0.6 else NAMES, 12)
        digits = rng.choice((2, 3, 4, 5))
        queues: list[list[str]] = []
        for _ in range(rng.choice((1, 2, 2, 3))):
            chain = [names.pop() for _ in range(rng.randrange(2, 5))]
            value = number(rng, digits)
            lines = [rng.choice(_FIRST).format(new=chain[0], value=value)]
            lines += [rng.choice(_NEXT).format(new=new, old=old) for old, new in pairwise(chain)]
            queues.append([line[0].upper() + line[1:] for line in lines])
            for style in ("comma", "and", "lines", "numbered", "comma"):
                answer = answers.several(rng, style, chain, [], [])
                self._questions.append(Question(rng.choice(_WHO_HAS).format(value=value), answer))
            said = f"{answers.listed(chain)} have the value {value}."
            self._questions.append(Question(rng.choice(_WHO_HAS).format(value=value), said[0].upper() + said[1:]))
        told = []
        while queues:
            queue = rng.choice(queues)
            told.append(queue.pop(0))
            queues = [queue for queue in queues if queue]
        return told

    def _words(self, rng: Random) -> list[str]:
        self.alone = True
        self.title = rng.choice(_LIST_TITLES)
        often, most = rng.randrange(2, 6), rng.randrange(4, 9)
        words = rng.sample(WORDS, often + rng.randrange(4, 14))
        common, rare = words[:often], words[often:]
        drawn = [word for word in common for _ in range(most)] + [
            word for word in rare for _ in range(rng.choice((1, 1, 2)))
        ]
        rng.shuffle(drawn)
        common.sort(key=drawn.index)
        for style in ("numbered", "numbered", "comma", "lines"):
            answer = answers.several(rng, style, common, [], [])
            self._questions.append(Question(rng.choice(_COMMONEST).format(count=often), answer))
        for word, count in rng.sample(sorted(Counter(drawn).items()), 3):
            asked = rng.choice(_HOW_OFTEN).format(word=word)
            said = f'The word "{word}" occurs {_times(count)} in the list.'
            self._questions.append(Question(asked, rng.choice((str(count), f"{count}.", said, said))))
        layout = rng.random()
        if layout < 0.5:
            return [", ".join(drawn)]
        if layout < 0.75:
            return [" ".join(drawn)]
        return [f"- {word}" for word in drawn]

    def _rooms(self, rng: Random) -> list[str]:
        rooms = rng.sample(ROOMS, rng.choice((2, 3, 3)))
        things = [f"{rng.choice(COLORS)} {thing}" for thing in rng.sample(OBJECTS, 12)] + rng.sample(FOODS, 4)
        things += rng.sample(ANIMALS, 4)
        rng.shuffle(things)
        told = []
        for room in rooms:
            here = [things.pop() for _ in range(rng.randrange(1, 6))]
            told += [(room, thing) for thing in here]
        rng.shuffle(told)
        for room in rooms:
            here = [thing for where, thing in told if where == room]
            for style in ("comma", "numbered", "and", "lines"):
                asked = rng.choice(_IN_ROOM).format(room=room)
                self._questions.append(Question(asked, answers.several(rng, style, here, [], [])))
            noun = "thing" if len(here) == 1 else "things"
            said = (
                f"There {'is' if len(here) == 1 else 'are'} {len(here)} {noun} in the {room}: {answers.listed(here)}."
            )
            self._questions.append(Question(rng.choice(_COUNT_IN_ROOM).format(room=room), said))
        forms = ("{Thing} was put into the {room}.", "In the {room} there is {thing}.", "The {room} holds {thing}.")
        return [rng.choice(forms).format(thing=t, Thing=t[0].upper() + t[1:], room=room) for room, t in told]


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")
