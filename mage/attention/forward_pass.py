"""What is known of a forward before it runs."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor

from mage.attention.operations import Lengths
from mage.method import Plan
from mage.quota import Quota
from mage.view import Forward, View


class PrefixStore(Protocol):
    """What block attention reads and, on commit, writes: the KV cache."""

    @property
    def valid(self) -> Lengths: ...
    def entries(self, layer: int) -> tuple[Tensor, Tensor]: ...
    def append(self, layer: int, keys: Tensor, values: Tensor, rows: list[bool] | None = None) -> None: ...


@dataclass(frozen=True)
class Pass:
    """A forward on the host. `limited[row]`: the row has more entries than its budget. `rows`: which rows a commit
    writes (None: all). `at_once`: sets are chosen in the forward that plans them, beside its layers. `ahead`: positions
    of the block before, whose commit the forward is too. `quota`: what sets are chosen by where they are to be chosen
    again without the host; None: lengths and budgets."""

    forward: Forward
    plan: Plan
    budgets: list[int]
    limited: list[bool]
    valid: Lengths
    prompt_rows: Tensor
    causal: bool
    rows: list[bool] | None
    at_once: bool = False
    ahead: int = 0
    quota: Quota | None = None

    def shown(self, view: View) -> View:
        """Return a view of a layer with what the host knows of this forward."""
        assert view.cached_keys is not None
        return replace(
            view,
            forward=self.forward,
            keys=view.cached_keys[:, :, : self.valid.widest],
            mask=self.valid.mask,
            prompt_rows=self.prompt_rows,
            budgets=self.budgets,
            lengths=self.valid.host,
            cached_lengths=self.valid,
            quota=self.quota,
        )


@dataclass(frozen=True)
class Signature:
    """Two forwards of the same signature do the same work on the same tensors, whatever these hold.

    `kind`: what is done. `baked`: numbers of the host that it depends on, and addresses of what it attends to.
    """

    kind: Hashable
    baked: Hashable
