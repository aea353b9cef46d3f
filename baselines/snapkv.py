"""SnapKV: the end of the prompt says what to keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mage.errors import UserError
from mage.method import REUSE, SELECT_AFTER, SELECT_BEFORE, Forward, Method, Plan, Selection, View


@dataclass(frozen=True, kw_only=True)
class SnapKV(Method):
    """At the end of prefill, the attention of the last `window` prompt positions over the prefix, averaged over these
    rows and the query group and smoothed by an average pool of `kernel`, ranks the earlier entries. The best of them
    and the window itself are kept for the whole generation. (arXiv 2404.14469, section 4.)

    `query_aware`: the window ends with the prompt, question included. Otherwise it ends where the question starts,
    and entries after that are kept, as are committed blocks: they come after compression and are outside the budget,
    inside the measured density. The part of a question that stands in the first generated block is seen through the
    exact first step of that block. Budgets below twice the window keep half the budget as window. The commit forward
    is sparse by default: what was evicted cannot be read. `share`: one set per `kv_head`, as every method here, or
    per `query_head`, as the paper.
    """

    commit: Literal["dense", "sparse"] = "sparse"
    window: int = 32
    kernel: int = 5
    query_aware: bool = False
    share: Literal["kv_head", "query_head"] = "kv_head"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("share", ("kv_head", "query_head"))
        self.check_at_least(window=1)
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise UserError(f"method.kernel={self.kernel} is not allowed. Allowed: an odd integer >= 1.")

    def plan_step(self, forward: Forward) -> Plan:
        if forward.step > 1 or forward.commit:
            return REUSE
        return SELECT_AFTER if self.query_aware and forward.block == 1 else SELECT_BEFORE

    def select(self, view: View) -> Selection:
        read = None
        if "kept" not in view.state:
            view.state["ends"] = [self._end(view, row) for row in range(len(view.lengths))]
            view.state["kept"] = [self._compress(view, row) for row in range(len(view.lengths))]
            read = [length / 2 for length in view.prefilled]  # the window's scores read all keys once
        rows = []
        for kept, end, length in zip(view.state["kept"], view.state["ends"], view.lengths):
            later = torch.arange(end, length, device=kept.device).expand(kept.shape[0], -1)
            rows.append(torch.cat((kept, later), 1))
        width = max(row.shape[1] for row in rows)
        return Selection(torch.stack([F.pad(row, (0, width - row.shape[1]), value=-1) for row in rows]), read)

    def _end(self, view: View, row: int) -> int:
        """Return how many prefix entries of a row stand before the end of the observation window."""
        return view.prefilled[row] if self.query_aware else min(view.question_starts[row], view.prefilled[row])

    def _compress(self, view: View, row: int) -> Tensor:
        """Return the kept entries of a row among those before the window's end, `[heads, k]`, ascending."""
        heads = view.num_kv_heads if self.share == "kv_head" else view.queries.shape[1]
        end, budget = view.state["ends"][row], view.budgets[row]
        if end <= budget:
            return torch.arange(end, device=view.keys.device).expand(heads, -1)
        kept_window = min(self.window, budget // 2)
        scores = self._observed_mass(view, row, end)  # [heads, end]
        before = end - kept_window
        pooled = F.avg_pool1d(scores[:, :before], self.kernel, stride=1, padding=self.kernel // 2)
        best = pooled.topk(budget - kept_window, -1).indices.sort(-1).values
        recent = torch.arange(before, end, device=best.device).expand(heads, -1)
        return torch.cat((best, recent), 1)

    def _observed_mass(self, view: View, row: int, end: int) -> Tensor:
        """Return the mean attention probability of the window's rows over the first `end` entries, `[heads, end]`."""
        tail = view.queries[row][:, view.prompt_rows[row]] if self.query_aware else view.queries[row][:, :0]
        tail = tail[:, -self.window :]
        from_prefill = min(self.window - tail.shape[1], end)
        kept_queries = view.window.shape[2]
        last = kept_queries - (view.prefilled[row] - end)  # the stored queries end with the prefill
        if last - from_prefill < 0:
            raise UserError(
                f"method.window={self.window}: the prefill keeps its last {kept_queries} queries, and the question of "
                f"{view.prefilled[row] - end} tokens leaves too few before it. Allowed: a smaller window, or "
                "method.query_aware=true."
            )
        queries = torch.cat((view.window[row][:, last - from_prefill : last], tail), 1).float()  # [heads, rows, d]
        keys = view.keys[row, :, :end].float().repeat_interleave(queries.shape[0] // view.num_kv_heads, 0)
        positions = torch.arange(end - from_prefill, end + tail.shape[1], device=keys.device)
        block_of_row, block_of_key = (
            positions // view.block_size,
            torch.arange(end, device=keys.device) // view.block_size,
        )
        hidden = block_of_row[:, None] < block_of_key
        scores = (queries @ keys.transpose(-1, -2) * view.scale).masked_fill(hidden, float("-inf"))
        mass = scores.softmax(-1).mean(1)  # [heads, end]
        return mass.unflatten(0, (view.num_kv_heads, -1)).mean(1) if self.share == "kv_head" else mass
