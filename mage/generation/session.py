"""One generation of a batch: open a block, denoise it, close it, commit it, until every row has stopped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mage.attention.block import BlockAttention
from mage.budget import Budget
from mage.generation.clock import Clock
from mage.generation.decoding import Decoding
from mage.generation.prefill import Prefix
from mage.generation.trace import BlockTrace, Trace
from mage.models.checkpoint import LanguageModel
from mage.view import Forward

DECIDED = ("", "exact", "sparse", "seed")  # by the number kept for each slot of a canvas


@dataclass
class Generation:
    """The answer to one prompt: its tokens up to, and without, the stop token; whether it stopped; its trace."""

    tokens: list[int]
    stopped: bool
    trace: Trace


@dataclass
class Canvas:
    """The block being written, all `[batch, block size]`: tokens, slots that hold prompt tokens, slots that the answer
    needs (before the row's limit, row not done), and who decided each slot (an index into `DECIDED`)."""

    tokens: Tensor
    prompt: Tensor
    needed: Tensor
    decided: Tensor


class Session:
    """The state of one call of `Engine.generate`. All rows work on their own block of the same number."""

    def __init__(
        self,
        model: LanguageModel,
        decoding: Decoding,
        attention: BlockAttention,
        prefix: Prefix,
        budget: Budget | None,
    ) -> None:
        self._model, self._decoding, self._attention = model, decoding, attention
        self._prefix, self._budget = prefix, budget
        self._cache = prefix.cache
        self._clock = Clock(model.device)
        self._limits = [len(p) + new for p, new in zip(prefix.prompts, prefix.max_new_tokens)]
        self._done = [False] * len(self._limits)
        budgets = [None if budget is None else budget.resolve(length) for length in prefix.lengths]
        shared = prefix.seconds / len(budgets)
        self._results = [Generation([], False, Trace([], shared, tokens)) for tokens in budgets]

    def run(self) -> list[Generation]:
        """Generate until every row has met a stop token or its limit."""
        self._cache.rewind(self._prefix.lengths)
        seed_logits = self._prefix.last_logits
        block = 0
        while True:
            block += 1
            canvas = self._open(block, seed_logits)
            for row, result in enumerate(self._results):
                if not self._done[row]:
                    result.trace.blocks.append(BlockTrace())
            self._denoise(canvas, block)
            self._close(canvas)
            if all(self._done):
                return self._results
            seed_logits = self._commit(canvas, block)

    def _open(self, block: int, seed_logits: Tensor) -> Canvas:
        """Lay out the next block: the prompt's tail, a shifted model's first token, and [MASK] everywhere else."""
        spec, batch = self._model.spec, len(self._done)
        tokens = torch.full((batch, spec.block_size), spec.mask_id)
        prompt = torch.zeros_like(tokens, dtype=torch.bool)
        starts = torch.tensor(self._cache.lengths)[:, None]
        slots = torch.arange(spec.block_size)
        if block == 1:
            for row, (ids, length) in enumerate(zip(self._prefix.prompts, self._prefix.lengths)):
                tail = ids[length:]
                tokens[row, : len(tail)] = torch.tensor(tail, dtype=torch.long)
                prompt[row, : len(tail)] = True
        needed = (starts + slots < torch.tensor(self._limits)[:, None]) & ~torch.tensor(self._done)[:, None]
        device = self._model.device
        tokens, prompt, needed = tokens.to(device), prompt.to(device), needed.to(device)
        decided = torch.zeros_like(tokens)
        if spec.alignment == "shifted":
            seeded = ~prompt[:, 0]
            tokens[:, 0] = torch.where(seeded, self._without_mask(seed_logits).argmax(-1), tokens[:, 0])
            decided[:, 0] = torch.where(seeded, DECIDED.index("seed"), 0)
        return Canvas(tokens, prompt, needed, decided)

    def _denoise(self, canvas: Canvas, block: int) -> None:
        """Run denoising steps until no row has a masked slot left that its answer needs."""
        step = 0
        candidates = self._candidates(canvas)
        while bool(candidates.any()):
            step += 1
            began = self._clock.mark()
            forward = Forward(block, step)
            logits = self._forward(canvas, forward)
            if (
                self._model.spec.alignment == "shifted"
            ):  # slot 0 is never a candidate: its logits stand one block before
                logits = torch.cat((logits[:, :1], logits[:, :-1]), dim=1)
            confidence, best = self._without_mask(logits).softmax(-1).max(-1)
            filled = self._decoding.positions(confidence, candidates)
            canvas.tokens = torch.where(filled, best, canvas.tokens)
            kinds = ["sparse" if sparse else "exact" for sparse in self._attention.sparse_rows]
            by_row = torch.tensor([DECIDED.index(kind) for kind in kinds], device=filled.device)[:, None]
            canvas.decided = torch.where(filled, by_row, canvas.decided)
            self._account(candidates.any(-1).tolist(), kinds, began)
            candidates = self._candidates(canvas)

    def _candidates(self, canvas: Canvas) -> Tensor:
        """Return the masked slots that the answers still need: none behind a stop token."""
        masked = canvas.tokens == self._model.spec.mask_id
        stops = self._is_stop(canvas.tokens) & ~canvas.prompt
        behind_stop = (stops.cumsum(-1) - stops.long()) > 0
        return masked & canvas.needed & ~canvas.prompt & ~behind_stop

    def _close(self, canvas: Canvas) -> None:
        """Move a finished block's tokens to the answers, up to a stop token or the row's limit."""
        tokens, prompt = canvas.tokens.tolist(), canvas.prompt.sum(-1).tolist()
        decided = canvas.decided.tolist()
        for row, result in enumerate(self._results):
            if self._done[row]:
                continue
            room = self._limits[row] - self._cache.lengths[row]
            for slot in range(prompt[row], min(room, len(tokens[row]))):
                result.trace.blocks[-1].tokens_decided[DECIDED[decided[row][slot]]] += 1
                if tokens[row][slot] in self._model.spec.stop_ids:
                    result.stopped = True
                    break
                result.tokens.append(tokens[row][slot])
            self._done[row] = result.stopped or room <= len(tokens[row])

    def _commit(self, canvas: Canvas, block: int) -> Tensor:
        """Write the finished block's K, V and return the logits of its last position, `[batch, vocab]`.

        Every denoising forward saw at least one [MASK] that it then filled, so none of their K, V can be kept.
        """
        began = self._clock.mark()
        steps = max(sum(r.trace.blocks[-1].forwards.values()) for r in self._results)
        logits = self._forward(canvas, Forward(block, steps + 1, commit=True))
        self._cache.advance(self._model.spec.block_size)
        self._account([not done for done in self._done], ["commit"] * len(self._done), began)
        return logits[:, -1]

    def _forward(self, canvas: Canvas, forward: Forward) -> Tensor:
        """Run the body over the block and return its logits `[batch, block size, vocab]`."""
        lengths = self._cache.lengths
        budgets = lengths if self._budget is None else [self._budget.resolve(length) for length in lengths]
        starts = torch.tensor(lengths, device=canvas.tokens.device)[:, None]
        positions = starts + torch.arange(canvas.tokens.shape[1], device=canvas.tokens.device)
        self._attention.begin(forward, budgets, canvas.prompt, self._clock.mark)
        return self._model.body.logits(self._model.body.hidden(canvas.tokens, positions, self._attention))

    def _account(self, active: list[bool], kinds: list[str], began: Any) -> None:
        """Book one forward, of a kind for each row, on the rows that needed it."""
        seconds = self._clock.seconds(began, self._clock.mark())
        selection = sum(self._clock.seconds(*span) for span in self._attention.selection_spans)
        rows = sum(active)
        for row, result in enumerate(self._results):
            if active[row]:
                trace = result.trace.blocks[-1]
                trace.forwards[kinds[row]] += 1
                trace.seconds[kinds[row]] += (seconds - selection) / rows
                trace.seconds["selection"] += selection / rows
                trace.reads += self._attention.reads[row]
                trace.dense_reads += self._attention.dense_reads[row]

    def _without_mask(self, logits: Tensor) -> Tensor:
        """Forbid [MASK] as an output: a model that proposes it could otherwise loop for ever."""
        logits[..., self._model.spec.mask_id] = float("-inf")
        return logits

    def _is_stop(self, tokens: Tensor) -> Tensor:
        return torch.isin(tokens, torch.tensor(self._model.spec.stop_ids, device=tokens.device, dtype=tokens.dtype))
