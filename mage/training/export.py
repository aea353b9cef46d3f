"""A trained body as a checkpoint folder in the Hugging Face layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from mage.models.config import BodyConfig
from mage.models.transformer import Transformer


def qwen3_config(config: BodyConfig, dtype: torch.dtype) -> dict[str, Any]:
    """Return the config.json of a Qwen3 body."""
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "attention_bias": config.qkv_bias,
        "hidden_act": "silu",
        "tie_word_embeddings": config.tied_embeddings,
        "use_sliding_window": False,
        "torch_dtype": str(dtype).removeprefix("torch."),
    }


def export_checkpoint(
    body: Transformer, folder: Path, vocabulary: Sequence[str], specials: Sequence[str], dtype: torch.dtype
) -> None:
    """Write config.json, model.safetensors in `dtype` and tokenizer.json to `folder`, each atomically.

    vocabulary: words in the order of their ids; text is split at white space. specials: those of it that decoding
    leaves out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().to(dtype).contiguous() for name, tensor in body.state_dict().items()}
    temporary = folder / "model.safetensors.tmp"
    save_file(tensors, temporary, {"format": "pt"})
    temporary.chmod(0o644)  # the library writes files that only their owner can read
    temporary.replace(folder / "model.safetensors")
    _write(folder / "tokenizer.json", word_tokenizer(vocabulary, specials))
    _write(folder / "config.json", json.dumps(qwen3_config(body.config, dtype), indent=2) + "\n")


def word_tokenizer(vocabulary: Sequence[str], specials: Sequence[str]) -> str:
    """Return a tokenizer.json of one token a word."""
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    backend = Tokenizer(WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token=specials[0]))
    backend.pre_tokenizer = WhitespaceSplit()
    backend.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in specials])
    return str(backend.to_str(pretty=True))


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
