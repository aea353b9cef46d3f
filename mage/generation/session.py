"""One generation of a batch: open a block, denoise it, close it, commit it, until every row has stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mage.attention.block import BlockAttention
from mage.budget import Budget
from mage.generation.canvas import DECIDED, Canvas, Stops
from mage.generation.captured import Recorder
from mage.generation.clock import Clock
from mage.generation.decoding import Decoding
from mage.generation.ledger import Ledger
from mage.generation.prefill import Prefix
from mage.generation.trace import BlockTrace, Trace
from mage.models.checkpoint import LanguageModel
from mage.view import Forward


@dataclass
class Generation:
    """The answer to one prompt: its tokens up to, and without, the stop token; that token (None: it met its limit)."""

    tokens: list[int]
    stop_token: int | None
    trace: Trace

    @property
    def stopped(self) -> bool:
        """Whether the answer ended by itself."""
        return self.stop_token is not None


@dataclass
class Denoised:
    """What the denoising steps of a block leave behind.

    `steps`: their number. `settled[row]`: the row's last step was exact and saw its final tokens, so that the K, V it
    wrote are those of a commit. `logits` `[batch, vocab]`: of the block's last position in the row's last step, where
    rows may settle.
    """

    steps: int
    logits: Tensor | None
    settled: list[bool]


class Session:
    """The state of one call of `Engine.generate`. All rows work on their own block of the same number."""

    def __init__(
        self,
        model: LanguageModel,
        decoding: Decoding,
        attention: BlockAttention,
        prefix: Prefix,
        budget: Budget | None,
        recorder: Recorder,
        stop_ids: Sequence[Sequence[int]] | None = None,
        check_every: int = 1,
        fuse_commit: bool = False,
    ) -> None:
        """`recorder`: does the forwards. `stop_ids[row]`: ids that end a row's answer beside the model's own, except as
        its first token. `check_every`, `fuse_commit`: see `Engine`."""
        self._recorder = recorder
        self._model, self._decoding, self._attention = model, decoding, attention
        self._prefix, self._budget = prefix, budget
        self._cache = prefix.cache
        self._clock = Clock(model.device)
        self._limits = [len(p) + new for p, new in zip(prefix.prompts, prefix.max_new_tokens)]
        self._done = [False] * len(self._limits)
        own_stops = [list(ids) for ids in stop_ids or [[]] * len(self._limits)]
        self._stops = Stops(model.spec.stop_ids, own_stops, model.device)
        # A forward that sees final tokens writes what a commit would, unless the commit sees them causally.
        self._may_settle = decoding.settles and not model.spec.causal
        # Only a policy that fills changes nothing when it is asked for a step too many.
        self._check_every = 1 if decoding.settles else check_every
        self._fuse_commit = fuse_commit
        self._uncommitted: Tensor | None = None  # tokens of a finished block whose commit waits
        # What every forward reads: the block, and ahead of it the one before where that is committed with it.
        shape = (len(self._limits), 2 * model.spec.block_size)
        self._both = torch.zeros(shape, dtype=torch.long, device=model.device)
        self._tokens = torch.zeros_like(self._both[:, model.spec.block_size :])
        budgets = [None if budget is None else budget.resolve(length) for length in prefix.lengths]
        shared = prefix.seconds / len(budgets)
        self._results = [Generation([], None, Trace([], shared, tokens)) for tokens in budgets]

    def run(self) -> list[Generation]:
        """Generate until every row has met a stop token or its limit."""
        self._cache.rewind(self._prefix.lengths)
        seed_logits = self._prefix.last_logits
        block = 0
        while True:
            block += 1
            captures = self._recorder.captures
            self._ledger = Ledger(self._clock, fuse_commit=self._fuse_commit)
            canvas = self._open(block, seed_logits)
            traces = [None if done else BlockTrace() for done in self._done]
            for result, trace in zip(self._results, traces):
                if trace is not None:
                    result.trace.blocks.append(trace)
            denoised = self._denoise(canvas, block)
            self._close(canvas)
            if not all(self._done) and self._can_wait(block, denoised):
                self._uncommitted = canvas.tokens
                self._cache.advance(self._model.spec.block_size)
            elif not all(self._done):
                seed_logits = self._commit(canvas, block, denoised)
            self._ledger.settle(traces, self._recorder.captures - captures)
            if all(self._done):
                return self._results

    def _open(self, block: int, seed_logits: Tensor) -> Canvas:
        """Lay out the next block."""
        prefix, lengths = self._prefix, self._cache.lengths
        tails = [ids[length:] for ids, length in zip(prefix.prompts, prefix.lengths)] if block == 1 else None
        rooms = [0 if done else limit - n for done, limit, n in zip(self._done, self._limits, lengths)]
        return Canvas.open(self._model.spec, self._stops, tails, rooms, seed_logits)

    def _denoise(self, canvas: Canvas, block: int) -> Denoised:
        """Run denoising steps until the decoding policy is done with every row."""
        writing = self._decoding.open(canvas)
        step, settled = 0, [False] * len(self._done)
        last: Tensor | None = None
        while any(active := (needed := writing.active()).tolist()):  # the one wait for the device within a block
            for _ in range(self._check_every):
                step += 1
                began = self._clock.mark()
                # What a finished row has written stays: it runs on for the others' sake, alone it would end here.
                logits = self._forward(canvas, Forward(block, step), keep=active if self._may_settle else None)
                seen = canvas.tokens
                if self._may_settle:
                    now = logits[:, -1]
                    last = now if last is None else torch.where(needed.to(now.device)[:, None], now, last)
                if self._model.spec.alignment == "shifted":
                    # Slot 0 is frozen: what stands there now is not its own and is never read.
                    logits = torch.cat((logits[:, :1], logits[:, :-1]), dim=1)
                changed = writing.step(logits)
                kinds = ["sparse" if sparse else "exact" for sparse in self._attention.sparse_rows]
                canvas.decide(changed, kinds)
                self._ledger.book(began, self._attention, active, kinds)
                if self._may_settle:
                    final = (seen == canvas.tokens).all(-1).tolist()
                    for row, kind in enumerate(kinds):
                        if active[row]:
                            settled[row] = kind == "exact" and final[row]
        return Denoised(step, last, settled)

    def _close(self, canvas: Canvas) -> None:
        """Move a finished block's tokens to the answers, up to a stop token or the row's limit."""
        told = torch.stack((canvas.tokens, canvas.decided, canvas.stopped(), canvas.prompt)).tolist()  # one wait
        tokens, decided, stops, prompt = told
        for row, result in enumerate(self._results):
            if self._done[row]:
                continue
            room = self._limits[row] - self._cache.lengths[row]
            for slot in range(sum(prompt[row]), min(room, len(tokens[row]))):
                result.trace.blocks[-1].tokens_decided[DECIDED[decided[row][slot]]] += 1
                if stops[row][slot]:
                    result.stop_token = tokens[row][slot]
                    break
                result.tokens.append(tokens[row][slot])
            self._done[row] = result.stopped or room <= len(tokens[row])

    def _can_wait(self, block: int, denoised: Denoised) -> bool:
        """Whether the commit of a finished block can be one forward with the first step of the next."""
        if not self._fuse_commit:
            return False
        now = self._cache.lengths
        then = [length + self._model.spec.block_size for length in now]
        commit = Forward(block, denoised.steps + 1, commit=True)
        able = self._attention.can_fuse
        return able(commit, self._budgets(now), now) and able(Forward(block + 1, 1), self._budgets(then), then)

    def _budgets(self, lengths: list[int]) -> list[int]:
        return lengths if self._budget is None else [self._budget.resolve(length) for length in lengths]

    def _commit(self, canvas: Canvas, block: int, denoised: Denoised) -> Tensor:
        """Make the finished block's K, V part of the prefix; return the logits of its last position, `[batch, vocab]`.

        That takes a forward, causal where the model's prefix is, for the rows that have not settled: in a policy that
        only fills, each denoising step saw a [MASK] that it then filled.
        """
        logits, settled = denoised.logits, denoised.settled
        waiting = [not done and not kept for done, kept in zip(self._done, settled)]
        if logits is None or any(waiting):
            began = self._clock.mark()
            unsettled = [not kept for kept in settled]
            committed = self._forward(canvas, Forward(block, denoised.steps + 1, commit=True), keep=unsettled)[:, -1]
            self._ledger.book(began, self._attention, waiting, ["commit"] * len(waiting))
            if logits is None or all(unsettled):
                logits = committed
            else:
                logits = torch.where(torch.tensor(unsettled, device=logits.device)[:, None], committed, logits)
        self._cache.advance(self._model.spec.block_size)
        return logits

    def _forward(self, canvas: Canvas, forward: Forward, *, keep: list[bool] | None) -> Tensor:
        """Run a body over the block and return its logits `[batch, block size, vocab]`: the block body, or for a commit
        the one that the prefix was made with. The block before goes ahead of it where that is still to be committed.

        `keep`: rows whose K, V of the block are written behind the prefix (None: no row), by a denoising step where
        the next forward overwrites them.
        """
        size, before = self._model.spec.block_size, self._uncommitted
        ahead, tokens = (0, self._tokens) if before is None else (size, self._both)
        tokens[:, ahead:].copy_(canvas.tokens)
        if before is not None:
            tokens[:, :ahead].copy_(before)
            self._uncommitted = None
        positions = self._cache.positions(size, ahead)
        causal = forward.commit and self._model.spec.causal
        self._attention.begin(
            forward,
            self._budgets(self._cache.lengths),
            canvas.prompt,
            self._clock.mark,
            causal=causal,
            rows=keep,
            repeat=self._recorder.choose,
            ahead=ahead,
        )

        def write_and_attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            if ahead:
                self._cache.append(layer, k[:, :, :ahead], v[:, :, :ahead], place=positions[:, :ahead])
            else:
                self._cache.append(layer, k, v, keep)
            return self._attention(layer, q, k, v)

        writes = ahead or (keep is not None and not forward.commit)
        attend = write_and_attend if writes else self._attention
        body = self._model.body if forward.commit else self._model.block_body

        def run() -> Tensor:
            logits = body.logits(body.hidden(tokens, positions, attend)[:, ahead:])
            self._attention.join()
            return logits

        logits = self._recorder.forward(self._attention, run)
        self._attention.end()
        return logits
