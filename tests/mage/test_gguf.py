"""GGUF files, written here with gguf-py: they load as the checkpoint they were made from, or are refused by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize

from baselines.dense import Dense
from mage.errors import UserError
from mage.generation.decoding import Static
from mage.generation.engine import Engine
from mage.models.bpe import QWEN_SPLIT
from mage.models.checkpoint import content_hash, load_model
from mage.models.diffusion import DiffusionSpec
from mage.models.gguf_file import GGUFFile
from mage.models.source import check_source
from mage.models.transformer import Transformer
from mage.models.vocabulary import _printable
from tests.mage.test_hub_checkpoints import random_body

SPEC = DiffusionSpec(8, 257, (258,))
TOKENS = [*_printable(), "he", "<mask>", "<|im_end|>", "12"]
TEMPLATE = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
PLACES = {  # of llama.cpp, by the hub's name
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def body_of(architecture: str, tied: bool = False) -> Transformer:
    config: dict[str, object] = {
        "model_type": architecture,
        "vocab_size": len(TOKENS),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 256,
        "rope_theta": 5000.0,
        "tie_word_embeddings": tied,
    }
    return random_body(config)


def interleaved(weights: np.ndarray, heads: int) -> np.ndarray:
    """convert_hf_to_gguf.py, LlamaModel.permute."""
    return (
        weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
        .swapaxes(1, 2)
        .reshape(weights.shape)
    )


def write(
    path: Path,
    architecture: str = "qwen3",
    *,
    tied: bool = False,
    quantised: GGMLQuantizationType = GGMLQuantizationType.F32,
    change: Callable[[dict[str, np.ndarray]], object] = lambda tensors: None,
    metadata: Callable[[GGUFWriter], object] = lambda writer: None,
    **wanted: Any,
) -> Transformer:
    """Write a GGUF file and return the body it holds. `change`: of the tensors; `wanted`: of the metadata, by name."""
    body = body_of(architecture, tied)
    writer = GGUFWriter(path, wanted.get("name", architecture))
    writer.add_block_count(2)
    if wanted.get("context", True):
        writer.add_context_length(256)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_key_length(16)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(5000.0)
    writer.add_tokenizer_model(wanted.get("model", "gpt2"))
    writer.add_tokenizer_pre(wanted.get("pre", "qwen2"))
    writer.add_token_list(wanted.get("tokens", TOKENS))
    writer.add_token_types([gguf.TokenType.CONTROL if token[0] == "<" and token[1:] else 1 for token in TOKENS])
    writer.add_token_merges(wanted.get("merges", ["h e"]))
    writer.add_eos_token_id(258)
    writer.add_chat_template(wanted.get("template", TEMPLATE))
    metadata(writer)
    tensors = {}
    for name, tensor in body.state_dict().items():
        values = tensor.numpy()
        if architecture == "llama" and re.search(r"\.[qk]_proj\.", name):
            values = interleaved(values, 4 if ".q_proj." in name else 2)
        for hub, own in PLACES.items():
            name = re.sub(rf"(^|\.){re.escape(hub)}\.", rf"\g<1>{own}.", name)
        tensors[name.replace("model.layers.", "blk.")] = values
    if tied:
        del tensors["output.weight"]
    change(tensors)
    for name, values in tensors.items():
        kind = quantised if values.ndim > 1 else GGMLQuantizationType.F32
        writer.add_tensor(name, quantize(np.ascontiguousarray(values), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return body


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_a_file_is_the_checkpoint_it_was_made_from(architecture: str, tied: bool, tmp_path: Path) -> None:
    written = write(tmp_path / "m.gguf", architecture, tied=tied)
    model = load_model(tmp_path / "m.gguf", SPEC)
    assert model.body.config == written.config
    loaded = model.body.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in written.state_dict().items())
    assert (model.body.lm_head.weight is model.body.model.embed_tokens.weight) == tied
    engine = Engine(model, Dense(), Static(tokens_per_step=4))
    (answer,) = engine.generate(engine.prefill([model.tokenizer.encode("hello hello")], [6]))
    assert answer.tokens or answer.stopped


@pytest.mark.parametrize(("width", "rotated"), [(6, 6), (8, 8), (16, 16), (None, 16)])
@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
def test_a_part_of_each_head_is_rotated_where_the_file_says_so(
    architecture: str, width: int | None, rotated: int, tmp_path: Path
) -> None:
    told = (lambda writer: None) if width is None else (lambda writer: writer.add_rope_dimension_count(width))
    write(tmp_path / "m.gguf", architecture, metadata=told)
    assert load_model(tmp_path / "m.gguf", SPEC).body.config.rotary_width == rotated


@pytest.mark.parametrize(
    ("kind", "tolerance"), [(GGMLQuantizationType.F16, 1e-3), (GGMLQuantizationType.Q8_0, 2e-2)], ids=lambda k: str(k)
)
def test_quantised_tensors_are_dequantised(kind: GGMLQuantizationType, tolerance: float, tmp_path: Path) -> None:
    written = write(tmp_path / "m.gguf", "llama", quantised=kind)
    loaded = load_model(tmp_path / "m.gguf", SPEC).body.state_dict()
    for name, tensor in written.state_dict().items():
        error = (loaded[name] - tensor).norm() / tensor.norm()
        assert error < tolerance, name
        assert tensor.dim() == 1 or error > 0, "a matrix was stored in fewer bits"


def test_the_tokenizer_and_the_template_are_those_of_the_file(tmp_path: Path) -> None:
    write(tmp_path / "m.gguf")
    tokenizer = GGUFFile(tmp_path / "m.gguf").tokenizer({})
    assert tokenizer.encode("he<|im_end|>") == [256, 258]
    assert tokenizer.decode([256, 257, 258]) == "he"
    assert tokenizer.chat("x") == "x<|im_end|>"


@pytest.mark.parametrize(("pre", "tokens"), [("gpt-2", 1), ("smollm", 2), ("qwen2", 2), ("llama-bpe", 1)])
def test_digits_are_split_as_the_file_says(pre: str, tokens: int, tmp_path: Path) -> None:
    write(tmp_path / "m.gguf", pre=pre, merges=["h e", "1 2"])
    assert len(GGUFFile(tmp_path / "m.gguf").tokenizer({}).encode("12")) == tokens
    assert QWEN_SPLIT.count(r"\p{N}|") == 1


def drop(name: str) -> Callable[[dict[str, np.ndarray]], object]:
    return lambda tensors: tensors.pop(name)


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "architecture": ({"name": "gpt2"}, "general.architecture=gpt2 is not known"),
    "key": ({"context": False}, "key qwen3.context_length is missing"),
    "scaling": ({"metadata": lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.YARN)}, "scaling.type=yarn"),
    "partial llama": (
        {"architecture": "llama", "metadata": lambda w: w.add_rope_dimension_count(8)},
        "llama.rope.dimension_count=8: heads have 16 dimensions. Allowed: 16.",
    ),
    "wider": (
        {"metadata": lambda w: w.add_rope_dimension_count(32)},
        "qwen3.rope.dimension_count=32: heads have 16 dimensions. Allowed: even numbers up to 16.",
    ),
    "odd": ({"metadata": lambda w: w.add_rope_dimension_count(7)}, "7 rotary dimensions of head_dim=16"),
    "missing": ({"change": drop("blk.1.attn_q.weight")}, "tensor blk.1.attn_q.weight is missing"),
    "embedding": ({"change": drop("token_embd.weight")}, "tensor token_embd.weight is missing"),
    "surplus": (
        {"change": lambda t: t.update({"rope_freqs.weight": np.ones(8, np.float32)})},
        "tensor rope_freqs.weight is not part of this model",
    ),
    "misshapen": (
        {"change": lambda t: t.update({"output_norm.weight": np.ones(32, np.float32)})},
        "tensor output_norm.weight has shape (32,), its metadata says (64,)",
    ),
    "tokenizer": ({"model": "llama"}, "tokenizer.ggml.model=llama is not known"),
    "split": ({"pre": "tekken"}, "tokenizer.ggml.pre=tekken is not known"),
    "merges": ({"merges": ["x yy"]}, "tokenizer.ggml.merges do not fit the tokens"),
    "template": ({"template": "{% if %}"}, "the chat template is broken"),
}


@pytest.mark.parametrize(("changes", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_what_cannot_be_loaded_is_named_in_one_line(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    write(tmp_path / "m.gguf", **changes)
    with pytest.raises(UserError) as caught:
        load_model(tmp_path / "m.gguf", SPEC)
    told = str(caught.value)
    assert words in told and str(tmp_path / "m.gguf") in told and "\n" not in told


@pytest.mark.parametrize("kept", [0, 3, 200, -100])
def test_a_truncated_file_is_refused(kept: int, tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    write(file)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(UserError, match="not a readable GGUF file"):
        load_model(file, SPEC)


def test_the_hash_follows_the_weights(tmp_path: Path) -> None:
    def hashed(name: str, **changes: Any) -> str:
        write(tmp_path / name, **changes)
        source = GGUFFile(tmp_path / name)
        return content_hash(source, source.tokenizer({}), check_source(source))

    assert hashed("a.gguf") == hashed("b.gguf") != hashed("c.gguf", quantised=GGMLQuantizationType.F16)
