"""A tokenizer that does not know a language is told from one that only cuts its words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from mage.errors import UserError
from mage.models.tokenizer import Tokenizer as Loaded
from mage.models.tokenizer_files import read_tokenizer
from run import CONF
from runners.cell import read_cell
from runners.composition import compose_sweep
from runners.material import _check_language

TEXT = "The naïve café keeps 12,345 notes; who reads them? Ann does. " * 3


def tokenizer(folder: Path, kind: str) -> Loaded:
    """Write a tokenizer that has no words of the text, but for `words`, and load it."""
    if kind == "bytes":
        made = Tokenizer(models.BPE({letter: i for i, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())}, []))
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        made.decoder = decoders.ByteLevel()
    elif kind == "lower":
        words = sorted(set(TEXT.lower().split()))
        made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(["<unk>", *words])}, unk_token="<unk>"))
        made.normalizer, made.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.WhitespaceSplit()
    else:
        made = Tokenizer(models.WordLevel({"<unk>": 0, "The": 1}, unk_token="<unk>"))
        made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        if kind == "special":
            made.add_special_tokens(["<unk>"])
    made.save(str(folder / "tokenizer.json"))
    return read_tokenizer(folder, {})


@pytest.mark.parametrize(("kind", "known"), [("bytes", True), ("lower", True), ("words", False), ("special", False)])
def test_a_language_is_refused_when_its_words_are_lost(
    kind: str, known: bool, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    overrides = [f"model.weights={tiny_checkpoint}", "task.language=english"]
    (config,) = compose_sweep(overrides, CONF, multirun=False)
    loaded, cell = tokenizer(tmp_path, kind), read_cell(config)
    if known:
        _check_language(cell, loaded, TEXT)
    else:
        with pytest.raises(UserError, match=r"task\.language=english: the tokenizer of model=tiny .* 30 of the 33"):
            _check_language(cell, loaded, TEXT)


def test_a_language_that_the_tokenizer_does_not_know_is_refused_before_the_model_is_loaded(
    run: Callable[..., int], out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("method=dense", "task.language=english", "task.lengths=[512]") == 2
    assert "task.language=english: the tokenizer of model=tiny does not know" in capfd.readouterr().err
    assert not out.parent.exists()
