"""LongBench v2: the published prompt, the answer's extraction, and files that are not as published."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from tasks import sources
from tasks.errors import TaskError
from tasks.longbench.multiple_choice import LongBenchV2, chosen
from tasks.task import Tokenizer

ROW: dict[str, Any] = {
    "_id": "66f36490821e116aacb2cc22",
    "domain": "Single-Document QA",
    "sub_domain": "Financial",
    "difficulty": "easy",
    "length": "short",
    "question": " What is next? ",
    "choice_A": "one",
    "choice_B": "two\n",
    "choice_C": "three",
    "choice_D": "four",
    "answer": "B",
    "context": "\n A report. \n\n",
}
PROMPT = """Please read the following text and answer the question below.

<text>
A report.
</text>

What is the correct answer to this question: What is next?
Choices:
(A) one
(B) two
(C) three
(D) four

Format your response as follows: "The correct answer is (insert answer here)"."""


def task(folder: Path, *rows: Any) -> LongBenchV2:
    (folder / "data.json").write_text(json.dumps(list(rows)), encoding="utf-8")
    return LongBenchV2(data=str(folder))


def test_the_prompt_is_the_published_one(tmp_path: Path, byte_tokenizer: Tokenizer) -> None:
    [made] = task(tmp_path, ROW).examples(byte_tokenizer, None, 0, 32)
    assert made.context + made.question == PROMPT
    assert made.context.endswith("A report.")
    assert (made.chat, made.max_new_tokens, made.references) == (True, 128, ("B",))
    assert made.labels == {"difficulty": "easy", "length": "short", "domain": "Single-Document QA"}


def test_marks_in_the_data_are_replaced_in_the_published_order(tmp_path: Path, byte_tokenizer: Tokenizer) -> None:
    """pred.py chains str.replace over the whole prompt, so that a mark in an earlier text is replaced, too."""
    row = {**ROW, "context": "cost $Q$ and $C_D$ $DOC$", "question": "why $C_A$?", "choice_D": "$C_A$ $Q$"}
    expected = (
        PROMPT.replace("A report.", row["context"])
        .replace("What is next?", "$Q$")
        .replace("(D) four", "(D) $C_D$")
        .replace("$Q$", row["question"])
        .replace("$C_A$", row["choice_A"])
        .replace("$C_D$", row["choice_D"])
    )
    [made] = task(tmp_path, row).examples(byte_tokenizer, None, 0, 32)
    assert made.context + made.question == expected


@pytest.mark.parametrize(
    ("prediction", "letter"),
    [
        ("The correct answer is (A)", "A"),
        ("  **The correct answer is (C)**.", "C"),
        ("The correct answer is D", "D"),
        ("The correct answer is B. Not: The correct answer is (C)", "C"),
        ("The correct answer is (A). The correct answer is (B).", "A"),
        ("The correct answer is **(B) two**", "B"),
        ("the correct answer is (A)", None),
        ("The correct answer is (E)", None),
        ("The correct answer is: (A)", None),
        ("The correct answer\nis (A)", None),
        ("A", None),
        ("", None),
        ("The correct answer is " * 5_000, None),
        ("\x00The correct answer is (B)\x00", "B"),
    ],
)
def test_the_letter_is_found_as_published(prediction: str, letter: str | None) -> None:
    assert chosen(prediction) == letter


def test_accuracy(tmp_path: Path, byte_tokenizer: Tokenizer) -> None:
    made = task(tmp_path, ROW)
    [example] = made.examples(byte_tokenizer, None, 0, 32)
    assert made.score(example, "The correct answer is (B)").value == 1.0
    for wrong in ("The correct answer is (A)", "B", ""):
        score = made.score(example, wrong)
        assert (score.value, score.exact) == (0.0, False)


def test_over_long_contexts_lose_their_middle(tmp_path: Path) -> None:
    class Characters:
        def encode(self, text: str) -> list[int]:
            return [ord(character) for character in text]

        def decode(self, ids: Any) -> str:
            return "".join(map(chr, ids))

        def chat(self, text: str) -> str:
            return f"<{text}>"

    made = task(tmp_path, {**ROW, "context": "report " * 1000})
    [example] = made.examples(Characters(), None, 0, 32)
    prompt = made.prompt(example, Characters(), 32, 2048)
    text = Characters().decode(prompt.tokens)
    assert text.startswith("<Please read") and text.endswith('(insert answer here)".>')
    assert len(prompt.tokens) == 2048 - 128
    assert prompt.truncated_tokens == len(example.context + example.question) - 1918
    assert text[prompt.question_start :].startswith("</text>")


def test_examples_are_shuffled_by_the_seed_alone(tmp_path: Path, byte_tokenizer: Tokenizer) -> None:
    made = task(tmp_path, *({**ROW, "_id": str(number)} for number in range(20)))
    every = [example.id for example in made.examples(byte_tokenizer, None, 3, 32)]
    assert sorted(every, key=int) == [str(number) for number in range(20)] != every
    assert [example.id for example in made.examples(byte_tokenizer, 5, 3, 32)] == every[:5]


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ({}, "not a list of rows"),
        ([], "not a list of rows"),
        ([None], "row 1: the field question is missing or no text"),
        ([ROW, {**ROW, "choice_C": 3}], "row 2: the field choice_C is missing or no text"),
        ([{**ROW, "answer": "E"}], "row 1: the field answer is 'E'; allowed are A, B, C, D"),
        ([{**ROW, "_id": None}], "row 1: the field _id is missing or no text"),
    ],
)
def test_bad_files_are_one_line(rows: Any, problem: str, tmp_path: Path, byte_tokenizer: Tokenizer) -> None:
    (tmp_path / "data.json").write_text(json.dumps(rows), encoding="utf-8")
    with pytest.raises(TaskError, match=rf"data.json: {problem}"):
        LongBenchV2(data=str(tmp_path)).examples(byte_tokenizer, None, 0, 32)


def test_no_json_no_file_and_no_sample_are_one_line(tmp_path: Path, byte_tokenizer: Tokenizer) -> None:
    with pytest.raises(TaskError, match=r"task.data='sample': no sample of data.json is shipped"):
        _ = LongBenchV2(data="sample").content_hash
    with pytest.raises(TaskError, match=r"the folder has no data.json and no data.zip"):
        _ = LongBenchV2(data=str(tmp_path)).content_hash
    (tmp_path / "data.json").write_text("[{", encoding="utf-8")
    with pytest.raises(TaskError, match=r"data.json: not JSON: "):
        LongBenchV2(data=str(tmp_path)).examples(byte_tokenizer, None, 0, 32)


def test_the_hubs_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, byte_tokenizer: Tokenizer) -> None:
    local = task(tmp_path, ROW)

    def download(repository: str, name: str, *, repo_type: str, revision: str) -> str:
        assert (repository, name, repo_type) == ("THUDM/LongBench-v2", "data.json", "dataset")
        return str(tmp_path / name)

    known = SimpleNamespace(sha="0" * 40)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: known)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    sources._download.cache_clear()
    made = LongBenchV2()
    assert made.examples(byte_tokenizer, None, 0, 32) == local.examples(byte_tokenizer, None, 0, 32)
    assert (made.source, made.metric, made.question) == ("hub", "accuracy", "text")
    assert made.content_hash == local.content_hash
    sources._download.cache_clear()


def test_config() -> None:
    file = Path(__file__).parents[2] / "conf" / "task" / "longbench_v2.yaml"
    assert file.read_text(encoding="utf-8").startswith("# ")
    config = OmegaConf.load(file)
    assert config.pop("name") == LongBenchV2.name
    assert instantiate(config) == LongBenchV2()
