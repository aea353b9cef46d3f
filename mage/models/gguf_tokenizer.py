"""The tokenizer that a GGUF file holds in its metadata: tokens, merges, the name of its split, a chat template."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mage.errors import UserError, unknown_choice
from mage.models.bpe import DIGIT_SPLIT, GPT2_SPLIT, LLAMA3_SPLIT, QWEN_SPLIT, Special, byte_level_bpe
from mage.models.chat import ChatTemplate
from mage.models.tokenizer import Tokenizer

# The split by `tokenizer.ggml.pre`: llama.cpp, src/llama-vocab.cpp, llm_tokenizer_bpe.
SPLITS: dict[str, dict[str, Any]] = {
    "gpt-2": {"splits": [GPT2_SPLIT]},
    "smollm": {"splits": [DIGIT_SPLIT, GPT2_SPLIT]},
    "llama-bpe": {"splits": [LLAMA3_SPLIT], "whole_words": True},
    "qwen2": {"splits": [QWEN_SPLIT], "nfc": True},
}
CONTROL, USER_DEFINED = 3, 4  # gguf.TokenType


def gguf_tokenizer(metadata: Mapping[str, Any], path: Path, options: Mapping[str, Any]) -> Tokenizer:
    """Build the tokenizer of the keys `tokenizer.*`. options: of the chat template.

    Raises `UserError` that names `path` for a kind or a split that is not known here, or for lists that do not fit.
    """

    def value(name: str) -> Any:
        found = metadata.get(f"tokenizer.ggml.{name}")
        if found is None:
            raise UserError(f"{path}: key tokenizer.ggml.{name} is missing; choose a tokenizer with model.tokenizer.")
        return found

    if value("model") != "gpt2":
        raise unknown_choice(f"{path}: tokenizer.ggml.model", value("model"), ["gpt2"])
    if value("pre") not in SPLITS:
        raise unknown_choice(f"{path}: tokenizer.ggml.pre", value("pre"), SPLITS)
    tokens, merges, kinds = value("tokens"), value("merges"), value("token_type")
    specials = [
        Special(number, token, kind == CONTROL)
        for number, (token, kind) in enumerate(zip(tokens, kinds))
        if kind in (CONTROL, USER_DEFINED)
    ]
    try:
        pairs = [(first, second) for first, second in (merge.split(" ") for merge in merges)]
        vocab = {token: number for number, token in enumerate(tokens)}
        backend = byte_level_bpe(vocab, pairs, specials=specials, **SPLITS[value("pre")])
    except Exception as error:  # a pair that is none, or of no token
        raise UserError(f"{path}: tokenizer.ggml.merges do not fit the tokens: {error}") from error
    text = metadata.get("tokenizer.chat_template")
    named = {}
    for name in ("bos", "eos", "unknown", "padding"):
        number = metadata.get(f"tokenizer.ggml.{name}_token_id")
        if number is not None and number < len(tokens):
            named[{"unknown": "unk_token", "padding": "pad_token"}.get(name, f"{name}_token")] = tokens[number]
    template = ChatTemplate(text, named, options, str(path)) if text else None
    content = json.dumps([tokens, merges, [int(kind) for kind in kinds], value("pre")])
    return Tokenizer(backend, hashlib.sha256(content.encode()).hexdigest(), template)
