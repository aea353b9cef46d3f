"""The frame of the generated tasks: ids, grid, depth, length, hash and refusals."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from tasks.aggregation import Aggregation
from tasks.errors import TaskError
from tasks.generated import GeneratedTask
from tasks.kv_retrieval import KeyValueRetrieval
from tasks.languages.english import English
from tasks.languages.language import Language
from tasks.languages.registry import LANGUAGES
from tasks.languages.tiny import Tiny
from tasks.multi_value import MultiValue
from tasks.niah import NeedleInHaystack
from tasks.pointer_chase import PointerChase
from tasks.prompt import assemble
from tasks.task import Tokenizer

BLOCK = 32
KINDS = (NeedleInHaystack, MultiValue, PointerChase, Aggregation, KeyValueRetrieval)
every_kind = pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])


@every_kind
def test_example_does_not_depend_on_count(kind: type[GeneratedTask], word_tokenizer: Tokenizer) -> None:
    few = kind().examples(word_tokenizer, 3, 7, BLOCK)
    assert kind().examples(word_tokenizer, 8, 7, BLOCK)[:3] == few
    assert len({example.id for example in few}) == 3


@every_kind
def test_seed_and_fields_make_other_examples(kind: type[GeneratedTask], word_tokenizer: Tokenizer) -> None:
    first = kind().examples(word_tokenizer, 1, 0, BLOCK)[0]
    for other in (
        kind().examples(word_tokenizer, 1, 1, BLOCK)[0],
        kind(mentions=0.2).examples(word_tokenizer, 1, 0, BLOCK)[0],
    ):
        assert other.id != first.id
        assert (other.context, other.references) != (first.context, first.references)


@every_kind
def test_place_of_the_question_changes_no_text(kind: type[GeneratedTask], word_tokenizer: Tokenizer) -> None:
    assert kind(question="prefix").content_hash == kind(question="block").content_hash
    assert kind(question="prefix").examples(word_tokenizer, 2, 0, BLOCK) == kind().examples(word_tokenizer, 2, 0, BLOCK)


TOLD = ("id", "context", "question", "references", "max_new_tokens", "labels", "context_tokens", "padding")
FROZEN = {
    "niah": "49b451f2bfc13c68",
    "multi_value": "70ea7e247035af14",
    "pointer_chase": "406c18a2b4e7ba28",
    "aggregation": "0c0e19bc21abc747",
    "kv_retrieval": "7d7fcd4ee806c57f",
}


@every_kind
def test_examples_stay_what_they_were(kind: type[GeneratedTask], word_tokenizer: Tokenizer) -> None:
    """Results of other days are compared by id: to change the texts on purpose, raise `version` too."""
    made = kind().examples(word_tokenizer, 3, 0, BLOCK)
    told = [[getattr(example, name) for name in TOLD] for example in made]
    assert hashlib.sha256(repr(told).encode()).hexdigest()[:16] == FROZEN[kind.name]


@pytest.mark.parametrize(
    "change",
    [{"lengths": [512]}, {"depths": [0.5]}, {"needles": 8}, {"asked": 1}, {"mentions": 0.5}, {"language": "english"}],
    ids=str,
)
def test_hash_follows_the_fields(change: dict[str, Any]) -> None:
    assert NeedleInHaystack(**change).content_hash != NeedleInHaystack().content_hash


@pytest.mark.parametrize("speaker", [Tiny, English], ids=lambda speaker: speaker.name)
@pytest.mark.parametrize(
    ("form", "told_by"),
    [
        ("needle", NeedleInHaystack),
        ("needle_question", NeedleInHaystack),
        ("code_question", MultiValue),
        ("link", PointerChase),
        ("vote", Aggregation),
        ("vote_question", Aggregation),
        ("pair", KeyValueRetrieval),
    ],
)
def test_a_sentence_form_renames_the_examples_of_its_task_alone(
    speaker: type[Language], form: str, told_by: type[GeneratedTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [kind(language=speaker.name) for kind in KINDS]
    before = [task.content_hash for task in tasks]
    spoken = getattr(speaker, form)
    monkeypatch.setattr(speaker, form, lambda *told: "now " + spoken(*told))
    changed = [type(task) for task, old in zip(tasks, before, strict=True) if task.content_hash != old]
    assert changed == [told_by]


def test_a_word_renames_the_examples_of_the_tasks_that_draw_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {kind: kind().content_hash for kind in KINDS}
    monkeypatch.setattr(Tiny, "values", (*Tiny.values[:-2], *Tiny.values[:-3:-1]))  # the last two change places
    changed = {kind for kind in KINDS if kind().content_hash != before[kind]}
    assert changed == {*KINDS} - {PointerChase}


def test_filler_renames_all_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [kind().content_hash for kind in KINDS]
    changed = Tiny()
    monkeypatch.setattr(changed, "filler", lambda rng, count, mentions: ["nothing ."] * count)
    monkeypatch.setitem(LANGUAGES, "tiny", changed)
    assert all(kind().content_hash != old for kind, old in zip(KINDS, before, strict=True))


def test_hash_does_not_follow_how_a_field_is_written() -> None:
    one: dict[str, Any] = {"lengths": [1024], "depths": [0, 1]}
    other: dict[str, Any] = {"lengths": 1024, "depths": (0.0, 1.0)}
    assert NeedleInHaystack(**one).content_hash == NeedleInHaystack(**other).content_hash


def test_grid_is_cycled(word_tokenizer: Tokenizer) -> None:
    task = NeedleInHaystack(lengths=(512, 1024), depths=(0.0, 0.5, 1.0))
    cells = [
        (example.labels["length"], example.labels["depth"]) for example in task.examples(word_tokenizer, 8, 0, BLOCK)
    ]
    grid = [(length, depth) for length in (512, 1024) for depth in (0.0, 0.5, 1.0)]
    assert cells == [*grid, *grid[:2]]


def test_task_without_depth_has_no_depth_label(word_tokenizer: Tokenizer) -> None:
    for task in (NeedleInHaystack(depths=None), Aggregation()):
        assert "depth" not in task.examples(word_tokenizer, 1, 0, BLOCK)[0].labels


@pytest.mark.parametrize("depth", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_asked_needle_stands_at_its_depth(depth: float, word_tokenizer: Tokenizer) -> None:
    task = NeedleInHaystack(depths=[depth], asked=1, lengths=[2048])
    for example in task.examples(word_tokenizer, 5, 0, BLOCK):
        context = word_tokenizer.decode(assemble(example, word_tokenizer, BLOCK).tokens[:2048]).split()
        key = example.references[0].split()[0]
        starts = [
            i
            for i, word in enumerate(context)
            if word == key and context[i - 4 : i] == ["the", "secret", "passphrase", "of"]
        ]
        assert len(starts) == 1
        # The nearest sentence end is half a sentence away at most; at the front the cut sentence stands first.
        assert abs(starts[0] - 4 - depth * (2048 - 8)) <= 10


@every_kind
@pytest.mark.parametrize("length", [512, 1024, 4096])
@pytest.mark.parametrize("name", ["word_tokenizer", "pair_tokenizer", "unsplit_tokenizer", "byte_tokenizer"])
def test_context_has_exactly_its_length(
    kind: type[GeneratedTask], length: int, name: str, request: pytest.FixtureRequest
) -> None:
    tokenizer = request.getfixturevalue(name)
    few: dict[type[GeneratedTask], dict[str, Any]] = {
        NeedleInHaystack: {"needles": 4},
        MultiValue: {"keys": 2, "values": 12},
        PointerChase: {"chains": 2},
        Aggregation: {"votes": 11},
        KeyValueRetrieval: {"pairs": 20},
    }
    language = "tiny" if name == "word_tokenizer" else "english"
    for example in kind(lengths=[length], language=language, **few[kind]).examples(tokenizer, 3, 0, BLOCK):
        prompt = assemble(example, tokenizer, BLOCK)
        assert prompt.question_start == length
        assert prompt.truncated_tokens == prompt.alignment_tokens == 0


def test_pairs_can_fill_the_whole_context(word_tokenizer: Tokenizer) -> None:
    for example in KeyValueRetrieval(pairs=256).examples(word_tokenizer, 5, 0, BLOCK):
        context = word_tokenizer.decode(assemble(example, word_tokenizer, BLOCK).tokens[:1024]).split()
        assert context[1::4] == [":"] * 256
        assert len(set(context[::4])) == 256


def test_winner_leads_by_the_margin(word_tokenizer: Tokenizer) -> None:
    for example in Aggregation(margin=9, votes=80).examples(word_tokenizer, 10, 0, BLOCK):
        assert int(example.labels["lead"]) >= 9
        assert example.context.count("a vote for") == 80


REFUSALS: list[tuple[type[GeneratedTask], dict[str, Any], str]] = [
    (NeedleInHaystack, {"lengths": []}, "lengths"),
    (NeedleInHaystack, {"lengths": [0]}, "lengths"),
    (NeedleInHaystack, {"lengths": ["long"]}, "lengths"),
    (NeedleInHaystack, {"lengths": [True]}, "lengths"),
    (NeedleInHaystack, {"lengths": [1024, 256]}, r"lengths=256.* 384 tokens"),
    (NeedleInHaystack, {"depths": [0.5, 1.5]}, r"depths=1.5.* from 0 to 1"),
    (NeedleInHaystack, {"depths": ["deep"]}, "depths"),
    (NeedleInHaystack, {"language": "tinny"}, r"language='tinny'.*did you mean 'tiny'"),
    (NeedleInHaystack, {"question": "suffix"}, r"question='suffix'.*block, prefix"),
    (NeedleInHaystack, {"mentions": 2}, "mentions"),
    (NeedleInHaystack, {"needles": 257, "lengths": 4096}, r"needles=257.* 1 to 256"),
    (NeedleInHaystack, {"needles": 2.5}, "needles"),
    (NeedleInHaystack, {"asked": 9}, r"asked=9.* 1 to 8"),
    (NeedleInHaystack, {"needles": 2, "asked": 3}, r"asked=3.* 2"),
    (MultiValue, {"values": 81}, r"values=81.* 2 to 80"),
    (MultiValue, {"keys": 0}, "keys"),
    (MultiValue, {"keys": 40}, "lengths=1024"),
    (PointerChase, {"hops": 9}, r"hops=9.* 1 to 8"),
    (PointerChase, {"hops": 7, "chains": 33}, r"chains=33.* at most 32"),
    (Aggregation, {"candidates": 1}, "candidates"),
    (Aggregation, {"margin": 0}, "margin"),
    (Aggregation, {"votes": 10}, r"votes=10.* 11 or more"),
    (KeyValueRetrieval, {"pairs": 257}, r"pairs=257.* 1 to 256"),
]


@pytest.mark.parametrize(("kind", "wrong", "message"), REFUSALS, ids=lambda x: str(x) if isinstance(x, dict) else "")
def test_refusals(kind: type[GeneratedTask], wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message) as error:
        kind(**wrong)
    assert "\n" not in str(error.value)


def test_refusals_that_need_a_model(word_tokenizer: Tokenizer, byte_tokenizer: Tokenizer) -> None:
    with pytest.raises(TaskError, match=r"lengths=1000.*multiples of the block size, 32"):
        NeedleInHaystack(lengths=[1000]).examples(word_tokenizer, 1, 0, BLOCK)
    with pytest.raises(TaskError, match="examples=0"):
        NeedleInHaystack().examples(word_tokenizer, 0, 0, BLOCK)
    with pytest.raises(TaskError, match=r"lengths=1024.* takes \d+ tokens or more"):
        NeedleInHaystack(language="english").examples(byte_tokenizer, 1, 0, BLOCK)
