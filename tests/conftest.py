"""Small random models and prompts that every test of the library shares."""

from __future__ import annotations

import json
import os
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from mage.models.checkpoint import LanguageModel, load_model
from mage.models.diffusion import DiffusionSpec
from mage.models.families.registry import body_config
from mage.models.transformer import Transformer

CONFIG = {
    "model_type": "qwen3",
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}


TESTS = Path(__file__).parent
GPU_MARK = "pytest.mark.gpu"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m gpu`, leave out the files without such tests: a machine with a GPU may lack what they import."""
    if config.option.markexpr != "gpu" or not (collection_path.is_dir() or collection_path.name.startswith("test_")):
        return None
    files = collection_path.rglob("test_*.py") if collection_path.is_dir() else [collection_path]
    return None if any(marks_gpu_tests(file) for file in files) else True


def marks_gpu_tests(file: Path) -> bool:
    """Whether a file of tests, or the conftest beside it, names the mark."""
    named = [file] if file.parent == TESTS else [file, file.with_name("conftest.py")]
    return any(GPU_MARK in path.read_text() for path in named if path.is_file())


def pytest_configure(config: pytest.Config) -> None:
    """Let Triton interpret its kernels where there is no GPU: it reads the variable once, when it is imported."""
    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"


def write_checkpoint(folder: Path, seed: int = 0, **changes: object) -> Path:
    """Write a random checkpoint in the Hugging Face layout and return its folder."""
    config = CONFIG | changes
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    body = Transformer(body_config(config))
    with torch.no_grad():
        for parameter in body.parameters():  # larger than the default: attention must not be uniform
            if parameter.dim() == 2:
                parameter.normal_(0.0, 2.0 / parameter.shape[1] ** 0.5)
    tensors = {name: tensor.contiguous() for name, tensor in body.state_dict().items()}
    if config["tie_word_embeddings"]:
        tensors.pop("lm_head.weight")
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(int(config["vocab_size"]))}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def spec(block_size: int = 8, alignment: str = "same") -> DiffusionSpec:
    return DiffusionSpec(block_size=block_size, mask_id=1, stop_ids=(2,), alignment=alignment)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def model(checkpoint: Path) -> LanguageModel:
    return load_model(checkpoint, spec())


@pytest.fixture(scope="session")
def shifted_model(checkpoint: Path) -> LanguageModel:
    return load_model(checkpoint, spec(alignment="shifted"))


@pytest.fixture
def device() -> str:
    """Where kernels run: on a GPU, else interpreted."""
    if torch.cuda.is_available():
        return "cuda"
    versions = [tuple(map(int, version(name).split(".")[:2])) for name in ("triton", "numpy")]
    if versions[0] < (3, 7) and versions[1] >= (2, 4):
        pytest.skip("the interpreter of Triton 3.6 does not loop with numpy 2.4")
    return "cpu"


def prompt(length: int, seed: int = 0) -> list[int]:
    """Random tokens that are neither [MASK] nor a stop token."""
    return torch.randint(3, CONFIG["vocab_size"], (length,), generator=torch.Generator().manual_seed(seed)).tolist()
