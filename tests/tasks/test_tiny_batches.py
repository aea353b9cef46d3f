"""Training batches say what the tasks of the tiny language say, and every answer stands in its context."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tasks.languages.registry import language_named
from tasks.tiny_batches import ASKED, Branches, TinyBatches
from tasks.tiny_contexts import FILLINGS, KINDS, write_context
from tasks.tiny_words import CITIES, EOS, NUMBERS, VALUES, VOCABULARY

TINY = language_named("tiny")
CITY, VALUE = f"(?:{'|'.join(CITIES)})", f"(?:{'|'.join(VALUES)})"


def _pattern(text: str) -> str:
    """A sentence of the language, made with the first city and value, as a pattern for all of them."""
    return re.escape(text).replace(CITIES[0], CITY).replace(VALUES[0], VALUE)


SENTENCES = [
    re.compile(_pattern(text))
    for text in (
        TINY.needle(CITIES[0], VALUES[0]),
        TINY.link(CITIES[0], CITIES[0]),
        TINY.vote(VALUES[0]),
        TINY.pair(CITIES[0], VALUES[0]),
    )
]
SENTENCES.append(re.compile(rf"the code of {CITY} is {VALUE}(?: {VALUE}){{3,79}} \."))
SENTENCES.append(re.compile(r"the \w+ \w+ \w+ the \w+ \w+ the \w+ \."))


def _text(ids: np.ndarray) -> str:
    return " ".join(VOCABULARY[i] for i in ids)


def _draw(seed: int, earlier: int = 0, length: int = 256, max_positions: int = 0) -> Branches:
    return TinyBatches().draw(np.random.default_rng(seed), 6, length, 4, earlier, max_positions)


def _answers(context: str, question: str) -> set[str]:
    """Every right answer to a question, read from the context by other means than the generator's."""
    if "passphrase" in question:
        asked = re.findall(CITY, question)
        told = dict(re.findall(rf"passphrase of ({CITY}) is (\w+) \.", context))
        return {TINY.needle_answers([(city, told[city]) for city in asked])[0]}
    if "code" in question:
        city = re.search(CITY, question)[0]
        return {re.search(rf"the code of {city} is (.*?) \.", context)[1]}
    if "steps after" in question:
        links = dict(re.findall(rf"({CITY}) leads to ({CITY}) \.", context))
        hops = NUMBERS.index(re.search(r"where is (\w+) steps", question)[1]) + 1
        path = [re.search(CITY, question)[0]]
        for _ in range(hops):
            path.append(links[path[-1]])
        return {" ".join(path[1:])}
    if "votes" in question:
        votes = re.findall(r"a vote for (\w+) \.", context)
        counts = {word: votes.count(word) for word in votes}
        return {max(counts, key=counts.get)}
    city = re.search(CITY, question)[0]
    return {re.search(rf"{city} : (\w+) ;", context)[1]}


@pytest.mark.parametrize("seed", range(6))
def test_contexts_hold_sentences_of_the_language_alone(seed: int) -> None:
    for length in (64, 256, 1024):
        text = _text(write_context(np.random.default_rng(seed), length).tokens)
        assert len(text.split()) == length
        for sentence in SENTENCES:
            text = sentence.sub("", text)
        # What is left is the front and the end of cut filler.
        assert len(text.split()) < 40, text


@pytest.mark.parametrize("earlier", [0, 1, 2, 3])
def test_answers_follow_from_the_context(earlier: int) -> None:
    for seed in range(8):
        batch = _draw(seed, earlier)
        for row in range(6):
            context = _text(batch.contexts[row])
            for tokens, end in zip(batch.tokens[row], batch.ends[row]):
                told = tokens[: earlier * 32 + end]
                text = _text(told)
                question, _, answer = text.partition(" ? answer : ")
                question = question.rpartition(" . ")[2]  # without the filler of a question block
                (wanted,) = _answers(context, question)
                if told[-1] == EOS:
                    assert answer == f"{wanted} <eos>"
                else:  # the answer goes on in a later block
                    assert end == 32
                    assert wanted.startswith(answer)


def test_questions_are_those_of_the_language() -> None:
    questions = {
        TINY.needle_question([CITIES[0]]),
        TINY.needle_question([CITIES[0], CITIES[0]]),
        TINY.code_question(CITIES[0]),
        TINY.link_question(CITIES[0], 1),
        TINY.vote_question(),
        TINY.pair_question(CITIES[0]),
    }
    seen = set()
    for seed in range(30):
        for tokens in _draw(seed).tokens.reshape(-1, 32):
            question = f"{_text(tokens).partition(' ? answer :')[0]} ? answer :"
            question = re.sub(CITY, CITIES[0], question)
            question = re.sub(rf"({CITIES[0]} , ){{2,}}", f"{CITIES[0]} , ", question)
            question = re.sub(rf"where is (?:{'|'.join(NUMBERS)}) steps", "where is one steps", question)
            seen.add(question)
    assert seen == questions


def test_earlier_blocks_hold_the_question_or_the_front_of_the_answer() -> None:
    whole = 0
    for seed in range(10):
        batch = _draw(seed, earlier=1)
        for tokens, start, kind in zip(
            batch.tokens.reshape(-1, 64), batch.starts.reshape(-1), batch.kinds.reshape(-1), strict=True
        ):
            assert start == 0
            in_prefix = _text(tokens[:32]).endswith("? answer :")
            whole += in_prefix
            assert in_prefix or KINDS[kind] == "code"
    assert whole > 20


def test_every_kind_is_asked_for_alone_and_in_mixtures() -> None:
    kinds = np.concatenate([_draw(seed).kinds.reshape(-1) for seed in range(40)])
    assert {KINDS[kind] for kind in kinds} == set(KINDS) == set(ASKED)
    assert set(FILLINGS) == {*KINDS, "mixture"}


def test_chained_answers_are_codes_and_paths() -> None:
    batch = _draw(3)
    assert np.array_equal(batch.chained, np.isin(batch.kinds, [KINDS.index("code"), KINDS.index("link")]))


def test_gaps_stand_at_sentence_ends_and_below_the_limit() -> None:
    gaps = 0
    for seed in range(10):
        batch = _draw(seed, max_positions=2000)
        for tokens, positions in zip(batch.contexts, batch.positions):
            steps = np.diff(positions)
            assert (steps >= 1).all()
            assert positions[-1] + 4 * 32 < 2000
            jumps = np.flatnonzero(steps > 1)
            gaps += len(jumps)
            assert {VOCABULARY[i] for i in tokens[jumps]} <= {".", ";"}
    assert gaps > 20
    assert np.array_equal(_draw(0).positions, np.tile(np.arange(256), (6, 1)))


def test_same_generator_state_gives_the_same_batch() -> None:
    for got, wanted in zip(vars(_draw(5)).values(), vars(_draw(5)).values(), strict=True):
        assert np.array_equal(got, wanted)
    assert not np.array_equal(_draw(5).contexts, _draw(6).contexts)


def test_the_winner_of_a_vote_leads_clearly() -> None:
    rng, seen = np.random.default_rng(0), 0
    for _ in range(200):
        context = write_context(rng, 256)
        if context.winner is None:
            continue
        votes = re.findall(r"a vote for (\w+) \.", _text(context.tokens))
        counts = sorted((votes.count(word) for word in set(votes)), reverse=True)
        assert votes.count(VOCABULARY[context.winner]) == counts[0]
        assert len(counts) == 1 or counts[0] - counts[1] >= max(1, 0.3 * counts[0] - 1)
        seen += 1
    assert seen > 20
