"""Byte-level BPE tokenizers from their parts: vocabulary, merges, pre-tokenisation, added tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

# Regexes by which the texts are split before BPE: transformers, convert_slow_tokenizer.Qwen2Converter; tokenizer.json
# of Llama 3; OpenAI's GPT-2 encoder.py.
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_SPLIT = QWEN_SPLIT.replace(r"\p{N}| ?", r"\p{N}{1,3}| ?")
GPT2_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
DIGIT_SPLIT = r"\p{N}"


@dataclass(frozen=True)
class Special:
    """An added token: found in a text before any split. `hidden`: left out on decoding."""

    id: int
    text: str
    hidden: bool = True


def byte_level_bpe(
    vocab: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    splits: Iterable[str],
    specials: Iterable[Special],
    *,
    nfc: bool = False,
    whole_words: bool = False,
) -> Backend:
    """Build a tokenizer over byte-level texts (each byte one printable character, as in GPT-2).

    vocab: id by token, without the added ones or with them. splits: regexes, applied one after the other. nfc: texts
    are normalised first. whole_words: a word that is a token is taken without merging (Llama 3).
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    added = list(specials)
    whole = {**vocab, **{token.text: token.id for token in added}}
    backend = Tokenizer(models.BPE(vocab=whole, merges=list(merges), ignore_merges=whole_words))
    if nfc:
        backend.normalizer = normalizers.NFC()
    cut = [pre_tokenizers.Split(Regex(split), behavior="isolated") for split in splits]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*cut, byte_level])
    backend.decoder = decoders.ByteLevel()
    # Tokens that the vocabulary holds keep their ids.
    backend.add_special_tokens([AddedToken(t.text, special=True, normalized=False) for t in added if t.hidden])
    backend.add_tokens([AddedToken(t.text, normalized=False) for t in added if not t.hidden])
    return backend
