"""Loading: from a source of tensors to a language model on its device."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from mage.errors import UserError, unknown_choice
from mage.models.adapter import Adapter
from mage.models.config import BodyConfig
from mage.models.diffusion import DiffusionSpec
from mage.models.folder import Folder
from mage.models.gguf_file import GGUFFile
from mage.models.layout import fill
from mage.models.location import locate
from mage.models.source import Source, check_source, layout_of
from mage.models.tokenizer import Tokenizer
from mage.models.transformer import Transformer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class LanguageModel:
    """A loaded model: body, block-diffusion declaration, tokenizer.

    adapted: what denoising forwards run instead of `body`, None where they run that too; needs causal prefixes.
    """

    body: Transformer
    spec: DiffusionSpec
    tokenizer: Tokenizer
    adapted: Transformer | None = None

    def __post_init__(self) -> None:
        if self.adapted is not None:
            self.spec.check_adapted()

    @property
    def block_body(self) -> Transformer:
        """The body of denoising forwards. Prefill and commit run `body`."""
        return self.body if self.adapted is None else self.adapted

    @property
    def max_positions(self) -> int:
        """The number of positions the checkpoint declares, stretched by YaRN where that is asked for."""
        return self.body.config.max_positions

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.body.lm_head.weight.device


def load_model(
    source: Source | str | Path,
    spec: DiffusionSpec,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    body: BodyConfig | None = None,
    tokenizer: Tokenizer | None = None,
    adapter: Adapter | None = None,
) -> LanguageModel:
    """Load a model for inference, tensor by tensor, so that memory holds one model and one tensor more.

    source: a folder, a .gguf file, or what `mage.models.opening.open_source` returned. body: the body to fill, when
    it is to differ from what the source says (YaRN). tokenizer: instead of the source's own. adapter: of denoising
    forwards; needs causal prefixes. Raises `UserError` that names the file, and the tensor or key, when something is
    missing, truncated, surplus, of another shape than the config says, or in a format that can hold code.
    """
    if dtype not in DTYPES:
        raise unknown_choice("model.dtype", dtype, DTYPES)
    if adapter is not None:
        spec.check_adapted()
    if not isinstance(source, Source):
        source = open_local(source)
    declared = check_source(source)
    body = body or declared
    check_ids(spec, body)
    tokenizer = tokenizer or source.tokenizer({})
    check_tokenizer(tokenizer, body, source)
    if adapter is not None:
        adapter.check(body)
    with torch.device("meta"):
        transformer = Transformer(body)
    target = torch.device(device)
    shapes = {name: tensor.shape for name, tensor in transformer.state_dict().items()}
    if body.tied_embeddings:
        del shapes["lm_head.weight"]
    layout = layout_of(source, body)
    exact = {part.target for tensor in layout.values() if tensor.float32 for part in tensor.parts}
    dtypes = {name: torch.float32 if name in exact else DTYPES[dtype] for name in shapes}
    filled = {name: torch.empty(shape, dtype=dtypes[name], device=target) for name, shape in shapes.items()}
    for name, tensor in source.tensors(target, DTYPES[dtype]):
        for part in layout[name].parts:
            if part.target in filled:  # some files hold the output matrix of tied embeddings all the same
                fill(part, tensor, filled[part.target])
    transformer.load_state_dict(filled, assign=True, strict=not body.tied_embeddings)
    if body.tied_embeddings:
        transformer.lm_head.weight = transformer.model.embed_tokens.weight
    transformer.eval().requires_grad_(False)
    adapted = None if adapter is None else adapter.merged_into(transformer, spec.mask_id)
    return LanguageModel(transformer, spec, tokenizer, adapted)


def open_local(place: str | Path) -> Source:
    """Return the source that lies in a folder or a .gguf file. Raises `UserError`."""
    location = locate(place)
    if location.kind == "gguf":
        return GGUFFile(location.path)
    if location.kind != "folder":
        raise UserError(f"model.weights={place}: no such checkpoint folder.")
    return Folder(location.path)


def content_hash(source: Source, tokenizer: Tokenizer, body: BodyConfig) -> str:
    """Return 16 hex digits that change when the body, the tokenizer or any weight changes.

    The body counts as it was understood: what a config.json says besides, and how it is written, does not.
    """
    content = [source.digest(), tokenizer.digest, source.config.get("model_type"), asdict(body)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def check_ids(spec: DiffusionSpec, config: BodyConfig) -> None:
    """Raise `UserError` when the mask id, a stop id or a control id is outside the vocabulary."""
    single = {name: getattr(spec, name) for name in ("mask_id", "delete_id", "split_id")}
    named = {f"model.{name}": (value,) for name, value in single.items()} | {"model.stop_ids": spec.stop_ids}
    for field, ids in named.items():
        for value in ids:
            if value is not None and not 0 <= value < config.vocab_size:
                raise UserError(f"{field}={value} is outside the vocabulary of {config.vocab_size} tokens.")


def check_tokenizer(tokenizer: Tokenizer, config: BodyConfig, source: Source) -> None:
    """Raise `UserError` when the tokenizer may give ids that the body has no embedding for."""
    if tokenizer.size > config.vocab_size:
        raise UserError(
            f"{source.place}: the tokenizer has ids up to {tokenizer.size - 1}, the model's vocabulary ends at "
            f"{config.vocab_size - 1}. Choose the tokenizer that belongs to it with model.tokenizer."
        )
