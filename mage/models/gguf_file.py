"""GGUF files of the architectures llama, qwen2 and qwen3, read as the Hugging Face checkpoint they were made from.

Names and keys: gguf-py of llama.cpp (`gguf/constants.py`, `tensor_mapping.py`, `convert_hf_to_gguf.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from mage.errors import UserError, unknown_choice
from mage.models.digest import file_digest
from mage.models.gguf_tokenizer import gguf_tokenizer
from mage.models.source import Source, Stored
from mage.models.tokenizer import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFReader

ARCHITECTURES = ("llama", "qwen2", "qwen3")
# config.json's key, the key of the metadata behind the architecture's name, whether it has to be there.
KEYS = (
    ("num_hidden_layers", "block_count", True),
    ("max_position_embeddings", "context_length", True),
    ("hidden_size", "embedding_length", True),
    ("intermediate_size", "feed_forward_length", True),
    ("num_attention_heads", "attention.head_count", True),
    ("num_key_value_heads", "attention.head_count_kv", False),
    ("head_dim", "attention.key_length", False),
    ("rms_norm_eps", "attention.layer_norm_rms_epsilon", True),
    ("rope_theta", "rope.freq_base", False),
)
WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class GGUFFile(Source):
    """One GGUF file. Quantised tensors are dequantised to float32 one by one.

    Raises `UserError` that names the file for one that cannot be read, another architecture, a key that is missing, or
    a rotary embedding that is scaled, or partial in a file of `llama`.
    """

    config_name: ClassVar[str] = "its metadata"

    def __init__(self, path: Path) -> None:
        from gguf import GGUFReader

        self.path, self.place = path, str(path)
        try:
            self._reader: GGUFReader = GGUFReader(path)
        except Exception as error:  # a damaged header fails in any way
            raise UserError(f"{path}: not a readable GGUF file: {error}") from error
        self.config = self._config()

    def stored(self) -> dict[str, Stored]:
        """See Source. The names are those of the hub's files; `Stored.name` is the file's own."""
        return {
            _hub_name(tensor.name): Stored(self.path, tensor.name, tuple(int(size) for size in reversed(tensor.shape)))
            for tensor in self._reader.tensors
        }

    def tensors(self, device: torch.device, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
        """See Source."""
        from gguf.quants import dequantize

        rotated = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}
        for tensor in self._reader.tensors:
            try:
                values = dequantize(tensor.data, tensor.tensor_type)
            except (NotImplementedError, ValueError) as error:
                raise UserError(f"{self.path}: tensor {tensor.name} cannot be dequantised: {error}") from error
            part = tensor.name.split(".")[-2]
            if part in rotated and self._architecture == "llama":
                values = _split_half(values, self.config[rotated[part]])
            yield _hub_name(tensor.name), torch.from_numpy(values.copy())

    def digest(self) -> str:
        """See Source."""
        return file_digest(self.path)

    def tokenizer(self, options: Mapping[str, Any]) -> Tokenizer:
        """See Source."""
        names = [name for name in self._reader.fields if name.startswith("tokenizer.")]
        return gguf_tokenizer({name: self._value(name) for name in names}, self.path, options)

    def name_of(self, hub_name: str) -> str:
        """See Source."""
        if match := re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.(\w+)", hub_name):
            layer, part, kind = match.groups()
            return f"blk.{layer}.{_turned(LAYER).get(part, part)}.{kind}"
        part, _, kind = hub_name.rpartition(".")
        return f"{_turned(WHOLE).get(part, part)}.{kind}"

    def _config(self) -> dict[str, Any]:
        self._architecture = name = str(self._value("general.architecture"))
        if name not in ARCHITECTURES:
            raise unknown_choice(f"{self.path}: general.architecture", name, ARCHITECTURES)
        scaling = self._value(f"{name}.rope.scaling.type")
        if scaling not in (None, "none"):
            raise UserError(f"{self.path}: {name}.rope.scaling.type={scaling} is not supported. Allowed: none.")
        config: dict[str, Any] = {"model_type": name}
        for key, suffix, needed in KEYS:
            value = self._value(f"{name}.{suffix}")
            if value is not None:
                config[key] = _decimal(value) if isinstance(value, float) else value
            elif needed:
                raise UserError(f"{self.path}: key {name}.{suffix} is missing.")
        config.setdefault("num_key_value_heads", config["num_attention_heads"])
        config |= self._rotary(config)
        found = {tensor.name: tensor for tensor in self._reader.tensors}
        if "token_embd.weight" not in found:
            raise UserError(f"{self.path}: tensor token_embd.weight is missing.")
        config["vocab_size"] = int(found["token_embd.weight"].shape[-1])
        config["tie_word_embeddings"] = "output.weight" not in found
        if name == "llama":
            config["attention_bias"] = "blk.0.attn_q.bias" in found
            config["mlp_bias"] = "blk.0.ffn_up.bias" in found
        return config

    def _rotary(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """What `rope.dimension_count` says where it is not the size of a head.

        It is refused for `llama`: which rows of a head such a file swapped for the interleaved rotation is not known.
        """
        key = f"{self._architecture}.rope.dimension_count"
        width = self._value(key)
        head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        if width is None or width == head_dim:
            return {}
        if self._architecture == "llama" or not 0 < width < head_dim:
            allowed = f"{head_dim}" if self._architecture == "llama" else f"even numbers up to {head_dim}"
            raise UserError(f"{self.path}: {key}={width}: heads have {head_dim} dimensions. Allowed: {allowed}.")
        return {"partial_rotary_factor": width / head_dim}

    def _value(self, name: str) -> Any:
        field = self._reader.fields.get(name)
        return None if field is None else field.contents()


def _hub_name(name: str) -> str:
    """`blk.0.attn_q.weight` is `model.layers.0.self_attn.q_proj.weight`; a name that is not known stays."""
    if match := re.fullmatch(r"blk\.(\d+)\.(\w+)\.(\w+)", name):
        layer, part, kind = match.groups()
        return f"model.layers.{layer}.{LAYER.get(part, part)}.{kind}"
    part, _, kind = name.rpartition(".")
    return f"{WHOLE[part]}.{kind}" if part in WHOLE else name


def _split_half(values: np.ndarray, heads: int) -> np.ndarray:
    """Order the rows of each head for the split-half rotation: files of `llama` hold them for the interleaved one.

    The reverse of `LlamaModel.permute` in convert_hf_to_gguf.py. `values`: `[heads * head_dim, ...]`.
    """
    rest = values.shape[1:]
    return values.reshape(heads, values.shape[0] // heads // 2, 2, *rest).swapaxes(1, 2).reshape(-1, *rest)


def _decimal(value: float) -> float:
    """The number that was written in float32: 1e-06, not 9.999999974752427e-07."""
    import numpy as np

    return float(str(np.float32(value)))


def _turned(names: Mapping[str, str]) -> dict[str, str]:
    return {theirs: ours for ours, theirs in names.items()}
