"""SnapKV: the end of the prompt says what to keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mage.errors import UserError
from mage.method import REUSE, SELECT_AFTER, SELECT_BEFORE, Method, Plan, Selection
from mage.view import KEPT_QUERIES, Forward, View

WIDEST_KERNEL = 1023  # positions; its padding takes memory


@dataclass(frozen=True, kw_only=True)
class SnapKV(Method):
    """At the end of prefill, the attention of the last `window` prompt positions over the prefix, averaged over these
    rows and the query group and smoothed by an average pool of `kernel`, ranks the earlier entries. The best of them
    and the window itself are kept for the whole generation. (arXiv 2404.14469, section 4.)

    `query_aware`: the window ends with the prompt, question included. Otherwise it ends where the question starts,
    and entries after that are kept, as are committed blocks: they come after compression and are outside the budget,
    inside the measured density. The part of a question that stands in the first generated block is seen through the
    exact first step of that block. At most half the budget goes to the window's own entries. The commit forward
    is sparse by default: what was evicted cannot be read. `share`: one set per `kv_head`, as every method here, or
    per `query_head`, as the paper.
    """

    lasting: ClassVar[bool] = True
    commit: Literal["dense", "sparse"] = "sparse"
    window: int = 32
    kernel: int = 5
    query_aware: bool = False
    share: Literal["kv_head", "query_head"] = "kv_head"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("share", ("kv_head", "query_head"))
        self.check_at_least(window=1)
        if self.window > KEPT_QUERIES:
            raise UserError(f"method.window={self.window} is out of range. Allowed: 1 to {KEPT_QUERIES}.")
        if not 1 <= self.kernel <= WIDEST_KERNEL or self.kernel % 2 == 0:
            allowed = f"an odd integer from 1 to {WIDEST_KERNEL}"
            raise UserError(f"method.kernel={self.kernel} is not allowed. Allowed: {allowed}.")

    @property
    def one_set_per_kv_head(self) -> bool:
        return self.share == "kv_head"

    def check_prompt(self, prefilled: int, question_start: int, budget: int) -> None:
        """See Method: the window before the question must be among the queries that the prefill keeps."""
        end = prefilled if self.query_aware else min(question_start, prefilled)
        if end > budget:
            self._check_window(prefilled, end, min(self.window, end))

    def plan_step(self, forward: Forward) -> Plan:
        if forward.step > 1 or forward.commit:
            return REUSE
        return SELECT_AFTER if self.query_aware and forward.block == 1 else SELECT_BEFORE

    def is_steady(self, lengths: list[int]) -> bool:
        return True

    def entries_of(self, view: View) -> list[int]:
        found = zip(view.state["kept"], view.state["ends"], view.lengths)
        return [kept.shape[1] + length - end for kept, end, length in found]

    def select(self, view: View) -> Selection:
        read = None
        if "kept" not in view.state:
            view.state["ends"] = [self._end(view, row) for row in range(len(view.lengths))]
            view.state["kept"] = [self._compress(view, row) for row in range(len(view.lengths))]
            # The window's scores read all keys once, where there is more than the budget holds. There the row is
            # limited from its first block on, alone or in a batch: prefixes outgrow budgets, never the reverse.
            read = [
                length / 2 if end > budget else 0.0
                for length, end, budget in zip(view.request.prefilled, view.state["ends"], view.budgets)
            ]
        ends, sizes, quota = view.state["ends"], self.entries_of(view), view.quota
        if quota is None:
            return Selection(self._kept_and_later(view, view.lengths), read, ends, sizes)
        if "whole" not in view.state:  # what the set of a block is the beginning of
            prefilled = view.request.prefilled
            room = view.cache[0].shape[2] - max(prefilled)  # behind the longest prompt, and so behind each
            out = [end - kept.shape[1] for kept, end in zip(view.state["kept"], ends)]
            evicted = torch.tensor(out, dtype=torch.int32, device=view.keys.device)
            whole = self._kept_and_later(view, [length + room for length in prefilled])
            view.state.update(whole=whole, evicted=evicted)
        whole = view.state["whole"]
        indices = whole.masked_fill(whole >= quota.lengths[:, None, None], -1)
        return Selection(indices, read, ends, sizes, quota.lengths - view.state["evicted"])

    def _kept_and_later(self, view: View, lengths: list[int]) -> Tensor:
        """Return what is kept, and what follows the window up to `lengths`, `[batch, heads, n]`."""
        rows = []
        for kept, end, length in zip(view.state["kept"], view.state["ends"], lengths):
            later = torch.arange(end, length, device=kept.device).expand(kept.shape[0], -1)
            rows.append(torch.cat((kept, later), 1))
        width = max(row.shape[1] for row in rows)
        return torch.stack([F.pad(row, (0, width - row.shape[1]), value=-1) for row in rows])

    def _end(self, view: View, row: int) -> int:
        """Return how many prefix entries of a row stand before the end of the observation window."""
        prefilled = view.request.prefilled[row]
        return prefilled if self.query_aware else min(view.request.question_starts[row], prefilled)

    def _compress(self, view: View, row: int) -> Tensor:
        """Return the kept entries of a row among those before the window's end, `[heads, k]`, ascending."""
        heads = view.num_kv_heads if self.one_set_per_kv_head else view.queries.shape[1]
        end, budget = view.state["ends"][row], view.budgets[row]
        if end <= budget:
            return torch.arange(end, device=view.keys.device).expand(heads, -1)
        tail = view.prompt_rows[row].nonzero().flatten()[-self.window :] if self.query_aware else None
        in_prefix = min(self.window - (0 if tail is None else len(tail)), end)  # the window's part of the prefix
        scores = self._observed_mass(view, row, end, in_prefix, tail)  # [heads, end]
        before = end - min(in_prefix, budget // 2)
        pooled = F.avg_pool1d(scores[:, :before], self.kernel, stride=1, padding=self.kernel // 2)
        best = pooled.topk(budget - (end - before), -1).indices.sort(-1).values
        recent = torch.arange(before, end, device=best.device).expand(heads, -1)
        return torch.cat((best, recent), 1)

    def _observed_mass(self, view: View, row: int, end: int, in_prefix: int, tail: Tensor | None) -> Tensor:
        """Return the mean attention probability, over the window's rows, of the first `end` entries, `[heads, end]`.

        The window is the last `in_prefix` of these entries and the rows `tail` of the block. As in a prefill of the
        whole prompt, a row sees the keys up to the end of its own block, of which only the prompt's in the last one.
        """
        request = view.request
        last = self._check_window(request.prefilled[row], end, in_prefix)
        queries = request.windows[view.layer, row, :, last - in_prefix : last]
        keys = view.keys[row, :, :end]
        if tail is not None:
            queries = torch.cat((queries, view.queries[row][:, tail]), 1)
            keys = torch.cat((keys, view.block_keys[row][:, view.prompt_rows[row]]), 1)
        group = queries.shape[0] // view.num_kv_heads
        block_of_row = torch.arange(end - in_prefix, end - in_prefix + queries.shape[1]) // request.block_size
        block_of_key = torch.arange(keys.shape[1]) // request.block_size
        hidden = (block_of_row[:, None] < block_of_key).to(keys.device)
        scores = queries.float() @ keys.float().repeat_interleave(group, 0).transpose(-1, -2) * view.scale
        mass = scores.masked_fill(hidden, float("-inf")).softmax(-1)[..., :end].mean(1)  # [heads, end]
        return mass.unflatten(0, (-1, group)).mean(1) if self.one_set_per_kv_head else mass

    def _check_window(self, prefilled: int, end: int, in_prefix: int) -> int:
        """Return how many of the kept queries stand before `end`. Raises `UserError` for fewer than `in_prefix`."""
        last = KEPT_QUERIES - (prefilled - end)  # the kept queries end with the prefill
        if last < in_prefix:
            raise UserError(
                f"method.window={self.window}: the prefill keeps its last {KEPT_QUERIES} queries, and the question of "
                f"{prefilled - end} tokens leaves too few before it. Allowed: a smaller window, or "
                "method.query_aware=true."
            )
        return last
