"""The three forwards of MAGE's fine-tuning and their loss: a model learns to live with the entries it selects.

Source: MAGE v1 (arXiv 2602.14209 v1), section on fine-tuning. A step has

1. no gradient: exact attention on the noised block, from which the method chooses the sets of all layers and KV heads;
2. gradient: the noised block attends to these entries of the clean prefix and to itself, dense layers to all of it;
3. no gradient: the exact teacher on the same block (see `Change` of `mage.training.tuner`).

Loss: CE on the masked tokens + lambda KL(p_sparse || p_exact), as the source writes it: the expectation is under the
sparse distribution, `sum p_sparse (log p_sparse - log p_exact)`. Its gradient runs through p_sparse only; the selection
has none either, it changes as the weights do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mage.attention.block import BlockAttention
from mage.budget import Budget
from mage.errors import UserError, unknown_choice
from mage.method import REUSE, SELECT_AFTER, Method
from mage.models.diffusion import DiffusionSpec
from mage.models.transformer import Transformer
from mage.training.clean_prefix import CleanPrefix, clean_prefix
from mage.training.examples import Examples
from mage.training.noise import Noised
from mage.view import Forward, Request


@dataclass(frozen=True)
class Bodies:
    """A model in training: the body of the clean forward, and that of the noised block. They differ under a block
    adapter only."""

    prefix: Transformer
    block: Transformer


@dataclass(frozen=True)
class Outcome:
    """`loss`: to differentiate; `cross_entropy` and `divergence`: its parts, the latter before lambda, without
    gradient. `right` `[n, block_size]`: masked tokens that the model would name."""

    loss: Tensor
    cross_entropy: Tensor
    divergence: Tensor
    right: Tensor


@dataclass(frozen=True, kw_only=True)
class SparseTuning:
    """The objective.

    method, budget: what selects in forward 1. kl_weight: lambda. objective: `dense` leaves forward 1 out and attends to
    the whole prefix in 2: the control, which tells what plain further training gives. select_state: the block of
    forward 1. In decoding it is the first step's, all [MASK] behind the prompt's tail, while the sets serve the later
    steps (`all_masked`); the source's wording, "the noised block", may also mean the one of forward 2 (`same`).
    prefix_gradient: whether the clean forward is differentiated too. Without, the weights that write the prefix's keys
    and values learn from the noised block alone.
    """

    method: Method
    budget: Budget
    spec: DiffusionSpec
    kl_weight: float = 1.0
    objective: Literal["sparse", "dense"] = "sparse"
    select_state: Literal["all_masked", "same"] = "all_masked"
    prefix_gradient: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.kl_weight < float("inf"):
            raise UserError(f"runner.kl_weight={self.kl_weight} is out of range. Allowed: a number >= 0.")
        for name, allowed in (("objective", ("sparse", "dense")), ("select_state", ("all_masked", "same"))):
            if getattr(self, name) not in allowed:
                raise unknown_choice(f"runner.{name}", getattr(self, name), allowed)
        first, later = (self.method.plan(Forward(1, step)) for step in (1, 2))
        if (first, later) != (SELECT_AFTER, REUSE):
            raise UserError(
                f"method={type(self.method).__name__}: fine-tuning needs a method that selects in a block's first, "
                "exact step and reuses the sets from the second on. Allowed: mage (select_step=1), mage_v1."
            )
        self.method.check_budget(self.budget)

    def masked_from(self, examples: Examples) -> Tensor:
        """Return the first slot of each block that may be [MASK], `[n]`: none that is decided before the first step."""
        return examples.starts.clamp(min=1) if self.spec.seeded else examples.starts

    def outcome(self, student: Bodies, teacher: Bodies, examples: Examples, noised: Noised) -> Outcome:
        """Run the three forwards. `noised`: of `examples.blocks`, not before `masked_from`.

        Bodies are float32; `teacher` may share weights, or be the student itself.
        """
        unit = self.spec.prefill_unit
        with torch.set_grad_enabled(self.prefix_gradient and torch.is_grad_enabled()):
            prefix = clean_prefix(student.prefix, examples, unit)
        hidden = self._student_hidden(student.block, prefix, examples, noised)
        logits = student.block.logits(self._of_masked(hidden, noised))  # [masked tokens, vocab]
        target, weights = examples.blocks[noised.masked], noised.weights[noised.masked]
        weights = weights / weights.sum()
        cross_entropy = F.cross_entropy(logits, target, reduction="none")
        divergence = torch.zeros_like(cross_entropy)
        if self.kl_weight:
            log_exact = self._teacher_log(teacher, student, prefix, examples, noised)
            log_sparse = logits.log_softmax(-1)
            divergence = (log_sparse.exp() * (log_sparse - log_exact)).sum(-1)
        right = torch.zeros_like(noised.masked)
        right[noised.masked] = logits.argmax(-1) == target
        parts = (cross_entropy * weights).sum(), (divergence * weights).sum()
        return Outcome(parts[0] + self.kl_weight * parts[1], parts[0].detach(), parts[1].detach(), right)

    def _student_hidden(self, body: Transformer, prefix: CleanPrefix, examples: Examples, noised: Noised) -> Tensor:
        if self.objective == "dense":
            return exact_hidden(self.method, body, prefix, examples, noised.tokens)
        attention, positions = _attention(self.method, body, prefix, examples), examples.block_positions()
        budgets = [self.budget.resolve(length) for length in prefix.lengths]
        selecting = noised.tokens
        if self.select_state == "all_masked":
            place = torch.arange(noised.tokens.shape[1], device=noised.tokens.device)
            hidden = place >= self.masked_from(examples)[:, None]
            selecting = torch.where(hidden, self.spec.mask_id, examples.blocks)
        with torch.no_grad():
            attention.begin(Forward(1, 1), budgets, _prompt_rows(examples), _no_clock)
            body.hidden(selecting, positions, attention)
        attention.begin(Forward(1, 2), budgets, _prompt_rows(examples), _no_clock)
        return body.hidden(noised.tokens, positions, attention)

    @torch.no_grad()
    def _teacher_log(
        self, teacher: Bodies, student: Bodies, prefix: CleanPrefix, examples: Examples, noised: Noised
    ) -> Tensor:
        """Return the teacher's log-probabilities of the masked tokens `[masked tokens, vocab]`."""
        if teacher.prefix is not student.prefix:
            prefix = clean_prefix(teacher.prefix, examples, self.spec.prefill_unit)
        hidden = exact_hidden(self.method, teacher.block, prefix, examples, noised.tokens)
        return teacher.block.logits(self._of_masked(hidden, noised)).log_softmax(-1)

    def _of_masked(self, hidden: Tensor, noised: Noised) -> Tensor:
        """Return the hidden states that predict the masked tokens."""
        if self.spec.alignment == "shifted":
            hidden = torch.cat((hidden[:, :1], hidden[:, :-1]), dim=1)
        return hidden[noised.masked]


def exact_hidden(method: Method, body: Transformer, prefix: CleanPrefix, examples: Examples, tokens: Tensor) -> Tensor:
    """Return the hidden states of blocks that see all of their prefixes. A budget that covers a prefix asks for that,
    whatever the method."""
    attention = _attention(method, body, prefix, examples)
    attention.begin(Forward(1, 2), prefix.lengths, _prompt_rows(examples), _no_clock)
    return body.hidden(tokens, examples.block_positions(), attention)


def _attention(method: Method, body: Transformer, prefix: CleanPrefix, examples: Examples) -> BlockAttention:
    count = len(prefix.lengths)
    request = Request(
        block_size=examples.blocks.shape[1],
        prefilled=prefix.lengths,
        question_starts=prefix.lengths,
        windows=torch.empty(body.config.num_layers, count, body.config.num_heads, 0, body.config.head_dim),
        example_ids=[str(row) for row in range(count)],
        seed=0,
    )
    return BlockAttention(method, prefix, request, shadow=False, observer=None)


def _prompt_rows(examples: Examples) -> Tensor:
    return torch.arange(examples.blocks.shape[1], device=examples.starts.device) < examples.starts[:, None]


def _no_clock() -> float:
    return 0.0
