"""Evidence: tasks whose answers repeat words of the context name them, and their tokens are found in the prompt."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.evidence import evidence_positions
from tasks.generated import GeneratedTask
from tasks.json_retrieval import JsonRetrieval
from tasks.key_needles import KeyNeedles
from tasks.kv_retrieval import KeyValueRetrieval
from tasks.multi_value import MultiValue
from tasks.needle import Needle
from tasks.niah import NeedleInHaystack
from tasks.pointer_chase import PointerChase
from tasks.ruler.needles import RulerNeedles
from tasks.task import Evidence, Example, Prompt, Task, Tokenizer

BLOCK, POSITIONS = 16, 8192

ENGLISH: dict[str, Task] = {
    "number": KeyNeedles(lengths=900, needles=8, asked=2, questions=3),
    "name": KeyNeedles(lengths=900, values="name", needles=8, asked=2),
    "word": KeyNeedles(lengths=900, values="word", needles=8, asked=8),
    "train": KeyNeedles(lengths=900, values="word", needles=8, asked=8, split="train"),
    "needle": Needle(lengths=900),
    "ruler_essay": RulerNeedles(lengths=1024, filler="essay", keys=4, queries=2, values=2),
    "ruler_needle": RulerNeedles(lengths=1024, filler="needle", key_type="uuids", value_type="uuids"),
    "json": JsonRetrieval(pairs=20),
    "ruler_words": RulerNeedles(lengths=1024, filler="noise", value_type="words", keys=4),
}
TINY: dict[str, type[GeneratedTask]] = {
    "niah": NeedleInHaystack,
    "multi_value": MultiValue,
    "pointer_chase": PointerChase,
    "kv_retrieval": KeyValueRetrieval,
}


def told(task: Task, tokenizer: Tokenizer) -> list[tuple[Example, Prompt, list[int]]]:
    examples = task.examples(tokenizer, 6, 0, BLOCK)
    prompts = [task.prompt(example, tokenizer, BLOCK, POSITIONS) for example in examples]
    return [(e, p, evidence_positions(e, p, tokenizer)) for e, p in zip(examples, prompts, strict=True)]


@pytest.mark.parametrize("name", ENGLISH)
def test_the_tokens_of_an_english_task_spell_what_is_asked_for(name: str, qwen_tokenizer: Tokenizer) -> None:
    for example, prompt, found in told(ENGLISH[name], qwen_tokenizer):
        values = {evidence.value for evidence in example.evidence}
        if name != "needle":
            assert values == {value for reference in example.references for value in reference.split(", ")}
        runs = _runs(found)
        assert len(runs) == len(example.evidence) == len(values)
        spelled = [qwen_tokenizer.decode([prompt.tokens[i] for i in run]) for run in runs]
        # A token may hold a space, a bracket or a full stop beside.
        assert {text.strip(" \n().,:*\"'") for text in spelled} == {value.strip(".") for value in values}
        assert max(found) < prompt.question_start
        assert all(example.context.count(evidence.passage) == 1 for evidence in example.evidence)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("question", ["block", "prefix"])
def test_the_tokens_of_a_tiny_task_are_the_words_of_the_answer(
    name: str, question: str, word_tokenizer: Tokenizer
) -> None:
    task = TINY[name](lengths=1024, question=question)
    for example, prompt, found in told(task, word_tokenizer):
        values = {word for evidence in example.evidence for word in evidence.value.split()}
        assert values <= set(example.references[0].split())
        assert {word_tokenizer.decode([prompt.tokens[i]]) for i in found} == values
        assert len(found) == sum(len(evidence.value.split()) for evidence in example.evidence)
        assert all(example.context.count(evidence.passage) == 1 for evidence in example.evidence)


@pytest.mark.parametrize("tokenizer", ["pair_tokenizer", "unsplit_tokenizer"])
def test_tokens_that_run_across_words_count_where_they_hold_a_part(
    tokenizer: str, request: pytest.FixtureRequest
) -> None:
    reader: Tokenizer = request.getfixturevalue(tokenizer)
    task = NeedleInHaystack(lengths=512, language="english", needles=6, asked=2)
    for example, prompt, found in told(task, reader):
        in_order = sorted(example.evidence, key=lambda evidence: example.context.index(evidence.passage))
        for run, evidence in zip(_runs(found), in_order, strict=True):
            text = reader.decode([prompt.tokens[i] for i in run])
            assert evidence.value in text
            inner = reader.decode([prompt.tokens[i] for i in run[1:]])
            assert evidence.value not in inner, "no token more than needed"


def test_the_value_is_the_last_one_of_its_passage(qwen_tokenizer: Tokenizer) -> None:
    context = "A 7 is 7. In Rome 7 of them say: Rome has the secret 7. Then 7 more."
    evidence = (Evidence("In Rome 7 of them say: Rome has the secret 7.", "7"),)
    example = Example("e", context, "?", ("7",), 8, evidence=evidence)
    tokens = qwen_tokenizer.encode(context)
    (found,) = evidence_positions(example, Prompt(tokens, 0, 0, len(tokens)), qwen_tokenizer)
    assert qwen_tokenizer.decode(tokens[: found + 1]) == context.removesuffix(". Then 7 more.")


@pytest.mark.parametrize("value", ["日本語", "🙂🙃", "é"])
def test_a_character_of_several_tokens_counts_whole(value: str, pair_tokenizer: Tokenizer) -> None:
    context = f"Of {value} or not: the secret of 東京 is {value}. No more of 日本."
    example = Example("e", context, "?", (value,), 8, evidence=(Evidence(f"the secret of 東京 is {value}.", value),))
    tokens = pair_tokenizer.encode(context)
    found = evidence_positions(example, Prompt(tokens, 0, 0, len(tokens)), pair_tokenizer)
    assert pair_tokenizer.decode([tokens[i] for i in found]).strip(" .") == value
    assert found == list(range(found[0], found[-1] + 1))


def test_what_was_cut_from_a_prompt_has_no_tokens(qwen_tokenizer: Tokenizer) -> None:
    task = KeyNeedles(lengths=2000, depths=0.5, needles=1)
    (example,) = task.examples(qwen_tokenizer, 1, 0, BLOCK)
    whole, cut = (
        evidence_positions(example, own.prompt(example, qwen_tokenizer, BLOCK, POSITIONS), qwen_tokenizer)
        for own in (task, replace(task, max_prompt_tokens=400))
    )
    assert len(whole) >= 5 and cut == []


def test_a_part_of_the_evidence_is_none(qwen_tokenizer: Tokenizer) -> None:
    """With three of four values cut away, what is held of the last one would pass for all."""
    (example, prompt, found), *_ = told(ENGLISH["number"], qwen_tokenizer)
    assert found
    lost = replace(example, evidence=(*example.evidence, Evidence("the secret of nowhere is 7", "7")))
    assert evidence_positions(lost, prompt, qwen_tokenizer) == []


def test_a_task_that_tells_no_evidence_has_no_positions(word_tokenizer: Tokenizer) -> None:
    (example, prompt, _), *_ = told(NeedleInHaystack(lengths=512), word_tokenizer)
    assert evidence_positions(replace(example, evidence=()), prompt, word_tokenizer) == []


def _runs(positions: list[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for i in positions:
        if runs and runs[-1][-1] == i - 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    return runs
