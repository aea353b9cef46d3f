"""Tokenizers: the built-in vocabularies against the rule they stand for, the files of folders, chat templates."""

from __future__ import annotations

import base64
import json
import unicodedata
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from mage.errors import UserError
from mage.models import vocabulary
from mage.models.bpe import QWEN_SPLIT
from mage.models.opening import open_tokenizer
from mage.models.random_weights import RandomWeights
from mage.models.tokenizer import Tokenizer
from mage.models.tokenizer_files import read_tokenizer

TEXTS = (
    "def forward(self, x: Tensor) -> Tensor:\n    return self.o_proj(x)  # 1e-6\n\n\t\tend",
    "稀疏注意力把每个查询看到的键减少到几百个。",
    "Naïve café, déjà vu — “quotes” … ½ ½",
    "👩‍👩‍👧‍👦 🏳️‍🌈 \u202e\x00\x7f",
    "   leading and trailing   \r\n\r\n  ",
    "Don't WE'LL i'm 1234567890 3.14",
)


@pytest.fixture(scope="module")
def qwen() -> Tokenizer:
    return vocabulary.qwen(151669, (151645, 151643), {})


@pytest.fixture(scope="module")
def ranks() -> dict[bytes, int]:
    lines = vocabulary.QWEN_FILE.read_bytes().splitlines()
    return {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}


def by_the_rule(text: str, ranks: dict[bytes, int]) -> list[int]:
    """tiktoken: in each word, join the adjacent pair of lowest rank until none is in the vocabulary."""
    ids = []
    for word in regex.findall(QWEN_SPLIT, unicodedata.normalize("NFC", text)):
        parts = [bytes([value]) for value in word.encode()]
        while pairs := [(ranks[a + b], at) for at, (a, b) in enumerate(pairwise(parts)) if a + b in ranks]:
            at = min(pairs)[1]
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        ids += [ranks[part] for part in parts]
    return ids


@pytest.mark.parametrize(
    ("text", "ids"),
    [("Hello, world!", [9707, 11, 1879, 0]), ("<|im_start|>user\n", [151644, 872, 198]), ("<think>", [151667])],
)
def test_qwen_gives_the_published_ids(qwen: Tokenizer, text: str, ids: list[int]) -> None:
    assert qwen.encode(text) == ids


@pytest.mark.parametrize("text", TEXTS)
def test_qwen_equals_the_rule_and_comes_back(qwen: Tokenizer, ranks: dict[bytes, int], text: str) -> None:
    ids = qwen.encode(text)
    assert ids == by_the_rule(text, ranks)
    assert qwen.decode(ids) == unicodedata.normalize("NFC", text)


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=40).filter(lambda text: "<|" not in text))  # the name of a special token is that token
def test_any_text_comes_back_from_qwen(qwen: Tokenizer, ranks: dict[bytes, int], text: str) -> None:
    ids = qwen.encode(text)
    assert ids == by_the_rule(text, ranks)
    assert qwen.decode(ids) == unicodedata.normalize("NFC", text)


def test_every_token_of_qwen_is_what_its_merges_make(qwen: Tokenizer, ranks: dict[bytes, int]) -> None:
    vocab, merges, _ = vocabulary._qwen_pairs()
    assert len(vocab) == 151643 and len(merges) == 151643 - 256
    assert all(vocab[a] < rank > vocab[b] for (a, b), rank in zip(merges, range(256, 151643)))
    assert [vocab[a + b] for a, b in merges] == list(range(256, 151643))


