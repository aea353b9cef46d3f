"""The two tokenizers that need no checkpoint: the vocabulary of Qwen, and plain bytes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from mage.models.bpe import QWEN_SPLIT, Special, byte_level_bpe
from mage.models.cache import keep, read_kept
from mage.models.chat import CHATML, ChatTemplate
from mage.models.tokenizer import Tokenizer

QWEN_FILE = Path(__file__).resolve().parents[1] / "vocabularies" / "qwen.tiktoken"
QWEN_ADDED = 151643  # the first id behind the byte-pair vocabulary
# Added tokens by id: tokenizer_config.json of Qwen2.5, and the last four of Qwen3.
QWEN_NAMES = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"),
    *("<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>"),
    *("<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>"),
    *("<think>", "</think>"),
)
QWEN_SIZE = QWEN_ADDED + len(QWEN_NAMES)
QWEN_HIDDEN = 14  # the first ones are left out on decoding; the others are text that a model writes
MASK = "<|mask|>"


def qwen(mask_id: int, stop_ids: tuple[int, ...], options: Mapping[str, Any]) -> Tokenizer:
    """Return Qwen's tokenizer with [MASK] at `mask_id` and a ChatML template.

    It is what the tokenizer.json of Qwen2.5 and Qwen3 does: NFC, their split, byte-level BPE. Stop ids behind the
    known tokens are named `<|stop-N|>`. options: of the template, which has none.
    """
    named = {QWEN_ADDED + index: (name, index < QWEN_HIDDEN) for index, name in enumerate(QWEN_NAMES)}
    named |= {number: (f"<|stop-{number}|>", True) for number in stop_ids if number >= QWEN_SIZE}
    if mask_id >= QWEN_ADDED:
        named[mask_id] = (MASK, True)
    specials = [Special(number, text, hidden) for number, (text, hidden) in sorted(named.items())]
    vocab, merges, digest = _qwen_pairs()
    backend = byte_level_bpe(vocab, merges, [QWEN_SPLIT], specials, nfc=True)
    template = ChatTemplate(CHATML, {"eos_token": "<|im_end|>"}, options, "model.tokenizer=qwen")
    return Tokenizer(backend, f"{digest}:{sorted(named)}:{mask_id}", template)


def byte(mask_id: int, stop_ids: tuple[int, ...]) -> Tokenizer:
    """Return a tokenizer of one id a byte of UTF-8, for bodies with small vocabularies.

    Bytes take the smallest ids that are neither `mask_id` nor in `stop_ids`. No chat template.
    """
    reserved = {mask_id: MASK} | {number: f"<|stop-{number}|>" for number in stop_ids if number != mask_id}
    free = (number for number in range(256 + len(reserved)) if number not in reserved)
    vocab = {_printable()[value]: number for value, number in zip(range(256), free)}
    specials = [Special(number, text) for number, text in sorted(reserved.items())]
    return Tokenizer(byte_level_bpe(vocab, [], [], specials), f"bytes:{sorted(reserved.items())}")


@lru_cache
def _printable() -> list[str]:
    """The printable character of each byte: OpenAI's GPT-2, encoder.py, bytes_to_unicode."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = iter(range(256, 512))
    return [chr(value) if value in kept else chr(next(moved)) for value in range(256)]


@lru_cache
def _qwen_pairs() -> tuple[dict[str, int], list[tuple[str, str]], str]:
    """Read the vocabulary and derive its merges; return both and the digest of the file.

    A rank is the place of the merge that makes the token. The merge is the pair of tokens that lower-ranked merges
    leave of it; where just one split of the token gives two tokens of lower rank, it is that one. Deriving all takes a
    second, so that what was derived is kept in the user's cache directory.
    """
    content = QWEN_FILE.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    ranks: dict[bytes, int] = {}
    for line in content.splitlines():
        coded, number = line.split()
        ranks[base64.b64decode(coded)] = int(number)
    cuts = _cuts(ranks, f"merges-{digest}")
    shown = dict(enumerate(_printable()))
    texts = [token.decode("latin-1").translate(shown) for token in ranks]  # in the order of the ranks
    merges = [(text[:cut], text[cut:]) for text, cut in zip(texts, cuts) if cut]
    return dict(zip(texts, ranks.values())), merges, digest


def _cuts(ranks: Mapping[bytes, int], name: str) -> bytes:
    """Return where the merge of each token joins it, 0 for single bytes: kept under `name` behind its SHA-256."""
    kept = read_kept(name) or b""
    check, cuts = kept[:32], kept[32:]
    if hashlib.sha256(cuts).digest() != check:
        cuts = bytes(_cut(token, rank, ranks) if len(token) > 1 else 0 for token, rank in ranks.items())
        keep(name, hashlib.sha256(cuts).digest() + cuts)
    return cuts


def _cut(token: bytes, rank: int, ranks: Mapping[bytes, int]) -> int:
    """Return where the merge of `rank` joins a token: the end of its first part."""
    known = [i for i in range(1, len(token)) if ranks.get(token[:i], rank) < rank and ranks.get(token[i:], rank) < rank]
    if len(known) == 1:
        return known[0]
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        pairs = [ranks.get(first + second, rank) for first, second in pairwise(parts)]
        at = min(range(len(pairs)), key=pairs.__getitem__)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return len(parts[0])
