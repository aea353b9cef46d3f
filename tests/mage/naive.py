"""Generation as a specification: every forward recomputes the whole sequence, without cache, batch or seam.

Written from the models' own loops (Fast-dLLM v2, SDAR, LLaDA2.1, Nemotron-Labs-Diffusion), for one prompt, in plain
Python over lists.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mage.models.checkpoint import LanguageModel
from mage.models.diffusion import DiffusionSpec
from mage.models.families.registry import body_config
from mage.models.transformer import Transformer
from tests.conftest import CONFIG

Predict = Callable[[list[int]], Tensor]  # the block -> logits [block, vocab], each row for its own slot


class Block:
    """An open block: its tokens, how many of them are fixed, how many the answer needs, and what a stop token is."""

    def __init__(self, tokens: list[int], fixed: int, needed: int, mask: int, is_stop: Callable[[int, int], bool]):
        self.tokens, self.fixed, self.needed, self.mask, self.is_stop = tokens, fixed, needed, mask, is_stop

    def masked(self) -> list[int]:
        return [i for i in range(self.fixed, self.needed) if self.tokens[i] == self.mask]

    def open(self) -> list[int]:
        """Masked slots before the first stop token."""
        stops = [i for i in range(len(self.tokens)) if self.is_stop(i, self.tokens[i])]
        return [i for i in self.masked() if i < min([*stops, len(self.tokens)])]


Rule = Callable[[Block, Predict], None]  # writes a block from its masks to its final tokens


LLADA2_EXPERTS: dict[str, object] = {
    "num_experts": 16,
    "num_experts_per_tok": 3,
    "num_shared_experts": 1,
    "moe_intermediate_size": 12,
    "first_k_dense_replace": 1,
    "n_group": 4,
    "topk_group": 2,
    "norm_topk_prob": True,
    "score_function": "sigmoid",
    "moe_router_enable_expert_bias": True,
    "routed_scaling_factor": 2.5,
}
FAMILIES: dict[str, dict[str, object]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "nemotron_labs_diffusion": {
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 1e4,
            "factor": 16.0,
            "original_max_position_embeddings": 16,  # below the prompts, so that positions scale queries
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "llama_4_scaling_beta": 0.1,
        },
    },
    "llada2_moe": {"partial_rotary_factor": 0.5, **LLADA2_EXPERTS},
}


def tiny_body(model_type: str, seed: int = 0, **changes: object) -> Transformer:
    """A random body of a family, with attention that is not uniform."""
    torch.manual_seed(seed)
    body = Transformer(body_config(CONFIG | {"model_type": model_type} | FAMILIES[model_type] | changes))
    for parameter in body.parameters():
        if parameter.dim() >= 2:
            torch.nn.init.normal_(parameter, 0.0, 2.0 / parameter.shape[-1] ** 0.5)
    return body.eval().requires_grad_(False)


def visible(spec: DiffusionSpec, finished: int, size: int) -> Tensor:
    """Who sees whom, bool `[size, size]`, when the positions from `finished` on are an open block."""
    unit = 1 if spec.prefix_attention == "causal" else spec.block_size
    part = torch.arange(size) // unit
    part[finished:] = size
    return part[:, None] >= part


def forward(model: LanguageModel, tokens: list[int], finished: int) -> Tensor:
    """Logits `[tokens, vocab]` of one forward over everything."""
    mask = visible(model.spec, finished, len(tokens))

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        group = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        return scores.masked_fill(~mask, float("-inf")).softmax(-1) @ v

    with torch.no_grad():
        return model.body.logits(model.body.hidden(torch.tensor([tokens]), torch.arange(len(tokens))[None], attend))[0]


def generate(model: LanguageModel, prompt: list[int], new: int, rule: Rule, own_stops: Sequence[int] = ()) -> list[int]:
    """The answer to one prompt. `own_stops` end it except as its first token."""
    spec, size, limit = model.spec, model.spec.block_size, len(prompt) + new
    sequence = list(prompt)
    while True:
        start = len(sequence) if spec.prefix_attention == "causal" else len(sequence) // size * size
        head = sequence[start:]
        if not head and (spec.anchored or spec.alignment == "shifted"):
            head = [best(forward(model, sequence, len(sequence))[-1], spec.mask_id)]

        def is_stop(slot: int, token: int, start: int = start) -> bool:
            position = start + slot
            return position >= len(prompt) and (
                token in spec.stop_ids or (token in own_stops and position > len(prompt))
            )

        def predict(block: list[int], finished: list[int] = sequence[:start], start: int = start) -> Tensor:
            logits = forward(model, finished + block, start)
            if spec.alignment == "shifted":  # slot 0 has no prediction of its own
                logits = torch.cat((torch.full_like(logits[:1], float("nan")), logits[start:-1]))
                assert len(logits) == size
                return logits
            return logits[start:]

        tokens = head + [spec.mask_id] * (size - len(head))
        block = Block(tokens, len(head), min(size, limit - start), spec.mask_id, is_stop)
        rule(block, predict)
        for slot in range(max(0, len(prompt) - start), block.needed):
            if is_stop(slot, block.tokens[slot]):
                return (sequence[:start] + block.tokens)[len(prompt) : start + slot]
        sequence = sequence[:start] + block.tokens[: block.needed]
        if len(sequence) >= limit:
            return sequence[len(prompt) :]


def best(logits: Tensor, *forbidden: int) -> int:
    logits = logits.clone()
    logits[list(forbidden)] = float("-inf")
    return int(logits.argmax())


def fill(choose: Callable[[list[int], list[Tensor], int], list[int]], sub_block: int | None = None) -> Rule:
    """A rule that fills until no open slot is left; `choose(slots, probabilities by slot, step)`."""

    def rule(block: Block, predict: Predict) -> None:
        step = 0
        while slots := block.open():
            step += 1
            logits = predict(block.tokens)
            logits[:, block.mask] = float("-inf")
            if sub_block is not None:
                slots = [i for i in slots if i // sub_block == slots[0] // sub_block]
            probabilities = list(logits.softmax(-1))
            for i in choose(slots, probabilities, step):
                assert block.tokens[i] == block.mask, "a filled slot was chosen again"
                block.tokens[i] = int(probabilities[i].argmax())

    return rule


def most_confident(slots: list[int], probabilities: list[Tensor], count: int) -> list[int]:
    return sorted(slots, key=lambda i: -float(probabilities[i].max()))[:count]


def threshold(value: float, at_least: int = 1) -> Callable[[list[int], list[Tensor], int], list[int]]:
    def choose(slots: list[int], probabilities: list[Tensor], step: int) -> list[int]:
        above = [i for i in slots if float(probabilities[i].max()) > value]
        return above if len(above) >= at_least else most_confident(slots, probabilities, at_least)

    return choose


def static(schedule: Callable[[int], int]) -> Callable[[list[int], list[Tensor], int], list[int]]:
    return lambda slots, probabilities, step: most_confident(slots, probabilities, schedule(step))


def sequential(count: int) -> Callable[[list[int], list[Tensor], int], list[int]]:
    return lambda slots, probabilities, step: slots[:count]


def entropy(bound: float) -> Callable[[list[int], list[Tensor], int], list[int]]:
    def choose(slots: list[int], probabilities: list[Tensor], step: int) -> list[int]:
        nats = {i: float(-sum(p * p.log() for p in probabilities[i] if p > 0)) for i in slots}
        chosen, spent = [], 0.0
        for i in sorted(slots, key=nats.__getitem__):
            if spent > bound:
                break
            chosen.append(i)
            spent += nats[i]
        return chosen

    return choose


def edit(value: float, editing: float, num_to_transfer: int, max_post_steps: int) -> Rule:
    """The loop of LLaDA2.1."""

    def rule(block: Block, predict: Predict) -> None:
        post = 0
        while True:
            masked = block.masked()
            post += not masked
            if post > max_post_steps:
                return
            logits = predict(block.tokens)
            logits[:, block.mask] = float("-inf")
            confidence, tokens = (x.tolist() for x in logits.softmax(-1).max(-1))
            above = [i for i in masked if confidence[i] > value]
            if len(above) < num_to_transfer:
                above = sorted(masked, key=lambda i: -confidence[i])[:num_to_transfer]
            edits = [
                i
                for i in range(block.fixed, block.needed)
                if i not in masked and tokens[i] != block.tokens[i] and confidence[i] > editing
            ]
            for i in above + edits:
                block.tokens[i] = tokens[i]
            if not masked and not edits:
                return

    return rule