@pytest.fixture
def derived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The tokens whose merge was derived, of a vocabulary of 300, read anew with a cache of its own."""
    found: list[bytes] = []
    cut = vocabulary._cut
    few = tmp_path / "few.tiktoken"
    few.write_bytes(b"".join(vocabulary.QWEN_FILE.read_bytes().splitlines(keepends=True)[:300]))
    monkeypatch.setattr(vocabulary, "QWEN_FILE", few)
    monkeypatch.setattr(vocabulary, "_cut", lambda token, *rest: found.append(token) or cut(token, *rest))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return found


def test_merges_are_derived_once_and_again_when_what_is_kept_is_damaged(derived: list[bytes], tmp_path: Path) -> None:
    first = vocabulary._qwen_pairs.__wrapped__()
    assert len(derived) == 300 - 256
    assert vocabulary._qwen_pairs.__wrapped__() == first and len(derived) == 300 - 256
    (kept,) = (tmp_path / "cache" / "mage-bench").iterdir()
    for damaged in (kept.read_bytes()[:-1], kept.read_bytes() + b"1", b""):
        kept.write_bytes(damaged)
        derived.clear()
        assert vocabulary._qwen_pairs.__wrapped__() == first and len(derived) == 300 - 256
    vocabulary.QWEN_FILE.write_bytes(b"".join(vocabulary.QWEN_FILE.read_bytes().splitlines(keepends=True)[:290]))
    derived.clear()
    assert len(vocabulary._qwen_pairs.__wrapped__()[1]) == len(derived) == 290 - 256, "another file, other merges"


def test_merges_are_derived_where_nothing_can_be_kept(
    derived: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(vocabulary._qwen_pairs.__wrapped__()[1]) == 300 - 256


@pytest.mark.parametrize("mask_id", [151662, 151665, 151669, 156895])
def test_mask_and_stop_are_left_out_on_decoding(mask_id: int) -> None:
    tokenizer = vocabulary.qwen(mask_id, (156892,), {})
    assert tokenizer.decode([9707, mask_id, 151645, 156892, 0]) == "Hello!"
    assert tokenizer.size == max(mask_id, 156892) + 1
    assert tokenizer.decode([9707, 157000]) == "Hello", "an id behind the tokens says nothing"


@pytest.mark.parametrize(("mask_id", "stop_ids"), [(100, (11,)), (256, (257,)), (0, (1, 2)), (5, ())])
@pytest.mark.parametrize("text", TEXTS)
def test_bytes_come_back_and_spare_mask_and_stops(mask_id: int, stop_ids: tuple[int, ...], text: str) -> None:
    tokenizer = vocabulary.byte(mask_id, stop_ids)
    ids = tokenizer.encode(text)
    assert len(ids) == len(text.encode()) and not {mask_id, *stop_ids} & set(ids)
    assert tokenizer.decode([mask_id, *ids, *stop_ids]) == text
    assert tokenizer.size == 256 + 1 + len(stop_ids)


def body(vocab_size: int) -> RandomWeights:
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    return RandomWeights({"model_type": "llama", "vocab_size": vocab_size, "max_position_embeddings": 64, **shape})


def choose(choice: str | None, source: RandomWeights, **changes: Any) -> Tokenizer:
    return open_tokenizer(choice, source, **{"mask_id": 5, "stop_ids": (6,), "options": {}, **changes})


def test_random_weights_get_the_tokenizer_that_their_vocabulary_holds() -> None:
    assert choose(None, body(300)).encode("ab") == [97 + 2, 98 + 2]
    assert choose(None, body(151936), mask_id=151669).encode("Hello") == [9707]


def test_an_unknown_tokenizer_is_refused() -> None:
    for name in ("byte", "random", "gone.gguf", "../gone"):
        with pytest.raises(UserError, match=f"model.tokenizer={name}: no such tokenizer. Allowed: null, qwen, bytes"):
            choose(name, body(300))


def test_chatml_of_qwen(qwen: Tokenizer) -> None:
    assert qwen.chat("Hi") == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert qwen.encode(qwen.chat("Hi"))[:2] == [151644, 8948]


# ----- files of a folder


def pieces(folder: Path, **files: object) -> Path:
    """Write a folder with a Qwen tokenizer of a few merges; `files` are written as they are, None leaves one out."""
    letters = vocabulary._printable()
    tokens = [*letters, "he", "ll", "hell", "hello"]
    kept: dict[str, object] = {
        "vocab.json": {token: number for number, token in enumerate(tokens)},
        "merges.txt": "#version: 0.2\nh e\nl l\nhe ll\nhell o\n",
        "tokenizer_config.json": {
            "tokenizer_class": "Qwen2Tokenizer",
            "eos_token": {"content": "<|im_end|>"},
            "added_tokens_decoder": {"260": {"content": "<|im_end|>", "special": True}},
        },
        **files,
    }
    for name, content in kept.items():
        if content is not None:
            (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_vocab_and_merges_of_qwen_serve_without_a_tokenizer_json(tmp_path: Path) -> None:
    tokenizer = read_tokenizer(pieces(tmp_path, **{"added_tokens.json": {"<tool>": 261}}), {})
    assert tokenizer.encode("hello<|im_end|><tool>") == [259, 260, 261]
    assert tokenizer.decode([259, 260, 261]) == "hello<tool>"
    assert tokenizer.chat("as it is") == "as it is"


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("merges.txt", "h e l\n", "merges.txt: not a readable tokenizer"),
        ("merges.txt", None, "tokenizer.json: the tokenizer file is missing"),
        ("vocab.json", "[]", "vocab.json: expected a JSON object"),
        ("tokenizer_config.json", "{", "tokenizer_config.json: not valid JSON"),
        ("tokenizer_config.json", {"tokenizer_class": "T5"}, "tokenizer.json: the tokenizer file is missing"),
        ("chat_template.jinja", "{% for %}", "chat_template.jinja: the chat template is broken"),
        ("chat_template.jinja", "{{ 1 // 0 }}", "chat_template.jinja: the chat template does not render a message"),
        ("chat_template.jinja", "{{ raise_exception('no user') }}", "does not render a message: no user."),
        ("chat_template.jinja", "{{ ''.__class__.__mro__ }}", "unsafe"),
        ("chat_template.json", {"chat_template": 3}, "chat_template.json: chat_template is not a text"),
    ],
)
def test_damaged_files_are_named_in_one_line(tmp_path: Path, file: str, content: object, words: str) -> None:
    with pytest.raises(UserError) as caught:
        read_tokenizer(pieces(tmp_path, **{file: content}), {})
    told = str(caught.value)
    assert words in told and str(tmp_path) in told and "\n" not in told


def test_the_jinja_file_wins_and_special_tokens_are_known(tmp_path: Path) -> None:
    pieces(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": "old"}))
    assert read_tokenizer(tmp_path, {}).chat("x") == "old"
    named = [{"name": "tools", "template": "no"}, {"name": "default", "template": "[{{ messages[0].content }}]"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": named}))
    listed = read_tokenizer(tmp_path, {})
    assert listed.chat("x") == "[x]"
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }}{{ eos_token }}{{ mood }}")
    tokenizer = read_tokenizer(tmp_path, {"mood": "!"})
    assert tokenizer.chat("x") == "x<|im_end|>!"
    assert tokenizer.digest != listed.digest
