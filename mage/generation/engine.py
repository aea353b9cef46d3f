"""The generation engine: a model, a sparse-attention method and a decoding policy."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mage.attention.block import BlockAttention, Observer
from mage.budget import Budget
from mage.errors import UserError
from mage.generation.decoding import Decoding
from mage.generation.prefill import Prefix, prefill, prefill_common
from mage.generation.session import Generation, Session
from mage.method import Method
from mage.models.checkpoint import LanguageModel
from mage.view import Request


class Engine:
    """Generates with one method. Engines of different methods can share a prefix: decoding never changes it.

    `prefill_chunk`: tokens per prefill forward, a multiple of the block size unless the prefill is causal (None: one
    pass). `shadow`: the method selects as planned while attention stays exact. `observer`: called with each layer's
    view and attended set before each denoising attention (see `mage.generation.recall`).

    Raises `UserError` when the decoding policy cannot work with the model.
    """

    def __init__(
        self,
        model: LanguageModel,
        method: Method,
        decoding: Decoding,
        *,
        prefill_chunk: int | None = None,
        shadow: bool = False,
        observer: Observer | None = None,
    ) -> None:
        decoding.check(model.spec)
        self.model, self.method, self.decoding = model, method, decoding
        self._prefill_chunk, self._shadow, self._observer = prefill_chunk, shadow, observer

    def prefill(self, prompts: list[list[int]], max_new_tokens: list[int], *, common: Prefix | None = None) -> Prefix:
        """Prefill `prompts`, one limit of new tokens each: whole blocks of them, all of them where that is causal.

        `common`: what `prefill_common` made of the first tokens of a single prompt.
        """
        return prefill(self.model, prompts, max_new_tokens, chunk=self._prefill_chunk, common=common)

    def prefill_common(self, tokens: list[int]) -> Prefix:
        """Prefill what several prompts begin with. Needs a causal prefill."""
        return prefill_common(self.model, tokens, chunk=self._prefill_chunk)

    @torch.inference_mode()
    def generate(
        self,
        prefix: Prefix,
        budget: Budget | None = None,
        *,
        example_ids: Sequence[str] | None = None,
        question_starts: Sequence[int] | None = None,
        stop_ids: Sequence[Sequence[int]] | None = None,
        seed: int = 0,
    ) -> list[Generation]:
        """Generate an answer for each prompt of `prefix`.

        `budget` is required unless the method has none. `example_ids` and `seed` feed methods that draw at random.
        `question_starts`: position of the first token of each prompt's question (default: the end of the prompt); it
        tells a query-agnostic SnapKV what it may not see. `stop_ids`: for each prompt, ids that end its answer too,
        except as its first token.
        """
        if self.method.uses_budget:
            if budget is None:
                raise UserError(f"{type(self.method).__name__} needs a budget.")
            self.method.check_budget(budget)
        batch = len(prefix.prompts)
        request = Request(
            block_size=self.model.spec.block_size,
            prefilled=prefix.lengths,
            question_starts=list(question_starts or [len(prompt) for prompt in prefix.prompts]),
            windows=prefix.windows,
            example_ids=list(example_ids or [str(row) for row in range(batch)]),
            seed=seed,
        )
        attention = BlockAttention(self.method, prefix.cache, request, shadow=self._shadow, observer=self._observer)
        resolved = budget if self.method.uses_budget else None
        return Session(self.model, self.decoding, attention, prefix, resolved, stop_ids).run()
