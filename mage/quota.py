"""How many entries each row of a batch picks, where the device is to know."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mage.attention.operations import Lengths
from mage.selection import tokens_of


@dataclass(frozen=True)
class Quota:
    """What a selection goes by in place of the host's lengths and budgets, so that it can be repeated without its code.

    `room`: the most entries that a row picks in this generation, which is how wide its sets are. `lengths` int32
    `[batch]`: entries of the prefix. `budgets` int32 `[batch]`; None where every row has more entries than its budget
    and that is `room`: then no set has padding.
    """

    room: int
    lengths: Tensor
    budgets: Tensor | None

    @property
    def full(self) -> bool:
        """Whether every row picks `room` entries, or as many whole pages as are in that."""
        return self.budgets is None

    @property
    def picks(self) -> Tensor | None:
        """Entries that each row picks, int32 `[batch]`; None where it is `full`."""
        return None if self.budgets is None else torch.minimum(self.budgets, self.lengths)

    def best(self, scores: Tensor, page_size: int = 1, *, masked: bool = False) -> tuple[Tensor, Tensor | None]:
        """Return the indices of the highest scores of each row and head, and how many they are.

        `scores` `[batch, heads, pages]` over pages of `page_size` consecutive entries; lengths are multiples of that.
        Returns `[batch, heads, room]`, of whole pages, ascending and padded with -1 as `mage.selection.top_pages` does,
        and int32 `[batch]`: the entries of each row, None where it is `full`. masked: scores are minus infinity behind
        a row's length as they come.
        """
        width = self.room // page_size
        if not masked:
            page = torch.arange(scores.shape[-1], device=scores.device)
            behind = page >= (self.lengths // page_size)[:, None, None]
            scores = scores.masked_fill(behind, float("-inf"))
        pages, counts = scores.topk(width, dim=-1).indices, None
        if self.budgets is None:
            pages = pages.sort(-1).values
        else:
            picks = torch.where(self.budgets >= self.lengths, self.lengths // page_size, self.budgets // page_size)
            surplus = torch.arange(width, device=scores.device) >= picks[:, None, None]
            last = torch.iinfo(pages.dtype).max
            pages = pages.masked_fill(surplus, last).sort(-1).values
            pages = pages.masked_fill(pages == last, -1)
            counts = picks * page_size
        return (pages if page_size == 1 else tokens_of(pages, page_size)), counts


class Quotas:
    """The quotas of one generation: what their budgets are stands in one place on the device."""

    def __init__(self, room: int) -> None:
        """`room`: see `Quota`."""
        self._room = room
        self._budgets: Lengths | None = None

    def of(self, budgets: list[int], limited: list[bool], valid: Lengths) -> Quota:
        """Return the quota of a forward; `limited[row]`: the row has more entries than its budget."""
        if all(limited) and set(budgets) == {self._room}:
            return Quota(self._room, valid.device, None)
        if self._budgets is None:
            self._budgets = Lengths.of(budgets, valid.device.device)
        elif self._budgets.host != budgets:
            self._budgets = Lengths(list(budgets), self._budgets.device.copy_(torch.tensor(budgets)))
        return Quota(self._room, valid.device, self._budgets.device)
