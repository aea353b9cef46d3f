"""What a selection knows: its overlap with the per-step oracle, over denoising steps and layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mage.generation.recall_row import RecallRow
from mage.selection import top_k
from mage.view import View


class RecallObserver:
    """Collects recall while an engine runs: pass it as `observer`, batch size 1, and read `rows` afterwards.

    Only layers that attend to a selected set are recorded. With `shadow=True` the engine stays on the dense path, so
    that all methods are measured on the same blocks. `evidence`: indices into the prompt's tokens, whose mass is told
    apart as far as they lie in the prefix.
    """

    def __init__(self, evidence: Sequence[int] = ()) -> None:
        self.rows: list[RecallRow] = []
        self._evidence = list(evidence)

    def __call__(self, view: View, indices: Tensor | None) -> None:
        """Record one layer of one denoising step (the signature of `mage.attention.block.Observer`)."""
        if indices is None:
            return
        if indices.shape[:2] != (1, view.num_kv_heads):
            raise ValueError(
                f"recall needs batch size 1 and one set per KV head, not sets of {tuple(indices.shape[:2])}"
            )
        mass = view.mass()[0, :, : view.lengths[0]]  # [kv_heads, prefix]
        chosen = indices[0]
        oracle = top_k(mass[None], view.budgets, view.lengths)[0]
        member = _members(mass, chosen)
        oracle_mass = mass.gather(1, oracle).sum(-1)
        self.rows.append(
            RecallRow(
                block=view.forward.block,
                step=view.forward.step,
                layer=view.layer,
                recall=float(member.gather(1, oracle).mean()),
                mass_captured=float(((mass * member).sum(-1) / oracle_mass.clamp(min=1e-12)).mean()),
                oracle_mass=float(oracle_mass.mean()),
                **self._on_evidence(mass, member, oracle),
            )
        )

    def _on_evidence(self, mass: Tensor, member: Tensor, oracle: Tensor) -> dict[str, float]:
        """The fields of the row about the evidence, of `mass` and `member` `[kv_heads, prefix]`, and the sets `oracle`
        `[kv_heads, k]`."""
        places = [place for place in self._evidence if place < mass.shape[1]]
        if not places:
            return {}
        own = mass[:, places]  # [kv_heads, evidence]
        held, best = (own * chosen[:, places] for chosen in (member, _members(mass, oracle)))
        parts = {"evidence_mass": own, "evidence_held": held, "evidence_oracle": best}
        return {name: float(part.sum(-1).mean()) for name, part in parts.items()}


def _members(mass: Tensor, chosen: Tensor) -> Tensor:
    """1 where an entry of `mass` `[kv_heads, prefix]` is in the set `chosen` `[kv_heads, k]`, -1 being none, else 0."""
    member = mass.new_zeros(mass.shape)
    return member.scatter_add_(1, chosen.clamp(min=0), (chosen >= 0).to(mass.dtype))
