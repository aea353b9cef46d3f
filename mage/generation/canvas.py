"""The block being written."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mage.models.diffusion import DiffusionSpec
from mage.row_values import row_values

DECIDED = ("", "exact", "sparse", "seed")  # by the number kept for each slot of a canvas


class Stops:
    """Which tokens end an answer: the model's stop ids everywhere; a row's own except as its first token."""

    def __init__(self, shared: tuple[int, ...], own: list[list[int]], device: torch.device) -> None:
        """`own[row]`: the row's own stop ids."""
        width = max(map(len, own))
        padded = [ids + [-1] * (width - len(ids)) for ids in own]
        self._shared = torch.tensor(shared, dtype=torch.long, device=device)
        self._own = torch.tensor(padded, dtype=torch.long, device=device).view(len(own), 1, width) if width else None

    def find(self, tokens: Tensor, first: Tensor) -> Tensor:
        """Return which slots of `tokens` `[batch, slots]` hold a stop token; `first`: the first slots of answers."""
        found = torch.isin(tokens, self._shared)
        if self._own is not None:
            found |= (tokens[..., None] == self._own).any(-1) & ~first
        return found


@dataclass
class Canvas:
    """The blocks of a batch of the same number, all `[batch, block size]`.

    `tokens`; `prompt`: slots that hold prompt tokens; `first`: the first slot of the answer; `frozen`: prompt and
    seeded slots, which no denoising step may change; `needed`: slots that the answer needs (before the row's limit, row
    not done); `decided`: who decided each slot, an index into `DECIDED`.
    """

    spec: DiffusionSpec
    stops: Stops
    tokens: Tensor
    prompt: Tensor
    first: Tensor
    frozen: Tensor
    needed: Tensor
    decided: Tensor

    @classmethod
    def open(
        cls,
        spec: DiffusionSpec,
        stops: Stops,
        tails: list[list[int]] | None,
        rooms: list[int],
        seed_logits: Tensor,
    ) -> Canvas:
        """Lay out a block: the prompt's tail, the seeded first token, and [MASK] everywhere else.

        `tails[row]`: prompt tokens that open the row's first block (None: a later block). `rooms[row]`: slots before
        the row's limit, 0 when it is done. `seed_logits` `[batch, vocab]`: of the last finished position.
        """
        device = seed_logits.device
        slots = torch.arange(spec.block_size)
        tokens = torch.full((len(rooms), spec.block_size), spec.mask_id)
        prompt = torch.zeros_like(tokens, dtype=torch.bool)
        first = torch.zeros_like(prompt)
        if tails is not None:
            sizes = torch.tensor([len(tail) for tail in tails])[:, None]
            prompt, first = slots < sizes, slots == sizes
            for row, tail in enumerate(tails):
                tokens[row, : len(tail)] = torch.tensor(tail, dtype=torch.long)
        needed = slots < torch.tensor(rooms)[:, None]
        tokens, prompt, first, needed = (x.to(device) for x in (tokens, prompt, first, needed))
        frozen, decided = prompt.clone(), torch.zeros_like(tokens)
        if spec.seeded:
            seeded = ~prompt[:, 0]
            tokens[:, 0] = torch.where(seeded, forbid(seed_logits.clone(), spec.control_ids).argmax(-1), tokens[:, 0])
            decided[:, 0] = torch.where(seeded, DECIDED.index("seed"), 0)
            frozen[:, 0] = True
        return cls(spec, stops, tokens, prompt, first, frozen, needed, decided)

    def masked(self) -> Tensor:
        """Return the needed slots that hold [MASK]; a literal [MASK] of the prompt is not one."""
        return (self.tokens == self.spec.mask_id) & self.needed & ~self.frozen

    def stopped(self) -> Tensor:
        """Return the slots of the answer that hold a stop token."""
        return self.stops.find(self.tokens, self.first) & ~self.prompt

    def candidates(self) -> Tensor:
        """Return the masked slots that the answer still needs when tokens are final: none behind a stop token."""
        stops = self.stopped().long()
        return self.masked() & (stops.cumsum(-1) == stops)

    def decide(self, changed: Tensor, kinds: list[str]) -> None:
        """Note that a forward, of a kind for each row, decided the `changed` slots."""
        by_row = row_values([DECIDED.index(kind) for kind in kinds], changed.device)[:, None]
        self.decided = torch.where(changed, by_row, self.decided)


def forbid(logits: Tensor, ids: tuple[int, ...]) -> Tensor:
    """Set the logits `[..., vocab]` of `ids` to minus infinity, in place.

    A model that proposes [MASK] for a [MASK] could otherwise be asked for ever.
    """
    for i in ids:
        logits[..., i] = float("-inf")
    return logits
