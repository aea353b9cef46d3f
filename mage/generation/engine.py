"""The generation engine: a model, a sparse-attention method and a decoding policy."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from mage.attention.block import BlockAttention, Observer
from mage.attention.implementation import operations
from mage.budget import Budget
from mage.errors import UserError
from mage.generation.captured import Graph, Recorder, Recording
from mage.generation.decoding import Decoding
from mage.generation.fusing import check_fusing
from mage.generation.graph_memory import graph_memories
from mage.generation.prefill import Prefix, prefill, prefill_common
from mage.generation.session import Generation, Session
from mage.method import Method
from mage.models.checkpoint import LanguageModel
from mage.view import Request


class Engine:
    """Generates with one method. Engines of different methods can share a prefix: decoding never changes it.

    `prefill_chunk`: tokens per prefill forward, a multiple of the block size unless the prefill is causal (None: one
    pass). `shadow`: the method selects as planned while attention stays exact. `observer`: called with each layer's
    view and attended set before each denoising attention (see `mage.generation.recall`). `attention`: what computes it,
    `auto`, `torch` or `triton` (see `mage.attention.implementation`). `check_every`: denoising steps between two looks
    at whether a block is done; steps behind its end change nothing and are counted. Policies that edit look at each.
    `capture`: on a GPU, repeat forwards as CUDA graphs (see `mage.generation.captured`); not where experts are routed,
    which asks the host, nor under a policy that edits. A generation does each kind of work once as it is and captures
    it the next time: from its fourth block on, with fused commits its fifth, all is repeated; where a budget begins to
    limit a row in a later block, what that changes is captured anew in the blocks after it. This holds under `triton`
    of what attends exactly or reuses, and of what selects where the method `is_steady`, under a share of the prefix
    too. What selects otherwise, and all under `torch`, depends on lengths: it is captured anew in each block where the
    method is `capturable`, or runs as it is. `overlap`: choose the sets of a method that `is_steady`, such as MAGE's
    and SparseD's, in the exact step that plans them, on a second stream beside the feed-forward; a block that ends with
    that step has paid for nothing.
    `fuse_commit`: where the commit of a block and the first step of the next both attend exactly, run them as one
    forward over both blocks, which reads the weights and the prefix once; a method that cannot runs as without. The
    tokens are the same, shown in float32 on a CPU; in bfloat16 products of twice the rows may round otherwise.
    Where work cannot be captured, a warning says so and the engine goes on without (`recording` is None from then on).
    Memory of graphs is the model's: all its engines share it, of which one generates at a time.

    Raises `UserError` when the decoding policy does not fit the model, when the device does not serve `attention`, and
    when `fuse_commit` does not fit the model or the policy (see `mage.generation.fusing`).
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
        attention: str = "auto",
        check_every: int = 1,
        capture: bool = True,
        overlap: bool = False,
        fuse_commit: bool = False,
    ) -> None:
        if check_every < 1:
            raise UserError(f"check_every={check_every} is out of range. Allowed: an integer >= 1.")
        decoding.check(model.spec)
        if fuse_commit:
            check_fusing(model.spec, decoding)
        self.operations = operations(attention, model.device)
        self.model, self.method, self.decoding = model, method, decoding
        self._prefill_chunk, self._shadow, self._observer = prefill_chunk, shadow, observer
        self._check_every, self._overlap, self.fuse_commit = check_every, overlap, fuse_commit
        graphs = capture and model.device.type == "cuda" and model.body.config.experts is None
        self.recording: type[Recording] | None = Graph if graphs else None

    def prefill(self, prompts: list[list[int]], max_new_tokens: list[int], *, common: Prefix | None = None) -> Prefix:
        """Prefill `prompts`, one limit of new tokens each: whole blocks of them, all of them where that is causal.

        `common`: what `prefill_common` made of the first tokens of a single prompt.
        """
        with self._device():
            return prefill(
                self.model,
                prompts,
                max_new_tokens,
                chunk=self._prefill_chunk,
                common=common,
                operations=self.operations,
            )

    def prefill_common(self, tokens: list[int]) -> Prefix:
        """Prefill what several prompts begin with. Needs a causal prefill."""
        with self._device():
            return prefill_common(self.model, tokens, chunk=self._prefill_chunk, operations=self.operations)

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
        resolved, capacity = budget if self.method.uses_budget else None, prefix.cache.keys.shape[3]
        attention = BlockAttention(
            self.method,
            prefix.cache,
            request,
            shadow=self._shadow,
            observer=self._observer,
            operations=self.operations,
            overlap=self._overlap,
            room=None if resolved is None else min(resolved.resolve(capacity), capacity),
        )
        # A policy that edits has the host say which rows a forward writes.
        recorder = Recorder(None if self.decoding.settles else self.recording, graph_memories(self.model.body))
        session = Session(
            self.model,
            self.decoding,
            attention,
            prefix,
            resolved,
            recorder,
            stop_ids,
            check_every=self._check_every,
            fuse_commit=self.fuse_commit,
        )
        with self._device():
            generations = session.run()
        if not self.decoding.settles:
            self.recording = recorder.recording
        return generations

    def _device(self) -> AbstractContextManager[object]:
        """Kernels, events and graphs go to the current GPU, which need not be the model's."""
        device = self.model.device
        return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
