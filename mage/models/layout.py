"""How the tensors of a checkpoint fill a body: names, shapes, and where each slice goes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mage.models.config import BodyConfig
from mage.models.transformer import Transformer


@dataclass(frozen=True)
class Part:
    """One place that a hub tensor fills.

    target: name in the body's state dict. rows: slice of the hub tensor's first dimension; None: all of it (a fused
    projection has several parts). index: position in the target's first dimension (stacked experts); None: the whole
    target.
    """

    target: str
    rows: tuple[int, int] | None = None
    index: int | None = None


@dataclass(frozen=True)
class HubTensor:
    """One tensor of the hub's files.

    shape: as the files hold it. parts: the places it fills; none for what the body derives itself (rotary
    frequencies). optional: the files may lack it (the output matrix of tied embeddings). float32: the body keeps it in
    float32 whatever the dtype of its weights. aliases: other names under which some files hold it.
    """

    shape: tuple[int, ...]
    parts: tuple[Part, ...]
    optional: bool = False
    float32: bool = False
    aliases: tuple[str, ...] = ()


Layout = dict[str, HubTensor]
"""Every tensor name of the hub's files, in the hub's naming."""

EXPERTS = re.compile(r"(.*\.mlp\.experts)\.(gate_proj|up_proj|down_proj)")
"""The body's name of the stacked matrices of all experts of a layer."""


def body_shapes(body: BodyConfig) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the body's state dict, without memory for any weight."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in Transformer(body).state_dict().items()}


def default_layout(body: BodyConfig) -> Layout:
    """Return the layout of the Llama and Qwen checkpoints: the body's own names, one matrix an expert.

    Experts are `mlp.experts.E.{gate,up,down}_proj.weight`, the router is `mlp.gate` (Qwen3-MoE, LLaDA2). The output
    matrix is optional where embeddings are tied. Old Llama checkpoints also hold `rotary_emb.inv_freq`, which fills
    nothing.
    """
    layout: Layout = {}
    for name, tensor in stacked_layout(body).items():
        if match := EXPERTS.fullmatch(name):
            stem, matrix = match.groups()
            for expert in range(tensor.shape[0]):
                part = Part(name, index=expert)
                layout[f"{stem}.{expert}.{matrix}.weight"] = HubTensor(tensor.shape[1:], (part,))
        else:
            layout[name] = tensor
    return layout


def stacked_layout(body: BodyConfig) -> Layout:
    """Return the default layout, but with the experts stacked as the body has them."""
    layout: Layout = {}
    for name, shape in body_shapes(body).items():
        layout[name.replace(".mlp.router.", ".mlp.gate.")] = HubTensor(
            shape,
            (Part(name),),
            optional=name == "lm_head.weight" and body.tied_embeddings,
            float32=name.endswith(".mlp.router.bias"),
        )
    for layer in range(body.num_layers):
        frequencies = HubTensor((body.rotary_width // 2,), (), optional=True)
        layout[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = frequencies
    return layout


def renamed(layout: Layout, name: Callable[[str], str]) -> Layout:
    """Return `layout` with `name` applied to every name."""
    return {name(old): tensor for old, tensor in layout.items()}


def with_aliases(layout: Layout, aliases: Callable[[str], tuple[str, ...]]) -> Layout:
    """Return `layout` with other names for every tensor."""
    return {name: replace(tensor, aliases=(*tensor.aliases, *aliases(name))) for name, tensor in layout.items()}


def fused(layout: Layout, sources: tuple[str, ...], name: str) -> Layout:
    """Return `layout` with the tensors `sources` stacked along their first dimension into the tensor `name`.

    Each source must fill one whole target.
    """
    parts, start = [], 0
    for source in sources:
        height = layout[source].shape[0]
        parts.append(Part(layout[source].parts[0].target, rows=(start, start + height)))
        start += height
    rest = {other: tensor for other, tensor in layout.items() if other not in sources}
    return rest | {name: HubTensor((start, *layout[sources[0]].shape[1:]), tuple(parts))}


def by_file_name(layout: Layout) -> dict[str, str]:
    """Return, for each name that a file may use, the name in the layout."""
    return {alias: name for name, tensor in layout.items() for alias in (name, *tensor.aliases)}


def fill(part: Part, hub: Tensor, target: Tensor) -> None:
    """Copy the part's slice of the hub tensor to its place in `target`, the body's tensor of that name."""
    source = hub if part.rows is None else hub[part.rows[0] : part.rows[1]]
    (target if part.index is None else target[part.index]).copy_(source)
